"""Tables of terms that hold values give the sums that tables of columns give."""

from itertools import product

import numpy as np
import pytest

from sentiment_core.text import weighing
from sentiment_core.text.dictionary import Vocabulary, compile_dictionary
from sentiment_core.text.features import analyse, as_texts, score
from sentiment_core.text.kernel import DISPLACEMENT_BITS, N_AHEAD, SQUARE
from sentiment_core.text.rules import TextRules
from sentiment_core.text.weighing import holds_values, weigh

RULES = TextRules(ngram_max=3, stem=False)
RANDOM = np.random.default_rng(3)
WORDS = [f"w{k}" for k in range(120)]


@pytest.fixture(autouse=True)
def _always(monkeypatch):
    monkeypatch.setattr(weighing, "LEAST_TERMS", 0)


def terms_of(n_terms, *, n_others=0, longest=3):
    """So many terms, of all words one, the others of pairs and triples; some words more, which make the square theirs."""
    pairs = [" ".join(pair) for pair in product(WORDS, WORDS)]
    triples = [f"{pair} {WORDS[RANDOM.integers(len(WORDS))]}" for pair in pairs] if longest > 2 else []
    several = RANDOM.permutation(pairs + triples)[: n_terms - len(WORDS)].tolist()
    return Vocabulary.of([*(f"other{k}" for k in range(n_others)), *WORDS, *several])


def weights_of(n, n_scores=1):
    """As models have them: squared scales and weights, among them none at all."""
    weights = np.stack([RANDOM.gamma(2, 10, (n, n_scores)), RANDOM.normal(0, 3, (n, n_scores))], axis=-1).reshape(n, -1)
    weights[RANDOM.permutation(n)[: n // 20]] = 0.0
    weights[0, :2] = [1e300, -1e-300]
    return weights


@pytest.mark.parametrize("is_binary", [True, False])
# A table is four fifths full before it grows, which is where most entries lie beside their bucket.
@pytest.mark.parametrize(("n_terms", "n_others"), [(300, 0), (5_000, SQUARE - 50), (120 + 3_270, SQUARE), (20_000, SQUARE)])
def test_sums_are_those_of_a_table_of_columns(n_terms, n_others, is_binary):
    vocabulary = terms_of(n_terms, n_others=n_others)
    dictionary, weights = compile_dictionary(vocabulary, RULES), weights_of(len(vocabulary))
    weighed, values = weigh(dictionary, weights)
    assert holds_values(weighed)
    assert not holds_values(dictionary)
    # Every term by itself, and texts in which others stand as well.
    texts = as_texts([*vocabulary.terms, *(" ".join(RANDOM.choice([*WORDS, "strange"], 200)) for _ in range(300))])
    expected, expected_statistics = score(texts, dictionary, weights, is_binary=is_binary)
    found, statistics = score(texts, weighed, values, is_binary=is_binary)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert all((statistics[name] == of).all() for name, of in expected_statistics.items())


def test_entries_beside_their_bucket_are_among_those_that_were_found():
    vocabulary = terms_of(120 + 3_270, n_others=SQUARE)
    weighed, values = weigh(compile_dictionary(vocabulary, RULES), weights_of(len(vocabulary)))
    tags = weighed.terms[2 * weighed.sizes[N_AHEAD] :: 2]
    displacements = (tags - np.uint64(1) & np.uint64((1 << DISPLACEMENT_BITS) - 1))[values[weighed.sizes[N_AHEAD] :, 0] != 0]
    assert len(displacements) == 3_270
    assert 0.02 < np.mean(displacements > 0) < 0.5


def test_values_move_by_less_than_a_part_in_a_thousand_million():
    vocabulary = terms_of(5_000, n_others=SQUARE)
    weights = weights_of(len(vocabulary))
    values = weigh(compile_dictionary(vocabulary, RULES), weights)[1]
    empty = np.zeros(len(values) - len(weights))
    for column in (0, 1):
        expected = np.sort(np.concatenate([weights[:, column], empty]))
        np.testing.assert_allclose(np.sort(values[:, column]), expected, rtol=2**-36, atol=1e-300)


def test_of_several_scores_and_of_words_alone_the_table_stays():
    for vocabulary, n_scores in ((terms_of(300), 2), (Vocabulary.of(WORDS), 1)):
        dictionary, weights = compile_dictionary(vocabulary, RULES), weights_of(len(vocabulary), n_scores)
        assert weigh(dictionary, weights) == (dictionary, weights)


def test_tags_that_would_take_too_many_bits_leave_the_table():
    # Three words of 20 bits each and few terms: a bucket's number says too little of a key.
    vocabulary = Vocabulary.of([*(f"other{k}" for k in range(600_000)), "a b c", "b c d"])
    dictionary, weights = compile_dictionary(vocabulary, RULES), np.ones((len(vocabulary), 2))
    assert weigh(dictionary, weights)[0] is dictionary


def test_small_tables_stay(monkeypatch):
    monkeypatch.undo()
    vocabulary = terms_of(5_000)
    dictionary, weights = compile_dictionary(vocabulary, RULES), weights_of(len(vocabulary))
    assert weigh(dictionary, weights)[0] is dictionary


def test_places_are_not_counted_as_columns():
    vocabulary = terms_of(300)
    weighed, _ = weigh(compile_dictionary(vocabulary, RULES), weights_of(len(vocabulary)))
    with pytest.raises(ValueError, match="columns"):
        analyse(as_texts(["w1 w2"]), weighed, len(vocabulary))
