"""Cross-validation of one recipe: scores of every row out of models that have not seen it, and what they are worth.

Terms are counted once for each set of text rules and shared by all recipes and folds; a fold only chooses columns and
scales them. All cores work on folds at once; what comes out does not depend on how many there are.
"""

from collections import OrderedDict
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentiment_core.families import Family
from sentiment_core.model.calibration import (
    Calibration,
    choose_calibration,
    choose_offsets,
    decide,
    f1_scores,
    fit_platt,
    log_loss,
)
from sentiment_core.model.candidates import CHARACTER_RULES, MIN_DF, Brought, Recipe
from sentiment_core.model.terms import Terms, best_columns, count_terms
from sentiment_core.pipeline import n_cores
from sentiment_core.text.rules import TextRules

F64 = npt.NDArray[np.float64]
# Counted terms that are kept for the next recipe with the same rules: four sets of a million terms in 25,000 long reviews.
_KEPT_BYTES = 600 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Examined:
    """What cross-validation says of a recipe."""

    scores: F64
    """Rows by scores, each out of a model that has not seen the row."""
    calibration: Calibration
    offsets: F64
    folds: list[dict[str, float]]
    """Of every fold: log_loss, accuracy, macro_f1 and the F1 of every class, calibration and offsets learnt on the others."""
    score: float
    """Over all rows as they count: accuracy where classes are even, else macro F1."""


def emphasis(sources: Sequence[str | None], enough: int) -> F64:
    """How much every row counts in what a recipe is worth; 1 on the average.

    Every source of `enough` rows counts the same, however many more it has, or the largest would choose for all and
    nobody would notice what the others lose. Smaller ones count less, since much of what they say is chance.

    >>> emphasis(["films"] * 6 + ["books"] * 3, 3).round(2).tolist()
    [0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 1.5, 1.5, 1.5]
    >>> emphasis(["films"] * 4 + [None], 2).round(2).tolist()
    [0.83, 0.83, 0.83, 0.83, 1.67]
    """
    names = np.array([f"of {name}" if name is not None else "" for name in sources])
    _, source_of, n_rows = np.unique(names, return_inverse=True, return_counts=True)
    if len(n_rows) == 1:
        return np.ones(len(names))
    weights = (np.minimum(n_rows, enough) / n_rows)[source_of]
    return np.asarray(weights / weights.mean())


class TermBank:
    """Terms of texts by text rules; the last few stay in memory. For one thread."""

    def __init__(self, texts: pa.LargeStringArray, ngram_max: int) -> None:
        self._texts, self._ngram_max = texts, ngram_max
        self._kept: OrderedDict[Any, Terms] = OrderedDict()

    def terms(self, recipe: Recipe) -> Terms:
        """What a recipe counts.

        Raises:
            ValueError: no term stands in two texts.
        """
        return self._get((recipe.rules, recipe.ngram_max, recipe.has_characters), lambda: self._cut(recipe))

    def _cut(self, recipe: Recipe) -> Terms:
        words = self._count(TextRules(**{**recipe.rules.as_dict(), "ngram_max": self._ngram_max})).up_to(recipe.ngram_max)
        return words.beside(self._count(CHARACTER_RULES)) if recipe.has_characters else words

    def _count(self, rules: TextRules) -> Terms:
        return self._get(rules, lambda: count_terms(self._texts, rules, min_df=MIN_DF))

    def _get(self, key: Any, make: Any) -> Terms:
        if key not in self._kept:
            self._kept[key] = make()
            while len(self._kept) > 1 and sum(map(_n_bytes, self._kept.values())) > _KEPT_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def _n_bytes(terms: Terms) -> int:
    return int(terms.counts.data.nbytes + terms.counts.indices.nbytes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trainer:
    """Labelled rows in folds."""

    labels: npt.NDArray[Any]
    weights: F64
    folds: npt.NDArray[np.int8]
    emphasis: F64
    """How much every row counts in figures, not in learning; see `emphasis`."""
    is_uneven: bool
    seed: int

    @cached_property
    def places(self) -> npt.NDArray[np.int64]:
        """Of every row, its class's place among the classes."""
        return np.unique(self.labels, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes, in order."""
        return [str(name) for name in np.unique(self.labels)]

    @cached_property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    def fold_scores(self, terms: Terms, recipe: Recipe, n_terms: int) -> Generator[tuple[npt.NDArray[np.int64], F64]]:
        """Fold after fold, which rows it has and their scores; whoever stops asking spares the rest."""
        numbers = sorted(set(self.folds.tolist()))
        with ThreadPoolExecutor(n_cores()) as pool:
            tasks = [pool.submit(self._fold, terms, recipe, n_terms, number) for number in numbers]
            try:
                for task in tasks:
                    yield task.result()
            finally:
                for task in tasks:
                    task.cancel()

    def fitted_scores(
        self, texts: pa.LargeStringArray, family: Family, recipe: Brought
    ) -> Generator[tuple[npt.NDArray[np.int64], F64]]:
        """The same of a family that counts no terms; one fold after the other, since it may take all cores itself."""
        for number in sorted(set(self.folds.tolist())):
            inside, outside = np.flatnonzero(self.folds == number), np.flatnonzero(self.folds != number)
            fitted = family.fit(
                recipe.values, texts.take(pa.array(outside)), self.labels[outside], self.weights[outside], seed=self.seed
            )
            yield inside, fitted.scores(texts.take(pa.array(inside)))

    def _fold(self, terms: Terms, recipe: Recipe, n_terms: int, number: int) -> tuple[npt.NDArray[np.int64], F64]:
        inside, outside = np.flatnonzero(self.folds == number), np.flatnonzero(self.folds != number)
        training = Terms(terms.counts[outside], terms.words, terms.characters)
        columns = best_columns(training, self.labels[outside], max_words=n_terms, max_chars=n_terms)
        n_words = int(np.searchsorted(columns, len(terms.words)))
        counts, unseen = training.counts, terms.counts[inside]
        if len(columns) < counts.shape[1]:
            counts, unseen = counts[:, columns], unseen[:, columns]
        learner = recipe.learner(self.seed)
        learnt = learner.fit(counts, self.labels[outside], n_words, self.weights[outside])
        return inside, learnt.scores(unseen, n_words, is_binary=learner.is_binary)

    def loss(self, rows: npt.NDArray[np.int64], scores: F64, recipe: Recipe | Brought) -> float:
        """Log loss of a fold's scores, calibrated on themselves: what a family gains by its own scale does not count."""
        places, link = self.places[rows], recipe.link(self.n_classes)
        has_all = len(np.unique(places)) == self.n_classes
        calibration = fit_platt(scores, places) if has_all else Calibration.none(scores.shape[1])
        return log_loss(calibration.probabilities(scores, link), places, self.emphasis[rows])

    def examine(self, scores: F64, recipe: Recipe | Brought) -> Examined:
        """Calibration, offsets and figures out of the scores of all rows."""
        calibration, offsets = self._adjust(scores, np.ones(len(self.folds), np.bool_), recipe)
        chosen, folds = np.zeros(len(self.folds), np.int8), []
        for number in sorted(set(self.folds.tolist())):
            inside = self.folds == number
            others, moved = self._adjust(scores, ~inside, recipe)
            probabilities = others.probabilities(scores[inside], recipe.link(self.n_classes))
            chosen[inside] = decide(probabilities, moved)
            loss = log_loss(probabilities, self.places[inside], self.emphasis[inside])
            folds.append({"log_loss": loss, **self._figures(chosen, inside)})
        every = self._figures(chosen, np.ones(len(chosen), np.bool_))
        return Examined(
            scores=scores,
            calibration=calibration,
            offsets=offsets,
            folds=folds,
            score=every["macro_f1" if self.is_uneven else "accuracy"],
        )

    def _adjust(self, scores: F64, rows: npt.NDArray[np.bool_], recipe: Recipe | Brought) -> tuple[Calibration, F64]:
        places, link = self.places[rows], recipe.link(self.n_classes)
        calibration = choose_calibration(scores[rows], places, self.folds[rows], link, self.n_classes)
        if not self.is_uneven:
            return calibration, np.zeros(self.n_classes)
        return calibration, choose_offsets(calibration.probabilities(scores[rows], link), places)

    def _figures(self, chosen: npt.NDArray[np.int8], rows: npt.NDArray[np.bool_]) -> dict[str, float]:
        places, weights = self.places[rows], self.emphasis[rows]
        f1 = f1_scores(chosen[rows], places, self.n_classes, weights)
        return {
            "accuracy": float(np.average(chosen[rows] == places, weights=weights)),
            "macro_f1": float(f1.mean()),
            **{f"f1_{name}": float(value) for name, value in zip(self.classes, f1, strict=True)},
        }
