"""A block read at once is the same rows as its lines read one by one, or it is not read at once."""

import csv
import io
import json
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sentiment_core.policy import read_policy
from sentiment_core.reviews import delimited, jsonlines
from sentiment_core.reviews.csvblocks import parse_records
from sentiment_core.reviews.delimited import _Scanner
from sentiment_core.reviews.jsonblocks import parse_lines
from sentiment_core.reviews.jsonlines import _Reader
from sentiment_core.reviews.read import read_reviews
from sentiment_core.reviews.rows import RawRows, Request
from sentiment_core.reviews.validate import REVIEW_COLUMNS, suspects
from sentiment_core.settings import REPOSITORY

LIMITS = read_policy(REPOSITORY / "include" / "policy.toml").reading
REQUEST = Request(key="a", columns=REVIEW_COLUMNS, limits=LIMITS)
DAY = date(2026, 11, 1)
RELAXED = settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
NASTY = [
    b'"', b'""', b"\\", b"\n", b"\r", b"\r\n", b",", b"{", b"}", b"[", b"]", b":", b" ", b"\0", b"\x01", b"\xff", b"\xc3\xa9", b"9",
    b"0", b"-", b".", b"e9", b"NaN", b"Infinity", b"-Infinity", b"Inf", b"-NaN", b"null", b"true", b"\\ud800", b"\\udc00", b"\\u0000",
    b"\\ud83d\\ude00", b"\xef\xbb\xbf", b"\n\n", b'"x":1', b'{"text":"a"}', b" ", b"\t",
]  # fmt: skip

words = st.text(max_size=12) | st.sampled_from(
    ["", " ", "good", "2026-11-01", "2026-11-01T10:00:00Z", "4", "a\nb", "\0", '"', "é"]
)
numbers = st.integers(-(2**70), 2**70) | st.integers(0, 9) | st.floats()
anything = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
rows = st.fixed_dictionaries(
    {"review_id": words, "text": words},
    optional={
        "rating": st.integers(1, 5) | st.none(),
        "created_at": words | st.none(),
        "product_id": st.none() | words,
        "extra": st.integers(0, 9),
        "more": st.lists(st.floats(), max_size=2),
    },
)
strange_rows = rows | st.dictionaries(st.sampled_from(["review_id", "text", "rating", "extra", ""]) | words, anything, max_size=5)
changes = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 3), st.sampled_from(NASTY)), max_size=3)


def damaged(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Some bytes at some places taken away, and others put there."""
    for place, n_lost, gained in changes:
        start = int(place * (len(data) + 1))
        data = data[:start] + gained + data[start + n_lost :]
    return data


def plain(rows: RawRows) -> tuple[Any, ...]:
    columns = {name: array.cast(pa.large_binary()).to_pylist() for name, array in rows.columns.items()}
    return rows.numbers.tolist(), columns, rows.rejects, rows.n_ignored_columns


def as_lines(rows: list[dict[str, Any]], *, end: bytes = b"\n", is_ascii: bool = True) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=is_ascii).encode("utf-8", "replace") + end for row in rows)


def assert_same_lines(data: bytes, request: Request = REQUEST) -> bool:
    """Whether the lines were read at once."""
    block = parse_lines(pa.py_buffer(data), request, {}) if data else None
    if block is not None:
        assert plain(_Reader(request).take_block(block)) == plain(_Reader(request).take_lines(data.split(b"\n")))
    return block is not None


@RELAXED
@given(st.lists(rows, min_size=1, max_size=6), changes, st.sampled_from([b"\n", b"\r\n", b" \n"]), st.booleans())
def test_lines_read_at_once_are_the_lines_read_one_by_one(rows, changes, end, is_ascii):
    assert_same_lines(damaged(as_lines(rows, end=end, is_ascii=is_ascii), changes))


@RELAXED
@given(st.lists(strange_rows, min_size=1, max_size=4))
@example([{"x": float("nan")}])
@example([{"x": {"y": [float("inf")]}}])
@example([{"rating": 1}, {"rating": None}, {"rating": 2.0}])
@example([{"review_id": 1}, {"review_id": "a"}])
@example([{"text": True}])
@example([{"x": 10**5000}])
@example([{"x": [[10**400]]}])
def test_whatever_the_values_are(rows):
    try:
        data = as_lines(rows)
    except ValueError:  # a number of more digits than the json module writes
        data = b'{"text":"a","x":' + b"9" * 5000 + b"}\n"
    assert_same_lines(data)


CLEAN = [{"review_id": f"r{n}", "text": f"Grüße\n“{n}” \U0001f600", "rating": n % 5 + 1, "likes": [n, 1.5]} for n in range(50)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_clean_lines_are_read_at_once(end, is_ascii):
    assert assert_same_lines(as_lines(CLEAN, end=end, is_ascii=is_ascii))
    assert assert_same_lines(as_lines(CLEAN, is_ascii=is_ascii)[:-1])
    assert assert_same_lines(as_lines([{**row, "review_id": n} for n, row in enumerate(CLEAN)]))


@pytest.mark.parametrize(
    "line",
    [
        b'{"text":"a","text":"b"}', b'{"text":"a"} {"text":"b"}', b"", b" ", b"[]", b'{"text":', b'{"text":"\xff"}', b'{"text":5}',
        b'{"x":NaN}', b'{"x":-NaN}', b'{"x":Inf}', b'{"x":[Infinity]}', b'{"text":"\\ud800"}', b'{"text":"\\udc00"}', b'{"\\udc00":1}',
        b'{"\xff":1}', b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
    ],
)  # fmt: skip
def test_a_block_with_a_line_that_is_not_clean_is_given_back(line):
    data = as_lines(CLEAN) + line + b"\n" + as_lines(CLEAN)
    assert parse_lines(pa.py_buffer(data), REQUEST, {}) is None


def test_a_line_longer_than_any_row_is_not_read_at_once():
    request = replace(REQUEST, limits=replace(LIMITS, max_text_chars=1))
    data = as_lines([{"review_id": "a", "text": "x" * (request.max_row_bytes - 30)}])
    assert (len(data) - 1, assert_same_lines(data, request)) == (request.max_row_bytes, True)
    assert not assert_same_lines(data.replace(b"x", b"xx", 1), request)


def test_a_column_that_begins_empty_keeps_the_type_it_has_had():
    types: dict[str, pa.DataType] = {}
    for start in (7, None):
        data = as_lines([{"review_id": 1, "text": "a", "product_id": start}, {"review_id": 2, "text": "b", "product_id": 8}])
        block = parse_lines(pa.py_buffer(data), REQUEST, types)
        assert block is not None
        assert block.columns["product_id"].to_pylist() == [start and "7", "8"]


# Comma-separated values

fields = words | st.sampled_from(['a "b" c', '5" screen', "x,y", "a\r\nb", "\r", "\n"])


def as_csv(records: list[list[str]], quoting: int, end: str) -> bytes:
    sink = io.StringIO(newline="")
    csv.writer(sink, quoting=quoting, lineterminator=end).writerows(records)
    return sink.getvalue().encode("utf-8", "replace")


def one_by_one(data: bytes) -> list[Any]:
    scanner = _Scanner(replace(REQUEST, block_bytes=len(data) + 1))
    batches = list(scanner.batches(io.BytesIO(data)))  # a scanner that has not been told the shape reads record by record
    return [record for batch in batches if isinstance(batch, list) for record in batch]


def assert_same_records(data: bytes, n_columns: int) -> bool:
    """Whether the records were read at once."""
    places = {str(place): place for place in range(n_columns)}
    read = parse_records(data, n_columns, places, REQUEST)
    if read is None:
        return False
    columns, size = read
    assert data[:size].endswith(b"\n")
    together = [list(record) for record in zip(*(columns[name].to_pylist() for name in places), strict=True)]
    assert together == one_by_one(data[:size])
    return True


@RELAXED
@given(
    st.integers(1, 3).flatmap(lambda n: st.lists(st.lists(fields, min_size=n, max_size=n), min_size=1, max_size=6)),
    changes,
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_records_read_at_once_are_the_records_read_one_by_one(records, changes, quoting, end):
    data = damaged(as_csv(records, quoting, end), changes)
    if not data.startswith(b"\xef\xbb\xbf"):  # only the first block may begin with one, and its header comes before
        assert_same_records(data, len(records[0]))


@RELAXED
@given(
    st.lists(st.sampled_from([b'"', b'""', b",", b"\n", b"\r\n", b"\r", b"a", b'"a"', b'"\n"']), max_size=30), st.integers(1, 3)
)
def test_any_mixture_of_quotes_commas_and_breaks_is_read_alike(pieces, n_columns):
    assert_same_records(b"".join(pieces), n_columns)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
def test_clean_records_are_read_at_once_up_to_the_one_that_is_not_whole(quoting, end):
    records = [[f"r{n}", f'Grüße,\n"{n}" \r\n', ""] for n in range(50)]
    data = as_csv(records, quoting, end)
    assert assert_same_records(data, 3)
    read = parse_records(data + b'r,"half', 3, {"text": 1}, REQUEST)
    assert read is not None
    assert (len(read[0]["text"]), read[1]) == (50, len(data))


@pytest.mark.parametrize(
    "record", [b"a", b"a,b,c", b'"a"b,c', b'a"b,c', b"a,\rb", b'a,"b"\rx', b'"a,b', b'"a" ,b', b"x" * (14 << 20)]
)
def test_nothing_beyond_a_record_that_is_not_clean_is_read_at_once(record):
    before = b"1,a\n" * 20
    read = parse_records(before + record + b"\n" + before, 2, {"text": 1}, REQUEST)
    assert read is None or read[1] == len(before)


# Both, from the outside


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("bad", [b"", b"\xff broken\n"])
def test_an_object_is_read_the_same_with_and_without_blocks(suffix, bad, monkeypatch):
    texts = [f"text {n}, with “{n}” and\nmore " * 5 for n in range(3000)]
    if suffix == ".csv":
        parts = [as_csv([["text", "review_id", "x"]], csv.QUOTE_ALL, "\n")]
        parts += [as_csv([[text, f"r{n}", ""]], csv.QUOTE_ALL, "\n") for n, text in enumerate(texts)]
    else:
        parts = [as_lines([{"review_id": f"r{n}", "text": text, "x": n}]) for n, text in enumerate(texts)]
    data = b"".join([*parts[:900], bad, *parts[900:]])

    def read() -> list[Any]:
        batches = read_reviews(io.BytesIO(data), f"a{suffix}", folder_date=DAY, limits=LIMITS, block_bytes=100_000)
        return [item for batch in batches for item in (*batch.table.to_pylist(), *batch.rejects, batch.n_ignored_columns)]

    together = read()
    for module in (jsonlines, delimited):
        monkeypatch.setattr(module, "_MIN_BYTES", len(data) + 1)
    alone = read()
    kinds = [int, dict] if not bad else [int, dict, type(alone[-1])]
    for kind in (dict, *kinds[2:]):
        assert [item for item in together if isinstance(item, kind)] == [item for item in alone if isinstance(item, kind)]


# What validation has to look at


@RELAXED
@given(st.lists(st.none() | words, max_size=8), st.integers(0, 3))
def test_what_is_not_suspected_needs_no_look(values, start):
    array = pa.array(values, pa.large_string()).slice(min(start, len(values)))
    looked_at = set(suspects(array, max_bytes=8, is_one_word=True).tolist())
    for place, value in enumerate(array.to_pylist()):
        if place not in looked_at:
            assert 1 <= len(value) <= 8
            assert value.isascii()
            assert value.isprintable()
            assert " " not in value
    for place in set(range(len(array))) - set(suspects(array, max_bytes=8).tolist()):
        value = array[place].as_py()
        assert 1 <= len(value) <= 8
        assert not value.isspace()
        assert "\0" not in value
    assert np.array_equal(suspects(pa.array(["a", "b"], pa.large_string()), max_bytes=8), [])
