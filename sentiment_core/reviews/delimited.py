"""Rows of comma-separated values after RFC 4180: quotes, doubled quotes, line breaks inside quotes.

What is clean is read by the block (`csvblocks`); here is what it means field by field. A row that cannot be taken apart
is one reject, and reading goes on with the next line; neither Arrow's reader (gives the block up) nor the csv module
(takes text, swallows the rest) does that. What is read is bytes: whether a value is valid text is decided value by
value later.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from sentiment_core.domain import Reject
from sentiment_core.reviews.csvblocks import parse_records
from sentiment_core.reviews.rows import RawRows, Request, UnreadableObject, broken_row, shown

_BOM = b"\xef\xbb\xbf"
_QUOTED = re.compile(rb'"((?:[^"]++|"")*+)"')
_BLANK_LINES = re.compile(rb"(?:\r?\n)++")  # no rows, and a file may hold gigabytes of them
# Possessive all through: a field is matched in one pass or not at all. It ends in the text at hand, or is not whole yet.
_FIELD = re.compile(rb'(?:"((?:[^"]++|"")*+)"|((?:[^",\r\n]|\r(?!\n))(?:[^,\r\n]++|\r(?!\n))*+)?)(,|\r?\n)')

# Below this the fields are taken apart before Arrow has begun.
_MIN_BYTES = 1 << 15


class Broken(NamedTuple):
    """A row that could not be taken apart."""

    raw: bytes
    reason: str


Record = list[bytes] | Broken
Batch = list[Record] | dict[str, pa.Array]
"""Records one by one, or columns of a clean block."""


def read_delimited(stream: BinaryIO, request: Request) -> Iterator[RawRows]:
    """The rows; blank lines are none. Raises UnreadableObject without a header line that names the columns needed."""
    scanner = _Scanner(request)
    batches = scanner.batches(stream)
    names = _header(next(batches, []), request)
    places = request.place(names)
    scanner.shape = len(names), places
    n_rows = 0
    for batch in batches:
        if isinstance(batch, list):
            rows = _as_rows(batch, n_rows, len(names), places, request)
        else:
            n_good = len(next(iter(batch.values())))
            numbers = np.arange(n_rows, n_rows + n_good)
            rows = RawRows(numbers=numbers, columns=batch, n_ignored_columns=len(names) - len(places))
        yield rows
        n_rows += len(rows.numbers) + len(rows.rejects)


def _header(records: Batch, request: Request) -> list[str]:
    header = records[0] if isinstance(records, list) and records else Broken(b"", "")
    expected = "a header line naming the columns"
    if isinstance(header, Broken):
        found = shown(header.raw) if header.raw else "an empty object (no line)"
        raise UnreadableObject(request.key, expected=expected, found=found)
    try:
        return [name.decode("utf-8").strip() for name in header]
    except UnicodeDecodeError as error:
        raise UnreadableObject(request.key, expected=f"{expected} in UTF-8", found=shown(b",".join(header))) from error


def _as_rows(records: list[Record], n_before: int, n_columns: int, places: dict[str, int], request: Request) -> RawRows:
    numbers: list[int] = []
    good: list[list[bytes]] = []
    rejects: list[Reject] = []
    for number, record in enumerate(records, start=n_before):
        if isinstance(record, Broken):
            rejects.append(broken_row(number, record.raw, record.reason, request.limits))
        elif len(record) != n_columns:
            reason = f"expected {n_columns} columns, found {len(record)}"
            rejects.append(broken_row(number, b",".join(record), reason, request.limits))
        else:
            numbers.append(number)
            good.append(record)
    return RawRows(
        numbers=np.asarray(numbers, dtype=np.int64),
        columns={name: pa.array([record[place] for record in good], pa.large_binary()) for name, place in places.items()},
        rejects=tuple(rejects),
        n_ignored_columns=n_columns - len(places),
    )


class _Scanner:
    """Cuts a stream into records: the first alone, the others at most batch_rows and never more than a block at a time."""

    def __init__(self, request: Request) -> None:
        self.shape: tuple[int, dict[str, int]] | None = None
        """Number of columns, and where those asked for are: set by who has read the first record."""
        self._request = request
        self._position = 0

    def batches(self, stream: BinaryIO) -> Iterator[Batch]:
        """The records of a stream."""
        buffer, is_end, is_first, is_skipping = b"", False, True, False
        while not is_end:
            block = stream.read(self._request.block_bytes)
            is_end = not block
            buffer += block
            if is_first and (is_end or len(buffer) >= len(_BOM)):
                buffer, is_first = buffer.removeprefix(_BOM), False
            if is_end and buffer and not buffer.endswith(b"\n"):
                buffer += b"\n"
            if is_skipping:
                _, newline, buffer = buffer.partition(b"\n")
                is_skipping = not newline
            if is_first:
                continue
            self._position = 0
            yield from self._scan(buffer, is_end=is_end)
            # A line too long to be kept was given up in its middle: what follows up to its end belongs to it.
            is_skipping = is_skipping or (self._position == len(buffer) > 0 and not buffer.endswith(b"\n"))
            buffer = buffer[self._position :]

    def _scan(self, buffer: bytes, *, is_end: bool) -> Iterator[Batch]:
        """What is whole in a buffer; the position stays where it is not."""
        records: list[Record] = []
        is_clean: bool | None = None
        while self._position < len(buffer):
            if blank := _BLANK_LINES.match(buffer, self._position):
                self._position = blank.end()
                continue
            if is_clean is None and self.shape and len(buffer) - self._position >= _MIN_BYTES:
                clean = parse_records(buffer[self._position :], *self.shape, self._request)
                is_clean = clean is not None
                if clean:
                    yield from self._slices(clean[0])
                    self._position += clean[1]
                    continue
            taken = _take(buffer, self._position, is_end=is_end, max_bytes=self._request.max_row_bytes)
            if not taken:
                break
            record, self._position = taken
            if record != [b""]:
                records.append(record)
            if len(records) == (self._request.limits.batch_rows if self.shape else 1):
                yield records
                records = []
        if records:
            yield records

    def _slices(self, columns: dict[str, pa.Array]) -> Iterator[Batch]:
        n_rows = self._request.limits.batch_rows
        for start in range(0, len(next(iter(columns.values()))), n_rows):
            yield {name: array.slice(start, n_rows) for name, array in columns.items()}


def _take(buffer: bytes, start: int, *, is_end: bool, max_bytes: int) -> tuple[Record, int] | None:
    """The record that starts here and where the next one does; None when it goes on beyond the buffer."""
    fields: list[bytes] = []
    position = start
    while match := _FIELD.match(buffer, position):
        quoted, plain, end = match.groups()
        fields.append(quoted.replace(b'""', b'"') if quoted is not None else plain or b"")
        position = match.end()
        if end != b",":
            break
    else:
        return _take_broken(buffer, start, position, is_end=is_end, max_bytes=max_bytes)
    return (fields, position) if position - start <= max_bytes else _too_long(buffer, start, max_bytes)


def _take_broken(buffer: bytes, start: int, position: int, *, is_end: bool, max_bytes: int) -> tuple[Broken, int] | None:
    quoted = _QUOTED.match(buffer, position)
    end = buffer.find(b"\n", quoted.end()) if quoted else -1
    if (len(buffer) if end < 0 else end) - start > max_bytes:
        return _too_long(buffer, start, max_bytes)
    if quoted and end >= 0:
        found = shown(buffer[quoted.end() : min(end, quoted.end() + 20)])
        return Broken(buffer[start:end], f"expected a comma after a closing quote, found {found}"), end + 1
    if not is_end:
        return None
    return _first_line(buffer, start, "expected a closing quote, found none up to the end of the object")


def _too_long(buffer: bytes, start: int, max_bytes: int) -> tuple[Broken, int]:
    return _first_line(buffer, start, f"expected at most {max_bytes:,} bytes, found more")


def _first_line(buffer: bytes, start: int, reason: str) -> tuple[Broken, int]:
    """Give up no more than a line: what looked like the rest of the row may be rows of their own."""
    end = buffer.find(b"\n", start)
    end = len(buffer) if end < 0 else end
    return Broken(buffer[start:end], reason), min(end + 1, len(buffer))
