"""Scores to probabilities, and probabilities to decisions: two things that are kept apart.

A calibration makes a probability mean what it says; it is chosen out of fold, and the plain link stays where nothing is
gained. Offsets move the border between classes, so that a rare class is found as well as a common one; they never touch
the probabilities. No texts, no terms, no fitting of weights.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
LOGISTIC, SOFTMAX, ONE_AGAINST_REST = "logistic", "softmax", "one against the rest"
# Hardly any penalty: a handful of numbers is learnt from hundreds of scores, and a class without a row must not run away.
_PLATT_C = 1e4
_GRID = np.linspace(-2, 2, 81)
# Offsets are looked for in turns, one class after the other; what two turns do not change a third does not either.
_TURNS = 3
_LEAST = 1e-300
_BINARY_CLASSES = 2


@dataclass(frozen=True, eq=False)
class Calibration:
    """Platt's: a second, small logistic regression over the scores (multinomial where there are more than two classes)."""

    coef: F64
    """As scikit-learn has it: one row for two classes, else a row a class; no row at all: the link alone."""
    intercept: F64

    @classmethod
    def none(cls, n_scores: int) -> "Calibration":
        """The link alone."""
        return cls(np.zeros((0, n_scores)), np.zeros(0))

    def probabilities(self, scores: F64, link: str) -> F64:
        """Texts by classes; rows add up to one."""
        if len(self.coef):
            # Column by column: a product of matrices may round differently from one batch to another.
            scores = np.stack([_sum(scores, row) for row in self.coef], axis=1) + self.intercept
            link = LOGISTIC if len(self.coef) == 1 else SOFTMAX
        if link == LOGISTIC:
            positive = expit(scores[:, 0])
            return np.column_stack([1 - positive, positive])
        if link == SOFTMAX:
            return np.asarray(softmax(scores, axis=1))
        each = expit(scores)
        total = each.sum(axis=1, keepdims=True)
        return np.asarray(np.where(total > 0, each / np.where(total > 0, total, 1), 1 / each.shape[1]))


def fit_platt(scores: F64, places: I64) -> Calibration:
    """Platt's calibration of scores (texts by scores), given each text's class as its place among the classes."""
    fitted = LogisticRegression(C=_PLATT_C, max_iter=1_000).fit(scores, places)
    return Calibration(fitted.coef_, fitted.intercept_)


def choose_calibration(scores: F64, places: I64, folds: npt.NDArray[np.int8], link: str, n_classes: int) -> Calibration:
    """Platt's, where it lowers the log loss of folds it has not seen by more than its standard error; else the link alone.

    Args:
        scores: out of fold.
        places: each text's class as its place among the classes.
        folds: each text's fold.
        link: what makes probabilities of raw scores.
        n_classes: of the model.
    """
    plain = Calibration.none(scores.shape[1])
    if any(len(np.unique(places[folds != fold])) < n_classes for fold in np.unique(folds)):
        return plain
    rows = np.arange(len(places))
    losses = -np.log(np.maximum(plain.probabilities(scores, link)[rows, places], _LEAST))
    gains = np.zeros(len(places))
    for fold in np.unique(folds):
        inside = np.flatnonzero(folds == fold)
        found = fit_platt(scores[folds != fold], places[folds != fold]).probabilities(scores[inside], link)
        gains[inside] = losses[inside] + np.log(np.maximum(found[np.arange(len(inside)), places[inside]], _LEAST))
    is_better = gains.mean() > gains.std() / np.sqrt(len(gains))
    return fit_platt(scores, places) if is_better else plain


def decide(probabilities: F64, offsets: F64) -> npt.NDArray[np.int8]:
    """The place of the class whose log probability and offset add up to most; the first of several.

    >>> decide(np.array([[0.4, 0.6]]), np.array([0.0, 0.0])), decide(np.array([[0.4, 0.6]]), np.array([0.5, 0.0]))
    (array([1], dtype=int8), array([0], dtype=int8))
    """
    weights = np.exp(offsets)
    # One class after the other: NumPy takes ten times as long for the maximum of short rows.
    best, chosen = probabilities[:, 0] * weights[0], np.zeros(len(probabilities), np.int8)
    for place in range(1, len(weights)):
        here = probabilities[:, place] * weights[place]
        is_better = here > best
        np.copyto(best, here, where=is_better)
        chosen[is_better] = place
    return chosen


def choose_offsets(probabilities: F64, places: I64) -> F64:
    """Offsets that make accuracy and macro F1 together largest on these (out-of-fold) probabilities; their mean is zero.

    Each is the middle of the best five neighbours on a grid, since the single best value is often a lucky one.
    """
    n_classes = probabilities.shape[1]
    offsets = np.zeros(n_classes)
    for _ in range(_TURNS if n_classes > _BINARY_CLASSES else 1):
        before = offsets.copy()
        for place in range(1, n_classes):
            values = np.array([
                merit(decide(probabilities, _with(offsets, place, value)), places, n_classes) for value in _GRID
            ])  # fmt: skip
            smooth = np.convolve(np.pad(values, 2, mode="edge"), np.full(5, 0.2), mode="valid")
            offsets[place] = _GRID[int(smooth.argmax())]
        if (before == offsets).all():
            break
    return offsets - offsets.mean()


def merit(chosen: npt.NDArray[np.int8], places: I64, n_classes: int) -> float:
    """Half accuracy, half macro F1."""
    return 0.5 * macro_f1(chosen, places, n_classes) + 0.5 * float((chosen == places).mean())


def macro_f1(chosen: npt.NDArray[np.int8], places: I64, n_classes: int) -> float:
    """Mean of the classes' F1."""
    return float(f1_scores(chosen, places, n_classes).mean())


def f1_scores(chosen: npt.NDArray[np.int8], places: I64, n_classes: int, weights: F64 | None = None) -> F64:
    """F1 of every class, rows counting as they weigh; of a class nobody has or chooses 0."""
    confusion = np.bincount(places * n_classes + chosen, weights, minlength=n_classes**2).reshape(n_classes, n_classes)
    total = confusion.sum(axis=0) + confusion.sum(axis=1)
    return np.asarray(2 * np.diag(confusion) / np.where(total > 0, total, 1))


def log_loss(probabilities: F64, places: I64, weights: F64 | None = None) -> float:
    """Mean of minus the log of the true class's probability, rows counting as they weigh."""
    losses = -np.log(np.maximum(probabilities[np.arange(len(places)), places], _LEAST))
    return float(np.average(losses, weights=weights))


def _sum(scores: F64, factors: F64) -> F64:
    total: F64 = scores[:, 0] * factors[0]
    for place in range(1, len(factors)):
        total += scores[:, place] * factors[place]
    return total


def _with(offsets: F64, place: int, value: float) -> F64:
    changed = offsets.copy()
    changed[place] = value
    return changed
