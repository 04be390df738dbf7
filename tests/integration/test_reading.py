"""From a real S3 server to batches, and back for the texts of single rows."""

import gzip
import io
import json
import resource
import sys
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment_core.domain import ObjectVersion
from sentiment_core.policy import read_policy
from sentiment_core.reviews.bucket import Bucket, ObjectChanged
from sentiment_core.reviews.fetch import texts_of
from sentiment_core.reviews.layout import incoming_prefix, is_review_key
from sentiment_core.reviews.read import UnreadableObject, read_reviews
from sentiment_core.settings import REPOSITORY

LIMITS = read_policy(REPOSITORY / "include" / "policy.toml").reading
DAY = date(2026, 11, 1)


@pytest.fixture
def bucket(s3_client: Any, bucket_name: str) -> Bucket:
    return Bucket(s3_client, bucket_name)


def deliver(bucket: Bucket, name: str, data: bytes) -> ObjectVersion:
    key = incoming_prefix(DAY) + name
    bucket.put(key, data)
    return next(obj for obj in bucket.list(key) if obj.key == key)


def contents(form: str, texts: list[str | None]) -> bytes:
    if form == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.table({"review_id": [str(n) for n in range(len(texts))], "text": texts}), sink, row_group_size=1000)
        return sink.getvalue()
    if form == "csv":
        return b"review_id,text\n" + b"".join(f'{n},"{text or ""}"\n'.encode() for n, text in enumerate(texts))
    lines = b"".join(json.dumps({"review_id": str(n), "text": text}).encode() + b"\n" for n, text in enumerate(texts))
    return gzip.compress(lines) if form.endswith(".gz") else lines


@pytest.mark.parametrize("form", ["parquet", "jsonl", "jsonl.gz", "csv"])
def test_an_object_is_read_and_its_texts_are_found_again(bucket: Bucket, form: str) -> None:
    texts = [f"text {n}\nof {n}" for n in range(20_000)]
    obj = deliver(bucket, f"a.{form}", contents(form, texts))
    with bucket.open(obj) as stream:
        batches = list(read_reviews(stream, obj.key, folder_date=DAY, limits=LIMITS))
    assert [text for batch in batches for text in batch.table["text"].to_pylist()] == texts
    numbers = [3, 9_999, 19_999, 3]
    assert texts_of(bucket, obj, numbers, LIMITS) == {number: texts[number] for number in numbers}
    assert texts_of(bucket, obj, [], LIMITS) == {}


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_row_numbers_mean_the_same_when_texts_are_fetched(bucket: Bucket, form: str) -> None:
    texts = ["zero", None, "two", " ", "four"]
    data = contents(form, texts)
    if form != "parquet":
        *head, last, _ = data.split(b"\n")
        data = b"\n".join([*head, b"\xff broken", b"", last])
    obj = deliver(bucket, f"a.{form}", data)
    with bucket.open(obj) as stream:
        rows = [row for batch in read_reviews(stream, obj.key, folder_date=DAY, limits=LIMITS) for row in batch.table.to_pylist()]
    found = texts_of(bucket, obj, [row["row_number"] for row in rows], LIMITS)
    assert [found[row["row_number"]] for row in rows] == [row["text"] for row in rows] == ["zero", "two", "four"]


def test_texts_of_a_rewritten_object_are_not_mixed_up(bucket: Bucket) -> None:
    obj = deliver(bucket, "a.csv", contents("csv", ["old"]))
    deliver(bucket, "a.csv", contents("csv", ["new"]))
    with pytest.raises(ObjectChanged):
        texts_of(bucket, obj, [0], LIMITS)


def test_a_folder_of_every_kind_of_damage(bucket: Bucket) -> None:
    good = contents("parquet", [f"text {n}" for n in range(100)])
    damaged = b"review_id,text\n1,fine\n,no id\n3,nul \x00\n4,caf\xe9\n5," + b"x" * 10_000_000 + b"\n6,fine\n"
    for name, data in {
        "good.parquet": good,
        "truncated.parquet": good[:-100],
        "empty.csv": b"",
        "no-text.csv": b"review_id,body\n1,x\n",
        "damaged.csv": damaged,
        "_SUCCESS": b"",
    }.items():
        bucket.put(incoming_prefix(DAY) + name, data)
    outcome: dict[str, Any] = {}
    for obj in bucket.list(incoming_prefix(DAY)):
        if is_review_key(obj.key):
            name = obj.key.rpartition("/")[2]
            try:
                with bucket.open(obj) as stream:
                    batches = list(read_reviews(stream, obj.key, folder_date=DAY, limits=LIMITS))
                rejects = [(reject.row_number, reject.reason.split(":")[0]) for batch in batches for reject in batch.rejects]
                outcome[name] = (sum(batch.table.num_rows for batch in batches), rejects)
            except UnreadableObject as error:
                outcome[name] = error.expected
    assert outcome == {
        "good.parquet": (100, []),
        "truncated.parquet": "a whole Parquet file",
        "empty.csv": "a header line naming the columns",
        "no-text.csv": "a column text",
        "damaged.csv": (2, [(1, "review_id"), (2, "text"), (3, "text"), (4, "text")]),
    }


def test_memory_does_not_grow_with_the_object(bucket: Bucket) -> None:
    """A hundred megabytes packed into a few hundred kilobytes, as every format might be."""
    text = "It was fine, I think. " * 45
    rows = b"".join(json.dumps({"review_id": str(n), "text": text}).encode() + b"\n" for n in range(1000))
    obj = deliver(bucket, "big.jsonl.gz", gzip.compress(rows * 100, compresslevel=1))

    def peak_mib() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)

    n_rows = 0
    with bucket.open(obj) as stream:
        batches = read_reviews(stream, obj.key, folder_date=DAY, limits=LIMITS)
        n_rows += next(batches).table.num_rows
        before = peak_mib()
        n_rows += sum(batch.table.num_rows for batch in batches)
    assert n_rows == 100_000
    assert peak_mib() - before < 120
