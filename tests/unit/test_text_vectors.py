"""Selections with AVX-512 and the loops they stand for give the same, whichever a processor can do."""

import json
import os
import subprocess
import sys

import pytest

from sentiment_core.text import kernel
from sentiment_core.text.vectors import CAN_SELECT

COUNT = """
import json, sys
import numpy as np
from sentiment_core.text.dictionary import Vocabulary, compile_dictionary
from sentiment_core.text.features import analyse, as_texts, score
from sentiment_core.text.kernel import SQUARE
from sentiment_core.text.rules import TextRules
from sentiment_core.text.vectors import CAN_SELECT
from sentiment_core.text import weighing
weighing.LEAST_TERMS = 1
texts, terms = json.load(sys.stdin)
found = []
for rules in (TextRules(ngram_max=3, stem=False), TextRules(stem=False, drop_stop_words=True), TextRules(stem=False, char_min=2, char_max=4)):
    chosen = [term for term in terms if term.count(" ") < (1 if rules.char_max else rules.ngram_max)]
    vocabulary = Vocabulary.of([*(f"other{k}" for k in range(SQUARE - 3)), *chosen])  # some pairs in the square, some outside
    dictionary = compile_dictionary(vocabulary, rules)
    analysis = analyse(as_texts(texts), dictionary, len(vocabulary))
    weights = np.random.default_rng(1).uniform(0.5, 2, (len(vocabulary), 2))
    weighed = weighing.weigh(dictionary, weights)
    assert weighing.holds_values(weighed[0]) or rules.char_max
    sums = [
        score(as_texts(texts), *tables, is_binary=is_binary)[0].ravel().round(7).tolist()
        for tables in ((dictionary, weights), weighed) for is_binary in (False, True)
    ]
    statistics = {name: values.tolist() for name, values in analysis.statistics.items()}
    found.append([analysis.counts.toarray().tolist(), statistics, sums])
print(json.dumps([CAN_SELECT, found]))
"""


def counted(texts, terms, **environment):
    done = subprocess.run(
        [sys.executable, "-c", COUNT], input=json.dumps([texts, terms]), env={**os.environ, **environment},
        stdout=subprocess.PIPE, text=True, check=True, timeout=500,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.skipif(not CAN_SELECT, reason="this processor has loops only, which all other tests run")
def test_a_processor_without_selections_counts_and_scores_the_same():
    words = [
        "the",
        "film",
        "was",
        "not",
        "good",
        ".",
        "!",
        "it's",
        "naïve",
        "supercalifragilisticexpialidocious",
        "(really)",
        "a",
        "<b>b</b>",
        "7/10",
        "bad",
        "é",
    ]
    texts = [" ".join(words[(i * j) % len(words)] for j in range(i % 97)) for i in range(120)] + ["", " ", "a" * 200, "x.y" * 99]
    terms = [
        *words[:8],
        "the film",
        "was not",
        "not good",
        "the film was",
        "film the film",
        "a a",
        "good",
        "oo",
        "film",
        "x",
        ".",
    ]
    terms = sorted(set(terms), key=lambda term: (term.count(" "), term))
    with_selections, without = counted(texts, terms), counted(texts, terms, NUMBA_ENABLE_AVX="0")
    assert (with_selections[0], without[0]) == (True, False)
    assert with_selections[1] == without[1]
    assert any(any(map(any, counts)) for counts, *_ in without[1])
    for counts, _, sums in without[1]:
        assert [bool(value) for value in sums[0]] == list(map(any, counts))
        assert sums[0] == sums[2]  # columns and values
        assert sums[1] == sums[3]


def test_what_a_thread_remembers_of_a_token_is_kept_under_a_hash_of_its_own():
    # Somebody who could foretell it could write a token that stands for another in reviews that are scored after his.
    seeds = {int(kernel.scratch(64).seed[0]) for _ in range(8)}
    assert len(seeds) == 8
