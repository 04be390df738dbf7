"""A file of reviews as a person hands it in: every row in its place, with what is wrong with it beside it.

A night sorts bad rows out; here they stay where they are, and what is not the text is carried along as it came. Formats
and the rules of a text are those of a night.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiment_core.policy import Reading
from sentiment_core.reviews.columns import Findings, is_text, strings
from sentiment_core.reviews.formats import read_rows
from sentiment_core.reviews.rows import Column, RawRows, Request
from sentiment_core.reviews.validate import checked_texts

CARRIED = ("product_id", "source", "created_at")
_COLUMNS = (
    Column(name="text", kind="text", is_required=True),
    *(Column(name=name, kind="any") for name in ("review_id", *CARRIED)),
)
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Consecutive rows of a file."""

    columns: dict[str, pa.Array]
    """review_id (the row's place in the file, from 0, where the file has no ids) and those of CARRIED that are there."""
    texts: pa.LargeStringArray
    """Null where there is an error."""
    errors: pa.StringArray
    """Why a row has no text that can be scored; null elsewhere."""


def open_packed(stream: BinaryIO, suffix: str) -> tuple[BinaryIO, str]:
    """A stream of a known format, and the suffix that says whether it is packed: its first bytes do."""
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", stream))
    is_packed = suffix != ".parquet" and buffered.peek(len(_GZIP)).startswith(_GZIP)
    return buffered, f"{suffix}.gz" if is_packed else suffix


def read_sheets(stream: BinaryIO, key: str, limits: Reading) -> Iterator[Sheet]:
    """The rows of a file in order, at least one sheet; the key's ending says the format.

    Raises UnreadableObject, also for a file without a column text.
    """
    has_ids: bool | None = None
    for rows in read_rows(stream, Request(key=key, columns=_COLUMNS, limits=limits)):
        if has_ids is None:  # JSON lines name no columns: whether a file has ids shows in its first rows
            has_ids = rows.column("review_id").null_count < len(rows.numbers)
        yield _as_sheet(rows, limits, has_ids=has_ids)
    if has_ids is None:
        yield _as_sheet(RawRows(numbers=np.zeros(0, np.int64), columns={}), limits, has_ids=False)


def _as_sheet(rows: RawRows, limits: Reading, *, has_ids: bool) -> Sheet:
    findings = Findings()
    texts = checked_texts(rows, findings, limits)
    carried = {name: _as_it_came(rows, name, findings) for name in ("review_id", *CARRIED) if name in rows.columns}
    rejects = findings.rejects(rows, limits)
    bad = {reject.row_number: reject for reject in rejects}
    first = min([*rows.numbers[:1].tolist(), *bad], default=0)
    n_rows = len(rows.numbers) + len(rows.rejects)
    if rows.rejects:  # rows that could not be taken apart are in no column
        texts = _spread(texts, rows, first, n_rows)
        carried = {name: _spread(array, rows, first, n_rows) for name, array in carried.items()}
    places = range(first, first + n_rows)
    errors = pa.array([bad[place].reason if place in bad else None for place in places] if bad else [None] * n_rows, pa.string())
    numbers = pa.array(places, pa.int64())
    ids = carried.pop("review_id", numbers)
    if bad and is_text(ids.type):
        ids = pc.coalesce(ids, pa.array([bad[place].review_id if place in bad else None for place in places], ids.type))
    if not has_ids:
        ids = pc.coalesce(ids, numbers.cast(ids.type))
    return Sheet(
        columns={"review_id": ids, **carried},
        texts=pc.if_else(pc.is_null(errors), texts, None) if bad else texts,
        errors=errors,
    )


def _as_it_came(rows: RawRows, name: str, findings: Findings) -> pa.Array:
    array = rows.column(name)
    return strings(rows, name, findings) if is_text(array.type) or pa.types.is_null(array.type) else array


def _spread(array: pa.Array, rows: RawRows, first: int, n_rows: int) -> pa.Array:
    """A column over all rows, null where one could not be taken apart."""
    places = np.full(n_rows, -1)
    places[rows.numbers - first] = np.arange(len(rows.numbers))
    return array.take(pa.array(places, mask=places < 0))
