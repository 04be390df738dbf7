"""From texts to term counts and statistics: the one code that training and scoring share.

A text is cut into words and runs of punctuation (both carry sentiment, and so do stop words), and counted as n-grams
against a vocabulary. The same pass gives the statistics of a text that drift checks compare. Everything here is a
pure function over Arrow strings; a faster tokeniser replaces the inside of `analyse`, nothing else. No weights, no
labels, no files.
"""

import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from nltk.sentiment.util import mark_negation
from nltk.stem.porter import PorterStemmer
from sklearn.feature_extraction.text import CountVectorizer

# Words keep their apostrophes ("don't"), so that a negation is one term; everything else that is no blank is a run.
WORD_OR_PUNCTUATION = r"\w+(?:['\u2019]\w+)*|[^\w\s]+"
HTML_TAG = r"<[^<>]*>"
NEGATED = "_NEG"

_TOKEN = re.compile(WORD_OR_PUNCTUATION)
_TAG = re.compile(HTML_TAG)
_STEMMER = PorterStemmer()


@dataclass(frozen=True, kw_only=True)
class TextRules:
    """What happens to a text before it is counted; stored with a model as plain values."""

    lower_case: bool = True
    strip_html: bool = True
    mark_negation: bool = False
    """What stands between a negation and the end of its clause (one of .:;!?) gets the suffix `_NEG` (Das and Chen 2001, as in NLTK)."""
    stem: bool = True
    """Porter's stemmer, as NLTK extends it."""
    ngram_max: int = 2


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Sorted terms as UTF-8 bytes with offsets; what is kept is two arrays, the look-up is rebuilt when needed.

    >>> Vocabulary.of(["good", "bad", "not good"]).terms
    ['bad', 'good', 'not good']
    """

    term_bytes: npt.NDArray[np.uint8]
    term_offsets: npt.NDArray[np.int64]

    @classmethod
    def of(cls, terms: Iterable[str]) -> "Vocabulary":
        """Pack distinct terms, sorted by code point."""
        encoded = [term.encode() for term in sorted(terms)]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(term) for term in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8).copy(), offsets)

    def __len__(self) -> int:
        return len(self.term_offsets) - 1

    @cached_property
    def terms(self) -> list[str]:
        """Terms in the order of the columns."""
        packed, offsets = self.term_bytes.tobytes(), self.term_offsets.tolist()
        return [packed[start:end].decode() for start, end in pairwise(offsets)]

    @cached_property
    def columns(self) -> Mapping[str, int]:
        """Column of each term."""
        return {term: column for column, term in enumerate(self.terms)}


@dataclass(frozen=True, eq=False)
class Analysis:
    """What one pass over texts gives."""

    counts: sp.csr_matrix
    """Texts by terms, int32."""
    statistics: dict[str, npt.NDArray[Any]]
    """By name in `schema.DRIFT_NUMERIC`, p_positive apart: one value a text."""


def as_texts(values: Any) -> pa.LargeStringArray:
    """Texts as one Arrow array: from a list, an array, a Series, an Arrow column, or the column `text` of a table.

    Raises:
        TypeError: for a single string, and for values that are no strings (null included).
    """
    if isinstance(values, str | bytes):
        raise TypeError("expected a sequence of texts, found a single string; put it into a list")
    if isinstance(values, pa.Table | pa.RecordBatch):
        values = values.column("text")
    elif hasattr(values, "columns"):
        values = values["text"]
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        values = _from_python(values)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_null(values.type) or values.null_count:
        if len(values):
            raise TypeError("expected texts, found null among them")
        return pa.array([], pa.large_string())
    return values.cast(pa.large_string())


def _from_python(values: Any) -> pa.Array:
    values = np.asarray(values, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:  # a frame of one column, as some callers of pyfunc models pass it  # noqa: PLR2004
        values = values[:, 0]
    if values.ndim != 1:
        raise TypeError(f"expected one text a row, found an array of shape {values.shape}")
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"expected texts, found {value!r} of type {type(value).__name__}")
    return pa.array(values, pa.large_string())


def tokenise(text: str, rules: TextRules) -> list[str]:
    """Words and runs of punctuation, in order.

    >>> tokenise("I <b>don't</b> like it!!", TextRules())
    ['i', "don't", 'like', 'it', '!!']
    >>> tokenise("not liked. Fine", TextRules(mark_negation=True))
    ['not', 'like_NEG', '.', 'fine']
    """
    if rules.strip_html:
        text = _TAG.sub(" ", text)
    tokens: list[str] = _TOKEN.findall(text.lower() if rules.lower_case else text)
    if rules.mark_negation:
        tokens = mark_negation(tokens)
    return [_stem(token) for token in tokens] if rules.stem else tokens


@lru_cache(maxsize=200_000)  # about as many surface forms as a large corpus has; beyond that the rare ones are recomputed
def _stem(token: str) -> str:
    word = token.removesuffix(NEGATED)
    return str(_STEMMER.stem(word, to_lowercase=False)) + token[len(word) :]


def ngrams(tokens: list[str], longest: int) -> list[str]:
    """Runs of one to `longest` tokens, joined by a blank as in scikit-learn.

    >>> ngrams(["not", "good", "!"], 2)
    ['not', 'good', '!', 'not good', 'good !']
    """
    terms = list(tokens)
    for length in range(2, longest + 1):
        terms += map(" ".join, zip(*(tokens[start:] for start in range(length)), strict=False))
    return terms


def learn_vocabulary(
    texts: pa.LargeStringArray, rules: TextRules, *, min_df: int, max_features: int
) -> tuple[Vocabulary, sp.csr_matrix]:
    """The `max_features` most frequent terms that stand in at least `min_df` texts, and their counts.

    Raises:
        ValueError: when there is no such term.
    """
    counter = CountVectorizer(
        analyzer=lambda text: ngrams(tokenise(text, rules), rules.ngram_max), min_df=min_df, max_features=max_features
    )
    counts = counter.fit_transform(_strings(texts))
    return Vocabulary.of(counter.vocabulary_), counts  # both sort terms by code point, so the columns agree


def analyse(texts: pa.LargeStringArray, vocabulary: Vocabulary, rules: TextRules) -> Analysis:
    """Count the terms of every text and measure it; depends on nothing but the arguments.

    >>> found = analyse(as_texts(["Good, GOOD film"]), Vocabulary.of(["good", "bad"]), TextRules())
    >>> found.counts.toarray(), found.statistics["unknown_share"].round(2)
    (array([[0, 2]], dtype=int32), array([0.33], dtype=float32))
    """
    column_of = vocabulary.columns
    columns, ends, n_words, n_unknown = array("i"), array("q", [0]), array("i"), array("i")
    for text in _strings(texts):
        tokens = tokenise(text, rules)
        columns.extend(column_of[term] for term in ngrams(tokens, rules.ngram_max) if term in column_of)
        ends.append(len(columns))
        words = [token for token in tokens if token[0].isalnum() or token[0] == "_"]
        n_words.append(len(words))
        n_unknown.append(sum(word not in column_of for word in words))
    counts = sp.csr_matrix(
        (np.ones(len(columns), np.int32), np.array(columns, np.int32), np.array(ends, np.int64)),
        shape=(len(texts), len(vocabulary)),
    )
    counts.sum_duplicates()
    statistics = character_statistics(texts)
    statistics["n_words"] = np.array(n_words, np.int32)
    statistics["unknown_share"] = _share(np.array(n_unknown, np.int32), statistics["n_words"])
    return Analysis(counts, statistics)


def text_statistics(texts: pa.LargeStringArray, vocabulary: Vocabulary, rules: TextRules) -> dict[str, npt.NDArray[Any]]:
    """n_chars, n_words, unknown_share, upper_share and non_letter_share of every text."""
    return analyse(texts, vocabulary, rules).statistics


def character_statistics(texts: pa.LargeStringArray) -> dict[str, npt.NDArray[Any]]:
    """n_chars, upper_share and non_letter_share of every text as it came, HTML included.

    >>> character_statistics(as_texts(["AB c!"]))["non_letter_share"]
    array([0.2], dtype=float32)
    """
    n_chars = _numbers(pc.utf8_length(texts))
    # Counting letters directly is ten times slower in RE2 than counting what is neither letter nor blank.
    n_others = _numbers(pc.count_substring_regex(texts, r"[^\p{L}\s\p{Z}]"))
    n_blanks = _numbers(pc.count_substring_regex(texts, r"[\s\p{Z}]"))
    n_upper = _numbers(pc.count_substring_regex(texts, r"\p{Lu}"))
    return {
        "n_chars": n_chars.astype(np.int32),
        "upper_share": _share(n_upper, n_chars - n_others - n_blanks),
        "non_letter_share": _share(n_others, n_chars),
    }


def _strings(texts: pa.LargeStringArray) -> Iterator[str]:
    # A slice at a time: a whole corpus as Python strings would double the memory.
    for start in range(0, len(texts), 1024):
        yield from texts.slice(start, 1024).to_pylist()


def _numbers(column: pa.Array) -> npt.NDArray[np.int64]:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)


def _share(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    # Nothing of nothing is a share of zero, so that a text without words is an ordinary value.
    return np.asarray(part / np.maximum(whole, 1), dtype=np.float32)
