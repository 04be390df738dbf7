"""The tokeniser and the statistics that fall out of its pass."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from sentiment_core import schema
from sentiment_core.text.features import (
    WORD_OR_PUNCTUATION,
    TextRules,
    Vocabulary,
    analyse,
    as_texts,
    learn_vocabulary,
    tokenise,
)

PLAIN = TextRules(stem=False, strip_html=False)
WORDS = st.sampled_from(
    ["good", "bad", "not", "Don't", "film", "!!", "...", "naïve", "İstanbul", "ΣΑΣ", "7/10", "\U0001f600", "<b>"]
)
TEXTS = st.lists(st.one_of(st.lists(WORDS, max_size=12).map(" ".join), st.text(max_size=40)), min_size=1, max_size=8)


@given(TEXTS)
def test_counts_equal_those_of_scikit_learn(texts):
    vocabulary = Vocabulary.of(["good", "bad", "not", "don't", "not good", "film !!", "!!", "naïve", "σας"])
    peer = CountVectorizer(token_pattern=WORD_OR_PUNCTUATION, ngram_range=(1, 2), vocabulary=vocabulary.terms)
    assert (analyse(as_texts(texts), vocabulary, PLAIN).counts.toarray() == peer.transform(texts).toarray()).all()


def test_the_learnt_dictionary_equals_that_of_scikit_learn():
    texts = ["good film , good fun", "bad film", "good bad ugly film !", "Good film"]
    peer = CountVectorizer(token_pattern=WORD_OR_PUNCTUATION, ngram_range=(1, 2), min_df=2)
    expected = peer.fit_transform(texts)
    vocabulary, counts = learn_vocabulary(as_texts(texts), PLAIN, min_df=2, max_features=100)
    assert vocabulary.terms == peer.get_feature_names_out().tolist()
    assert (counts.toarray() == expected.toarray()).all()


def test_a_dictionary_keeps_its_most_frequent_terms_when_it_is_capped():
    vocabulary, counts = learn_vocabulary(as_texts(["a a a b", "a b b c", "a b c"]), PLAIN, min_df=1, max_features=2)
    assert vocabulary.terms == ["a", "b"]
    assert counts.toarray().tolist() == [[3, 1], [1, 2], [1, 1]]


@given(st.sets(st.text(min_size=1, max_size=12)))
def test_a_dictionary_survives_its_arrays(terms):
    packed = Vocabulary.of(terms)
    again = Vocabulary(packed.term_bytes.copy(), packed.term_offsets.copy())
    assert again.terms == sorted(terms)
    assert len(again) == len(terms)
    assert all(again.terms[column] == term for term, column in again.columns.items())


@given(TEXTS, st.integers(0, 7))
def test_counts_and_statistics_of_a_text_do_not_depend_on_its_neighbours(texts, place):
    vocabulary = Vocabulary.of(["good", "bad", "not good"])
    place %= len(texts)
    together, alone = (analyse(as_texts(some), vocabulary, TextRules()) for some in (texts, [texts[place]]))
    assert (together.counts[place].toarray() == alone.counts.toarray()).all()
    for name, values in alone.statistics.items():
        assert together.statistics[name][place] == values[0]


@given(TEXTS)
def test_statistics_are_those_that_drift_checks_compare_and_in_range(texts):
    statistics = analyse(as_texts(texts), Vocabulary.of(["good"]), TextRules()).statistics
    assert set(statistics) == {field.name for field in schema.DRIFT_NUMERIC} - {"p_positive"}
    for name, values in statistics.items():
        assert len(values) == len(texts)
        assert np.isfinite(values).all()
        assert (values >= 0).all()
        assert not name.endswith("_share") or (values <= 1).all()
    assert statistics["n_chars"].tolist() == [len(text) for text in texts]


def test_statistics_of_a_known_text():
    found = analyse(as_texts(["I LOVED it, good FILM 10!"]), Vocabulary.of(["good", "film", "i"]), PLAIN).statistics
    assert found["n_words"].tolist() == [6]
    assert found["unknown_share"][0] == pytest.approx(3 / 6)
    assert found["upper_share"][0] == pytest.approx(10 / 16)
    assert found["non_letter_share"][0] == pytest.approx(4 / 25)


def test_a_text_without_words_has_ordinary_statistics():
    found = analyse(as_texts(["", "  ", "!!!"]), Vocabulary.of(["good"]), TextRules()).statistics
    assert found["n_words"].tolist() == [0, 0, 0]
    assert found["unknown_share"].tolist() == [0, 0, 0]
    assert found["upper_share"].tolist() == [0, 0, 0]


def test_rules_change_what_is_counted():
    text = "The <br/>FILMS weren't liked, sadly"
    assert tokenise(text, TextRules(stem=False)) == ["the", "films", "weren't", "liked", ",", "sadly"]
    assert tokenise(text, TextRules(stem=True))[1] == "film"
    assert tokenise(text, TextRules(stem=False, mark_negation=True))[2:5] == ["weren't", "liked_NEG", ",_NEG"]
    assert "FILMS" in tokenise(text, TextRules(stem=False, lower_case=False))
    assert "br" in tokenise(text, TextRules(strip_html=False))


def test_stems_keep_their_negation_mark():
    assert tokenise("never liked films", TextRules(mark_negation=True)) == ["never", "like_NEG", "film_NEG"]


def test_texts_come_in_every_usual_form():
    texts = ["good", "bad"]
    forms = [
        texts,
        tuple(texts),
        np.array(texts),
        np.array(texts, dtype=object),
        np.array(texts).reshape(2, 1),
        pd.Series(texts),
        pd.Series(texts, dtype="string"),
        pd.DataFrame({"other": [1, 2], "text": texts}),
        pa.array(texts),
        pa.chunked_array([["good"], ["bad"]]),
        pa.array(texts).dictionary_encode(),
        pa.table({"text": texts}),
    ]
    for form in forms:
        found = as_texts(form)
        assert found.to_pylist() == texts
        assert found.type == pa.large_string()
    for empty in ([], pd.Series([], dtype=object), pa.array([], pa.string()), pa.nulls(0), pa.chunked_array([], pa.string())):
        assert as_texts(empty).to_pylist() == []


@pytest.mark.parametrize(
    "wrong", ["a single text", b"bytes", ["good", None], [1, 2], pa.array(["a", None]), [["a", "b"], ["c", "d"]]]
)
def test_what_is_no_column_of_texts_is_refused(wrong):
    with pytest.raises(TypeError, match="expected"):
        as_texts(wrong)
