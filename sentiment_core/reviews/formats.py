"""Bytes of any known format into raw rows, by the ending of the key; gzip on the way."""

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

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
    if suffix.endswith(".gz"):
        stream = cast("BinaryIO", io.BufferedReader(_Unzipped(stream, request.key), 1 << 20))
    yield from _READERS[suffix.removesuffix(".gz")](stream, request)


class _Unzipped(io.RawIOBase):
    """A gzip stream unpacked, which ends where it should or says so."""

    def __init__(self, stream: BinaryIO, key: str) -> None:
        self._stream = gzip.GzipFile(fileobj=stream, mode="rb")
        self._key = key

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return self._stream.readinto(buffer)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UnreadableObject(self._key, expected="a whole gzip file", found=str(error)) from error
