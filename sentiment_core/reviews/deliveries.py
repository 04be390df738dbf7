"""Rows of a played night as the files a sender would deliver, with the faults senders make; and a naive recount of them.

Several formats, a few rows that no reader should accept, and some reviews sent twice. The recount reads the files with
plain modules and rules of its own, never with `read`: it is there to check the machine.
"""

import csv
import gzip
import io
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment_core.reviews.corpus import Labelled

_COLUMNS = ("review_id", "product_id", "source", "created_at", "language", "text")
_FILE_SHARES = (0.5, 0.3)  # Parquet, JSONL; CSV has the rest
_REDELIVERED = 0.012  # of the rows come once more in the last file
_NO_TIME = 0.01  # of the rows have no created_at: the folder says the date
_SECONDS_A_DAY = 86_400

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One file for the night's folder."""

    name: str
    data: bytes


def deliver(rows: Sequence[Labelled], day: date, rng: random.Random) -> tuple[Delivery, ...]:
    """The night's files in order of arrival: every review in one of them, some once more in the last."""
    sent = [_row(review, day, rng) for review in rows]
    bounds = [0, int(_FILE_SHARES[0] * len(sent)), int(sum(_FILE_SHARES) * len(sent)), len(sent)]
    first, second, third = (sent[start:end] for start, end in pairwise(bounds))
    third = third + rng.sample(sent, k=round(_REDELIVERED * len(sent)))
    dirty = _dirty_rows(day)
    return (
        Delivery(name="part-1.parquet", data=_parquet(_scatter(first, dirty, rng))),
        Delivery(name="part-2.jsonl.gz", data=_jsonl_gz(_scatter(second, dirty, rng))),
        # CSV knows no difference between null and empty, and no NUL.
        Delivery(name="part-3.csv", data=_csv(_scatter(third, [row for row in dirty if "\0" not in str(row["text"])], rng))),
    )


def deliver_labels(rows: Sequence[Labelled], day: date, rng: random.Random) -> bytes:
    """What people said of some of a night's reviews, exported just after midnight: stars where known, else a label."""
    exported_at = datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC)
    lines = []
    for number, review in enumerate(rng.sample(rows, k=len(rows))):
        opinion = {"label": review.label} if review.rating is None else {"rating": review.rating}
        at = exported_at + timedelta(milliseconds=number)
        lines.append({"review_id": review.review_id, **opinion, "labelled_at": at.isoformat(), "review_date": day.isoformat()})
    return _jsonl(lines)


def delivered_identities(deliveries: Iterable[Delivery], day: date) -> set[tuple[date, str]]:
    """Distinct (review_date, review_id) of the rows that a reader has to accept."""
    return {
        (_date_of(row, day), str(row["review_id"]))
        for delivery in deliveries
        for row in _read_naively(delivery)
        if _is_acceptable(row, day)
    }


def _row(review: Labelled, day: date, rng: random.Random) -> Row:
    created_at = datetime.combine(day, datetime.min.time(), UTC) + timedelta(seconds=rng.randrange(_SECONDS_A_DAY))
    return {
        "review_id": review.review_id,
        "product_id": review.product_id,
        "source": review.source,
        "created_at": None if rng.random() < _NO_TIME else created_at,
        "language": review.language,
        "text": review.text,
    }


def _dirty_rows(day: date) -> list[Row]:
    noon = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=12)
    whole = {"review_id": "dirty", "product_id": None, "source": "dirty", "created_at": noon, "language": None, "text": "fine"}
    return [
        {**whole, "review_id": None},
        {**whole, "review_id": "dirty-no-text", "text": None},
        {**whole, "review_id": "dirty-blank-text", "text": " \n\t "},
        {**whole, "review_id": "dirty-nul", "text": "good\0bad"},
        {**whole, "review_id": "dirty-long-ago", "created_at": noon - timedelta(days=400)},
        {**whole, "review_id": "dirty-tomorrow", "created_at": noon + timedelta(days=30)},
    ]


def _scatter(rows: list[Row], dirty: list[Row], rng: random.Random) -> list[Row]:
    scattered = list(rows)
    for row in dirty:
        scattered.insert(rng.randrange(len(scattered) + 1), row)
    return scattered


def _parquet(rows: list[Row]) -> bytes:
    types = {name: pa.string() for name in _COLUMNS} | {"created_at": pa.timestamp("us", tz="UTC")}
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(list(types.items()))), sink, compression="zstd")
    return sink.getvalue()


def _jsonl_gz(rows: list[Row]) -> bytes:
    lines = [{name: value for name, value in _in_words(row).items() if value is not None} for row in rows]
    return gzip.compress(_jsonl(lines), mtime=0)  # without a time, so that the same rows are the same bytes


def _jsonl(lines: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def _csv(rows: list[Row]) -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, _COLUMNS)
    writer.writeheader()
    writer.writerows(_in_words(row) for row in rows)
    return sink.getvalue().encode()


def _in_words(row: Row) -> Row:
    return {**row, "created_at": row["created_at"] and row["created_at"].isoformat()}


def _read_naively(delivery: Delivery) -> Iterator[Row]:
    if delivery.name.endswith(".parquet"):
        yield from pq.read_table(io.BytesIO(delivery.data)).to_pylist()
    elif delivery.name.endswith(".jsonl.gz"):
        yield from map(json.loads, gzip.decompress(delivery.data).decode().split("\n")[:-1])  # texts hold U+0085 and the like
    else:
        yield from csv.DictReader(io.StringIO(delivery.data.decode(), newline=""))


def _is_acceptable(row: Row, day: date) -> bool:
    words = [row.get("review_id"), row.get("text")]
    if not all(isinstance(word, str) and word.strip() and "\0" not in word for word in words):
        return False
    return day - timedelta(days=7) <= _date_of(row, day) <= day + timedelta(days=1)


def _date_of(row: Row, day: date) -> date:
    created_at = row.get("created_at")
    if not created_at:
        return day
    moment = datetime.fromisoformat(created_at) if isinstance(created_at, str) else created_at
    return moment.astimezone(UTC).date()
