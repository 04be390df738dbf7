"""Objects made to harm whoever reads them, read by a process with little memory and little time.

The reader lives in a process of its own, under RLIMIT_AS and with a deadline for each object: a crash, a hang or a
gigabyte too many ends that process, and the object that did it is named.
"""

import contextlib
import gzip
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sentiment_core.policy import read_policy
from sentiment_core.reviews.layout import folder_date_of, incoming_prefix, is_review_key, quarantine_key
from sentiment_core.reviews.parquetpages import rows_at_once
from sentiment_core.reviews.read import UnreadableObject, read_reviews
from sentiment_core.reviews.rows import Request
from sentiment_core.reviews.thrift import Malformed, read_struct
from sentiment_core.reviews.validate import REVIEW_COLUMNS
from sentiment_core.settings import REPOSITORY

LIMITS = read_policy(REPOSITORY / "include" / "policy.toml").reading
DAY = date(2026, 11, 1)
MIB = 1 << 20
# Beyond what the libraries take when they are loaded.
ROOM_BYTES = 900 * MIB
# On a machine that has nothing else to do none takes more than five.
DEADLINE_S = 90
CHILD = """
import json, os, resource, signal, sys, time
from datetime import date
from pathlib import Path
from sentiment_core.policy import read_policy
from sentiment_core.reviews.read import UnreadableObject, read_reviews
import pyarrow.csv, pyarrow.json, pyarrow.parquet

limits = read_policy(Path(sys.argv[1])).reading
room, deadline = int(sys.argv[2]), int(sys.argv[3])
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for line in sys.stdin:
    path = line.rstrip("\\n")
    signal.alarm(deadline)
    started = time.monotonic()
    n_rows = n_rejects = 0
    outcome = "read"
    try:
        with open(path, "rb") as stream:
            for batch in read_reviews(stream, path, folder_date=date(2026, 11, 1), limits=limits):
                n_rows += batch.table.num_rows
                n_rejects += len(batch.rejects)
    except UnreadableObject as error:
        outcome = error.expected + ", found " + error.found
    signal.alarm(0)
    done = {"path": path, "outcome": outcome, "n_rows": n_rows, "n_rejects": n_rejects, "seconds": time.monotonic() - started}
    print(json.dumps(done), flush=True)
"""


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, **options)
    return sink.getvalue()


def packed(*pieces: tuple[bytes, int]) -> bytes:
    """Gzip of pieces, each so many times over."""
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=6, mtime=0) as stream:
        for piece, times in pieces:
            for _ in range(times):
                stream.write(piece)
    return sink.getvalue()


def repeated(value: str, n: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0]).take(pa.array([0] * n)).cast(pa.int32()), pa.array([value]))


def lines(n: int, make: Callable[[int], bytes]) -> bytes:
    return b"\n".join(make(number) for number in range(n))


def names(line: int, n: int) -> bytes:
    return b'{"review_id": "a", "text": "t", ' + b",".join(b'"k%d_%d":1' % (line, name) for name in range(n)) + b"}"


HEADER = b"review_id,text\n"
LONG = "x" * (20 * MIB)
GOOD = b'{"review_id": "good", "text": "fine"}\n'
# What is delivered, and what has to be said of it: of the object as a whole, or (rows, rejects).
BOMBS: dict[str, tuple[Callable[[], bytes], str | tuple[int, int]]] = {
    "zeros.jsonl.gz": (lambda: packed((bytes(MIB), 50)), "200 times as many bytes"),
    "zeros.csv.gz": (lambda: packed((HEADER, 1), (bytes(MIB), 50)), "200 times as many bytes"),
    "blank-lines.csv.gz": (lambda: packed((HEADER, 1), (b"\n" * MIB, 50)), "200 times as many bytes"),
    "blank-lines.jsonl.gz": (lambda: packed((b"\n" * MIB, 50)), "200 times as many bytes"),
    "rows.jsonl.gz": (lambda: packed((GOOD * 10_000, 50)), "200 times as many bytes"),
    "twice.jsonl.gz": (lambda: gzip.compress(packed((bytes(MIB), 200))), (0, 2)),  # of what is packed twice once is unpacked
    "blank-lines.csv": (lambda: HEADER + b"\n" * (50 * MIB), (0, 0)),
    "one-line.jsonl": (lambda: b'{"review_id": "a", "text": "' + b"x" * (100 * MIB) + b'"}\n' + GOOD, (1, 1)),
    "one-line.csv": (lambda: HEADER + b'a,"' + b"x" * (100 * MIB) + b'"\nb,fine\n', (1, 1)),
    "no-line-break.csv": (lambda: HEADER + b"a,b," * (8 * MIB), (0, 1)),
    "quotes.csv": (lambda: HEADER + b'a,"' * (5 * MIB), (0, 1)),
    "many-quotes.csv": (lambda: HEADER + b'"""\n' * (MIB // 4), None),  # type: ignore[dict-item]
    "deep.jsonl": (lambda: b'{"review_id": "a", "text": ' + b"[" * (5 * MIB) + b"]" * (5 * MIB) + b"}\n" + GOOD, (1, 1)),
    "deep-objects.jsonl": (lambda: b'{"a":' * MIB + b"1" + b"}" * MIB + b"\n" + GOOD, (1, 1)),
    "deep-on-every-line.jsonl": (
        lambda: lines(4000, lambda n: b'{"review_id": "%d", "text": "t", "x": %s}' % (n, b"[" * 190 + b"]" * 190)),
        (4000, 0),
    ),
    "empty-lists.jsonl": (lambda: b'{"review_id": "a", "text": "t", "x": [' + b"[]," * (4 * MIB) + b"[]]}\n" + GOOD, (2, 0)),
    "list-for-text.jsonl": (lambda: b'{"review_id": "a", "text": [' + b"{}," * (4 * MIB) + b"{}]}\n" + GOOD, (1, 1)),
    "many-names.jsonl": (lambda: lines(3000, lambda n: names(n, 1000)), (3000, 0)),
    "few-names.jsonl": (lambda: lines(30_000, lambda n: names(n, 20)), (30_000, 0)),
    "spaced-names.jsonl": (lambda: lines(10_000, lambda n: names(n, 40).replace(b'":', b'"   :')), (10_000, 0)),
    "escaped-names.jsonl": (lambda: lines(10_000, lambda n: names(n, 40).replace(b'":', b'\\\\":')), None),  # type: ignore[dict-item]
    "long-names.jsonl": (lambda: lines(4000, lambda n: names(n, 40).replace(b'":1', b"x" * 40 + b'":1')), (4000, 0)),
    "long-number.jsonl": (lambda: b'{"review_id": ' + b"9" * (3 * MIB) + b', "text": "t"}\n' + GOOD, (1, 1)),
    "columns.csv": (lambda: HEADER.strip() + b",x" * MIB + b"\n" + b"a,b" + b"," * MIB + b"\n", "at most 2,000 columns"),
    "columns.parquet": (
        lambda: parquet({"review_id": ["a"], "text": ["b"], **{f"c{n}": [1] for n in range(3000)}}),
        "at most 2,000 columns",
    ),
    "one-entry.parquet": (
        lambda: parquet({"review_id": repeated("a", 100_000), "text": repeated(LONG, 100_000)}, compression="zstd"),
        "200 times as many bytes",
    ),
    "one-entry-stored.parquet": (
        lambda: parquet({"review_id": repeated("a", 3000), "text": repeated("y" * (3 * MIB), 3000)}, compression="none"),
        "200 times as many bytes",
    ),
    "long-plain.parquet": (
        lambda: parquet({"review_id": ["a"] * 10, "text": [LONG] * 10}, use_dictionary=False, compression="zstd"),
        "pages of at most",
    ),
    "prefixes.parquet": (
        lambda: parquet(
            {"review_id": ["a"] * 1000, "text": ["x" * (MIB // 4)] * 1000},
            use_dictionary=False,
            compression="none",
            column_encoding={"text": "DELTA_BYTE_ARRAY", "review_id": "PLAIN"},
        ),
        "200 times as many bytes",
    ),
    "rows.parquet": (
        lambda: parquet({"review_id": repeated("a", 500_000), "text": repeated("b", 500_000)}),
        "200 times as many bytes",
    ),
    "nulls.parquet": (
        lambda: parquet({"review_id": pa.nulls(500_000, pa.string()), "text": pa.nulls(500_000, pa.string())}),
        "200 times as many bytes",
    ),
    "footer.parquet": (lambda: b"PAR1" + bytes(20 * MIB) + (20 * MIB).to_bytes(4, "little") + b"PAR1", "a footer of"),
    "deep-footer.parquet": (
        lambda: b"PAR1" + b"\x1c" * 100_000 + bytes(4) + (100_004).to_bytes(4, "little") + b"PAR1",
        "nested too deeply",
    ),
}


class Reader:
    """The process that reads."""

    def __init__(self, policy: Path) -> None:
        self._policy = policy
        self.process: subprocess.Popen[str] | None = None

    def read(self, path: Path) -> dict[str, Any]:
        """What it makes of a file; `died` where that was its end."""
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, "-c", CHILD, str(self._policy), str(ROOM_BYTES), str(DEADLINE_S)]
            # Address space is what is limited, and allocators of threads and pools reserve more of it than they use.
            variables = {
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "MALLOC_ARENA_MAX": "1",
                "ARROW_DEFAULT_MEMORY_POOL": "system",
            }
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=variables
            )
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if answer:
            done: dict[str, Any] = json.loads(answer)
            return done
        return {"path": str(path), "outcome": f"died, status {self.process.wait(timeout=DEADLINE_S)}"}

    def close(self) -> None:
        if self.process is not None:
            assert self.process.stdin
            self.process.stdin.close()
            self.process.wait(timeout=DEADLINE_S)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Under the policy of the repository, but for what is free: bombs go off sooner, and the tests are done sooner."""
    if not sys.platform.startswith("linux"):
        pytest.skip("RLIMIT_AS is Linux's")
    words = (REPOSITORY / "include" / "policy.toml").read_text(encoding="utf-8")
    assert words.count("free_bytes = 67_108_864 ") == 1
    policy = tmp_path_factory.mktemp("policy") / "policy.toml"
    policy.write_text(words.replace("free_bytes = 67_108_864 ", "free_bytes = 8_388_608 "), encoding="utf-8")
    reader = Reader(policy)
    yield reader
    reader.close()


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_little_memory_and_little_time_and_is_told_from_a_review(reader: Reader, tmp_path: Path, name: str) -> None:
    make, expected = BOMBS[name]
    path = tmp_path / name
    path.write_bytes(make())
    done = reader.read(path)
    path.unlink()
    assert not done["outcome"].startswith("died"), done
    if isinstance(expected, str):
        assert expected in done["outcome"], done
    elif expected is not None:
        assert (done["outcome"], done["n_rows"], done["n_rejects"]) == ("read", *expected), done


@pytest.mark.parametrize("name", ["line.jsonl", "line.csv"])
def test_a_line_of_a_gigabyte_is_one_reject_and_the_next_is_read(reader: Reader, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with path.open("wb") as stream:
        stream.write(HEADER if name.endswith("csv") else GOOD)
        stream.write(b'{"review_id": "a", "text": "')
        stream.seek(1 << 30)
        stream.write(b"\n" + (b"b,fine\n" if name.endswith("csv") else GOOD))
    done = reader.read(path)
    path.unlink()
    n_rows = 1 if name.endswith("csv") else 2
    assert (done["outcome"], done.get("n_rows"), done.get("n_rejects")) == ("read", n_rows, 1), done


# Damaged files. Every one is made of a whole one by a few changes, so that it is believed for as long as possible.


def whole_files(texts: list[str]) -> dict[str, bytes]:
    """Reviews in every format, Parquet in several encodings."""
    n = len(texts)
    columns: dict[str, Any] = {
        "review_id": [f"r{number}" for number in range(n)],
        "text": texts,
        "product_id": pa.array([f"p{number % 7}" for number in range(n)]).dictionary_encode(),
        "rating": pa.array([number % 5 + 1 for number in range(n)], pa.int8()),
        "created_at": pa.array([1_793_500_000_000_000 + number for number in range(n)], pa.timestamp("us", tz="UTC")),
    }
    rows = [{"review_id": f"r{number}", "text": text, "rating": number % 5 + 1} for number, text in enumerate(texts)]
    json_lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    quoted = [text.replace('"', '""') for text in texts]
    delimited = HEADER + b"".join(f'r{number},"{text}"\n'.encode() for number, text in enumerate(quoted))
    delta = {"text": "DELTA_BYTE_ARRAY", "review_id": "DELTA_LENGTH_BYTE_ARRAY"}
    plain = {name: columns[name] for name in ("review_id", "text")}
    return {
        "plain.parquet": parquet(columns, compression="none", row_group_size=n // 2, data_page_size=2000),
        "zstd.parquet": parquet(columns, compression="zstd", data_page_version="2.0"),
        "snappy.parquet": parquet(columns, compression="snappy", write_page_checksum=True),
        "delta.parquet": parquet(plain, compression="none", use_dictionary=False, column_encoding=delta),
        "a.jsonl": json_lines,
        "a.jsonl.gz": gzip.compress(json_lines, mtime=0),
        "a.csv": delimited,
        "a.csv.gz": gzip.compress(delimited, mtime=0),
    }


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, taken away, doubled or replaced by extreme numbers; most often where a format keeps its sizes."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        is_near_the_end = rng.random() < 0.5
        place = max(0, len(data) - rng.randrange(1, 900)) if is_near_the_end else rng.randrange(len(data) or 1)
        length = rng.choice([1, 1, 2, 4, 8, 64])
        match rng.randrange(6):
            case 0:
                data[place : place + length] = rng.randbytes(length)
            case 1:
                del data[place : place + length]
            case 2:
                data[place:place] = data[place : place + length]
            case 3:
                data[place : place + length] = rng.choice([b"\xff", b"\x7f", b"\x00", b"\x80"]) * length
            case 4:
                data[place : place + 8] = (
                    rng.choice([1 << 31, (1 << 31) - 1, (1 << 63) - 1, 1 << 40]) - rng.randrange(3)
                ).to_bytes(8, "little")
            case 5:
                data = data[: max(1, len(data) - rng.randrange(40))]
    return bytes(data)


def damage_everything(reader: Reader, folder: Path, files: dict[str, bytes], *, seed: int, times: int) -> dict[str, int]:
    """Have every file read in so many damaged versions; counts of what became of them."""
    outcomes: dict[str, int] = {}
    for name, content in files.items():
        assert reader.read(_written(folder / name, content))["outcome"] == "read"
        for number in range(times):
            rng = random.Random(f"{seed} {name} {number}")
            done = reader.read(_written(folder / name, damaged(content, rng)))
            assert not done["outcome"].startswith("died"), f"{name}, seed {seed}, number {number}: {done}"
            kind = "read" if done["outcome"] == "read" else "refused"
            outcomes[kind] = outcomes.get(kind, 0) + 1
    return outcomes


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_damaged_files_are_rejected_rows_or_refused_and_never_the_end_of_the_reader(reader: Reader, tmp_path: Path) -> None:
    rng = random.Random(5)
    texts = [
        " ".join(rng.choices(["fine", "dull", 'a "word"', "grüße", "字", "x" * 300], k=rng.randrange(1, 30))) for _ in range(120)
    ]
    times = int(os.environ.get("FUZZ_TIMES", "150"))
    outcomes = damage_everything(reader, tmp_path, whole_files(texts), seed=int(os.environ.get("FUZZ_SEED", "1")), times=times)
    assert outcomes["read"] > times
    assert outcomes["refused"] > times


def test_damaged_files_of_real_reviews_are_too(reader: Reader, tmp_path: Path, reviews_data_dir: Path) -> None:
    texts = pq.read_table(reviews_data_dir / "imdb_train.parquet", columns=["text"])["text"].to_pylist()[:60]
    outcomes = damage_everything(reader, tmp_path, whole_files(texts), seed=2, times=int(os.environ.get("FUZZ_TIMES", "60")))
    assert sum(outcomes.values()) >= 8 * 60


# What is looked at before Arrow.


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=200))
@example(data=b"\x1c" * 200)
@example(data=b"\x19\xff\xff\xff\xff\x7f")
def test_any_bytes_are_a_struct_or_malformed(data: bytes) -> None:
    try:
        fields, end = read_struct(data)
    except Malformed:
        return
    assert 0 < end <= len(data)
    assert all(isinstance(number, int) for number in fields)


ENCODINGS = st.sampled_from(["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", None])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    texts=st.lists(
        st.none() | st.text(st.sampled_from("ab"), max_size=40) | st.integers(1, 3000).map(lambda n: "z" * n),
        min_size=1,
        max_size=80,
    ),
    encoding=ENCODINGS,
    page_bytes=st.sampled_from([1, 100, 10_000]),
    group_rows=st.integers(1, 90),
    max_batch_bytes=st.sampled_from([1, 500, 20_000]),
)
def test_what_is_read_at_a_time_is_never_more_than_was_foretold(
    texts: list[str | None], encoding: str | None, page_bytes: int, group_rows: int, max_batch_bytes: int
) -> None:
    options: dict[str, Any] = {"use_dictionary": encoding is None, "write_batch_size": 1, "data_page_size": page_bytes}
    if encoding:
        options["column_encoding"] = {"text": encoding, "review_id": "PLAIN"}
    data = parquet({"review_id": ["a"] * len(texts), "text": pa.array(texts, pa.string())}, row_group_size=group_rows, **options)
    request = Request(key="a.parquet", columns=REVIEW_COLUMNS, limits=LIMITS)
    rooms = rows_at_once(io.BytesIO(data), request, max_batch_bytes=max_batch_bytes)
    file = pq.ParquetFile(io.BytesIO(data))
    assert len(rooms) == file.num_row_groups
    longest_page = max((4 + len(text or "") for text in texts), default=0) + page_bytes + 64
    for group, n_rows in enumerate(rooms):
        assert 1 <= n_rows <= LIMITS.batch_rows
        for batch in file.iter_batches(n_rows, row_groups=[group], columns=["text"]):
            n_bytes = sum(len(text or "") for text in batch["text"].to_pylist())
            assert n_rows == 1 or n_bytes <= max_batch_bytes + 4 * longest_page + 64 * len(texts)


def test_what_is_free_is_the_policys() -> None:
    for n_bytes in (60 * MIB, 70 * MIB):
        blank = gzip.compress(b"review_id,text\n" + b"\n" * n_bytes)
        found = contextlib.nullcontext() if n_bytes < LIMITS.free_bytes else pytest.raises(UnreadableObject, match="200 times")
        with found:
            assert list(read_reviews(io.BytesIO(blank), "a.csv.gz", folder_date=DAY, limits=LIMITS)) == []


def test_limits_are_the_policys(tmp_path: Path) -> None:
    rows = b"".join(b'{"review_id": "r%d", "text": "fine"}\n' % number for number in range(100))
    for name, limit, complaint in (
        ("a.jsonl", {"max_object_rows": 99}, "at most 99 rows"),
        ("a.jsonl.gz", {"max_object_bytes": 1000}, "at most 1,000 bytes unpacked"),
        ("a.jsonl.gz", {"max_growth": 2, "free_bytes": 10}, "at most 2 times as many bytes"),
        ("a.csv", {"max_columns": 1}, "at most 1 columns"),
        ("a.parquet", {"max_page_bytes": 10}, "pages of at most 10 bytes"),
        ("a.parquet", {"max_object_rows": 9}, "at most 9 rows"),
    ):
        data = {"a.jsonl": rows, "a.jsonl.gz": gzip.compress(rows), "a.csv": HEADER + b"a,b\n"}.get(
            name, parquet({"review_id": list("abcdefghij"), "text": ["fine"] * 10})
        )
        limits = replace(LIMITS, **limit)
        with pytest.raises(UnreadableObject, match=complaint):
            list(read_reviews(io.BytesIO(data), name, folder_date=DAY, limits=limits))
        assert list(read_reviews(io.BytesIO(data), name, folder_date=DAY, limits=LIMITS))


# Names of objects, and dates at the ends of the calendar.


@pytest.mark.parametrize(
    "name",
    ["../../reports/x.csv", "..//x.csv", "a/../../x.csv", "./x.csv", ".hidden.csv", "_temporary/x.csv", "a/.git/x.csv", "..", "x.csv/..", "", "/", "//"],
)  # fmt: skip
def test_a_name_that_climbs_or_hides_is_no_review(name: str) -> None:
    assert not is_review_key(incoming_prefix(DAY) + name)


@settings(deadline=None)
@given(name=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=60))
@example(name="a\n.csv")
@example(name="date=1999-01-01/../x.csv")
@example(name="a\\..\\x.csv")
@example(name="%2e%2e/x.csv")
def test_rejected_rows_of_any_object_stay_in_the_quarantine_of_its_folder(name: str) -> None:
    key = f"{incoming_prefix(DAY)}{name}.csv"
    if is_review_key(key):
        assert folder_date_of(key) == DAY
        kept = quarantine_key(key, "0cc175b9c0f1b6a831c399e269772661")
        assert kept.startswith(f"quarantine/date={DAY}/incoming/")
        assert ".." not in kept.split("/")
    said = str(UnreadableObject(key, expected="x", found="y"))
    assert "\n" not in said
    assert "\x1b" not in said


@pytest.mark.parametrize("folder", ["0001-01-01", "0001-01-05", "9999-12-25", "9999-12-31"])
@pytest.mark.parametrize("created_at", [None, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "9999-12-31", "2026-11-01T00:00:00Z", "292277026596-12-04T15:30:08Z"])  # fmt: skip
def test_the_ends_of_the_calendar_break_nothing(folder: str, created_at: str | None) -> None:
    row = json.dumps({"review_id": "a", "text": "fine", "created_at": created_at}).encode()
    [batch] = read_reviews(io.BytesIO(row), "a.jsonl", folder_date=date.fromisoformat(folder), limits=LIMITS)
    assert batch.table.num_rows + len(batch.rejects) == 1
    assert created_at is not None or batch.table["review_date"].to_pylist() == [date.fromisoformat(folder)]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([2**64 - 1], pa.uint64()),
        pa.array([-(2**63)], pa.int64()),
        pa.array([float("inf")]),
        pa.array([1e300]),
        pa.array([2**63 - 1], pa.int64()),
    ],
)
@pytest.mark.parametrize("name", ["review_id", "rating", "product_id"])
def test_numbers_at_the_ends_of_64_bits_are_digits_or_rejects(column: pa.Array, name: str) -> None:
    columns = {"review_id": pa.array(["a"]), "text": pa.array(["fine"])} | {name: column}
    [batch] = read_reviews(io.BytesIO(parquet(columns)), "a.parquet", folder_date=DAY, limits=LIMITS)
    assert batch.table.num_rows + len(batch.rejects) == 1
    if batch.table.num_rows and pa.types.is_integer(column.type):
        assert batch.table[name].to_pylist() == [str(column[0].as_py())]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("ticks", [2**63 - 1, -(2**63), 2**62, -1, 0])
def test_times_at_the_ends_of_64_bits_are_rejects(unit: str, ticks: int) -> None:
    columns = {"review_id": ["a"], "text": ["fine"], "created_at": pa.array([ticks], pa.int64()).cast(pa.timestamp(unit))}
    try:
        data = parquet(columns)
    except pa.ArrowInvalid:  # not even Arrow writes this one
        return
    [batch] = read_reviews(io.BytesIO(data), "a.parquet", folder_date=DAY, limits=LIMITS)
    assert len(batch.rejects) == 1
