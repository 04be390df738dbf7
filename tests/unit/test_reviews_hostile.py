"""Objects made to harm whoever reads them, read by a process with little memory and little time.

The reader lives in a process of its own, under RLIMIT_AS and with a deadline for each object: a crash, a hang or a
gigabyte too many ends that process, and the object that did it is named.
"""

import gzip
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import zlib
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

from sentiment_core.errors import Permanent
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
ROOM_BYTES = 1200 * MIB
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
LONG = "x" * (100 * MIB)
GOOD = b'{"review_id": "good", "text": "fine"}\n'
# What is delivered, and what has to be said of it: of the object as a whole, or (rows, rejects).
BOMBS: dict[str, tuple[Callable[[], bytes], str | tuple[int, int]]] = {
    "zeros.jsonl.gz": (lambda: packed((bytes(MIB), 1024)), "200 times as many bytes"),
    "zeros.csv.gz": (lambda: packed((HEADER, 1), (bytes(MIB), 1024)), "200 times as many bytes"),
    "blank-lines.csv.gz": (lambda: packed((HEADER, 1), (b"\n" * MIB, 300)), "200 times as many bytes"),
    "blank-lines.jsonl.gz": (lambda: packed((b"\n" * MIB, 300)), "200 times as many bytes"),
    "rows.jsonl.gz": (lambda: packed((GOOD * 10_000, 500)), "200 times as many bytes"),
    "twice.jsonl.gz": (lambda: gzip.compress(packed((bytes(MIB), 200))), (0, 1)),  # of what is packed twice once is unpacked
    "blank-lines.csv": (lambda: HEADER + b"\n" * (50 * MIB), (0, 0)),
    "one-line.jsonl": (lambda: b'{"review_id": "a", "text": "' + b"x" * (300 * MIB) + b'"}\n' + GOOD, (1, 1)),
    "one-line.csv": (lambda: HEADER + b'a,"' + b"x" * (300 * MIB) + b'"\nb,fine\n', (1, 1)),
    "no-line-break.csv": (lambda: HEADER + b"a,b," * (20 * MIB), (0, 1)),
    "quotes.csv": (lambda: HEADER + b'a,"' * (5 * MIB), (0, 1)),
    "many-quotes.csv": (lambda: HEADER + b'"""\n' * (2 * MIB), None),  # type: ignore[dict-item]
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
        lambda: parquet({"review_id": repeated("a", 9000), "text": repeated("y" * (3 * MIB), 9000)}, compression="none"),
        "200 times as many bytes",
    ),
    "long-plain.parquet": (
        lambda: parquet({"review_id": ["a"] * 3, "text": [LONG] * 3}, use_dictionary=False, compression="zstd"),
        "pages of at most",
    ),
    "prefixes.parquet": (
        lambda: parquet(
            {"review_id": ["a"] * 3000, "text": ["x" * MIB] * 3000},
            use_dictionary=False,
            compression="none",
            column_encoding={"text": "DELTA_BYTE_ARRAY", "review_id": "PLAIN"},
        ),
        "200 times as many bytes",
    ),
    "rows.parquet": (
        lambda: parquet({"review_id": repeated("a", 30_000_000), "text": repeated("b", 30_000_000)}),
        "200 times as many bytes",
    ),
    "nulls.parquet": (
        lambda: parquet({"review_id": pa.nulls(20_000_000, pa.string()), "text": pa.nulls(20_000_000, pa.string())}),
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

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def read(self, path: Path) -> dict[str, Any]:
        """What it makes of a file; `died` where that was its end."""
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, "-c", CHILD, str(REPOSITORY / "include" / "policy.toml"), str(ROOM_BYTES), str(DEADLINE_S)]
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
def reader() -> Iterator[Reader]:
    if not sys.platform.startswith("linux"):
        pytest.skip("RLIMIT_AS is Linux's")
    reader = Reader()
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
