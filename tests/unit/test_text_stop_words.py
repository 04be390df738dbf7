"""Stop words are function words: leaving them out never turns a judgement round."""

from importlib.resources import files

import numpy as np
import pytest
from nltk.sentiment.util import NEGATION_RE

from sentiment_core.text.dictionary import Vocabulary, compile_dictionary
from sentiment_core.text.features import analyse, as_texts
from sentiment_core.text.rules import TextRules
from sentiment_core.text.stop_words import stop_words

TURNS_OR_WEIGHS = """no not nor never nothing nowhere none neither noone nobody cannot can't won't don't without hardly barely scarcely
    rarely seldom few little less least lack but however although though despite except unless yet still against too very so
    more most much many enough only just well like would should could might quite rather almost even really than off down
    out up under over again if while whereas any anything i'd good bad"""


def _listed():
    lines = files("sentiment_core.text").joinpath("stop_words.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_the_list_is_sorted_distinct_and_in_lower_case():
    words = _listed()
    assert len(words) > 100
    assert words == sorted(set(words))
    assert words == [word.strip().lower() for word in words]


def test_no_stop_word_is_a_negation():
    assert [word for word in stop_words() if NEGATION_RE.search(word.replace("\u2019", "'"))] == []


@pytest.mark.parametrize("word", TURNS_OR_WEIGHS.split())
def test_what_turns_or_weighs_a_judgement_is_no_stop_word(word):
    assert word not in stop_words()


def test_stop_words_are_found_with_either_apostrophe():
    assert {"the", "it's", "it\u2019s"} <= stop_words()


def test_every_stop_word_is_one_token_of_a_text():
    words = sorted(stop_words())
    kept = analyse(as_texts(words), compile_dictionary(Vocabulary.of(words), TextRules(stem=False)), len(words)).counts
    assert (kept.toarray() == np.eye(len(words))).all()


def test_every_stop_word_is_dropped_where_the_rules_say_so():
    words = sorted(stop_words())
    rules = TextRules(stem=False, drop_stop_words=True)
    assert analyse(as_texts(words), compile_dictionary(Vocabulary.of(words), rules), len(words)).counts.nnz == 0
