"""Probabilities mean what they say, and decisions are made beside them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, softmax

from sentiment_core.model.calibration import (
    LOGISTIC,
    ONE_AGAINST_REST,
    SOFTMAX,
    Calibration,
    choose_calibration,
    choose_offsets,
    decide,
    fit_platt,
    log_loss,
    merit,
)
from sentiment_core.model.estimator import SentimentClassifier
from sentiment_core.model.evaluation import calibration_error

FOLDS = np.arange(4_000) % 5
TEXTS = ["a great film", "great fun", "an awful film", "awful plot", "great plot", "awful music"] * 4
LABELS = ["positive", "positive", "negative", "negative", "positive", "negative"] * 4
OFFSETS = hnp.arrays(float, 2, elements=st.floats(-3, 3))


def _two_classes(slope, intercept=0.0, seed=0, n=4_000):
    """Scores of which the truth is another straight line: (scores, classes)."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, 1))
    return scores, (rng.uniform(size=n) < expit(slope * scores[:, 0] + intercept)).astype(int)


def test_overconfident_scores_are_calibrated():
    scores, places = _two_classes(0.5, 0.3)
    found = choose_calibration(4 * scores, places, FOLDS, LOGISTIC, 2)
    assert found.coef[0, 0] == pytest.approx(0.5 / 4, abs=0.03)
    probabilities = found.probabilities(4 * scores, LOGISTIC)
    assert calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == places) < 0.02


@pytest.mark.parametrize("seed", range(5))
def test_scores_that_are_calibrated_are_left_alone(seed):
    scores, places = _two_classes(1.0, seed=seed)
    found = choose_calibration(scores, places, FOLDS, LOGISTIC, 2)
    assert len(found.coef) == 0 or found.coef[0, 0] == pytest.approx(1, abs=0.1)
    plain = Calibration.none(1)
    assert len(choose_calibration(np.zeros((4_000, 1)), FOLDS % 2, FOLDS, LOGISTIC, 2).coef) == 0
    assert plain.probabilities(scores, LOGISTIC)[:, 1].tolist() == expit(scores[:, 0]).tolist()


def test_three_classes_are_calibrated_together():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4_000, 3))
    truth = softmax(scores @ np.array([[1.0, 0.5, 0], [0, 1, 0], [0, 0, 2]]) + [0.5, 0, -0.5], axis=1)
    places = (truth.cumsum(axis=1) < rng.uniform(size=(4_000, 1))).sum(axis=1)
    found = choose_calibration(scores, places, FOLDS, ONE_AGAINST_REST, 3)
    assert np.abs(found.probabilities(scores, ONE_AGAINST_REST) - truth).max() < 0.1
    plain = Calibration.none(3).probabilities(scores, ONE_AGAINST_REST)
    assert log_loss(found.probabilities(scores, ONE_AGAINST_REST), places) < log_loss(plain, places)


def test_a_class_that_a_fold_lacks_leaves_the_link_alone():
    places = np.zeros(4_000, int)
    places[:3] = 1
    assert len(choose_calibration(np.ones((4_000, 1)), places, np.repeat(np.arange(5), 800), LOGISTIC, 2).coef) == 0


@given(hnp.arrays(float, (6, 3), elements=st.floats(-800, 800)), st.sampled_from([SOFTMAX, ONE_AGAINST_REST]))
def test_probabilities_add_up_to_one_however_far_the_scores(scores, link):
    found = Calibration.none(3).probabilities(scores, link)
    assert np.allclose(found.sum(axis=1), 1)
    assert ((found >= 0) & (found <= 1)).all()


@settings(deadline=None, max_examples=30)
@given(OFFSETS)
def test_offsets_never_change_probabilities(offsets):
    model = SentimentClassifier(min_df=1).fit(TEXTS, LABELS)
    before, plain = model.predict_proba(TEXTS), model.predict(TEXTS)
    model.adjust(fit_platt(np.linspace(-1, 1, 24)[:, None], np.arange(24) // 12), np.zeros(2))
    calibrated = model.predict_proba(TEXTS)
    assert not np.allclose(calibrated, before)
    model.adjust(model.calibration, offsets)
    assert (model.predict_proba(TEXTS) == calibrated).all()
    gap = offsets[1] - offsets[0]
    positive, negative = calibrated[:, 1] * np.exp(gap), calibrated[:, 0]
    expected, near = positive > negative, np.isclose(positive, negative)
    assert ((model.predict(TEXTS) == "positive") == expected)[~near].all()
    if not offsets.any():
        assert (model.predict(TEXTS) == plain).all()


@given(hnp.arrays(float, (8, 3), elements=st.floats(0, 1)))
def test_without_offsets_the_likeliest_class_is_chosen(probabilities):
    assert decide(probabilities, np.zeros(3)).tolist() == probabilities.argmax(axis=1).tolist()


def test_offsets_find_a_rare_class():
    scores, places = _two_classes(2.0, -3.0)
    probabilities = fit_platt(scores, places).probabilities(scores, LOGISTIC)
    offsets = choose_offsets(probabilities, places)
    assert offsets[1] > 0.1
    assert offsets.sum() == pytest.approx(0)
    unseen, truth = _two_classes(2.0, -3.0, seed=1)
    probabilities = fit_platt(scores, places).probabilities(unseen, LOGISTIC)
    found, plain = (decide(probabilities, some) for some in (offsets, np.zeros(2)))
    assert (found[truth == 1] == 1).mean() > (plain[truth == 1] == 1).mean() + 0.1
    assert merit(found, truth, 2) > merit(plain, truth, 2)


def test_offsets_of_even_classes_hardly_move_the_border():
    scores, places = _two_classes(3.0)
    probabilities = fit_platt(scores, places).probabilities(scores, LOGISTIC)
    assert np.abs(choose_offsets(probabilities, places)).max() < 0.3
