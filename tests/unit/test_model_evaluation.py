"""Figures of a model."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sentiment_core.model.evaluation import calibration_error, evaluate, figures
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

    def predict(self, texts):
        return np.array([self.says[text] for text in texts.to_pylist()])


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
