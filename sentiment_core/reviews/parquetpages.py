"""What a Parquet file says that it will take, looked at before Arrow is let at it.

Arrow believes a file: it makes room for as many bytes as a page says, and writes a value out as often as an index names
it, so that a megabyte can ask for hundreds of gigabytes. Here the footer and the headers of all pages that will be read
are gone through, with nothing unpacked but dictionaries of long entries, and each row group gets a number of rows that
can be read at a time. Source: the Parquet format, parquet.thrift and Encodings.md.
"""

import io
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, BinaryIO

import pyarrow as pa

from sentiment_core.reviews.bounds import Growth
from sentiment_core.reviews.rows import Request, UnreadableObject
from sentiment_core.reviews.thrift import Malformed, Struct, read_struct

_MAGIC = b"PAR1"
_TAIL_BYTES = 8
# A footer is read by Python at some megabytes a second; those of a thousand row groups with thirty columns have four.
_MAX_FOOTER_BYTES = 16 << 20
_HEADER_BYTES, _MAX_HEADER_BYTES = 1 << 12, 1 << 20
_STRINGS = {6, 7}  # physical types BYTE_ARRAY and FIXED_LEN_BYTE_ARRAY; values of all others take twelve bytes at most
_FIXED_STRINGS = 7
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_INDEXED, _PREFIXED = {2, 8}, {7}  # encodings: by dictionary; by a prefix of the value before
_LENGTH = struct.Struct("<I")
_CODECS = {0: None, 1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}


@dataclass(frozen=True, kw_only=True)
class _Page:
    n_values: int
    n_bytes: int
    encoding: int


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """A column of a row group."""

    pages: Sequence[_Page]
    longest_entry: int
    """Bytes of the longest entry of its dictionary."""

    @property
    def largest_page(self) -> int:
        """What is unpacked at a time in any case."""
        return max((page.n_bytes for page in self.pages), default=0)

    def worst_bytes(self, n_rows: int) -> int:
        """An upper limit of what any so many consecutive rows decode to.

        >>> plain = [_Page(n_values=10, n_bytes=n_bytes, encoding=0) for n_bytes in (100, 9_000, 100)]
        >>> [_Chunk(pages=plain, longest_entry=0).worst_bytes(n_rows) for n_rows in (1, 2, 12)]
        [9000, 9100, 9200]
        >>> _Chunk(pages=[_Page(n_values=10, n_bytes=3, encoding=8)], longest_entry=7).worst_bytes(5)
        38
        """
        starts = [0, *accumulate(page.n_values for page in self.pages)]
        sizes = [min(n_rows, page.n_values) * page.n_bytes if page.encoding in _PREFIXED else page.n_bytes for page in self.pages]
        before = [0, *accumulate(sizes)]
        # A window that begins with the last row of a page touches the most pages after it.
        ends = (bisect_left(starts, last + n_rows - 1, hi=len(sizes)) for last in starts[1:])
        worst = max((before[max(end, place + 1)] - before[place] for place, end in enumerate(ends)), default=0)
        return worst + (n_rows * self.longest_entry if any(page.encoding in _INDEXED for page in self.pages) else 0)


def rows_at_once(file: BinaryIO, request: Request, *, max_batch_bytes: int) -> list[int]:
    """For each row group, how many rows may be read at a time so that about `max_batch_bytes` is the worst they decode to.

    Raises UnreadableObject for a file that is none, or asks for more than the limits allow.
    """
    size = file.seek(0, io.SEEK_END)
    growth = Growth(request.key, request.limits)
    growth.n_packed = size
    try:
        footer = _footer(file, size)
        request.check_width(sum(1 for element in footer[2][1:] if not element.get(5)))
        asked = {column.name.encode() for column in request.columns}
        rooms = []
        for group in footer.get(4, []):
            columns = [] if group[3] == 0 else [column[3] for column in group[1]]  # of no rows there are no pages
            chunks = [_chunk(file, size, column, request, growth) for column in columns if _is_asked(column, asked)]
            rooms.append(_room(chunks, request.limits.batch_rows, max_batch_bytes))
    except (Malformed, KeyError, TypeError, AttributeError, IndexError) as error:
        # A field is missing, or of another type than it has to be.
        found = f"{type(error).__name__} {error} in its headers" if not isinstance(error, Malformed) else str(error)
        raise UnreadableObject(request.key, expected="a whole Parquet file", found=found) from error
    return rooms


def _footer(file: BinaryIO, size: int) -> Struct:
    if size < _TAIL_BYTES + len(_MAGIC):
        raise Malformed(f"{size} bytes")
    tail = _read(file, size - _TAIL_BYTES, _TAIL_BYTES)
    if tail[4:] != _MAGIC:
        raise Malformed(f"an end of {tail[4:]!r}, not {_MAGIC!r}")
    length = int.from_bytes(tail[:4], "little")
    if length > min(size - _TAIL_BYTES - len(_MAGIC), _MAX_FOOTER_BYTES):
        raise Malformed(f"a footer of {length:,} bytes")
    return read_struct(_read(file, size - _TAIL_BYTES - length, length))[0]


def _is_asked(column: Struct, asked: set[bytes]) -> bool:
    path = column[3]  # of a nested column longer; none of those is read
    return len(path) == 1 and path[0] in asked


def _chunk(file: BinaryIO, size: int, column: Struct, request: Request, growth: Growth) -> _Chunk:
    start = column[9]
    if 0 < column.get(11, 0) < start:  # as Arrow judges whether the dictionary comes first
        start = column[11]
    end = start + column[7]
    if not (len(_MAGIC) <= start <= end <= size - _TAIL_BYTES):
        raise Malformed(f"pages from byte {start:,} to {end:,}")
    pages, longest = [], 0
    for header, place in _pages(file, start, end):
        n_bytes = _not_negative(header[2])
        if n_bytes > request.limits.max_page_bytes:
            raise UnreadableObject(
                request.key, expected=f"pages of at most {request.limits.max_page_bytes:,} bytes", found=f"one of {n_bytes:,}"
            )
        growth.add_bytes(n_bytes)
        if header[1] == _DICTIONARY:
            n_entries = _not_negative(header[7][1])
            if column[1] in _STRINGS:
                is_fixed = column[1] == _FIXED_STRINGS
                longest = n_bytes // max(1, n_entries) if is_fixed else _longest(file, place, header, column[4])
        elif header[1] in (_DATA, _DATA_V2):
            details = header[5] if header[1] == _DATA else header[8]
            encoding = details[2] if header[1] == _DATA else details[4]
            pages.append(_Page(n_values=_not_negative(details[1]), n_bytes=n_bytes, encoding=encoding))
    return _Chunk(pages=pages, longest_entry=longest)


def _pages(file: BinaryIO, start: int, end: int) -> Iterator[tuple[Struct, int]]:
    """The headers of a column's pages, and where the contents begin."""
    position = start
    while position < end:
        header, length = _page_header(file, position, end)
        yield header, position + length
        position += length + _not_negative(header[3])


def _page_header(file: BinaryIO, position: int, end: int) -> tuple[Struct, int]:
    n_bytes = _HEADER_BYTES
    while True:
        try:
            return read_struct(_read(file, position, min(n_bytes, end - position)))
        except Malformed:  # statistics in it may be long
            if n_bytes >= min(_MAX_HEADER_BYTES, end - position):
                raise
            n_bytes *= 16


def _longest(file: BinaryIO, place: int, header: Struct, codec: int) -> int:
    """Bytes of the longest entry of a dictionary; where they cannot be told apart, those of all."""
    n_bytes = int(header[2])
    name = _CODECS.get(codec, "")
    content = _read(file, place, _not_negative(header[3]))
    if name == "":
        return n_bytes
    try:
        entries = memoryview(content if name is None else pa.decompress(content, n_bytes, name))
    except (pa.ArrowException, OSError, ValueError):
        return n_bytes  # damaged, which Arrow will say
    longest = position = 0
    last, length_at = len(entries) - 4, _LENGTH.unpack_from
    while position <= last:  # once an entry of every dictionary: the quickest that Python knows
        (length,) = length_at(entries, position)
        if length > longest:  # noqa: PLR1730  # a call of max() would double the time
            longest = length
        position += 4 + length
    return min(longest, n_bytes)


def _room(chunks: Sequence[_Chunk], batch_rows: int, max_batch_bytes: int) -> int:
    # A page is unpacked as a whole, whatever is read of it: fewer rows would not make two neighbours smaller.
    max_bytes = max_batch_bytes + 2 * sum(chunk.largest_page for chunk in chunks)
    n_rows = batch_rows
    while n_rows > 1 and sum(chunk.worst_bytes(n_rows) for chunk in chunks) > max_bytes:
        n_rows //= 2
    return n_rows


def _read(file: BinaryIO, position: int, n_bytes: int) -> bytes:
    file.seek(position)
    return file.read(n_bytes)


def _not_negative(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise Malformed(f"a size of {value!r}")
    return value
