"""Laws of reading, for any rows and any bytes."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentiment_core.policy import read_policy
from sentiment_core.reviews.labels import read_labels
from sentiment_core.reviews.layout import SUFFIXES
from sentiment_core.reviews.read import UnreadableObject, read_reviews
from sentiment_core.settings import REPOSITORY

LIMITS = replace(read_policy(REPOSITORY / "include" / "policy.toml").reading, max_text_chars=50, max_id_chars=20, raw_chars=60)
DAY = date(2026, 11, 1)
NAMES = ("review_id", "text", "created_at", "rating", "product_id", "extra")
RELAXED = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

words = st.one_of(
    st.none(),
    st.text(max_size=60),
    st.sampled_from(
        ["", " ", "ok", "fine", "a\0b", "4", "5.0", "7", "2026-11-01", "2026-11-01T10:00:00+01:00", '"', ",", "\r", "\n"]
    ),
)
row_lists = st.lists(st.fixed_dictionaries(dict.fromkeys(NAMES, words)), max_size=12)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=20,
)


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    columns = {name: pa.array([row[name] for row in rows], pa.string()) for name in NAMES}
    table = pa.table({**columns, "product_id": columns["product_id"].dictionary_encode()})
    pq.write_table(table, sink, row_group_size=5)
    return sink.getvalue()


def as_json_lines(rows: list[Any]) -> bytes:
    return b"\n" + b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    sink = io.StringIO(newline="")
    csv.writer(sink, quoting=csv.QUOTE_ALL).writerows([NAMES, *([row[name] for name in NAMES] for row in rows)])
    return sink.getvalue().encode()


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    ".parquet": as_parquet,
    ".jsonl": as_json_lines,
    ".jsonl.gz": lambda rows: gzip.compress(as_json_lines(rows)),
    ".csv": as_csv,
    ".csv.gz": lambda rows: gzip.compress(as_csv(rows)),
}


def outcome(data: bytes, key: str, *, batch_rows: int = 8192, block_bytes: int = 8 << 20) -> Any:
    """All valid rows and all rejects of an object, or that it is unreadable."""
    limits = replace(LIMITS, batch_rows=batch_rows)
    rows, rejects, n_ignored = [], [], 0
    try:
        for batch in read_reviews(io.BytesIO(data), key, folder_date=DAY, limits=limits, block_bytes=block_bytes):
            rows += batch.table.to_pylist()
            rejects += batch.rejects
            n_ignored = batch.n_ignored_columns
    except UnreadableObject as error:
        return error.expected
    return rows, rejects, n_ignored


@pytest.mark.parametrize("suffix", SUFFIXES)
@RELAXED
@given(rows=row_lists)
def test_valid_and_rejected_rows_together_are_all_rows(suffix: str, rows: list[dict[str, Any]]) -> None:
    good, rejects, _ = outcome(WRITERS[suffix](rows), f"a{suffix}")
    numbers = sorted([row["row_number"] for row in good] + [reject.row_number for reject in rejects])
    assert numbers == list(range(len(rows)))
    for row in good:
        sent = rows[row["row_number"]]
        assert (row["review_id"], row["text"]) == (sent["review_id"], sent["text"])
    for reject in rejects:
        assert reject.reason
        assert len(reject.raw) <= LIMITS.raw_chars
        for stored in (reject.reason, reject.raw, reject.review_id or ""):
            assert "\0" not in stored
            stored.encode()


@RELAXED
@given(rows=row_lists)
def test_every_format_gives_the_same_outcome(rows: list[dict[str, Any]]) -> None:
    # CSV cannot tell an empty value from none, so that the reasons of such rows differ in a word.
    results = [outcome(write(rows), f"a{suffix}") for suffix, write in WRITERS.items()]
    for good, rejects, _ in results[1:]:
        assert good == results[0][0]
        assert [reject.row_number for reject in rejects] == [reject.row_number for reject in results[0][1]]


@pytest.mark.parametrize("suffix", SUFFIXES)
@RELAXED
@given(rows=row_lists, batch_rows=st.integers(1, 5), block_bytes=st.integers(1, 200))
def test_the_size_of_batches_and_blocks_changes_nothing(
    suffix: str, rows: list[dict[str, Any]], batch_rows: int, block_bytes: int
) -> None:
    data = WRITERS[suffix](rows)
    whole, cut = outcome(data, f"a{suffix}"), outcome(data, f"a{suffix}", batch_rows=batch_rows, block_bytes=block_bytes)
    assert whole[:2] == cut[:2]
    if rows:
        assert whole[2] == cut[2]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@RELAXED
@given(
    pieces=st.lists(
        st.sampled_from([b'"', b",", b"\n", b"\r\n", b"\r", b"\xff", b"a", b"1", b'""', b"{", b"}", b'{"text":"a"}']), max_size=40
    ),
    batch_rows=st.integers(1, 3),
    block_bytes=st.integers(1, 9),
)
def test_malformed_rows_are_cut_alike_whatever_the_blocks(
    suffix: str, pieces: list[bytes], batch_rows: int, block_bytes: int
) -> None:
    data = (b"review_id,text\n" if suffix == ".csv" else b"") + b"".join(pieces)
    whole, cut = outcome(data, f"a{suffix}"), outcome(data, f"a{suffix}", batch_rows=batch_rows, block_bytes=block_bytes)
    assert whole == cut


@RELAXED
@given(rows=st.lists(anything, max_size=8))
def test_any_json_is_valid_or_rejected(rows: list[Any]) -> None:
    good, rejects, _ = outcome(as_json_lines(rows), "a.jsonl")
    assert len(good) + len(rejects) == len(rows)


@pytest.mark.parametrize("suffix", SUFFIXES)
@RELAXED
@given(data=st.binary(max_size=300))
def test_random_bytes_are_rejected_rows_or_an_unreadable_object(suffix: str, data: bytes) -> None:
    outcome(data, f"a{suffix}")
    outcome(b"review_id,text\n" + data, f"a{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(RELAXED, max_examples=100)
@given(
    rows=st.lists(
        st.fixed_dictionaries({name: st.sampled_from(["a", "fine", "4", "2026-11-01"]) for name in NAMES}), min_size=1, max_size=8
    ),
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 40),
)
def test_a_damaged_object_is_rejected_rows_or_an_unreadable_object(
    suffix: str, rows: list[dict[str, Any]], changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(WRITERS[suffix](rows))
    for place, value in changes:
        data[place % len(data)] = value
    outcome(bytes(data[: len(data) - cut]), f"a{suffix}")


@RELAXED
@given(rows=st.lists(anything, max_size=8), data=st.binary(max_size=200))
def test_any_labels_are_valid_or_rejected(rows: list[Any], data: bytes) -> None:
    batches = list(read_labels(io.BytesIO(as_json_lines(rows)), "a.jsonl", folder_date=DAY, limits=LIMITS))
    assert sum(batch.table.num_rows + len(batch.rejects) for batch in batches) == len(rows)
    list(read_labels(io.BytesIO(b"x" + data), "a.jsonl", folder_date=DAY, limits=LIMITS))
