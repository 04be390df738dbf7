"""What becomes of every row and every object that a sender can think of."""

import csv
import decimal
import gzip
import io
import json
import random
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment_core import schema
from sentiment_core.domain import Reject
from sentiment_core.policy import read_policy
from sentiment_core.reviews.read import UnreadableObject, read_reviews, reject_lines
from sentiment_core.settings import REPOSITORY

LIMITS = read_policy(REPOSITORY / "include" / "policy.toml").reading
DAY = date(2026, 11, 1)


def read(data: bytes, key: str, *, block_bytes: int = 8 << 20, **limits: int) -> tuple[list[dict[str, Any]], list[Reject]]:
    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    chosen = replace(LIMITS, **limits)
    for batch in read_reviews(io.BytesIO(data), key, folder_date=DAY, limits=chosen, block_bytes=block_bytes):
        assert batch.table.schema == schema.REVIEW_BATCH
        assert batch.table.num_rows <= chosen.batch_rows
        rows += batch.table.to_pylist()
        rejects += batch.rejects
    assert sorted([row["row_number"] for row in rows] + [reject.row_number for reject in rejects]) == list(
        range(len(rows) + len(rejects))
    )
    return rows, rejects


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, **options)
    return sink.getvalue()


def delimited(*rows: list[Any]) -> bytes:
    sink = io.StringIO()
    csv.writer(sink).writerows(rows)
    return sink.getvalue().encode()


def json_lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def reason_of(data: bytes, key: str) -> str:
    rows, rejects = read(data, key)
    assert rows == []
    assert len(rejects) == 1
    return rejects[0].reason


FULL = {
    "review_id": "r1",
    "text": "Grüße, “quoted”\nand 字",
    "product_id": "p1",
    "source": "shop",
    "created_at": "2026-11-01T23:30:00-02:00",
    "rating": 4,
    "language": "de",
}


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".CSV"])
def test_every_format_gives_the_same_review(suffix: str) -> None:
    if suffix == ".parquet":
        data = parquet({name: [value] for name, value in FULL.items()})
    elif ".jsonl" in suffix:
        data = json_lines(FULL)
    else:
        data = delimited(list(FULL), list(FULL.values()))
    rows, rejects = read(gzip.compress(data) if suffix.endswith(".gz") else data, f"incoming/date=2026-11-01/a{suffix}")
    assert rejects == []
    assert rows == [
        {
            **FULL,
            "row_number": 0,
            "review_date": date(2026, 11, 2),
            "created_at": datetime(2026, 11, 2, 1, 30, tzinfo=UTC),
        }
    ]


def test_optional_columns_may_be_absent_and_unknown_ones_are_counted() -> None:
    columns = {"review_id": ["a"], "text": ["fine"], "stars": [1], "colour": ["red"]}
    for data, key in (
        (parquet(columns), "a.parquet"),
        (delimited(list(columns), ["a", "fine", 1, "red"]), "a.csv"),
        (json_lines({"review_id": "a", "text": "fine", "stars": 1}, {"review_id": "b", "text": "so", "colour": 2}), "a.jsonl"),
    ):
        batches = list(read_reviews(io.BytesIO(data), key, folder_date=DAY, limits=LIMITS))
        assert batches[-1].n_ignored_columns == 2
        row = batches[0].table.to_pylist()[0]
        assert row["review_date"] == DAY
        assert row["created_at"] is row["rating"] is row["product_id"] is row["source"] is row["language"] is None


# Objects that cannot be read


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz"])
def test_an_empty_object_is_unreadable(suffix: str) -> None:
    with pytest.raises(UnreadableObject, match="empty object"):
        read(b"", f"a{suffix}")
    if suffix.endswith(".gz"):
        with pytest.raises(UnreadableObject, match="empty object"):
            read(gzip.compress(b""), f"a{suffix}")


@pytest.mark.parametrize("keep", [1, 4, 11, 100, 0.5, 0.99])
def test_a_truncated_parquet_is_unreadable(keep: float) -> None:
    whole = parquet({"review_id": [str(n) for n in range(1000)], "text": [f"text {n}" for n in range(1000)]})
    with pytest.raises(UnreadableObject, match="whole Parquet file"):
        read(whole[: int(keep * len(whole)) if keep < 1 else int(keep)], "a.parquet")


@pytest.mark.parametrize("suffix", [".csv.gz", ".jsonl.gz"])
def test_a_truncated_gzip_is_unreadable(suffix: str) -> None:
    noise = random.Random(1)
    rows = [{"review_id": str(n), "text": str(noise.random())} for n in range(5000)]
    data = json_lines(*rows) if "json" in suffix else delimited(["review_id", "text"], *(list(row.values()) for row in rows))
    packed = gzip.compress(data)
    assert len(read(packed, f"a{suffix}")[0]) == 5000
    for cut in (5, 100, len(packed) // 2, len(packed) - 1):
        with pytest.raises(UnreadableObject, match="whole gzip file"):
            read(packed[:cut], f"a{suffix}")
    with pytest.raises(UnreadableObject, match="whole gzip file"):
        read(data, f"a{suffix}")


def test_a_flipped_byte_in_a_gzip_is_noticed() -> None:
    packed = bytearray(gzip.compress(json_lines(*({"review_id": str(n), "text": f"text {n}"} for n in range(2000)))))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(UnreadableObject, match="whole gzip file"):
        read(bytes(packed), "a.jsonl.gz")


def test_concatenated_gzip_members_are_one_object() -> None:
    data = gzip.compress(json_lines({"review_id": "1", "text": "a"})) + gzip.compress(json_lines({"review_id": "2", "text": "b"}))
    assert [row["review_id"] for row in read(data, "a.jsonl.gz")[0]] == ["1", "2"]


@pytest.mark.parametrize("missing", ["text", "review_id"])
def test_a_missing_column_is_named_beside_those_found(missing: str) -> None:
    columns = {name: ["x"] for name in ("review_id", "text", "rating") if name != missing}
    for data, key in ((parquet(columns), "a.parquet"), (delimited(list(columns), ["x", "4"]), "a.csv")):
        with pytest.raises(UnreadableObject, match=f"expected a column {missing}, found '.*', 'rating'"):
            read(data, key)


def test_a_column_that_is_there_twice_is_ambiguous() -> None:
    table = pa.Table.from_arrays([pa.array(["1"]), pa.array(["a"]), pa.array(["b"])], names=["review_id", "text", "text"])
    sink = io.BytesIO()
    pq.write_table(table, sink)
    for data, key in ((sink.getvalue(), "a.parquet"), (b"review_id,text,text\n1,a,b\n", "a.csv")):
        with pytest.raises(UnreadableObject, match="expected one column text, found 2"):
            read(data, key)


def test_unknown_columns_may_be_there_twice() -> None:
    assert len(read(b"review_id,text,x,x\n1,a,b,c\n", "a.csv")[0]) == 1


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"review_id": ["1"], "text": [5]}, "strings in column text, found int64"),
        ({"review_id": ["1"], "text": [["a"]]}, "strings in column text, found list"),
        ({"review_id": [{"a": 1}], "text": ["a"]}, "identifier in column review_id, found struct"),
        ({"review_id": ["1"], "text": ["a"], "rating": [True]}, "rating in column rating, found bool"),
        ({"review_id": ["1"], "text": ["a"], "created_at": [1763645100]}, "time in column created_at, found int64"),
    ],
)
def test_a_parquet_column_of_a_type_that_never_fits_is_unreadable(columns: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UnreadableObject, match=complaint):
        read(parquet(columns), "a.parquet")


def test_an_unknown_ending_says_which_are_known() -> None:
    with pytest.raises(UnreadableObject, match=r"\.parquet, \.jsonl, \.jsonl\.gz, \.csv, \.csv\.gz"):
        read(b"x", "a.xlsx")


def test_a_csv_that_is_not_csv_shows_what_its_header_is() -> None:
    with pytest.raises(UnreadableObject, match="review_id;text"):
        read(b"review_id;text\n1;a\n", "a.csv")
    with pytest.raises(UnreadableObject, match="UTF-8"):
        read("review_id,text\n1,a\n".encode("utf-16"), "a.csv")
    with pytest.raises(UnreadableObject, match="header line"):
        read(b"\xef\xbb\xbf\n\n", "a.csv")
    with pytest.raises(UnreadableObject, match="header line"):
        read(b'"review_id,text\n1,a\n', "a.csv")


def test_no_rows_are_no_mistake() -> None:
    assert read(b"review_id,text\n", "a.csv") == ([], [])
    assert read(b"review_id,text", "a.csv") == ([], [])
    assert read(b"\n \n", "a.jsonl") == ([], [])
    assert read(parquet({"review_id": pa.array([], pa.string()), "text": pa.array([], pa.string())}), "a.parquet") == ([], [])


# Rows that are no reviews


GOOD = {"review_id": "good", "text": "fine"}
BAD_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"review_id": None, "text": "x"}, "review_id: expected 1 to 512 characters, found"),
    ({"review_id": "", "text": "x"}, "review_id: expected 1 to 512 characters, found"),
    ({"review_id": " \t", "text": "x"}, "review_id: expected 1 to 512 characters, found only blanks"),
    ({"review_id": "a" * 513, "text": "x"}, "review_id: expected 1 to 512 characters, found 513"),
    ({"review_id": "a\x07b", "text": "x"}, "review_id: expected no control characters, found 'a\\x07b'"),
    ({"review_id": "a\x00b", "text": "x"}, "review_id: expected no control characters, found 'a\\x00b'"),
    ({"review_id": "a", "text": None}, "text: expected 1 to 1,000,000 characters, found"),
    ({"review_id": "a", "text": ""}, "text: expected 1 to 1,000,000 characters, found only blanks or none"),
    ({"review_id": "a", "text": "\n \u2003"}, "text: expected 1 to 1,000,000 characters, found only blanks"),
    ({"review_id": "a", "text": "nul \x00"}, "text: expected no NUL characters"),
    ({"review_id": "a", "text": "x", "rating": "6"}, "rating: expected a whole number from 1 to 5, found '6'"),
    ({"review_id": "a", "text": "x", "rating": "4.5"}, "rating: expected a whole number from 1 to 5, found '4.5'"),
    ({"review_id": "a", "text": "x", "rating": "good"}, "rating: expected a whole number from 1 to 5, found 'good'"),
    ({"review_id": "a", "text": "x", "created_at": "yesterday"}, "created_at: expected a time such as"),
    ({"review_id": "a", "text": "x", "created_at": "2026-02-30"}, "created_at: expected a time such as"),
    ({"review_id": "a", "text": "x", "created_at": "1763645100"}, "created_at: expected a time such as"),
    ({"review_id": "a", "text": "x", "created_at": "2026-10-24T23:59:59Z"}, "expected a time from 2026-10-25 to 2026-11-02"),
    ({"review_id": "a", "text": "x", "created_at": "2026-11-03"}, "expected a time from 2026-10-25 to 2026-11-02"),
    ({"review_id": "a", "text": "x", "product_id": "p" * 513}, "product_id: expected at most 512 characters, found 513"),
    ({"review_id": "a", "text": "x", "source": "s\x00"}, "source: expected no NUL characters"),
    ({"review_id": "a", "text": "x", "language": "l" * 600}, "language: expected at most 512 characters, found 600"),
]


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize(("bad", "reason"), BAD_ROWS, ids=[reason[:40] for _, reason in BAD_ROWS])
def test_a_bad_row_is_rejected_with_its_reason_and_its_neighbours_stay(bad: dict[str, Any], reason: str, form: str) -> None:
    rows = [{**GOOD, "review_id": "before"}, bad, {**GOOD, "review_id": "after"}]
    names = ["review_id", "text", "rating", "created_at", "product_id", "source", "language"]
    if form == "parquet":
        data = parquet({name: pa.array([row.get(name) for row in rows], pa.string()) for name in names})
    elif form == "jsonl":
        data = json_lines(*rows)
    else:
        data = delimited(names, *([row.get(name) for name in names] for row in rows))
    good, rejects = read(data, f"a.{form}")
    assert [(row["row_number"], row["review_id"]) for row in good] == [(0, "before"), (2, "after")]
    (reject,) = rejects
    assert reject.row_number == 1
    assert reason in reject.reason
    assert "\0" not in reject.reason + reject.raw + (reject.review_id or "")


def test_every_rule_that_a_row_breaks_is_named() -> None:
    reason = reason_of(json_lines({"text": " ", "rating": 9}), "a.jsonl")
    assert [part.split(":")[0] for part in reason.split("; ")] == ["review_id", "text", "rating"]


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_a_review_of_ten_megabytes_is_rejected_and_its_neighbours_stay(form: str) -> None:
    texts = ["small", "x" * 10_000_000, "small"]
    if form == "parquet":
        data = parquet({"review_id": ["0", "1", "2"], "text": texts})
    elif form == "jsonl":
        data = json_lines(*({"review_id": str(n), "text": text} for n, text in enumerate(texts)))
    else:
        data = delimited(["review_id", "text"], *([n, text] for n, text in enumerate(texts)))
    good, (reject,) = read(data, f"a.{form}")
    assert [row["review_id"] for row in good] == ["0", "2"]
    assert (reject.review_id, reject.reason) == ("1", "text: expected 1 to 1,000,000 characters, found 10,000,000")
    assert len(reject.raw) == LIMITS.raw_chars


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_row_longer_than_any_valid_one_is_given_up_without_keeping_it(form: str) -> None:
    limits = {"max_text_chars": 10, "raw_chars": 50}
    long = b"y" * (3 << 20)
    if form == "jsonl":
        data = json_lines(GOOD) + b'{"review_id": "long", "text": "' + long + b'"}\n' + json_lines(GOOD)
    else:
        data = b"review_id,text\ngood,fine\nlong," + long + b"\ngood,fine\n"
    for block_bytes in (1 << 16, 1 << 20, 8 << 20):
        good, (reject,) = read(data, f"a.{form}", block_bytes=block_bytes, **limits)
        assert len(good) == 2
        assert reject.row_number == 1
        assert "expected at most 1,048,696 bytes, found more" in reject.reason
        assert len(reject.raw) == 50


def test_a_stray_quote_costs_its_own_row_only_however_much_follows() -> None:
    data = b'review_id,text\n1,"a"b\n' + b"2,fine\n" * 300_000
    good, (reject,) = read(data, "a.csv", max_text_chars=10)
    assert len(good) == 300_000
    assert reject.reason == "row: expected a comma after a closing quote, found b'b'"


def test_invalid_utf8_costs_its_own_row_only() -> None:
    rejects = [
        read(b"review_id,text\n1,ok\n2,caf\xe9\n3,ok\n", "a.csv"),
        read(b'{"review_id":"1","text":"ok"}\n{"review_id":"2","text":"caf\xe9"}\n{"review_id":"3","text":"ok"}\n', "a.jsonl"),
    ]
    texts = pa.array([b"ok", b"caf\xe9", b"ok"], pa.binary())
    lying = pa.StringArray.from_buffers(3, *texts.buffers()[1:])
    ids = pa.array(["1", "2", "3"])
    rejects += [read(parquet({"review_id": ids, "text": kind}), "a.parquet") for kind in (texts, lying)]
    for good, (reject,) in rejects:
        assert [row["review_id"] for row in good] == ["1", "3"]
        assert "expected valid UTF-8, found" in reject.reason
        assert "\\\\xe9" in reject.raw


def test_half_a_surrogate_pair_costs_its_own_row_only() -> None:
    good, (reject,) = read(b'{"review_id":"1","text":"\\ud800"}\n{"review_id":"2","text":"\\ud83d\\ude00"}\n', "a.jsonl")
    assert good[0]["text"] == "\N{GRINNING FACE}"
    assert "valid text" in reject.reason


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"{", "expected a JSON object"),
        (b"[1, 2]", "expected a JSON object, found a list"),
        (b'"text"', "expected a JSON object, found a string"),
        (b"null", "expected a JSON object, found null"),
        (b'{"review_id": "a", "text": "b"} {}', "Extra data"),
        (b'{"review_id": "a", "text": "b\x00"}', "Invalid control character"),
        (b'{"review_id": "a", "text": ' + b"[" * 200_000, "nested too deeply"),
        (b'{"review_id": ' + b"9" * 5000 + b', "text": "b"}', "expected a JSON object"),
        (b'{"review_id": "a", "text": 5}', "text: expected a string of valid text, found 5"),
        (b'{"review_id": "a", "text": ["b"]}', "text: expected a string of valid text, found a list"),
        (b'{"review_id": true, "text": "b"}', "review_id: expected a string of valid text, found True"),
        (b'{"review_id": 1.5, "text": "b"}', "review_id: expected a string of valid text, found 1.5"),
        (b'{"review_id": "a", "text": "b", "created_at": 1763645100}', "created_at: expected a time as a string"),
        (b'{"review_id": "a", "text": "b", "rating": {}}', "rating: expected a string of valid text, found an object"),
    ],
)
def test_a_bad_line_of_json_is_one_reject(line: bytes, found: str) -> None:
    good, (reject,) = read(json_lines(GOOD) + line + b"\n" + json_lines(GOOD), "a.jsonl")
    assert [row["row_number"] for row in good] == [0, 2]
    assert found in reject.reason
    assert "\0" not in reject.reason + reject.raw


def test_json_lines_may_have_a_byte_order_mark_blank_lines_and_carriage_returns() -> None:
    data = b'\xef\xbb\xbf{"review_id":"1","text":"a"}\r\n\r\n\n  \n{"review_id":"2","text":"b","text":"c"}'
    for block_bytes in (1, 7, 1000):
        good, rejects = read(data, "a.jsonl", block_bytes=block_bytes)
        assert [(row["row_number"], row["text"]) for row in good] == [(0, "a"), (1, "c")]
        assert rejects == []


def test_csv_quotes_line_breaks_blank_lines_and_a_byte_order_mark() -> None:
    data = b'\xef\xbb\xbf review_id , "text"\r\n'.replace(b' "text"', b'"text"') + (
        b'1,"a ""fine"", thing\r\nwith two lines"\r\n\r\n2,5" screen\r\n"3",bare \r return'
    )
    for block_bytes in (1, 7, 1000):
        good, rejects = read(data, "a.csv", block_bytes=block_bytes)
        assert rejects == []
        assert [row["text"] for row in good] == ['a "fine", thing\r\nwith two lines', '5" screen', "bare \r return"]
        assert [row["row_number"] for row in good] == [0, 1, 2]


def test_csv_rows_of_the_wrong_shape_are_rejects() -> None:
    data = b'review_id,text\n1,a\n2\n3,b,c\n4,"b"c\n5,d\n6,"never closed\n7,e\n8,f\n'
    for block_bytes in (1, 9, 1000):
        good, rejects = read(data, "a.csv", block_bytes=block_bytes)
        assert [(row["row_number"], row["review_id"]) for row in good] == [(0, "1"), (4, "5"), (6, "7"), (7, "8")]
        assert [reject.reason for reject in rejects] == [
            "row: expected 2 columns, found 1",
            "row: expected 2 columns, found 3",
            "row: expected a comma after a closing quote, found b'c'",
            "row: expected a closing quote, found none up to the end of the object",
        ]


# Types


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pa.array([1, 2], pa.int64()), ["1", "2"]),
        (pa.array([1, 2], pa.uint8()), ["1", "2"]),
        (pa.array([1.0, 2.0]), ["1", "2"]),
        (pa.array([decimal.Decimal(1), decimal.Decimal(2)], pa.decimal128(38, 0)), ["1", "2"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array([b"a", b"b"], pa.binary(1)), ["a", "b"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
    ],
    ids=str,
)
def test_ids_come_in_many_types(ids: pa.Array, expected: list[str]) -> None:
    good, rejects = read(parquet({"review_id": ids, "text": ["x", "y"], "product_id": ids}), "a.parquet")
    assert rejects == []
    assert [row["review_id"] for row in good] == [row["product_id"] for row in good] == expected


def test_float_ids_that_are_no_whole_numbers_are_rejects() -> None:
    ids = pa.array([1.0, 1.5, float("nan"), float("inf"), 2.0**60, None])
    good, rejects = read(parquet({"review_id": ids, "text": ["x"] * 6}), "a.parquet")
    assert [row["review_id"] for row in good] == ["1"]
    assert len(rejects) == 5


@pytest.mark.parametrize(
    "texts",
    [pa.array(["a", "b"], pa.large_string()), pa.array([b"a", b"b"]), pa.array(["a", "b"]).dictionary_encode()],
    ids=str,
)
def test_texts_come_in_many_types(texts: pa.Array) -> None:
    good, _ = read(parquet({"review_id": ["1", "2"], "text": texts}), "a.parquet")
    assert [row["text"] for row in good] == ["a", "b"]


@pytest.mark.parametrize(
    "stars",
    [
        pa.array([4, None, 7], pa.int8()),
        pa.array([4, None, 7], pa.uint64()),
        pa.array([4.0, float("nan"), 4.5]),
        pa.array([decimal.Decimal("4.0"), None, decimal.Decimal("4.5")]),
        pa.array(["4", "", "04"]),
        pa.array([" 4.0 ", None, "4,0"]),
        pa.array(["4", None, "five"]).dictionary_encode(),
    ],
    ids=str,
)
def test_a_rating_is_a_whole_number_from_1_to_5_in_any_type(stars: pa.Array) -> None:
    good, (reject,) = read(parquet({"review_id": ["1", "2", "3"], "text": ["x"] * 3, "rating": stars}), "a.parquet")
    assert [row["rating"] for row in good] == [4, None]
    assert reject.reason.startswith("rating: expected a whole number from 1 to 5, found ")


MOMENT = datetime(2026, 11, 1, 13, 45, 7)  # noqa: DTZ001 - naive on purpose


@pytest.mark.parametrize(
    "moments",
    [
        pa.array([MOMENT], pa.timestamp("s")),
        pa.array([MOMENT], pa.timestamp("ms")),
        pa.array([MOMENT.replace(tzinfo=UTC)], pa.timestamp("us", "UTC")),
        pa.array([MOMENT.replace(tzinfo=UTC)], pa.timestamp("ns", "Europe/Berlin")),
        pa.array([MOMENT], pa.timestamp("us")).dictionary_encode(),
        pa.array(["2026-11-01T13:45:07Z"]),
        pa.array(["2026-11-01 13:45:07"]),
        pa.array(["2026-11-01T14:45:07+01:00"]),
        pa.array(["2026-11-01T12:45:07-0100"]),
        pa.array(["2026-11-01T14:45:07.000000+01"]),
        pa.array([" 2026-11-01T13:45:07.000000000 "]),
    ],
    ids=str,
)
def test_a_time_comes_in_many_types_and_naive_ones_mean_utc(moments: pa.Array) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"review_id": ["1"], "text": ["x"], "created_at": moments}), sink)
    ((row,), _) = read(sink.getvalue(), "a.parquet")
    assert row["created_at"] == MOMENT.replace(tzinfo=UTC)
    assert row["review_date"] == DAY


def test_a_date_alone_is_its_midnight() -> None:
    for days in (pa.array([DAY]), pa.array([DAY], pa.date64()), pa.array([DAY.isoformat()])):
        ((row,), _) = read(parquet({"review_id": ["1"], "text": ["x"], "created_at": days}), "a.parquet")
        assert row["created_at"] == datetime(2026, 11, 1, tzinfo=UTC)


def test_times_that_nobody_can_have_meant_are_rejects_and_no_crash() -> None:
    for unit in ("ms", "us", "ns"):  # Parquet has no seconds
        moments = pa.array([(1 << 63) - 1, -(1 << 63) + 1, None], pa.timestamp(unit))
        good, rejects = read(parquet({"review_id": ["1", "2", "3"], "text": ["x"] * 3, "created_at": moments}), "a.parquet")
        assert [row["review_id"] for row in good] == ["3"]
        assert all(reject.reason.startswith("created_at: expected a time") for reject in rejects)


def test_a_bad_time_does_not_change_what_its_neighbours_are_read_as() -> None:
    moments = ["2026-11-01T13:45:07.123456789+01:00", "2026-02-31T00:00:00Z", "2026-11-01", "2026-11-01 10:00"]
    together = [row["created_at"] for row in read(json_lines(*({**GOOD, "created_at": item} for item in moments)), "a.jsonl")[0]]
    alone = [row["created_at"] for item in moments for row in read(json_lines({**GOOD, "created_at": item}), "a.jsonl")[0]]
    assert together == alone
    assert together[0] == datetime(2026, 11, 1, 12, 45, 7, 123456, tzinfo=UTC)


def test_the_days_around_a_folder_are_believed_both_ends_included() -> None:
    moments = ["2026-10-25T00:00:00Z", "2026-11-02T23:59:59.999999Z"]
    good, rejects = read(json_lines(*({**GOOD, "created_at": item} for item in moments)), "a.jsonl")
    assert [row["review_date"] for row in good] == [date(2026, 10, 25), date(2026, 11, 2)]
    assert rejects == []


def test_a_parquet_of_long_texts_is_read_in_small_batches() -> None:
    texts = [f"{n}" + "x" * 999_000 for n in range(200)]
    options = {"compression": "zstd", "use_dictionary": False, "write_batch_size": 1, "data_page_size": 1}
    data = parquet({"review_id": [str(n) for n in range(200)], "text": texts}, **options)
    limits = replace(LIMITS, max_growth=1_000_000)
    sizes = [batch.table.num_rows for batch in read_reviews(io.BytesIO(data), "a.parquet", folder_date=DAY, limits=limits)]
    assert sum(sizes) == 200
    assert max(sizes) <= 67


def test_the_same_identity_twice_is_for_publishing_to_resolve() -> None:
    good, rejects = read(json_lines(GOOD, GOOD), "a.jsonl")
    assert len(good) == 2
    assert rejects == []


def test_rejects_become_json_lines() -> None:
    _, rejects = read(b'{"review_id":"1","text":"a\\u0000"}\nnonsense \xff\n', "a.jsonl")
    lines = [json.loads(line) for line in reject_lines("incoming/date=2026-11-01/a.jsonl", rejects).splitlines()]
    assert [set(line) for line in lines] == [{"key", "row_number", "review_id", "reason", "raw"}] * 2
    assert json.loads(lines[0]["raw"])["text"] == "a\0"
    assert lines[1]["raw"] == '"nonsense \\\\xff"'
    assert reject_lines("a", ()) == b""
