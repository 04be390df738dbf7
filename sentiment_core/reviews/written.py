"""Tables as they come into a Parquet or CSV file that is there as a whole or not at all, or into a pipe.

The file grows under a name of its own beside the one it gets in the end. What the columns mean is not known here.
"""

import gzip
import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from sentiment_core.errors import Permanent

OUTPUT_SUFFIXES = (".parquet", ".csv", ".csv.gz")
# Small row groups make every reader of the file slow; this many rows without texts are some megabytes.
_GROUP_ROWS = 1 << 16


class Writer(Protocol):
    """Takes tables of one schema, in order."""

    def write(self, table: pa.Table) -> None:
        """Append rows."""

    def close(self) -> None:
        """Write what has been kept back."""


def output_suffix(path: Path) -> str | None:
    """Which of OUTPUT_SUFFIXES a name ends in, whatever the case."""
    return next((suffix for suffix in OUTPUT_SUFFIXES if path.name.lower().endswith(suffix)), None)


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """Write a file by the ending of its name; it gets its name at the end, or is gone after an exception.

    Raises Permanent when there cannot be such a file.
    """
    path = path.resolve()  # what a link points to is replaced, not the link
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _translated(path), partial.open("xb") as file, ExitStack() as stack:
            suffix = output_suffix(path)
            target = (
                cast("BinaryIO", gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=1))
                if suffix == ".csv.gz"
                else file
            )
            if target is not file:
                stack.callback(target.close)
            writer: Writer = _ParquetWriter(target) if suffix == ".parquet" else CsvWriter(target)
            yield writer
            writer.close()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Permanent(
            str(path), expected="a file that can be written", found=str(error), remedy="check the folder, its rights and its room"
        ) from error


class CsvWriter:
    """Comma-separated values after RFC 4180, with a header."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._has_header = False

    def write(self, table: pa.Table) -> None:
        """Append rows, the header before the first."""
        if not self._has_header:
            self._stream.write(",".join(table.column_names).encode() + b"\n")
            self._has_header = True
        sink = io.BytesIO()
        pc_csv.write_csv(table, sink, pc_csv.WriteOptions(include_header=False))
        self._stream.write(sink.getbuffer())

    def close(self) -> None:
        """Nothing is kept back."""


class _ParquetWriter:
    """Parquet in row groups of a fair size."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._writer: pq.ParquetWriter | None = None
        self._kept: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        self._kept.append(table)
        if sum(len(kept) for kept in self._kept) >= _GROUP_ROWS:
            self._write_group()

    def close(self) -> None:
        if self._kept:
            self._write_group()
        if self._writer:
            self._writer.close()

    def _write_group(self) -> None:
        table = pa.concat_tables(self._kept)
        self._writer = self._writer or pq.ParquetWriter(self._stream, table.schema, compression="zstd")
        self._writer.write_table(table)
        self._kept = []
