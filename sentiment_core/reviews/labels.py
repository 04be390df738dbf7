"""An object of late labels into validated batches: what people said of reviews that have been scored already."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from sentiment_core import schema
from sentiment_core.domain import LABELS, Reject
from sentiment_core.policy import Reading
from sentiment_core.reviews.columns import TIME_EXPECTED, Findings, ratings, strings, times
from sentiment_core.reviews.formats import read_rows
from sentiment_core.reviews.rows import BLOCK_BYTES, Column, RawRows, Request, shown
from sentiment_core.reviews.validate import checked_ids

_COLUMNS = (
    Column(name="review_id", kind="identifier", is_required=True),
    Column(name="labelled_at", kind="time", is_required=True),
    Column(name="label", kind="text"),
    Column(name="rating", kind="rating"),
    Column(name="review_date", kind="time"),
)
_LABEL_OF_RATING = pa.array([None, "negative", "negative", "neutral", "positive", "positive"], pa.large_string())


@dataclass(frozen=True, kw_only=True)
class LabelBatch:
    """Validated labels of one object in order, with the rejects found between them."""

    table: pa.Table
    """Columns of `schema.LABEL_BATCH`; a review_date of null means the review's latest."""
    rejects: tuple[Reject, ...] = ()
    n_ignored_columns: int = 0


def read_labels(
    stream: BinaryIO, key: str, *, folder_date: date, limits: Reading, block_bytes: int = BLOCK_BYTES
) -> Iterator[LabelBatch]:
    """The object's rows in order, each either a valid label or a reject; formats and errors are those of reviews.

    A rating alone becomes a label: 1-2 negative, 3 neutral, 4-5 positive.
    """
    del folder_date  # a label may come any time after its review; its folder says nothing of either
    request = Request(key=key, columns=_COLUMNS, limits=limits, any_of=("label", "rating"), block_bytes=block_bytes)
    for rows in read_rows(stream, request):
        yield _validate(rows, limits)


def _validate(rows: RawRows, limits: Reading) -> LabelBatch:
    findings = Findings()
    stars = ratings(rows, "rating", findings)
    columns = {
        "row_number": pa.array(rows.numbers, pa.int64()),
        "review_id": checked_ids(rows, findings, limits),
        "review_date": times(rows, "review_date", findings).cast(pa.date32()),
        "labelled_at": times(rows, "labelled_at", findings),
        "rating": stars,
        "label": _checked_labels(rows, stars, findings),
    }
    findings.note(pc.is_null(columns["labelled_at"]), "labelled_at", f"expected {TIME_EXPECTED}, found none")
    is_good = findings.is_good(len(rows.numbers))
    good = {name: array.filter(is_good) for name, array in columns.items()}
    table = pa.Table.from_arrays([good[field.name].cast(field.type) for field in schema.LABEL_BATCH], schema=schema.LABEL_BATCH)
    return LabelBatch(table=table, rejects=findings.rejects(rows, limits), n_ignored_columns=rows.n_ignored_columns)


def _checked_labels(rows: RawRows, stars: pa.Array, findings: Findings) -> pa.Array:
    given = pc.utf8_trim_whitespace(strings(rows, "label", findings))
    given = pc.if_else(pc.equal(given, ""), None, given)
    is_unknown = pc.and_(pc.is_valid(given), pc.invert(pc.is_in(given, pa.array(LABELS, pa.large_string()))))
    findings.note(is_unknown, "label", lambda index: f"expected {', '.join(LABELS)}, found {shown(given[index].as_py())}")
    implied = _LABEL_OF_RATING.take(pc.fill_null(stars, 0))
    # Three stars are neutral to a model of three classes and positive to one of two: a sender may mean either.
    is_three = pc.and_(pc.equal(stars, 3), pc.equal(given, "positive"))
    is_contradicting = pc.and_(pc.not_equal(given, implied), pc.invert(is_three))
    findings.note(is_contradicting, "label", lambda index: f"expected {implied[index]} as the rating says, found {given[index]}")
    is_missing = pc.and_(pc.is_null(given), pc.is_null(implied))
    findings.note(is_missing, "label", f"expected {', '.join(LABELS)} or a rating, found neither")
    return pc.coalesce(given, implied)
