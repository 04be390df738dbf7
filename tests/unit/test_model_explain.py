"""An explanation is the score taken apart: what it consists of adds up to it."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax

from sentiment_core.model.calibration import Calibration
from sentiment_core.model.estimator import SentimentClassifier
from sentiment_core.model.explain import explain
from sentiment_core.text.features import as_texts, score

WORDS = [
    "great",
    "Awful",
    "film",
    "not",
    "isn't",
    "a",
    "plot",
    "was",
    ".",
    "!!",
    "42",
    "<br />",
    "naïve",
    "ΣΑΣ",
    "😀",
    "enjoyed",
    "the",
]
TEXTS = [
    "A great film, I enjoyed it!! 42 times",
    "an awful plot, it isn't good.",
    "the film was fine. not great, not awful",
    "naïve ΣΑΣ 😀 enjoyed the plot",
    "not a great plot <br /> awful!!",
    "great great great",
] * 4
TWO = ["positive", "negative", "positive", "positive", "negative", "positive"] * 4
THREE = ["positive", "negative", "neutral", "positive", "negative", "positive"] * 4
MODELS = {
    "tfidf": {},
    "nbidf": {"weighting": "nbidf", "ngram_max": 3, "stem": False},
    "characters": {"char_min": 2, "char_max": 4},
    "nbidf with characters": {"weighting": "nbidf", "char_min": 3, "char_max": 3},
    "all rules": {
        "mark_negation": True, "mask_numbers": True, "mask_urls": True, "mask_emails": True, "split_emoji": True,
        "drop_stop_words": True, "ngram_max": 3,
    },
    "capitals": {"lower_case": False, "stem": False, "strip_html": False},
    "support vectors": {"classifier": "svm", "weighting": "nbidf", "C": 0.3},
    "naive Bayes": {"classifier": "naive_bayes", "weighting": "presence"},
}  # fmt: skip


@pytest.fixture(scope="module")
def models():
    fitted = {
        (name, len(set(labels))): SentimentClassifier(**parameters).fit(TEXTS, labels)
        for name, parameters in MODELS.items()
        for labels in (TWO, THREE)
    }
    random = np.random.default_rng(0)
    for n_classes in (2, 3):
        n_scores = 1 if n_classes == 2 else 3
        calibration = Calibration(random.normal(1, 0.5, (n_scores, n_scores)), random.normal(size=n_scores))
        offsets = np.linspace(-0.7, 0.7, n_classes)
        fitted["calibrated", n_classes] = (
            SentimentClassifier(weighting="nbidf").fit(TEXTS, TWO if n_classes == 2 else THREE).adjust(calibration, offsets)
        )
    return fitted


def kernel_scores(model, text):
    """The raw scores as bulk scoring adds them up."""
    words, *characters = model._tables()
    sums = sum(
        score(as_texts([text]), dictionary, weights, is_binary=model._is_binary)[0]
        for dictionary, weights in (words, *characters)
    )
    return (sums + model.intercept_)[0]


def check(model, text):
    found = explain(model, text)
    for name in found.scores:
        total = sum(term.contributions[name] for term in found.terms)
        assert found.scores[name] - found.intercepts[name] == pytest.approx(total, abs=1e-9)
    raw, calibration = kernel_scores(model, text), model.calibration
    calibrated = calibration.coef @ raw + calibration.intercept if len(calibration.coef) else raw
    np.testing.assert_allclose(list(found.scores.values()), calibrated, atol=1e-9)
    if len(found.scores) == 1:
        assert found.probabilities[model.classes_[1]] == pytest.approx(float(expit(found.scores[model.classes_[1]])), abs=1e-9)
    assert found.probabilities == pytest.approx(dict(zip(model.classes_, model.predict_proba([text])[0], strict=True)))
    assert found.label == model.predict([text])[0]
    return found


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", [*MODELS, "calibrated"])
@settings(max_examples=40, deadline=None)
@given(text=st.one_of(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), st.text(max_size=40)))
def test_the_contributions_add_up_to_the_score(models, name, n_classes, text):
    check(models[name, n_classes], text)


@pytest.mark.parametrize("file", ["flipkart_train", "imdb_train"])
def test_the_contributions_of_real_reviews_add_up_to_their_scores(reviews_data_dir, file):
    rows = pq.read_table(reviews_data_dir / f"{file}.parquet", columns=["text", "positive"])
    rows = rows.take(np.random.default_rng(0).permutation(len(rows))[:1_500])
    labels = np.where(rows["positive"].to_numpy(), "positive", "negative")
    model = SentimentClassifier(weighting="nbidf", char_min=3, char_max=4).fit(rows["text"], labels)
    for text in rows["text"].slice(0, 100).to_pylist():
        found = check(model, text)
        assert found.probabilities["positive"] == pytest.approx(float(expit(found.scores["positive"])), abs=1e-12)
        for term in found.terms:
            assert term.kind == "characters" or term.written.split()[0] in text.replace("<br />", " ")


def test_the_probabilities_of_three_classes_are_those_of_the_scores(models):
    found = explain(models["tfidf", 3], "not great, not awful")
    assert list(found.scores) == ["negative", "neutral", "positive"]
    assert list(found.probabilities.values()) == pytest.approx(softmax(list(found.scores.values())).tolist())
    assert found.decisive == found.label


def test_the_strongest_terms_come_first_and_speak_as_written(models):
    found = explain(models["tfidf", 2], "Awful, I ENJOYED nothing of the Plot")
    strengths = [abs(term.contributions["positive"]) for term in found.terms]
    assert strengths == sorted(strengths, reverse=True)
    by_term = {term.term: term for term in found.terms}
    assert by_term["enjoy"].written == "ENJOYED"
    assert by_term["enjoy"].contributions["positive"] > 0 > by_term["aw"].contributions["positive"]
    assert by_term["the plot"].written == "the Plot"
    assert found.decisive == "positive"


def test_the_probabilities_of_a_calibrated_model_are_those_of_its_scores_and_decisions_those_of_its_offsets(models):
    found = explain(models["calibrated", 3], "a great film, awful plot")
    assert list(found.probabilities.values()) == pytest.approx(softmax(list(found.scores.values())).tolist())
    favoured = {name: found.scores[name] + found.offsets[name] for name in found.scores}
    assert found.label == max(favoured, key=favoured.__getitem__)
    two = explain(models["calibrated", 2], "a great film, awful plot")
    assert two.offsets == {"positive": pytest.approx(1.4)}
    assert two.label == ("positive" if two.scores["positive"] + 1.4 > 0 else "negative")


def test_a_term_is_counted_as_often_as_it_stands_there(models):
    assert {term.term: term.count for term in explain(models["tfidf", 2], "great great film").terms} == {
        "great": 2, "film": 1, "great great": 1, "great film": 1,
    }  # fmt: skip


def test_a_text_of_unknown_words_scores_the_intercept(models):
    found = explain(models["tfidf", 2], "xyzzy")
    assert found.terms == ()
    assert found.scores == found.intercepts


def test_negated_and_masked_words_are_shown_as_they_stand_in_the_text(models):
    written = {term.term: term.written for term in explain(models["all rules", 2], "It isn't good. 42!!").terms}
    assert written["good_NEG"] == "good"
    assert written["<number>"] == "42"
