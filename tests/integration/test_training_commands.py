"""Labelled files in, a model or figures out: `sentiment train` and `sentiment evaluate`."""

import json
import os
import pty
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from sentiment_core import cli
from sentiment_core.model.examples import held_out_share, normalise, prepare
from sentiment_core.reviews.sample import generate
from sentiment_core.stages.training_sets import classes_of, read_snapshot
from sentiment_core.store.records import events


@pytest.fixture
def settings(services, quick_policy, point_commands):
    """The command's own settings point to this test's servers."""
    point_commands(services, SENTIMENT_POLICY=quick_policy)
    return services


@pytest.fixture
def run(settings, capsys):
    """Run a command with --json; gives its exit status, its result, and what it complained of."""

    def run_command(*arguments: object):
        capsys.readouterr()
        status = cli.run([*map(str, arguments), "--json"])
        said = capsys.readouterr()
        return status, json.loads(said.out) if status == 0 else None, said.err

    return run_command


def write(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def reviews(n: int, *, domain: str = "films", seed: int = 3) -> list[dict]:
    found = generate(n, domain=domain, seed=seed, day=date(2026, 11, 1)).to_pylist()
    return [{name: row[name] for name in ("review_id", "product_id", "source", "text", "rating")} for row in found]


def champion_of(services) -> int:
    return services.registry.resolve("champion").version


def test_a_first_model_is_trained_registered_and_promoted(settings, run, tmp_path):
    status, result, _ = run("train", "--data", write(tmp_path / "films.parquet", reviews(1500)))
    assert status == 0
    assert set(result) == {"model_version", "outcome", "reason", "metrics", "snapshot"}
    assert (result["model_version"], result["outcome"]) == (1, "promoted")
    assert set(result["metrics"]) >= {"data", "train", "test", "candidate", "champion", "gates"}
    gates = {gate["name"]: gate for gate in result["metrics"]["gates"]}
    assert gates.keys() >= {"better_than_majority", "floor_negative", "floor_positive", "calibration", "speed", "size"}
    assert all(set(gate) == {"name", "figure", "limit", "outcome", "n", "sentence"} for gate in gates.values())
    assert champion_of(settings) == 1
    registered, promoted = events(settings.engine)
    assert (registered["event"], promoted["event"]) == ("registered", "promoted")
    assert registered["run_id"] == promoted["run_id"]
    assert promoted["snapshot"] == result["snapshot"]
    assert promoted["metrics"]["gates"] == result["metrics"]["gates"]
    tried = registered["metrics"]["trials"]
    assert len(tried) == registered["metrics"]["cross_validation"]["n_trials"]
    assert all({"name", "params", "metrics", "mean", "seconds", "state"} <= trial.keys() for trial in tried)
    snapshot = read_snapshot(settings, result["snapshot"])
    assert len(snapshot) == 1500
    assert classes_of(snapshot) == ("negative", "positive")


def test_what_the_gates_said_stands_in_mlflow_too(settings, run, tmp_path):
    from mlflow import MlflowClient

    _, result, _ = run("train", "--data", write(tmp_path / "films.parquet", reviews(1500)))
    client = MlflowClient(tracking_uri=settings.settings.mlflow_tracking_uri)
    version = client.get_model_version(settings.settings.model_name, "1")
    noted = client.get_run(version.run_id).data
    for gate in result["metrics"]["gates"]:
        assert noted.metrics[f"gate_{gate['name']}_figure"] == pytest.approx(gate["figure"])
        assert noted.metrics[f"gate_{gate['name']}_limit"] == pytest.approx(gate["limit"])
        assert noted.metrics.get(f"gate_{gate['name']}_passed") == {"passed": 1, "failed": 0}.get(gate["outcome"])
    assert noted.tags["sentiment.outcome"] == "promoted"
    assert noted.tags["sentiment.reason"] == result["reason"]


def test_a_candidate_that_learnt_more_replaces_the_champion_and_one_that_may_not_does_not(settings, run, tmp_path):
    films = write(tmp_path / "films.jsonl", reviews(2500))
    more = write(tmp_path / "electronics.jsonl", reviews(1500, domain="electronics", seed=5))
    assert run("train", "--data", films)[1]["outcome"] == "promoted"
    status, held, _ = run("train", "--data", films, more, "--no-promote")
    assert (status, held["outcome"], champion_of(settings)) == (0, "held", 1)
    assert held["reason"].startswith("promotion was not asked for (--no-promote); the gates passed")
    _, promoted, _ = run("train", "--data", films, "--data", more)
    assert promoted["outcome"] == "promoted", promoted["reason"]
    assert promoted["snapshot"] == held["snapshot"]
    assert champion_of(settings) == promoted["model_version"] == 3
    metrics = promoted["metrics"]
    assert metrics["candidate"]["test_fresh"]["accuracy"] > metrics["champion"]["test_fresh"]["accuracy"]
    assert metrics["champion"]["test_standing"]["n"] > 200


def test_the_same_reviews_again_are_no_fresh_labels_and_the_champion_stays(settings, run, tmp_path):
    films = write(tmp_path / "films.parquet", reviews(1500))
    run("train", "--data", films)
    status, result, _ = run("train", "--data", films)
    assert (status, result["outcome"], champion_of(settings)) == (0, "held", 1)
    assert result["reason"].startswith("no fresh labels to compare on")


def test_trained_twice_from_the_same_files_it_says_the_same(settings, run, tmp_path):
    films = write(tmp_path / "films.parquet", reviews(1500))
    results = [run("train", "--data", films)[1] for _ in range(2)]
    assert results[0]["snapshot"] == results[1]["snapshot"]
    texts = [row["text"] for row in reviews(300, seed=11)]
    first, second = (settings.registry.open(settings.registry.resolve(version)).estimator for version in (1, 2))
    assert np.array_equal(first.predict_proba(texts), second.predict_proba(texts))
    assert first.predict(texts).tolist() == second.predict(texts).tolist()


def test_neutral_labels_make_a_model_of_three_classes(settings, run, tmp_path):
    words = {1: "negative", 2: "negative", 3: "neutral", 4: "positive", 5: "positive"}
    rows = [{**row, "label": words[row["rating"]]} for row in reviews(3000)]
    status, result, _ = run("train", "--data", write(tmp_path / "three.jsonl", rows))
    assert status == 0
    assert set(result["metrics"]["test"]["per_class"]) == {"negative", "neutral", "positive"}
    version = settings.registry.open(settings.registry.resolve(result["model_version"]))
    assert version.estimator.classes_.tolist() == ["negative", "neutral", "positive"]
    assert classes_of(read_snapshot(settings, result["snapshot"])) == ("negative", "neutral", "positive")
    assert {gate["name"] for gate in result["metrics"]["gates"]} >= {"floor_neutral"}


GOOD = reviews(400)
BAD = {
    "one class": ([{"text": row["text"], "label": "positive"} for row in GOOD], [], "positive ones alone"),
    "ten rows": ([{"text": row["text"], "rating": row["rating"]} for row in GOOD[:10]], [], "at least 20 distinct"),
    "equal texts": ([{"text": "all the same", "label": n % 2} for n in range(400)], [], "400 with contradicting labels"),
    "equal texts of a class": ([{"text": f"all the same {n % 2}", "label": n % 2} for n in range(400)], [], "398 duplicates"),
    "another scale": ([{"text": row["text"], "rating": 2 * row["rating"]} for row in GOOD], [], "no other scale is guessed"),
    "labels out of range": ([{"text": row["text"], "label": n % 3} for n, row in enumerate(GOOD)], [], "no other scale"),
    "no label column": ([{"text": row["text"]} for row in GOOD], [], "label or positive or rating"),
    "another label column": ([{"text": row["text"], "rating": 5} for row in GOOD], ["--label-column", "mood"], "column mood"),
    "no text column": ([{"words": row["text"], "rating": 5} for row in GOOD], [], "column text"),
    "contradicting": (
        [{"text": row["text"], "label": label} for row in GOOD for label in (0, 1)],
        [],
        "with contradicting labels left out",
    ),
    "no words": ([{"text": f"{n}", "label": n % 2} for n in range(400)], [], "words that several reviews share"),
    "no rows": ([{"text": "", "label": 1}], [], "found no rows"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_cannot_train_a_model_says_why_and_the_champion_stays(settings, run, trained_model, tmp_path, kind):
    trained_model(settings)
    rows, options, words = BAD[kind]
    for name in ("bad.parquet", "bad.jsonl"):
        status, _, complaint = run("train", "--data", write(tmp_path / name, rows), *options)
        assert status == 1, complaint
        assert "Traceback" not in complaint
        assert words in complaint
        assert "To mend it: " in complaint
    assert champion_of(settings) == 1
    assert [version["aliases"] for version in settings.registry.versions()] == [["champion"]]
    assert events(settings.engine) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "reviews.xlsx"], "expected a name ending in"),
        ([], "--data"),
        (["--data", "a.csv", "--text-column", "x", "--label-column", "x"], "expected different columns"),
        (["--data", "a.csv", "--what"], "--what"),
    ],
)
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_what_cannot_be_meant_is_a_question_of_usage(run, command, arguments, words):
    status, _, complaint = run(command, *arguments)
    assert (status, words in complaint) == (2, True), complaint


def test_a_file_that_is_not_there_is_named(run):
    status, _, complaint = run("train", "--data", "nowhere.csv")
    assert (status, "nowhere.csv: expected a readable file" in complaint) == (1, True)


def test_while_mlflow_is_away_it_is_to_be_tried_again(settings, run, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    films = write(tmp_path / "films.parquet", reviews(800))
    for command in ("train", "evaluate"):
        status, _, complaint = run(command, "--data", films)
        assert (status, "MLflow" in complaint) == (75, True), complaint


def test_the_figures_are_scikit_learns(settings, run, trained_model, tmp_path):
    ref = trained_model(settings)
    rows = reviews(700, domain="electronics", seed=8)
    status, result, _ = run("evaluate", "--data", write(tmp_path / "e.jsonl", rows))
    assert (status, result["model_version"], result["classes"]) == (0, 1, ["negative", "positive"])
    estimator = settings.registry.open(ref).estimator
    labels = ["negative" if row["rating"] <= 2 else "positive" for row in rows]
    said = estimator.predict([row["text"] for row in rows])
    precision, recall, _, n = precision_recall_fscore_support(labels, said)
    assert result["n"] == 700
    assert result["accuracy"] == pytest.approx(accuracy_score(labels, said))
    assert result["macro_f1"] == pytest.approx(f1_score(labels, said, average="macro"))
    assert result["confusion_matrix"] == confusion_matrix(labels, said).tolist()
    for place, name in enumerate(("negative", "positive")):
        found = result["per_class"][name]
        assert [found["precision"], found["recall"], found["n"]] == pytest.approx([precision[place], recall[place], n[place]])
    assert 0 <= result["ece"] < 0.5


def test_beside_the_figures_stand_those_without_repeated_and_learnt_texts(settings, run, trained_model, training_set, tmp_path):
    trained_model(settings)
    learnt = prepare(training_set, held_out_share=held_out_share(training_set, settings.policy.promotion)).train
    known = [
        {"text": text.upper(), "label": label}
        for text, label in zip(*(learnt[:50][name].to_pylist() for name in ("text", "label")), strict=True)
    ]
    known = [{**row, "label": "positive" if row["label"] == "neutral" else row["label"]} for row in known]
    new = [
        {"text": f"{n} {row['text']}", "label": "negative" if row["rating"] <= 2 else "positive"}
        for n, row in enumerate(reviews(100, seed=77))
    ]
    _, result, _ = run("evaluate", "--data", write(tmp_path / "e.jsonl", [*known, *new, *new[:30]]))
    beside = result["deduplicated"]
    assert (result["n"], beside["n"], beside["n_trained_from"], beside["n_repeated"]) == (180, 100, 50, 30)
    _, alone, _ = run("evaluate", "--data", write(tmp_path / "alone.jsonl", new))
    for name in ("accuracy", "macro_f1", "per_class", "ece", "confusion_matrix"):
        assert beside[name] == alone[name]
    assert len({normalise(row["text"]) for row in new}) == 100


@pytest.mark.parametrize("width", [80, 120])
def test_on_a_terminal_there_is_progress_and_a_table_that_fits(settings, tmp_path, width):
    films = write(tmp_path / "films.parquet", reviews(1500))
    screen = _on_a_terminal(width, "train", "--data", films)
    assert "version 1 promoted" in screen
    assert "held out" in screen
    for word in ("accuracy", "macro F1", "precision", "better than majority", "floor negative", "learnt from"):
        assert word in screen
    assert "…" not in screen
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen).splitlines()
    assert max(len(line.rpartition("\r")[2]) for line in lines) <= width
    screen = _on_a_terminal(width, "evaluate", "--data", films)
    assert "deduplicated" in screen
    assert "…" not in screen


def _on_a_terminal(width: int, *arguments: object) -> str:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "sentiment_core.cli", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": str(width), "TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    screen = b""
    while True:
        try:
            block = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not block:
            break
        screen += block
    os.close(ours)
    assert process.wait(timeout=60) == 0, screen.decode()
    return screen.decode()


def test_real_reviews_of_films_train_a_model_that_passes_the_gates(settings, run, reviews_data_dir, tmp_path):
    table = pq.read_table(reviews_data_dir / "imdb_train.parquet")
    chosen = np.random.default_rng(1).permutation(len(table))[:4000]
    path = tmp_path / "films.parquet"
    pq.write_table(table.take(chosen), path)
    status, result, _ = run("train", "--data", path, "--label-column", "positive", "--product-column", "product_id")
    assert (status, result["outcome"]) == (0, "promoted"), result["reason"]
    assert result["metrics"]["test"]["accuracy"] > 0.85
    status, _, complaint = run("train", "--data", path, "--label-column", "rating")
    assert (status, "no other scale is guessed" in complaint) == (1, True)
