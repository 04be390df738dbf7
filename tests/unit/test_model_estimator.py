"""The laws every estimator here keeps, and what its stored form consists of."""

import copy
import json
import random
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from sentiment_core.errors import Permanent
from sentiment_core.model.estimator import SentimentClassifier
from sentiment_core.registry.artefact import TRUSTED_TYPES
from sentiment_core.text.rules import WORD_OR_PUNCTUATION

GOOD, BAD, PLAIN = (
    ["great", "lovely", "superb", "fun"],
    ["awful", "boring", "poor", "weak"],
    ["the", "film", "a", "plot", "it", "was", "of", ",", ".", "and"],
)


def _corpus(n, seed=0):
    rng = random.Random(seed)
    labels = [rng.choice(["negative", "positive"]) for _ in range(n)]
    return [" ".join(rng.choices(PLAIN + 2 * (GOOD if y == "positive" else BAD), k=12)) for y in labels], labels


TEXTS, LABELS = _corpus(200)


@pytest.fixture(scope="module")
def fitted():
    return SentimentClassifier().fit(TEXTS, LABELS)


def test_probabilities_equal_those_of_scikit_learns_own_parts(fitted):
    del fitted
    ours = SentimentClassifier(stem=False, strip_html=False, ngram_max=2, C=3.0).fit(TEXTS, LABELS)
    peer = make_pipeline(
        TfidfVectorizer(token_pattern=WORD_OR_PUNCTUATION, ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        LogisticRegression(C=3.0, max_iter=300),
    ).fit(TEXTS, LABELS)
    unseen = [*_corpus(50, seed=1)[0], "", "nothing known here at all", "Great, GREAT film!!"]
    assert ours.classes_.tolist() == peer.classes_.tolist()
    np.testing.assert_allclose(ours.predict_proba(unseen), peer.predict_proba(unseen), atol=1e-9)


def test_it_learns_what_there_is_to_learn(fitted):
    texts, labels = _corpus(200, seed=2)
    assert fitted.score(texts, labels) > 0.95


def test_fitting_leaves_the_inputs_alone():
    texts, labels, weights = np.array(TEXTS, dtype=object), np.array(LABELS), np.ones(len(TEXTS))
    before = copy.deepcopy((texts, labels, weights))
    SentimentClassifier().fit(texts, labels, sample_weight=weights).predict_proba(texts)
    for one, other in zip(before, (texts, labels, weights), strict=True):
        assert (one == other).all()


def test_the_same_seed_gives_the_same_model(fitted):
    again = SentimentClassifier(random_state=0).fit(TEXTS, LABELS)
    assert (again.coef_ == fitted.coef_).all()
    assert (again.term_bytes_ == fitted.term_bytes_).all()


def test_a_clone_has_the_parameters_and_no_state(fitted):
    twin = clone(SentimentClassifier(C=2.0, mark_negation=True))
    assert twin.get_params() == SentimentClassifier(C=2.0, mark_negation=True).get_params()
    with pytest.raises(NotFittedError):
        clone(fitted).predict_proba(["good"])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.one_of(st.text(max_size=30), st.sampled_from(TEXTS)), min_size=1, max_size=10), st.integers(1, 10))
def test_probabilities_do_not_depend_on_the_batch(fitted, texts, size):
    whole = fitted.predict_proba(texts)
    parts = np.concatenate([fitted.predict_proba(texts[start : start + size]) for start in range(0, len(texts), size)])
    assert (whole == parts).all()
    assert np.allclose(whole.sum(axis=1), 1)


def test_texts_in_every_usual_form_give_the_same(fitted):
    expected = fitted.predict_proba(TEXTS[:5])
    for form in (
        pd.Series(TEXTS[:5]),
        np.array(TEXTS[:5]),
        pa.array(TEXTS[:5]),
        pd.DataFrame({"id": range(5), "text": TEXTS[:5]}),
    ):
        assert (fitted.predict_proba(form) == expected).all()


def test_no_text_gives_no_probability(fitted):
    probabilities, statistics = fitted.examine([])
    assert probabilities.shape == (0, 2)
    assert all(len(values) == 0 for values in statistics.values())


def test_more_texts_than_are_handled_at_a_time_keep_their_order(fitted):
    many = [TEXTS[place % 7] for place in range(5_000)]
    assert (fitted.predict_proba(many) == fitted.predict_proba(TEXTS[:7])[np.arange(5_000) % 7]).all()


def test_three_classes_work_as_well():
    texts = [*TEXTS, *["plain plain ordinary thing"] * 60]
    model = SentimentClassifier().fit(texts, [*LABELS, *["neutral"] * 60])
    assert model.classes_.tolist() == ["negative", "neutral", "positive"]
    assert model.predict(["an ordinary thing"]).tolist() == ["neutral"]
    assert np.allclose(model.predict_proba(TEXTS).sum(axis=1), 1)


def test_weights_count():
    texts, labels = ["good fun film"] * 4 + ["good fun film"] * 4, ["positive"] * 4 + ["negative"] * 4
    heavy = SentimentClassifier().fit(texts, labels, sample_weight=[5] * 4 + [1] * 4)
    assert heavy.predict_proba(["good fun film"])[0, 1] > 0.7


def test_one_class_or_uneven_lengths_are_refused():
    with pytest.raises(ValueError, match="class"):
        SentimentClassifier().fit(TEXTS, ["positive"] * len(TEXTS))
    with pytest.raises(ValueError, match="200 texts"):
        SentimentClassifier().fit(TEXTS, LABELS[:-1])


def test_the_stored_form_is_arrays_and_plain_values_only(fitted, tmp_path):
    fitted.predict_proba(["builds the look-up table, which must not be stored"])
    path = tmp_path / "model.skops"
    skops.io.dump(fitted, path)
    assert skops.io.get_untrusted_types(file=path) == list(TRUSTED_TYPES)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        tree = json.loads(archive.read("schema.json"))
        for name in set(names) - {"schema.json"}:
            with archive.open(name) as stream:
                assert not np.load(stream, allow_pickle=False).dtype.hasobject
    assert all(name == "schema.json" or name.endswith(".npy") for name in names)
    assert "_prepared" not in json.dumps(tree)
    again = skops.io.load(path, trusted=list(TRUSTED_TYPES))
    assert (again.predict_proba(TEXTS) == fitted.predict_proba(TEXTS)).all()


def test_the_trusted_type_is_the_classifier():
    assert (f"{SentimentClassifier.__module__}.{SentimentClassifier.__qualname__}",) == TRUSTED_TYPES


@pytest.mark.parametrize("classifier", ["logistic", "svm", "naive_bayes", "complement"])
@pytest.mark.parametrize("weighting", ["tfidf", "presence", "nbidf"])
def test_every_family_learns_what_there_is_to_learn(classifier, weighting):
    model = SentimentClassifier(classifier=classifier, weighting=weighting, C=1.0)
    if weighting == "nbidf" and classifier in ("naive_bayes", "complement"):  # its ratios would count twice
        with pytest.raises(ValueError, match="nbidf"):
            model.fit(TEXTS, LABELS)
        return
    texts, labels = _corpus(200, seed=2)
    assert model.fit(TEXTS, LABELS).score(texts, labels) > 0.95


def test_naive_bayes_equals_scikit_learns():
    ours = SentimentClassifier(classifier="naive_bayes", stem=False, strip_html=False, C=1.0).fit(TEXTS, LABELS)
    peer = make_pipeline(
        TfidfVectorizer(token_pattern=WORD_OR_PUNCTUATION, ngram_range=(1, 2), min_df=2, sublinear_tf=True), MultinomialNB()
    ).fit(TEXTS, LABELS)
    unseen = [*_corpus(50, seed=1)[0], "", "nothing known here at all"]
    np.testing.assert_allclose(ours.predict_proba(unseen), peer.predict_proba(unseen), atol=1e-9)


def test_balanced_classes_weigh_the_same():
    texts, labels = ["good fun film"] * 9 + ["good fun film"] * 3, ["positive"] * 9 + ["negative"] * 3
    model = SentimentClassifier(class_weight="balanced").fit(texts, labels)
    assert model.predict_proba(["good fun film"])[0, 1] == pytest.approx(0.5, abs=1e-3)


def test_chosen_terms_are_those_that_tell_classes_apart():
    model = SentimentClassifier(stem=False, ngram_max=1, selection="chi2", max_features=12).fit(TEXTS, LABELS)
    assert len(model.vocabulary) == 12
    assert {*GOOD, *BAD} & set(model.vocabulary.terms)
    both = SentimentClassifier(stem=False, selection="chi2", max_features=40).fit(TEXTS, LABELS)
    pairs = [term for term in both.vocabulary.terms if " " in term]
    assert sum(any(word in term.split() for word in GOOD + BAD) for term in pairs) > 0.9 * len(pairs)


def test_a_power_of_the_ratios_keeps_their_signs():
    plain, damped = (
        SentimentClassifier(weighting="nbidf", ngram_max=1, ratio_power=power).fit(TEXTS, LABELS).scale_ for power in (1.0, 0.5)
    )
    idf = SentimentClassifier(weighting="presence", ngram_max=1).fit(TEXTS, LABELS).scale_
    np.testing.assert_allclose(damped, np.sign(plain) * np.sqrt(np.abs(plain) * idf))


@pytest.mark.parametrize("wrong", [{"weighting": "bm25"}, {"classifier": "forest"}, {"class_weight": "heavy"}])
def test_an_unknown_family_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SentimentClassifier(**wrong).fit(TEXTS, LABELS)


@pytest.fixture(params=["columns", "values"])
def mapped(tmp_path, monkeypatch, request):
    """A folder of a model whose every array is large enough for a file, and the model; its table holds columns or values."""
    monkeypatch.setattr("sentiment_core.text.weighing.LEAST_TERMS", 0 if request.param == "values" else 1 << 40)
    monkeypatch.setattr("sentiment_core.model.estimator._MAPPED_BYTES", 1)
    many = " ".join(f"other{k}" for k in range(300))  # more than there are pairs of in the square
    model = SentimentClassifier(min_df=1, char_min=2, char_max=3).fit([*TEXTS, many], [*LABELS, LABELS[0]])
    model.save_prepared(tmp_path)
    assert (tmp_path / "words" / "weights.npy").exists() == (request.param == "columns")
    return tmp_path, model


def test_what_was_learnt_is_mapped_from_files_and_stays_the_same(mapped):
    folder, model = mapped
    opened = copy.deepcopy(model).open_prepared(folder)
    arrays = {name: value for name, value in vars(model).items() if isinstance(value, np.ndarray) and value.size}
    assert arrays.keys() == {path.stem for path in (folder / "learnt").iterdir()}
    assert all(isinstance(getattr(opened, name).base, np.memmap) for name in arrays)
    assert all(np.array_equal(getattr(opened, name), value) for name, value in arrays.items())
    assert (opened.predict_proba(TEXTS) == model.predict_proba(TEXTS)).all()
    stored = skops.io.loads(skops.io.dumps(opened), trusted=list(TRUSTED_TYPES))
    assert (stored.predict_proba(TEXTS) == model.predict_proba(TEXTS)).all()


@pytest.mark.parametrize("name", ["coef_", "strange_"])
def test_files_of_another_model_are_refused(mapped, name):
    folder, model = mapped
    np.save(folder / "learnt" / f"{name}.npy", np.zeros(3))
    with pytest.raises(Permanent, match="register the model again"):
        copy.deepcopy(model).open_prepared(folder)


@pytest.mark.parametrize("name", ["square", "sizes"])
def test_a_dictionary_that_an_earlier_version_compiled_is_compiled_with_a_warning(mapped, caplog, name):
    folder, model = mapped
    path = folder / "words" / f"{name}.npy"
    if name == "sizes":
        np.save(path, np.load(path)[:-1])
    else:
        path.unlink()
    opened = copy.deepcopy(model).open_prepared(folder)
    assert "compiled now" in caplog.text
    assert (opened.predict_proba(TEXTS) == model.predict_proba(TEXTS)).all()


def test_broken_text_is_told_by_its_place_among_all_texts_and_no_texts_have_no_probabilities():
    model = SentimentClassifier(min_df=1).fit(TEXTS, LABELS)
    letters, n = b"a" * 2_300 + b"\xff" + b"a" * 99, 2_400  # beyond the first slice
    texts = pa.Array.from_buffers(pa.large_string(), n, [None, pa.py_buffer(np.arange(n + 1)), pa.py_buffer(letters)])
    for ask in (model.predict_proba, model.examine):
        with pytest.raises(ValueError, match=r"\b2300$"):
            ask(texts)
    nothing = pa.Array.from_buffers(pa.large_string(), 0, [None, pa.py_buffer(b""), pa.py_buffer(b"")])
    assert len(model.predict_proba(nothing)) == len(model.examine(nothing)[0]) == 0
