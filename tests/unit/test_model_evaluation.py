"""Figures of a model, and the gates between a candidate and the champion's place."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sentiment_core import schema
from sentiment_core.errors import Permanent
from sentiment_core.model.evaluation import calibration_error, compare, evaluate, figures
from sentiment_core.model.examples import is_held_out, prepare
from sentiment_core.policy import read_policy
from sentiment_core.settings import REPOSITORY

POLICY = read_policy(Path(REPOSITORY) / "include" / "policy.toml")
CLASSES = ["negative", "positive"]


class Oracle:
    """Says what it is told to say of each text."""

    def __init__(self, says, classes=("negative", "positive")):
        self.says, self.classes_ = says, np.array(classes)

    def predict_proba(self, texts):
        said = [self.says[text] for text in texts.to_pylist()]
        return np.array([[0.9 if name == one else 0.1 / (len(self.classes_) - 1) for name in self.classes_] for one in said])


def _rows(n, origin, label="positive"):
    return [
        {"review_id": f"{origin}{i}", "product_id": None, "text": f"{origin} {label} {i}", "label": label, "origin": origin}
        for i in range(n)
    ]


def _compare(champion_rights, candidate_rights, rows, **kinds):
    """Compare oracles; each is given as a function of (origin, place among the held-out rows of that origin)."""
    snapshot = pa.Table.from_pylist(rows, schema=schema.SNAPSHOT)
    test = prepare(snapshot, held_out_share=POLICY.promotion.held_out_share).test.to_pylist()
    places = {"standing": 0, "fresh": 0}
    said = ({}, {})
    for row in test:
        place = places[row["origin"]]
        places[row["origin"]] += 1
        wrong = "negative" if row["label"] == "positive" else "positive"
        for says, rights in zip(said, (champion_rights, candidate_rights), strict=True):
            says[row["text"]] = row["label"] if rights(row["origin"], place) else wrong
    return compare(Oracle(said[0], **kinds), Oracle(said[1]), snapshot, POLICY)


ROWS = _rows(2000, "standing") + _rows(2000, "standing", "negative") + _rows(400, "fresh") + _rows(400, "fresh", "negative")


def _gate(promotion, name):
    return next(gate for gate in promotion.metrics["gates"] if gate["name"] == name)


def test_figures_of_a_known_confusion():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    found = figures(probabilities, ["negative", "positive", "positive", "positive"], CLASSES)
    assert found["n"] == 4
    assert found["accuracy"] == 0.75
    assert found["confusion"] == [[1, 0], [1, 2]]
    assert found["per_class"]["negative"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "n": 1}
    assert found["per_class"]["positive"]["recall"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_figures_follow_the_decision_and_calibration_the_probabilities():
    probabilities, labels = np.tile([[0.9, 0.1], [0.2, 0.8]], (50, 1)), ["positive"] * 100
    found = figures(probabilities, labels, CLASSES, predicted=labels)
    assert found["accuracy"] == 1
    assert found["ece"] == figures(probabilities, labels, CLASSES)["ece"] > 0.3
    assert found["log_loss"] == pytest.approx(-(math.log(0.1) + math.log(0.8)) / 2)


def test_figures_are_json_without_rows_too():
    for labels in ([], ["positive"]):
        found = figures(np.full((len(labels), 2), 0.5), labels, CLASSES)
        assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_model_that_says_one_thing_only_has_finite_figures():
    found = figures(np.tile([0.1, 0.9], (5, 1)), ["negative"] * 5, CLASSES)
    assert found["accuracy"] == 0
    assert found["macro_f1"] == 0


def test_neutral_labels_count_as_positive_for_a_model_of_two_classes():
    found = evaluate(Oracle({"a": "positive", "b": "negative"}), pa.array(["a", "b"]), ["neutral", "negative"])
    assert found["accuracy"] == 1


@pytest.mark.parametrize("n", [500, 5_000])
def test_a_calibrated_model_has_hardly_any_calibration_error(n):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(20):
        confidence = rng.uniform(0.5, 1, n)
        found.append(calibration_error(confidence, rng.uniform(size=n) < confidence))
    assert np.mean(found) < 0.01


def test_calibration_error_is_the_gap_of_an_overconfident_model():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.8, 1, 5_000)
    assert calibration_error(confidence, rng.uniform(size=5_000) < confidence - 0.2) == pytest.approx(0.2, abs=0.02)


def test_a_candidate_better_on_fresh_rows_and_as_good_on_standing_ones_is_promoted():
    promotion = _compare(lambda origin, i: origin == "standing" or i % 3, lambda _, i: i % 10, ROWS)
    assert promotion.outcome == "held"  # a tenth wrong everywhere: it lost ten points on standing rows
    assert "standing reviews" in promotion.reason
    promotion = _compare(lambda origin, i: i % 10 if origin == "standing" else i % 3, lambda _, i: i % 10, ROWS)
    assert promotion.outcome == "promoted"
    assert "p = " in promotion.reason
    assert promotion.metrics["candidate"]["test_fresh"]["accuracy"] > promotion.metrics["champion"]["test_fresh"]["accuracy"]
    assert all(gate["is_passed"] for gate in promotion.metrics["gates"])
    assert json.loads(json.dumps(promotion.metrics, allow_nan=False)) == promotion.metrics


def test_a_candidate_that_is_no_better_on_fresh_rows_is_held():
    promotion = _compare(lambda _, i: i % 5, lambda _, i: i % 5, ROWS)
    assert promotion.outcome == "held"
    assert _gate(promotion, "better_on_fresh")["figure"] == 1.0
    assert not _gate(promotion, "better_on_fresh")["is_passed"]


def test_the_p_value_is_that_of_the_exact_one_sided_mcnemar_test():
    won, lost = 12, 4
    promotion = _compare(
        lambda origin, i: origin == "standing" or i >= won,
        lambda origin, i: origin == "standing" or not won <= i < won + lost,
        ROWS,
    )
    expected = sum(math.comb(won + lost, k) for k in range(won, won + lost + 1)) / 2 ** (won + lost)
    assert _gate(promotion, "better_on_fresh")["figure"] == pytest.approx(expected)
    assert "12 won, 4 lost" in _gate(promotion, "better_on_fresh")["sentence"]


def test_too_few_fresh_rows_hold_however_good_the_candidate():
    promotion = _compare(lambda origin, _: origin == "standing", lambda *_: True, _rows(400, "standing") + _rows(60, "fresh"))
    assert promotion.outcome == "held"
    assert "fresh held-out reviews" in promotion.reason
    assert "50 needed" in promotion.reason


def test_a_first_model_has_to_beat_the_commonest_class():
    rows = _rows(400, "standing") + _rows(200, "standing", "negative")
    snapshot = pa.Table.from_pylist(rows, schema=schema.SNAPSHOT)
    right = Oracle({row["text"]: row["label"] for row in rows})
    dull = Oracle({row["text"]: "positive" for row in rows})
    assert compare(None, right, snapshot, POLICY).outcome == "promoted"
    held = compare(None, dull, snapshot, POLICY)
    assert held.outcome == "held"
    assert held.metrics["champion"] is None
    assert "commonest class" in held.reason


def test_a_champion_of_three_classes_is_compared_on_the_two_of_the_candidate():
    promotion = _compare(
        lambda origin, i: origin == "standing" or i % 3, lambda *_: True, ROWS, classes=("negative", "neutral", "positive")
    )
    assert promotion.outcome == "promoted"
    assert promotion.metrics["champion"]["test_standing"]["accuracy"] == 1


def test_without_held_out_rows_nothing_can_be_compared():
    share = POLICY.promotion.held_out_share
    product = next(name for name in "abcdefgh" if not is_held_out(name, "", share))
    snapshot = pa.Table.from_pylist([{**row, "product_id": product} for row in _rows(9, "standing")], schema=schema.SNAPSHOT)
    with pytest.raises(Permanent, match="held-out rows"):
        compare(None, Oracle({}), snapshot, POLICY)
