"""Late labels: what counts as one, and what does not."""

import io
import json
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment_core import schema
from sentiment_core.domain import Reject
from sentiment_core.policy import read_policy
from sentiment_core.reviews.labels import read_labels
from sentiment_core.reviews.read import UnreadableObject
from sentiment_core.settings import REPOSITORY

LIMITS = read_policy(REPOSITORY / "include" / "policy.toml").reading
AT = "2026-11-03T08:00:00Z"


def read(data: bytes, key: str) -> tuple[list[dict[str, Any]], list[Reject]]:
    rows, rejects = [], []
    for batch in read_labels(io.BytesIO(data), key, folder_date=date(2026, 11, 3), limits=LIMITS):
        assert batch.table.schema == schema.LABEL_BATCH
        rows += batch.table.to_pylist()
        rejects += batch.rejects
    return rows, rejects


def one(**values: Any) -> tuple[list[dict[str, Any]], list[Reject]]:
    return read(json.dumps({"review_id": "r", "labelled_at": AT, **values}).encode(), "a.jsonl")


def test_a_label_in_words() -> None:
    assert one(label="neutral", review_date="2026-11-01") == (
        [
            {
                "row_number": 0,
                "review_date": date(2026, 11, 1),
                "review_id": "r",
                "label": "neutral",
                "rating": None,
                "labelled_at": datetime(2026, 11, 3, 8, tzinfo=UTC),
            }
        ],
        [],
    )


@pytest.mark.parametrize(
    ("rating", "label"), [(1, "negative"), (2, "negative"), (3, "neutral"), (4, "positive"), (5, "positive")]
)
def test_a_rating_becomes_a_label_and_is_kept(rating: int, label: str) -> None:
    ((row,), _) = one(rating=rating)
    assert (row["label"], row["rating"], row["review_date"]) == (label, rating, None)


@pytest.mark.parametrize(("rating", "label"), [(5, "positive"), (3, "neutral"), (3, "positive"), (2, "negative")])
def test_label_and_rating_may_agree(rating: int, label: str) -> None:
    ((row,), _) = one(rating=rating, label=label)
    assert (row["label"], row["rating"]) == (label, rating)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"rating": 5, "label": "negative"}, "label: expected positive as the rating says, found negative"),
        ({"rating": 3, "label": "negative"}, "label: expected neutral as the rating says, found negative"),
        ({}, "label: expected negative, neutral, positive or a rating, found neither"),
        ({"label": ""}, "label: expected negative, neutral, positive or a rating, found neither"),
        ({"label": "good"}, "label: expected negative, neutral, positive, found 'good'"),
        ({"rating": 0}, "rating: expected a whole number from 1 to 5, found '0'"),
        ({"label": "positive", "labelled_at": None}, "labelled_at: expected a time such as 2026-11-01T13:45:00Z, found none"),
        ({"label": "positive", "labelled_at": "now"}, "labelled_at: expected a time such as 2026-11-01T13:45:00Z, found 'now'"),
        ({"label": "positive", "review_date": "November"}, "review_date: expected a time such as"),
        ({"label": "positive", "review_id": ""}, "review_id: expected 1 to 512 characters"),
    ],
)
def test_what_is_no_label_is_a_reject(values: dict[str, Any], reason: str) -> None:
    rows, (reject,) = one(**values)
    assert rows == []
    assert reason in reject.reason


def test_parquet_and_csv_hold_labels_too() -> None:
    sink = io.BytesIO()
    table = {
        "review_id": [1],
        "rating": [4.0],
        "labelled_at": [datetime(2026, 11, 3, tzinfo=UTC)],
        "review_date": [date(2026, 11, 1)],
    }
    pq.write_table(pa.table(table), sink)
    text = b"review_id,rating,labelled_at,review_date\n1,4,2026-11-03,2026-11-01\n"
    assert read(sink.getvalue(), "a.parquet") == read(text, "a.csv")
    assert read(text, "a.csv")[0][0]["label"] == "positive"


@pytest.mark.parametrize(
    ("header", "missing"), [("review_id,labelled_at", "label or rating"), ("review_id,label", "labelled_at")]
)
def test_a_file_without_the_columns_of_a_label_is_unreadable(header: str, missing: str) -> None:
    with pytest.raises(UnreadableObject, match=f"expected a column {missing}, found 'review_id'"):
        read(header.encode() + b"\n1,x\n", "a.csv")
