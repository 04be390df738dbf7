"""The terms of a training set, counted once, and which of them a model keeps.

Counting is the kernel's; here its counts stand beside the words they belong to, so that shorter n-grams, smaller
dictionaries and other rows are cut out of one count instead of being counted anew. Nothing is fitted.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp

from sentiment_core.model.linear import document_frequency
from sentiment_core.text.dictionary import Vocabulary, compile_dictionary
from sentiment_core.text.features import analyse
from sentiment_core.text.learning import learn_vocabulary
from sentiment_core.text.rules import TextRules

# Terms that are counted before the best are chosen: the most frequent. 25,000 long reviews have a million in two texts or more.
POOL = 2_000_000
# A word in so many texts is known, whatever it says about the classes: the share of unknown words is what drift checks
# compare. Half of a dictionary at most.
_KNOWN_TEXTS = 5
_BLANK = 32


@dataclass(frozen=True, eq=False)
class Terms:
    """Texts by terms: columns of words first, shorter n-grams before longer ones, then those of characters."""

    counts: sp.csr_matrix
    words: Vocabulary
    characters: Vocabulary

    def beside(self, characters: "Terms") -> "Terms":
        """The same texts' words and, counted by other rules, their characters."""
        return Terms(sp.hstack([self.counts, characters.counts], format="csr"), self.words, characters.words)

    def up_to(self, ngram_max: int) -> "Terms":
        """Without n-grams of more tokens; of words alone."""
        n_words = int(np.searchsorted(self.n_tokens, ngram_max, side="right"))
        if n_words == len(self.words):
            return self
        return Terms(self.counts[:, :n_words], _chosen(self.words, np.arange(n_words)), self.characters)

    @property
    def n_tokens(self) -> npt.NDArray[np.int64]:
        """Of every word or run of words, how many tokens it has; rising."""
        blanks = np.concatenate([[0], np.cumsum(self.words.term_bytes == _BLANK)])
        return np.asarray(1 + np.diff(blanks[self.words.term_offsets]))

    def select(self, labels: npt.NDArray[Any], *, max_words: int, max_chars: int) -> "Terms":
        """The terms that say most of the labels, so many of words and so many of characters; see `best_columns`."""
        columns = best_columns(self, labels, max_words=max_words, max_chars=max_chars)
        n_words = int(np.searchsorted(columns, len(self.words)))
        return Terms(
            self.counts[:, columns],
            _chosen(self.words, columns[:n_words]),
            _chosen(self.characters, columns[n_words:] - len(self.words)),
        )


def count_terms(texts: pa.LargeStringArray, rules: TextRules, *, min_df: int, limit: int | None = None) -> Terms:
    """Count the terms that stand in at least `min_df` texts, the `limit` most frequent of them.

    Raises:
        ValueError: when there is no such term.
    """
    words = learn_vocabulary(texts, rules, min_df=min_df, max_features=POOL if limit is None else limit)
    return Terms(analyse(texts, compile_dictionary(words, rules), len(words)).counts, words, Vocabulary.of([]))


def best_columns(terms: Terms, labels: npt.NDArray[Any], *, max_words: int, max_chars: int) -> npt.NDArray[np.int64]:
    """Columns of the terms whose presence depends most on the label, by the chi-squared statistic; rising.

    Single words that stand in several texts come before all others, since they are what is known of a text.
    """
    statistic = chi_squared(terms.counts, labels)
    n_texts = document_frequency(terms.counts)
    n_unigrams = int(np.searchsorted(terms.n_tokens, 1, side="right"))
    known = np.flatnonzero(n_texts[:n_unigrams] >= _KNOWN_TEXTS)
    known = known[np.argsort(-n_texts[known], kind="stable")][: max_words // 2]
    statistic[known] = np.inf
    n_words = len(terms.words)
    words = np.argsort(-statistic[:n_words], kind="stable")[:max_words]
    characters = n_words + np.argsort(-statistic[n_words:], kind="stable")[:max_chars]
    return np.sort(np.concatenate([words, characters]))


def chi_squared(counts: sp.csr_matrix, labels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Of every term, how far the numbers of texts that hold it and do not, by label, lie from independence (Pearson).

    >>> chi_squared(sp.csr_matrix([[1, 1], [1, 1], [0, 1], [0, 2]]), np.array([0, 0, 1, 1])).tolist()
    [4.0, 0.0]
    """
    n, n_texts = len(labels), document_frequency(counts)
    total = np.zeros(counts.shape[1])
    for label in np.unique(labels):
        inside = labels == label
        expected = n_texts * inside.mean()
        gap = (document_frequency(counts, inside.astype(float)) - expected) ** 2
        # Texts that hold the term and those that do not; nothing is expected of a term that all or no texts hold.
        total += gap * np.divide(n, expected * (n - n_texts), out=np.zeros_like(gap), where=expected * (n - n_texts) > 0)
    return total


def _chosen(terms: Vocabulary, places: npt.NDArray[np.int64]) -> Vocabulary:
    lengths = np.diff(terms.term_offsets)[places]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    letters = np.repeat(terms.term_offsets[places] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Vocabulary(terms.term_bytes[letters], offsets)
