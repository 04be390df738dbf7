"""How a snapshot becomes training rows, held-out rows and a candidate."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sentiment_core import schema
from sentiment_core.errors import Permanent
from sentiment_core.model.examples import prepare
from sentiment_core.model.training import train
from sentiment_core.policy import read_policy
from sentiment_core.settings import REPOSITORY

POLICY = read_policy(Path(REPOSITORY) / "include" / "policy.toml")
WORDS = {"negative": ["awful", "boring", "poor"], "positive": ["great", "lovely", "fun"], "neutral": ["okay", "average", "fine"]}


def _snapshot(rows):
    defaults = {"review_id": "r", "product_id": None, "source": None, "origin": "standing", "labelled_at": None}
    return pa.Table.from_pylist([{**defaults, **row} for row in rows], schema=schema.SNAPSHOT)


def _rows(n, seed=0, labels=("negative", "positive"), n_products=40, origin="standing"):
    rng = random.Random(seed)
    rows = []
    for number in range(n):
        label = rng.choice(labels)
        words = rng.choices(["film", "plot", "the", "a", "was", *WORDS[label]], k=15)
        product = f"p{rng.randrange(n_products)}"
        rows.append(
            {"review_id": f"r{seed}-{number}", "product_id": product, "text": " ".join(words), "label": label, "origin": origin}
        )
    return rows


@pytest.fixture(scope="module")
def candidate():
    return train(_snapshot(_rows(500) + _rows(100, seed=1, origin="fresh")), policy=POLICY)


def test_no_product_stands_on_both_sides():
    examples = prepare(_snapshot(_rows(400)), held_out_share=0.25)
    assert not set(examples.train["product_id"].to_pylist()) & set(examples.test["product_id"].to_pylist())
    assert 0.05 < len(examples.test) / 400 < 0.5


def test_the_test_set_stays_when_rows_are_added():
    before = prepare(_snapshot(_rows(300)), held_out_share=0.25)
    after = prepare(_snapshot(_rows(200, seed=9, origin="fresh") + _rows(300)), held_out_share=0.25)
    standing = [row["review_id"] for row in after.test.to_pylist() if row["origin"] == "standing"]
    assert standing == before.test["review_id"].to_pylist()


def test_rows_without_a_product_are_split_by_their_text():
    rows = [{**row, "product_id": None} for row in _rows(400)]
    first, again = (prepare(_snapshot(some), held_out_share=0.25) for some in (rows, rows[::-1]))
    assert set(first.test["text"].to_pylist()) == set(again.test["text"].to_pylist())
    assert 60 < len(first.test) < 140


def test_the_same_text_counts_once_and_the_standing_row_is_kept():
    rows = [
        {"review_id": "new", "text": "Good  film", "label": "positive", "origin": "fresh"},
        {"review_id": "old", "text": "good film ", "label": "positive"},
    ]
    examples = prepare(_snapshot(rows), held_out_share=0.0)
    assert examples.train["review_id"].to_pylist() == ["old"]
    assert (examples.n_duplicates, examples.n_conflicts) == (1, 0)


def test_texts_that_people_disagree_about_are_left_out_and_counted():
    rows = [{"text": "hm", "label": label} for label in ("positive", "negative", "positive")] + [
        {"text": "ok", "label": "positive"}
    ]
    examples = prepare(_snapshot(rows), held_out_share=0.0)
    assert examples.train["text"].to_pylist() == ["ok"]
    assert (examples.n_duplicates, examples.n_conflicts) == (0, 3)


def test_neutral_counts_as_positive_with_two_classes_only():
    rows = [{"text": "hm", "label": "neutral"}, {"text": "hm", "label": "positive"}]
    assert prepare(_snapshot(rows), held_out_share=0.0).train["label"].to_pylist() == ["positive"]
    assert prepare(_snapshot(rows), held_out_share=0.0, classes=("negative", "neutral", "positive")).n_conflicts == 2


def test_a_candidate_is_measured_on_rows_it_has_not_seen(candidate):
    metrics = candidate.metrics
    assert metrics["data"]["n_train"] + metrics["data"]["n_test"] + metrics["data"]["n_duplicates"] == 600
    assert metrics["train"]["n"] == metrics["data"]["n_train"]
    assert metrics["test"]["n"] == metrics["data"]["n_test"] == len(candidate.reference)
    assert 0 < metrics["test_fresh"]["n"] < metrics["test"]["n"]
    assert metrics["test"]["accuracy"] > 0.9


def test_the_reference_is_what_scoring_would_say_of_the_held_out_rows(candidate):
    snapshot = _snapshot(_rows(500) + _rows(100, seed=1, origin="fresh"))
    held_out = prepare(snapshot, held_out_share=POLICY.promotion.held_out_share).test
    assert candidate.reference.rows.schema.equals(schema.REFERENCE)
    assert candidate.reference.rows["true_label"].to_pylist() == held_out["label"].to_pylist()
    assert candidate.reference.rows["product_id"].to_pylist() == held_out["product_id"].to_pylist()
    expected = candidate.estimator.predict_proba(held_out["text"])[:, 1]
    assert np.array_equal(candidate.reference.rows["p_positive"].to_numpy(), expected)


def test_training_twice_gives_the_same_model_and_leaves_the_snapshot_alone(candidate):
    snapshot = _snapshot(_rows(500) + _rows(100, seed=1, origin="fresh"))
    copy = _snapshot(snapshot.to_pylist())
    again = train(snapshot, policy=POLICY)
    assert snapshot.equals(copy)
    assert np.array_equal(again.estimator.coef_, candidate.estimator.coef_)
    assert again.metrics == candidate.metrics


def test_fresh_rows_weigh_more():
    rows = _rows(300) + [
        {**row, "label": "negative", "text": "gizmo " + row["text"]} for row in _rows(40, seed=3, origin="fresh")
    ]
    rows += [{**row, "label": "positive", "text": "gizmo " + row["text"]} for row in _rows(40, seed=4)]
    light, heavy = (
        train(_snapshot(rows), policy=replace(POLICY, retrain=replace(POLICY.retrain, fresh_weight=weight))).estimator
        for weight in (1.0, 20.0)
    )
    assert heavy.predict_proba(["gizmo"])[0, 0] > light.predict_proba(["gizmo"])[0, 0] + 0.05


def test_three_classes_can_be_asked_for():
    labels = ("negative", "neutral", "positive")
    found = train(_snapshot(_rows(600, labels=labels)), policy=POLICY, classes=labels)
    assert found.estimator.classes_.tolist() == list(labels)
    assert len(found.metrics["test"]["confusion"]) == 3


def test_progress_is_told_in_words():
    said = []
    train(_snapshot(_rows(300)), policy=POLICY, progress=said.append)
    assert "held out" in said[0]
    assert sum(line.startswith("trial ") for line in said) == 5


def test_a_candidate_tells_how_it_was_found(candidate):
    assert [trial.state for trial in candidate.trials].count("complete") >= 1
    assert candidate.metrics["cross_validation"]["n_trials"] == len(candidate.trials)
    assert candidate.params["family"] == min(candidate.trials, key=lambda trial: (trial.state != "complete", trial.mean)).family
    curves = candidate.curves
    assert curves["confusion"] == candidate.metrics["test"]["confusion"]
    assert sum(bin_["n"] for bin_ in curves["reliability"]) == candidate.metrics["test"]["n"]
    for points in curves["precision_recall"].values():
        recalls = [point["recall"] for point in points]
        assert recalls == sorted(recalls)
        assert points[-1]["recall"] == 1
    assert json.loads(json.dumps(curves, allow_nan=False)) == curves


def test_a_model_found_on_some_rows_is_fitted_on_all():
    snapshot = _snapshot(_rows(600) + [{**row, "text": f"{row['text']} zebra"} for row in _rows(4, seed=8)])
    few = replace(
        POLICY, search=replace(POLICY.search, max_rows=200, trials=2), promotion=replace(POLICY.promotion, held_out_share=0.1)
    )
    found = train(snapshot, policy=few)
    assert found.metrics["data"]["n_train"] > 400
    assert "zebra" in found.estimator.vocabulary.terms
    assert found.metrics["test"]["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("snapshot", "words"),
    [
        (_snapshot([]), "no rows"),
        (_snapshot(_rows(10)), "at least 20 distinct negative reviews"),
        (_snapshot(_rows(300, labels=("positive",))), "found positive ones alone .* add reviews labelled negative"),
        (
            _snapshot([{**row, "text": "always the same"} for row in _rows(300)]),
            "differ, found 0 distinct .* 300 with contradicting labels",
        ),
        (
            _snapshot([{**row, "text": "the same", "label": "positive"} for row in _rows(300)]),
            "found 1 distinct .* 299 duplicates",
        ),
        (_snapshot(_rows(30) + _rows(30, labels=("neutral",))), "at least 20 distinct negative reviews"),
        (_snapshot(_rows(300)).drop_columns(["label", "origin"]), "no column label, origin"),
        (_snapshot(_rows(300, n_products=1)), "products"),
        (_snapshot([{**row, "label": "meh"} for row in _rows(30)]), "'meh'"),
        (_snapshot([{**row, "label": None} for row in _rows(30)]), "30 nulls"),
        (_snapshot([{**row, "text": f"x{place}"} for place, row in enumerate(_rows(300))]), "words that several reviews share"),
    ],
)
def test_a_training_set_that_cannot_train_a_model_is_refused_with_the_reason(snapshot, words):
    with pytest.raises(Permanent, match=words):
        train(snapshot, policy=POLICY)
