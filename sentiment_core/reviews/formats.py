"""Bytes of any known format into raw rows, by the ending of the key; gzip on the way."""

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from sentiment_core.reviews.bounds import Growth
from sentiment_core.reviews.delimited import read_delimited
from sentiment_core.reviews.jsonlines import read_json_lines
from sentiment_core.reviews.layout import SUFFIXES, suffix_of
from sentiment_core.reviews.parquet import read_parquet
from sentiment_core.reviews.rows import RawRows, Request, UnreadableObject

_READERS = {".parquet": read_parquet, ".jsonl": read_json_lines, ".csv": read_delimited}


def read_rows(stream: BinaryIO, request: Request) -> Iterator[RawRows]:
    """The rows of an object in its order, in batches of at most `batch_rows`; raises UnreadableObject."""
    suffix = suffix_of(request.key)
    if suffix is None:
        raise UnreadableObject(request.key, expected="a name ending in " + ", ".join(SUFFIXES), found="another ending")
    growth = Growth(request.key, request.limits)
    if suffix.endswith(".gz"):
        stream = cast("BinaryIO", io.BufferedReader(_Unzipped(stream, request.key, growth), 1 << 20))
    for rows in _READERS[suffix.removesuffix(".gz")](stream, request):
        growth.add_rows(len(rows.numbers) + len(rows.rejects))
        yield rows


class _Unzipped(io.RawIOBase):
    """A gzip stream unpacked, which ends where it should or says so, and does not grow beyond its limits."""

    def __init__(self, stream: BinaryIO, key: str, growth: Growth) -> None:
        self._stream = gzip.GzipFile(fileobj=cast("BinaryIO", _Counted(stream, growth)), mode="rb")
        self._key = key
        self._growth = growth

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            n_bytes = self._stream.readinto(buffer)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UnreadableObject(self._key, expected="a whole gzip file", found=str(error)) from error
        self._growth.add_bytes(n_bytes)
        return n_bytes


class _Counted(io.RawIOBase):
    """What is read of a stream, counted."""

    def __init__(self, stream: BinaryIO, growth: Growth) -> None:
        self._stream, self._growth = stream, growth

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(size)
        self._growth.n_packed += len(block)
        return block
