"""The compiled stemmer gives what NLTK's gives, whatever the word."""

import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer

from sentiment_core.text import porter
from sentiment_core.text.porter import stem, stem_word

ORACLE = PorterStemmer()
BEGINNINGS = [
    *["", "a", "b", "y", "by", "yy", "sy", "ay", "ab", "to", "tr", "tre", "fal", "hop", "ow", "bo", "fix", "say", "hiss"],
    *["fizz", "roll", "contro", "controll", "conflat", "troubl", "siz", "rat", "relat", "condit", "generous", "archae"],
    *["syzyg", "yyyy", "happ", "ño", "é", "éé", "naï", "co'", "l\u2019a", "9", "a_b", "ж", "\U0001d41a", "жж", "xß", "aßß"],
]
SUFFIXES = [
    "",
    "s",
    "es",
    "ies",
    "sses",
    "ss",
    "ed",
    "ied",
    "eed",
    "ing",
    "y",
    "yy",
    "ly",
    "e",
    "l",
    "ll",
    "le",
    "at",
    "bl",
    "iz",
]
SUFFIXES += [rule.suffix for step in porter._RULES for rule in porter._rules(step)] + ["ion", "ions", "ement", "lessness"]
TAILS = ["", "s", "ed", "ing", "ly", "li", "alli", "alism", "ies", "y"]


def stem_by_nltk(word):
    return ORACLE.stem(word, to_lowercase=False)


def _differing(words):
    return [(word, stem_word(word), stem_by_nltk(word)) for word in words if stem_word(word) != stem_by_nltk(word)]


def test_every_suffix_goes_as_nltk_lets_it_go():
    words = {beginning + suffix + tail for beginning in BEGINNINGS for suffix in SUFFIXES for tail in TAILS}
    assert len(words) > 20_000
    assert _differing(words) == []


def test_irregular_words_are_those_of_nltk():
    assert {rule.suffix: rule.replacement for rule in porter._rules(porter.IRREGULAR)} == ORACLE.pool
    assert _differing(prefix + word + suffix for word in ORACLE.pool for prefix in ("", "a", "re") for suffix in ("", "s")) == []


@settings(deadline=None, max_examples=500)
@given(st.text(alphabet="aeiouybdglnstvxzé'", max_size=14), st.sampled_from(SUFFIXES), st.sampled_from(TAILS))
def test_made_up_words_are_stemmed_as_by_nltk(beginning, suffix, tail):
    word = beginning + suffix + tail
    assert stem_word(word) == stem_by_nltk(word)


@settings(deadline=None, max_examples=500)
@given(st.text(st.characters(categories=("L", "N", "M"), include_characters="'\u2019_"), max_size=8), st.sampled_from(SUFFIXES))
def test_words_of_any_script_are_stemmed_as_by_nltk(beginning, suffix):
    assert stem_word(beginning + suffix) == stem_by_nltk(beginning + suffix)


@pytest.mark.parametrize("letter", ["y", "a", "é", "s", "l"])
def test_a_long_run_of_one_letter_is_stemmed_as_by_nltk(letter):
    for suffix in ("", "ed", "ing", "s", "y"):
        assert stem_word(letter * 5000 + suffix) == stem_by_nltk(letter * 5000 + suffix)


@settings(deadline=None)
@given(st.text(alphabet="aeiyblsté", max_size=8), st.sampled_from(SUFFIXES))
def test_nothing_is_written_behind_the_word(beginning, suffix):
    word = (beginning + suffix).encode()
    buffer = np.frombuffer(word + b"\xff" * 8, np.uint8).copy()
    assert 0 <= stem(buffer, len(word), np.empty(len(word) + 1, np.uint32)) <= len(word)
    assert buffer[len(word) :].tobytes() == b"\xff" * 8


@pytest.mark.parametrize("name", ["imdb_train", "amazon_books_electronics", "youtube_train", "flipkart_train"])
def test_every_word_of_real_reviews_is_stemmed_as_by_nltk(reviews_data_dir, name):
    texts = pq.read_table(reviews_data_dir / f"{name}.parquet", columns=["text"]).column("text").to_pylist()
    words = {word for text in texts for word in re.findall(r"\w+(?:['\u2019]\w+)*", text.lower())}
    assert len(words) > 1000
    assert _differing(words) == []
