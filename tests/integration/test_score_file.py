"""A file in, the same rows with their scores out."""

import csv
import gzip
import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq
import pytest

from sentiment_core import cli

SCORES = ["label", "p_negative", "p_positive", "confidence", "model_version", "error"]
TEXTS = ["a wonderful film with a moving story", "dull, awful and a “waste” of time\nreally", "fine"]


@pytest.fixture
def champion(services, trained_model, point_commands):
    """The command's own settings point to a registry with a champion; gives the services."""
    trained_model(services)
    point_commands(services)
    return services


def table_of(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    strings = {name: pa.string() for name in ("review_id", "product_id", "source", "label", "error")}
    options = pc_csv.ConvertOptions(column_types=strings, strings_can_be_null=True, quoted_strings_can_be_null=False)
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        return pc_csv.read_csv(
            io.BytesIO(stream.read()), convert_options=options, parse_options=pc_csv.ParseOptions(newlines_in_values=True)
        )


def run(*arguments: object) -> int:
    return cli.run(["score-file", *map(str, arguments)])


@pytest.mark.parametrize("form", ["parquet", "jsonl", "jsonl.gz", "csv", "csv.gz"])
def test_every_format_in_gives_the_same_scores_in_every_format_out(champion, tmp_path, form, capsys, contents):
    rows = [{"review_id": f"r{n}", "text": f"{TEXTS[n % 3]} {n}", "product_id": f"p{n % 2}", "colour": n} for n in range(9000)]
    estimator = champion.registry.open(champion.registry.resolve("champion")).estimator
    expected = estimator.predict_proba([row["text"] for row in rows])
    decided = estimator.decide(expected)
    source = tmp_path / f"in.{form}"
    source.write_bytes(contents(form, rows))
    for ending in ("parquet", "csv", "csv.gz") if form == "parquet" else ("parquet",):
        target = tmp_path / f"out.{ending}"
        assert run(source, target, "--json") == 0
        summary = json.loads(capsys.readouterr().out)
        assert (summary["rows"], summary["n_scored"], summary["n_errors"], summary["model_version"]) == (9000, 9000, 0, 1)
        assert summary["seconds"] > 0
        assert summary["reviews_per_second"] > 0
        scored = table_of(target)
        carried = ["review_id", "product_id"] + ["source", "created_at"] * form.startswith("jsonl")
        assert scored.column_names == [*carried, *SCORES]
        assert scored["review_id"].to_pylist() == [row["review_id"] for row in rows]
        assert scored["product_id"].to_pylist() == [row["product_id"] for row in rows]
        assert scored["p_positive"].to_numpy() == pytest.approx(expected[:, 1], abs=1e-12)
        assert scored["label"].to_pylist() == estimator.classes_[decided].tolist()
        assert scored["confidence"].to_numpy() == pytest.approx(expected[range(9000), decided], abs=1e-12)
        assert scored["error"].null_count == 9000
    assert {path.name for path in tmp_path.iterdir()} >= {source.name}
    assert not list(tmp_path.glob(".*"))


BAD_LINES = [
    (b'{"review_id": "null", "text": null}', "text: expected 1 to 1,000,000 characters, found none"),
    (b'{"review_id": "blank", "text": "  "}', "found only blanks"),
    (b'{"review_id": "nul", "text": "a\\u0000"}', "expected no NUL"),
    (b'{"review_id": "long", "text": "' + b"x" * 1_000_001 + b'"}', "found 1,000,001"),
    (b'{"review_id": "half", "text": "\\ud800"}', "expected a string of valid text"),
    (b'{"review_id": "bytes", "text": "\xff"}', "expected valid UTF-8"),
    (b'{"review_id": "broken", "text": ', "expected a JSON object"),
    (b'{"review_id": "number", "text": 5}', "expected a string of valid text"),
]


def test_a_bad_row_stands_in_its_place_with_its_reason_and_without_scores(champion, tmp_path, capsys):
    good = b'{"review_id": "same id", "text": "a wonderful film"}'
    lines = [line for bad, _ in BAD_LINES for line in (good, bad)]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join([*lines, good]))
    assert run(tmp_path / "in.jsonl", tmp_path / "out.csv") == 0
    assert "8 rows could not be" in capsys.readouterr().out
    scored = table_of(tmp_path / "out.csv")
    assert scored["label"].is_valid().to_pylist() == [True, False] * 8 + [True]
    assert scored["p_positive"].is_valid().to_pylist() == [True, False] * 8 + [True]
    reasons = scored["error"].to_pylist()
    assert reasons[0::2] == [None] * 9
    for (_, expected), reason in zip(BAD_LINES, reasons[1::2], strict=True):
        assert expected in reason
    assert scored["review_id"].to_pylist()[0::2] == ["same id"] * 9
    assert scored["review_id"].to_pylist()[1:8:2] == ["null", "blank", "nul", "long"]


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_bad_texts_of_other_formats_do_too(champion, tmp_path, form):
    texts = [b"good", None, b"bytes \xff", b"x" * 1_000_001, b"\0", b"fine"]
    source, target = tmp_path / f"in.{form}", tmp_path / "out.parquet"
    if form == "parquet":
        pq.write_table(pa.table({"text": pa.array(texts, pa.binary())}), source)
    else:
        source.write_bytes(b"text,x\n" + b"".join((text or b"") + b",1\n" for text in texts) + b"too,many,columns\nlast,1\n")
    assert run(source, target) == 0
    scored = pq.read_table(target)
    expected = [True, False, False, False, False, True] + [False, True] * (form == "csv")
    assert scored["label"].is_valid().to_pylist() == scored["error"].is_null().to_pylist() == expected
    assert scored["review_id"].to_pylist() == list(range(len(expected)))


def test_ids_and_times_are_kept_as_they_came(champion, tmp_path, contents):
    ids = ["=1+1", "@x", "-5", " blank ", "a,b", 'quote"', "line\nbreak", "r", "r", "é"]
    rows = [{"review_id": key, "text": "fine", "created_at": "yesterday, I think"} for key in ids]
    (tmp_path / "in.csv").write_bytes(contents("csv", rows))
    assert run(tmp_path / "in.csv", tmp_path / "out.csv") == 0
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as stream:
        read = list(csv.DictReader(stream))
    assert [row["review_id"] for row in read] == ids
    assert {row["created_at"] for row in read} == {"yesterday, I think"}
    moments = pa.array([1, 2], pa.timestamp("ms", "Europe/Berlin"))
    pq.write_table(pa.table({"review_id": [2**60, 7], "text": ["a", "b"], "created_at": moments}), tmp_path / "in.parquet")
    assert run(tmp_path / "in.parquet", tmp_path / "out.parquet") == 0
    scored = pq.read_table(tmp_path / "out.parquet")
    assert scored["review_id"].to_pylist() == [2**60, 7]
    assert scored["created_at"].cast(pa.int64()).to_pylist() == [1, 2]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_without_ids_a_row_is_known_by_its_place(champion, tmp_path, form, contents):
    (tmp_path / f"in.{form}").write_bytes(contents(form, [{"text": text} for text in TEXTS]))
    assert run(tmp_path / f"in.{form}", tmp_path / "out.csv") == 0
    assert table_of(tmp_path / "out.csv")["review_id"].to_pylist() == ["0", "1", "2"]


def test_what_cannot_be_done_is_said_and_leaves_what_was_there(champion, tmp_path, capsys, contents):
    good, target = tmp_path / "in.csv", tmp_path / "out.csv"
    good.write_bytes(b"text\nfine\n")
    target.write_bytes(b"precious")
    (tmp_path / "no-text.csv").write_bytes(b"body\nfine\n")
    (tmp_path / "cut.parquet").write_bytes(contents("parquet", [{"text": "fine"}])[:-20])
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(contents("jsonl", [{"text": f"{n}"} for n in range(9999)]))[:-20])
    (tmp_path / "folder.csv").mkdir()
    for arguments, status, complaint in [
        (("no-text.csv", target), 1, "expected a column text, found 'body'"),
        (("cut.parquet", target), 1, "whole Parquet file"),
        (("cut.jsonl.gz", target), 1, "whole gzip file"),
        (("absent.csv", target), 1, "No such file"),
        (("in.csv", "in.csv"), 2, "another file than IN"),
        (("in.csv", "./../" + tmp_path.name + "/in.csv"), 2, "another file than IN"),
        (("in.csv", "out.xlsx"), 2, "a name ending in"),
        (("in.csv", "folder.csv"), 2, "expected a file"),
        (("in.csv", "absent/out.csv"), 1, "No such file"),
        (("out.xlsx", target), 2, "--format"),
        (("in.csv", target, "--model", "best"), 2, "champion, challenger or a version number"),
        (("in.csv", target, "--model", "99"), 1, "99"),
        (("in.csv", target, "--model", "challenger"), 1, "challenger"),
    ]:
        paths = [tmp_path / arguments[0], tmp_path / arguments[1], *arguments[2:]]
        assert run(*paths) == status, arguments
        said = re.sub(r"[\s│]+", " ", capsys.readouterr().err)
        assert complaint in said, arguments
        assert "Traceback" not in said
    assert target.read_bytes() == b"precious"
    assert not list(tmp_path.glob(".*"))


def test_no_rows_are_a_file_with_its_columns(champion, tmp_path):
    (tmp_path / "in.csv").write_bytes(b"review_id,text\n")
    for ending in ("csv", "parquet"):
        assert run(tmp_path / "in.csv", tmp_path / f"out.{ending}", "--json") == 0
        assert table_of(tmp_path / f"out.{ending}").column_names == ["review_id", *SCORES]


def test_a_model_of_three_classes_gives_its_neutral_probability(champion, tmp_path, training_set, candidate):
    from dataclasses import replace

    from sentiment_core.model.estimator import SentimentClassifier
    from sentiment_core.stages.training_sets import write_snapshot

    key = write_snapshot(champion, training_set)
    model = SentimentClassifier(min_df=1).fit(["good", "bad", "plain"], ["positive", "negative", "neutral"])
    ref = champion.registry.register(
        replace(candidate, estimator=model), snapshot_key=key, code_version="test", run_name="three", description="three"
    )
    (tmp_path / "in.csv").write_bytes(b"text\nplain\n")
    assert run(tmp_path / "in.csv", tmp_path / "out.parquet", "--model", ref.version) == 0
    scored = pq.read_table(tmp_path / "out.parquet")
    assert scored.column_names[1:6] == ["label", "p_negative", "p_neutral", "p_positive", "confidence"]
    assert (scored["label"].to_pylist(), scored["model_version"].to_pylist()) == (["neutral"], [ref.version])


COMMAND = f"'{sys.executable}' -m sentiment_core.cli score-file"


def shell(script: str, folder: Path, data: bytes = b"") -> tuple[int, bytes, str]:
    done = subprocess.run(["/bin/sh", "-c", script], cwd=folder, input=data, capture_output=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr.decode()


def test_a_pipe_in_and_a_pipe_out(champion, tmp_path, contents):
    rows = [{"review_id": f"r{n}", "text": TEXTS[n % 3]} for n in range(5000)]
    for form, option in (("jsonl", ""), ("jsonl.gz", ""), ("csv", "--format csv"), ("parquet", "--format parquet")):
        status, out, err = shell(f"cat | {COMMAND} - - {option} --json", tmp_path, contents(form, rows))
        assert status == 0, err
        read = list(csv.DictReader(io.StringIO(out.decode(), newline="")))
        assert [row["review_id"] for row in read] == [row["review_id"] for row in rows]
        assert json.loads(err)["rows"] == 5000


def test_a_reader_that_has_read_enough_ends_it_quietly(champion, tmp_path, contents):
    rows = [{"review_id": f"r{n}", "text": TEXTS[n % 3]} for n in range(15_000)]
    (tmp_path / "in.jsonl").write_bytes(contents("jsonl", rows))
    _, out, err = shell(f"cat in.jsonl | {COMMAND} - - | head -3", tmp_path)
    assert len(out.splitlines()) == 3
    assert err == ""


def test_a_killed_run_leaves_nothing_under_the_final_name(champion, tmp_path, contents):
    command = [sys.executable, "-m", "sentiment_core.cli", "score-file", "-", "out.csv"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdin
        process.stdin.write(contents("jsonl", [{"text": "fine"}] * 20_000))
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".out.csv.*.part")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    assert not (tmp_path / "out.csv").exists()


def test_a_terminal_shows_rows_rates_and_time_left(champion, tmp_path, contents):
    rows = [{"review_id": f"r{n}", "text": f"{TEXTS[n % 3]} {n}"} for n in range(25_000)]
    (tmp_path / "in.jsonl").write_bytes(contents("jsonl", rows))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "sentiment_core.cli", "score-file", "in.jsonl", "out.parquet"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, cwd=tmp_path, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # how Linux says that the other side has closed
                break
            seen += part
            if not part:
                break
    os.close(ours)
    assert process.returncode == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode())
    assert re.search(r"\d+% [1-9][\d,]+ rows, [\d,]+ rows/s, [\d.]+ MB/s \d+:\d\d:\d\d", plain), plain[-500:]
    assert re.search(r"25,000 reviews scored by version 1 in [\d.,]+ s", plain)
