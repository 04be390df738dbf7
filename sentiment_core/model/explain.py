"""Why a text got its score: what each of its terms added.

The model is linear in its terms, and so is its calibration: a term's contributions are its weights times its share of the
text, and their sum and the intercept are the score. That is no approximation. No other texts are looked at, and nothing
is fetched.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentiment_core.model.estimator import SentimentClassifier, linear
from sentiment_core.text.dictionary import Vocabulary, compile_dictionary
from sentiment_core.text.features import analyse, as_texts
from sentiment_core.text.porter import stem_word
from sentiment_core.text.rules import HTML_TAG, NEGATED, TextRules
from sentiment_core.text.stop_words import stop_words

_BINARY_CLASSES = 2
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Term:
    """A term of the text that the model knows."""

    term: str
    """As the dictionary has it: in lower case, cut to its stem."""
    kind: Literal["words", "characters"]
    written: str
    """As the text has it first, where that can be told; else the term."""
    count: int
    contributions: dict[str, float]
    """What it adds to each score, in log-odds."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A text's scores, and what they consist of."""

    label: str
    probabilities: dict[str, float]
    scores: dict[str, float]
    """Calibrated; of two classes the log-odds of the second, of more one a class."""
    intercepts: dict[str, float]
    """What a text without a known term scores."""
    offsets: dict[str, float]
    """By how much decisions favour a class, in log-odds, beyond its score."""
    terms: tuple[Term, ...]
    """The strongest first, by the contributions to the label's score."""

    @property
    def decisive(self) -> str:
        """The score that speaks for or against the label: its own, or the only one."""
        return self.label if self.label in self.scores else next(iter(self.scores))


def explain(estimator: Any, text: str) -> Explanation:
    """Take the score of a text apart.

    For every score: the contributions of all terms and the intercept add up to it. Raises Permanent for a model that is
    no sum over terms.

    >>> model = SentimentClassifier(min_df=1, ngram_max=1).fit(["good film", "bad film"], ["positive", "negative"])
    >>> [(term.written, term.contributions["positive"] > 0) for term in explain(model, "Good, good").terms]
    [('Good', True)]
    """
    estimator = linear(estimator)
    column = as_texts([text])
    classes = [str(name) for name in estimator.classes_]
    names = classes[1:] if len(classes) == _BINARY_CLASSES else classes
    calibration, offsets = _calibration(estimator), estimator.offsets_.tolist()
    intercepts = dict(zip(names, (calibration[0] @ estimator.intercept_ + calibration[1]).tolist(), strict=True))
    terms = [
        Term(term=term, kind=block.kind, written=written, count=count, contributions=dict(zip(names, parts, strict=True)))
        for block in _blocks(estimator)
        for term, written, count, parts in _parts(estimator, column, calibration[0], block)
    ]
    label = str(estimator.predict(column)[0])
    decisive = label if label in names else names[0]
    return Explanation(
        label=label,
        probabilities=dict(zip(classes, estimator.predict_proba(column)[0].tolist(), strict=True)),
        scores={name: intercepts[name] + sum(term.contributions[name] for term in terms) for name in names},
        intercepts=intercepts,
        offsets=dict(zip(names, offsets if len(names) > 1 else [offsets[1] - offsets[0]], strict=True)),
        terms=tuple(sorted(terms, key=lambda term: (-abs(term.contributions[decisive]), term.kind, term.term))),
    )


@dataclass(frozen=True)
class _Block:
    """Terms of one kind."""

    kind: Literal["words", "characters"]
    vocabulary: Vocabulary
    rules: TextRules
    first: int
    """Column of the first of them."""


def _blocks(estimator: SentimentClassifier) -> list[_Block]:
    words = _Block("words", estimator.vocabulary, estimator.rules, 0)
    characters = _Block("characters", estimator.characters, estimator.char_rules, len(words.vocabulary))
    return [words, characters] if estimator.char_max else [words]


def _calibration(estimator: SentimentClassifier) -> tuple[F64, F64]:
    """The calibration as a matrix (calibrated scores by raw ones) and what it adds; nothing changes where it is empty."""
    n_scores = len(estimator.coef_)
    if not len(estimator.calibration.coef):
        return np.eye(n_scores), np.zeros(n_scores)
    return estimator.calibration.coef, estimator.calibration.intercept


def _parts(
    estimator: SentimentClassifier, column: pa.LargeStringArray, calibration: F64, block: _Block
) -> Iterator[tuple[str, str, int, list[float]]]:
    """Of every known term: itself, how it is written, how often, and what it adds to each score."""
    vocabulary, rules = block.vocabulary, block.rules
    counts = analyse(column, compile_dictionary(vocabulary, rules), len(vocabulary)).counts
    parts = calibration @ _contributions(estimator, counts.indices + block.first, counts.data)
    written = {} if rules.char_max else _written(column[0].as_py(), rules)
    for place, count, added in zip(counts.indices.tolist(), counts.data.tolist(), parts.T.tolist(), strict=True):
        start, end = vocabulary.term_offsets[place : place + 2]
        term = vocabulary.term_bytes[start:end].tobytes().decode()
        yield term, written.get(term.replace(NEGATED, ""), term), int(count), added


def _contributions(estimator: SentimentClassifier, columns: npt.NDArray[np.int32], counts: npt.NDArray[np.int32]) -> F64:
    """Raw scores by terms: weight times the term's part of a row of length one, as `linear.weigh` has it."""
    values = 1 + np.log(counts) if estimator.weighting == "tfidf" else np.ones(len(counts))
    scaled = np.broadcast_to(estimator.scale_, estimator.coef_.shape)[:, columns] * values
    length = np.sqrt((scaled**2).sum(axis=1, keepdims=True))
    return np.asarray(estimator.coef_[:, columns] * scaled / np.where(length > 0, length, 1))


def _written(text: str, rules: TextRules) -> dict[str, str]:
    """By term, negation marks aside, the words of the text it first stood for."""
    kinds = rules.patterns()
    token = re.compile("|".join(f"(?P<{kind}>{kinds[kind]})" for kind in kinds if kind not in ("html_tag", "number")))
    cleaned = re.sub(HTML_TAG, " ", text) if rules.strip_html else text
    found = [(_term(match, rules), match.group()) for match in token.finditer(cleaned)]
    if rules.drop_stop_words:
        found = [(term, word) for term, word in found if word.lower() not in stop_words()]
    written: dict[str, str] = {}
    for n in range(1, rules.ngram_max + 1):
        for first in range(len(found) - n + 1):
            terms, words = zip(*found[first : first + n], strict=True)
            written.setdefault(" ".join(terms), " ".join(words))
    return written


def _term(match: re.Match[str], rules: TextRules) -> str:
    masks, kind = rules.masks(), str(match.lastgroup)
    word = match.group().lower() if rules.lower_case else match.group()
    if kind in masks:
        return masks[kind]
    if kind != "word":
        return word
    if "number" in masks and word.isascii() and word.isdigit():
        return masks["number"]
    return stem_word(word) if rules.stem else word
