"""How a recipe is found: on which space, how far it can be relied upon, and that it goes on where it was stopped."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment_core.errors import Transient
from sentiment_core.model import search as searching
from sentiment_core.model.candidates import FAMILIES, Profile, Recipe
from sentiment_core.model.folds import make_folds
from sentiment_core.model.search import Rows, search
from sentiment_core.model.terms import chi_squared, count_terms
from sentiment_core.model.validation import TermBank, Trainer, emphasis
from sentiment_core.policy import read_policy
from sentiment_core.settings import REPOSITORY
from sentiment_core.text.rules import TextRules

LIMITS = replace(read_policy(Path(REPOSITORY) / "include" / "policy.toml").search, trials=7, rows_per_trial=30, folds=3)
GOOD, BAD, PLAIN = ["great", "lovely", "fun"], ["awful", "boring", "poor"], ["the", "film", "plot", "was", "a", "of", "not"]


def _rows(n=240, seed=0, n_words=12, share=0.5):
    rng = random.Random(seed)
    labels = ["positive" if rng.random() < share else "negative" for _ in range(n)]
    texts = [" ".join(rng.choices(PLAIN + (GOOD if label == "positive" else BAD), k=n_words)) for label in labels]
    folds = make_folds(texts, [None] * n, labels, n_folds=3, seed=0)
    column = pa.array(texts, pa.large_string())
    return Rows(texts=column, labels=np.array(labels), weights=np.ones(n), sources=[None] * n, folds=folds)


@pytest.fixture(scope="module")
def found():
    return search(_rows(), LIMITS, seed=0)[0]


def _same(one, other):
    assert one.recipe == other.recipe
    assert (one.examined.scores == other.examined.scores).all()
    assert (one.examined.offsets == other.examined.offsets).all()
    assert (one.examined.calibration.coef == other.examined.calibration.coef).all()
    assert [replace(trial, seconds=0, name="") for trial in one.trials] == [
        replace(trial, seconds=0, name="") for trial in other.trials
    ]


def test_all_trials_are_told_of_with_the_figures_of_their_folds(found):
    assert len(found.trials) == LIMITS.trials
    assert {trial.family for trial in found.trials} == set(FAMILIES)
    for trial in found.trials:
        assert trial.state in ("complete", "pruned")
        assert trial.mean == pytest.approx(np.mean([fold["log_loss"] for fold in trial.metrics["folds"]]), abs=0.2)
        assert Recipe(**trial.params).family == trial.family
        if trial.state == "complete":
            assert len(trial.metrics["folds"]) == LIMITS.folds
            assert 0.5 < trial.metrics["accuracy"] <= 1
    best = min((trial for trial in found.trials if trial.state == "complete"), key=lambda trial: trial.mean)
    assert Recipe(**best.params) == found.recipe


def test_the_same_seed_finds_the_same(found):
    _same(search(_rows(), LIMITS, seed=0)[0], found)


def test_one_core_finds_what_several_find(found, monkeypatch):
    monkeypatch.setattr("sentiment_core.model.validation.n_cores", lambda: 1)
    _same(search(_rows(), LIMITS, seed=0)[0], found)


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("n_before", [0, 5])
def test_a_search_that_was_killed_goes_on_and_finds_the_same(found, database_url, monkeypatch, n_before):
    url = database_url.replace("postgresql://", "postgresql+psycopg2://")
    done = []
    whole = searching._Search._losses

    def killed(self, trial, recipe):
        if len(done) == n_before:
            raise _Killed
        done.append(recipe)
        return whole(self, trial, recipe)

    monkeypatch.setattr(searching._Search, "_losses", killed)
    with pytest.raises(_Killed):
        search(_rows(), LIMITS, seed=0, storage=url)
    tried = []
    monkeypatch.setattr(searching._Search, "_losses", lambda self, *what: tried.append(what[1]) or whole(self, *what))
    again = search(_rows(), LIMITS, seed=0, storage=url)[0]
    assert len(tried) == LIMITS.trials - n_before
    _same(again, found)
    tried.clear()
    few = replace(LIMITS, trials=2)
    assert search(_rows(seed=5), few, seed=0, storage=url)[0].trials  # other rows, another study
    assert len(tried) == few.trials


def test_a_database_that_cannot_be_reached_is_told():
    with pytest.raises(Transient, match="database of the search"):
        search(_rows(), LIMITS, seed=0, storage="postgresql+psycopg2://nobody:secret@127.0.0.1:1/none")


@pytest.mark.parametrize(("n_words", "is_short"), [(10, True), (200, False)])
def test_the_length_of_texts_chooses_the_space(n_words, is_short):
    rows = _rows(40, n_words=n_words)
    profile = Profile.of(rows.texts, rows.labels, short_text_chars=300, even_share=0.8)
    assert profile.is_short is is_short
    assert any(recipe.has_characters for recipe in profile.known()) is is_short


def test_known_recipes_are_part_of_the_space():
    for is_short in (False, True):
        profile = Profile(median_chars=0, is_short=is_short, is_uneven=True)
        for recipe in profile.known():

            class Told:
                answers = profile.choices(recipe)

                def suggest_categorical(self, name, choices):
                    assert self.answers[name] in choices
                    return self.answers[name]

                def suggest_float(self, name, low, high, *, log):
                    assert low <= self.answers[name] <= high
                    return self.answers[name]

            assert profile.recipe(Told()) == recipe


@pytest.mark.parametrize(("rows_per_trial", "n"), [(1, 6), (40, 6), (10_000, 5)])
def test_few_rows_are_tried_few_recipes(rows_per_trial, n):
    few = replace(LIMITS, trials=6, rows_per_trial=rows_per_trial)
    assert len(search(_rows(), few, seed=0)[0].trials) == n


def test_uneven_classes_get_offsets_and_even_ones_none(found):
    assert (found.examined.offsets == 0).all()
    uneven = search(_rows(400, n_words=5, share=0.85), replace(LIMITS, trials=2), seed=0)[0]
    assert uneven.profile.is_uneven
    assert uneven.examined.offsets.any()


def test_the_smallest_dictionary_that_does_as_well_is_taken():
    rows = _rows(400)
    small = search(rows, replace(LIMITS, trials=1, dictionary_terms=20), seed=0)[0]
    sizes = small.ladder
    assert list(sizes) == ["20", "40", "80", "all"]
    good = [size for size, score in sizes.items() if score >= max(sizes.values()) - LIMITS.dictionary_loss]
    assert str(small.n_terms or "all") == good[0]


def test_a_fold_learns_nothing_from_its_own_labels():
    rows = _rows(120)
    terms = TermBank(rows.texts, 2).terms(Profile(median_chars=0, is_short=True, is_uneven=False).known()[0])
    recipe = Profile(median_chars=0, is_short=True, is_uneven=False).known()[0]
    flipped = np.where(rows.folds == 1, np.where(rows.labels == "positive", "negative", "positive"), rows.labels)
    found = [
        dict(
            enumerate(
                Trainer(
                    labels=labels, weights=rows.weights, folds=rows.folds, emphasis=rows.weights, is_uneven=False, seed=0
                ).fold_scores(terms, recipe, 50)
            )
        )
        for labels in (rows.labels, flipped)
    ]
    assert (found[0][1][1] == found[1][1][1]).all()
    assert not (found[0][0][1] == found[1][0][1]).all()


@given(sources=st.lists(st.sampled_from(["films", "books", "", None]), min_size=1), enough=st.integers(1, 20))
def test_sources_with_rows_enough_count_alike_and_others_by_their_rows(sources, enough):
    weights = emphasis(sources, enough)
    assert weights.mean() == pytest.approx(1)
    if len(set(sources)) == 1:
        assert (weights == 1).all()
    total = {name: sum(weights[[one == name for one in sources]]) / min(sources.count(name), enough) for name in set(sources)}
    assert list(total.values()) == pytest.approx([next(iter(total.values()))] * len(total))


def test_figures_of_several_sources_are_the_means_of_theirs():
    rows = _rows(300)
    sources = ["films"] * 200 + ["books"] * 100
    trainer = Trainer(
        labels=rows.labels, weights=rows.weights, folds=rows.folds, emphasis=emphasis(sources, 50), is_uneven=False, seed=0
    )
    # Right about every film, wrong about every book.
    scores = np.where(trainer.places == 1, 3.0, -3.0) * np.where(np.array(sources) == "films", 1, -1)
    found = trainer.examine(scores[:, None], Profile(median_chars=0, is_short=True, is_uneven=False).known()[0])
    assert found.score == pytest.approx(0.5)
    assert set(found.folds[0]) == {"log_loss", "accuracy", "macro_f1", "f1_negative", "f1_positive"}


def test_terms_are_counted_once_for_each_set_of_rules(monkeypatch):
    counted = []
    monkeypatch.setattr(
        "sentiment_core.model.validation.count_terms",
        lambda texts, rules, **how: counted.append(rules) or count_terms(texts, rules, **how),
    )
    search(_rows(), LIMITS, seed=0)
    assert len(counted) == len(set(counted))


def test_shorter_n_grams_are_cut_out_of_longer_ones():
    texts = _rows(60).texts
    cut = count_terms(texts, TextRules(ngram_max=3), min_df=2).up_to(2)
    own = count_terms(texts, TextRules(ngram_max=2), min_df=2)
    assert sorted(cut.words.terms) == sorted(own.words.terms)
    order = [cut.words.terms.index(term) for term in own.words.terms]
    assert (cut.counts[:, order] != own.counts).nnz == 0


def test_chi_squared_is_that_of_the_two_by_two_table():
    from scipy.stats import chi2_contingency

    rows = _rows(80)
    terms = count_terms(rows.texts, TextRules(ngram_max=1), min_df=2)
    found = chi_squared(terms.counts, rows.labels)
    for column in range(len(terms.words)):
        holds = np.asarray(terms.counts[:, column].todense()).ravel() > 0
        if holds.all():
            assert found[column] == 0
            continue
        table = [
            [np.sum((rows.labels == label) & (holds == held)) for held in (True, False)] for label in ("negative", "positive")
        ]
        assert found[column] == pytest.approx(chi2_contingency(table, correction=False).statistic)
