"""COPY BINARY out of Arrow tables: every bulk write goes through here.

Columns are laid out by Arrow and numpy kernels, which leave the interpreter to others and make no Python object for
a value; at 3.8 million rows/s of a core. The same written out in compiled loops made 4.2 million, which does not pay
for loading a compiler in every process that writes a row. What is written and why is the callers' business. Format:
PostgreSQL documentation, COPY, "Binary Format".
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy.engine import Connection

from sentiment_core.store.engine import translated

_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
# What is laid out at a time: enough to amortise the calls, little enough that a table of any length, and of texts of
# any length, takes no memory to speak of besides its own.
_PIECE_BYTES = 8 << 20
# PostgreSQL counts days and microseconds from 2000-01-01.
_EPOCH_DAYS = 10_957
_EPOCH_MICROSECONDS = _EPOCH_DAYS * 86_400_000_000
_BIG_ENDIAN = {
    pa.int8(): ">i2",
    pa.int16(): ">i2",
    pa.int32(): ">i4",
    pa.int64(): ">i8",
    pa.float32(): ">f4",
    pa.float64(): ">f8",
}

Constant = str | int | date | datetime


def copy_table(
    connection: Connection, relation: str, table: pa.Table, constants: Mapping[str, tuple[str, Constant]] | None = None
) -> None:
    """Append an Arrow table to a relation inside the connection's transaction.

    Args:
        connection: a connection in a transaction.
        relation: name as SQL has it; never from data.
        table: one column for each column of the relation, of the Arrow type that its SQL type has in `schema`.
        constants: further columns that hold one value in every row: name to (SQL type, value).

    Raises:
        Transient, Permanent: as `engine.translate` judges, also for text that PostgreSQL refuses (NUL characters).
    """
    if not len(table):
        return
    names = [*(constants or {}), *table.column_names]
    statement = f"copy {relation} ({', '.join(names)}) from stdin (format binary)"
    with translated(connection) as raw, raw.cursor() as cursor:
        cursor.copy_expert(statement, _Payload(table, constants or {}))


class _Payload:
    """What psycopg2 reads and sends: the pieces one by one, each as long as it is."""

    def __init__(self, table: pa.Table, constants: Mapping[str, tuple[str, Constant]]) -> None:
        self._pieces = self._lay_out(table, constants)

    def read(self, _size: int) -> bytes:
        return next(self._pieces, b"")

    @staticmethod
    def _lay_out(table: pa.Table, constants: Mapping[str, tuple[str, Constant]]) -> Iterator[bytes]:
        yield _HEADER
        n_rows = max(1, len(table) * _PIECE_BYTES // (table.nbytes + 1))
        for start in range(0, len(table), n_rows):
            yield bytes(encode(table.slice(start, n_rows), constants))
        yield _TRAILER


def encode(table: pa.Table, constants: Mapping[str, tuple[str, Constant]]) -> memoryview:
    """The rows in COPY's binary layout, without header and trailer.

    >>> bytes(encode(pa.table({"n": pa.array([7, None], pa.int16())}), {})).hex(" ", 2)
    '0001 0000 0002 0007 0001 ffff ffff'
    """
    start = (len(constants) + table.num_columns).to_bytes(2, "big")
    start += b"".join(_encode_constant(kind, value) for kind, value in constants.values())
    parts: list[Any] = [pa.scalar(start, pa.large_binary())]
    for column in table.columns:
        parts += _encode_column(column.combine_chunks() if column.num_chunks != 1 else column.chunk(0))
    rows = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary()))
    offsets = np.frombuffer(rows.buffers()[1], np.int64)[rows.offset : rows.offset + len(rows) + 1]
    return memoryview(rows.buffers()[2])[offsets[0] : offsets[-1]]


def _encode_constant(kind: str, value: Constant) -> bytes:
    match kind, value:
        case "text", str():
            content = value.encode()
        case "bigint", int():
            content = value.to_bytes(8, "big", signed=True)
        case "integer", int():
            content = value.to_bytes(4, "big", signed=True)
        case "date", date():
            content = (value - date(2000, 1, 1)).days.to_bytes(4, "big", signed=True)
        case "timestamptz", datetime():
            elapsed = value - datetime(2000, 1, 1, tzinfo=UTC)
            content = ((elapsed.days * 86_400 + elapsed.seconds) * 10**6 + elapsed.microseconds).to_bytes(8, "big", signed=True)
        case _:
            raise TypeError(f"COPY of a constant {value!r} as {kind} is not laid out here")
    return len(content).to_bytes(4, "big") + content


def _encode_column(column: pa.Array) -> list[pa.Array]:
    """Binary arrays which, joined row by row, make the fields of a column."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        column = column.cast(pa.large_binary())
        lengths = _filled(pc.binary_length(column), -1).cast(pa.int32())
        return [_fixed(lengths.to_numpy(zero_copy_only=False).astype(">i4")), _filled(column, b"")]
    if pa.types.is_date32(kind):
        column = pc.subtract(column.cast(pa.int32()), pa.scalar(_EPOCH_DAYS, pa.int32()))
    elif pa.types.is_timestamp(kind):
        column = pc.subtract(column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()), _EPOCH_MICROSECONDS)
    target = np.dtype(_BIG_ENDIAN[column.type])
    fields = np.empty(len(column), np.dtype([("length", ">i4"), ("value", target)]))
    fields["length"] = target.itemsize
    fields["value"] = _filled(column, 0).to_numpy(zero_copy_only=False)
    encoded = _fixed(fields)
    if column.null_count:
        encoded = pc.if_else(column.is_valid(), encoded, pa.scalar(_NULL, pa.large_binary()))
    return [encoded]


def _filled(column: pa.Array, value: int | bytes) -> pa.Array:
    return column.fill_null(value) if column.null_count else column  # which would be copied


def _fixed(values: np.ndarray[Any, Any]) -> pa.Array:
    """An array of fixed-width values as Arrow large_binary, by giving the same memory offsets."""
    width = values.dtype.itemsize
    offsets = np.arange(0, (len(values) + 1) * width, width, dtype=np.int64)
    return pa.Array.from_buffers(pa.large_binary(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(values)])
