"""Rows of a Parquet object, in batches of bounded size.

Parquet needs seeking, so that an object that streams is copied into an unlinked temporary file first: memory stays
bounded and nothing is left behind after a kill.
"""

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentiment_core.errors import Transient
from sentiment_core.reviews.bounds import Growth
from sentiment_core.reviews.columns import fits
from sentiment_core.reviews.parquetpages import rows_at_once
from sentiment_core.reviews.rows import RawRows, Request, UnreadableObject

# A batch of long texts is cut by bytes: 8,192 reviews of a megabyte would be 8 GB.
_MAX_BATCH_BYTES = 64 << 20
# What a row counts for at least, when it is said how far a file grows: a null takes no bytes, and much work.
_ROW_BYTES = 64


def read_parquet(stream: BinaryIO, request: Request) -> Iterator[RawRows]:
    """The rows; raises UnreadableObject for a file that is not whole, or whose columns can never fit."""
    with contextlib.nullcontext(stream) if stream.seekable() else tempfile.TemporaryFile() as file:
        if file is not stream:
            _spool(stream, file, request.key)
        if not file.seek(0, io.SEEK_END):
            raise UnreadableObject(request.key, expected="a Parquet file", found="an empty object (0 bytes)")
        try:
            yield from _read_rows(file, request)
        except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
            # Arrow tells of a broken file by any of these.
            message = " ".join(str(error).split())[:300]
            raise UnreadableObject(request.key, expected="a whole Parquet file", found=message) from error


def _spool(stream: BinaryIO, file: BinaryIO, key: str) -> None:
    try:
        shutil.copyfileobj(stream, file, 1 << 20)
    except OSError as error:
        folder = tempfile.gettempdir()
        raise Transient(
            f"temporary copy of {key}", expected=f"room in {folder}", found=str(error), remedy="make room, or set TMPDIR"
        ) from error


def _read_rows(file: BinaryIO, request: Request) -> Iterator[RawRows]:
    rooms = rows_at_once(file, request, max_batch_bytes=_MAX_BATCH_BYTES)
    # A buffer makes Arrow read pages as they are needed instead of whole column chunks.
    parquet = pq.ParquetFile(file, buffer_size=1 << 20, page_checksum_verification=True)
    names = parquet.schema_arrow.names
    places = request.place(names)
    growth = Growth(request.key, request.limits)
    growth.n_packed = file.seek(0, io.SEEK_END)
    for column in request.columns:
        if column.name in places and not fits(column, kind := parquet.schema_arrow.field(places[column.name]).type):
            expected = "strings" if column.kind == "text" else f"values that are a {column.kind}"
            raise UnreadableObject(request.key, expected=f"{expected} in column {column.name}", found=str(kind))
    n_before = 0
    for group, n_rows in enumerate(rooms):
        for batch in parquet.iter_batches(n_rows, row_groups=[group], columns=list(places), use_threads=False):
            columns = {name: _plain(batch.column(name)) for name in places}
            growth.add_bytes(sum(column.nbytes for column in columns.values()) + _ROW_BYTES * batch.num_rows)
            yield RawRows(
                numbers=np.arange(n_before, n_before + batch.num_rows),
                columns=columns,
                n_ignored_columns=len(names) - len(places),
            )
            n_before += batch.num_rows


def _plain(array: pa.Array) -> pa.Array:
    # Here, where it is known to mean a damaged file when an index points beyond its dictionary.
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
