"""Counted terms to scores: how terms are weighted, and the families of linear classifiers that learn from them.

What is learnt is the same for every family, a scale and a weight for each term, so that one kernel scores all of them.
Texts, probabilities and decisions are no business of this module.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_sample_weight

from sentiment_core.model.calibration import LOGISTIC, ONE_AGAINST_REST, SOFTMAX

WEIGHTINGS = ("tfidf", "presence", "nbidf")
CLASSIFIERS = ("logistic", "svm", "naive_bayes", "complement")
_BINARY_CLASSES = 2
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LinearModel:
    """What a family has learnt of counted terms: scores are intercepts and the weighted sums of rows of length one."""

    scale: F64
    """One row, or one a score: what a term's count is multiplied by before rows are brought to length one."""
    coef: F64
    """A row a score, a column a term."""
    intercept: F64
    """One a score."""

    def scores(self, counts: sp.csr_matrix, n_words: int, *, is_binary: bool) -> F64:
        """Scores of counted texts: texts by scores."""
        columns = []
        for place, coef in enumerate(self.coef):
            if place < len(self.scale):  # otherwise all scores see the same rows
                weighted = weigh(counts, self.scale[place], n_words, is_binary=is_binary)
            columns.append(weighted @ coef + self.intercept[place])
        return np.stack(columns, axis=1)


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A family with its parameters.

    Weightings: `tfidf`, 1 + log of the count times idf; `presence`, idf where a term stands; `nbidf`, presence times idf times
    the smoothed log-count ratio of a class against the others (naive Bayes features; Wang and Manning 2012), one problem a
    class where there are more than two. Its ratios are raised to `ratio_power`: their root gains .005 of macro F1 on comments
    and costs nothing on films. Classifiers: logistic regression; a linear support vector machine with squared
    hinge loss; multinomial naive Bayes and its complement (Rennie et al. 2003) over the weighted rows.
    """

    weighting: str = "tfidf"
    classifier: str = "logistic"
    C: float = 10.0
    """Inverse strength of the regularisation; of naive Bayes the inverse of the smoothing."""
    class_weight: str | None = None
    """`balanced`: every class weighs the same, however many texts it has."""
    ratio_power: float = 1.0
    random_state: int | None = 0

    @property
    def is_binary(self) -> bool:
        """Whether a term counts once a text."""
        return self.weighting != "tfidf"

    def check(self) -> None:
        """Raise ValueError for a combination there is not."""
        for name, value, known in (
            ("weighting", self.weighting, WEIGHTINGS),
            ("classifier", self.classifier, CLASSIFIERS),
            ("class_weight", self.class_weight, (None, "balanced")),
        ):
            if value not in known:
                raise ValueError(f"expected {name} to be one of {', '.join(map(str, known))}, found {value!r}")
        if self.weighting == "nbidf" and self.classifier in ("naive_bayes", "complement"):
            raise ValueError("expected naive Bayes over plain rows (weighting tfidf or presence), found nbidf, its own ratios")

    def link(self, n_classes: int) -> str:
        """How scores become probabilities where nothing calibrates them; see `calibration`."""
        if n_classes == _BINARY_CLASSES:
            return LOGISTIC
        return ONE_AGAINST_REST if self.weighting == "nbidf" or self.classifier == "svm" else SOFTMAX

    def fit(self, counts: sp.csr_matrix, labels: npt.NDArray[Any], n_words: int, sample_weight: Any = None) -> LinearModel:
        """Learn from counted texts; of the columns the first `n_words` are words, the others runs of characters.

        Raises:
            ValueError: fewer than two classes.
        """
        classes = np.unique(labels)
        if len(classes) < _BINARY_CLASSES:
            raise ValueError(f"expected texts of two classes at least, found the one class {classes.tolist()}")
        balance = compute_sample_weight(self.class_weight, labels) if self.class_weight else np.ones(len(labels))
        weights = balance if sample_weight is None else balance * np.asarray(sample_weight, float)
        idf = inverse_document_frequency(counts)
        if self.weighting != "nbidf":
            return self._fit_plain(counts, labels, n_words, weights, idf)
        # For two classes one problem, the second against the first, as scikit-learn has it.
        targets = classes[1:] if len(classes) == _BINARY_CLASSES else classes
        # Rows that weigh more do so where terms are played off against each other, not in the ratios: a few hundred rows
        # counted five times would set those by chance, and gave back .48 of what a foreign domain costs instead of .56.
        ratios = [log_count_ratio(counts, labels == target, balance) for target in targets]
        scales = [idf * np.sign(ratio) * np.abs(ratio) ** self.ratio_power for ratio in ratios]
        parts = [
            self._separate(weigh(counts, scale, n_words, is_binary=True), labels == target, weights)
            for scale, target in zip(scales, targets, strict=True)
        ]
        return LinearModel(
            np.stack(scales), np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        )

    def _fit_plain(self, counts: sp.csr_matrix, labels: npt.NDArray[Any], n_words: int, weights: F64, idf: F64) -> LinearModel:
        rows = weigh(counts, idf, n_words, is_binary=self.is_binary)
        return LinearModel(idf[np.newaxis], *self._separate(rows, labels, weights))

    def _separate(self, rows: sp.csr_matrix, labels: npt.NDArray[Any], weights: F64) -> tuple[F64, F64]:
        """Weights (scores by terms) and intercepts of the family."""
        match self.classifier:
            case "logistic":
                fitted: Any = LogisticRegression(C=self.C, max_iter=300, random_state=self.random_state)
            case "svm":
                # The primal problem: Newton's method draws no random numbers, so that threads do not disturb each other.
                fitted = LinearSVC(C=self.C, dual=False, random_state=self.random_state)
            case "naive_bayes":
                fitted = MultinomialNB(alpha=1 / self.C)
            case _:
                fitted = ComplementNB(alpha=1 / self.C)
        fitted.fit(rows, labels, sample_weight=weights)
        if self.classifier in ("logistic", "svm"):
            return fitted.coef_, np.atleast_1d(fitted.intercept_)
        prior = fitted.class_log_prior_ if self.classifier == "naive_bayes" else np.zeros(len(fitted.classes_))
        if len(prior) == _BINARY_CLASSES:
            return np.diff(fitted.feature_log_prob_, axis=0), np.diff(prior)
        return fitted.feature_log_prob_, prior


def weigh(counts: sp.csr_matrix, scale: F64, n_words: int, *, is_binary: bool) -> sp.csr_matrix:
    """Rows of length one, those of words and those of characters each for itself; as scikit-learn's TfidfTransformer has them."""
    values = scale[counts.indices]
    if not is_binary:
        values *= 1 + np.log(counts.data)
    blocks = np.repeat(np.arange(0, 2 * counts.shape[0], 2), np.diff(counts.indptr)) + (counts.indices >= n_words)
    squares = np.bincount(blocks, values**2, minlength=2 * counts.shape[0])
    values /= np.sqrt(np.where(squares > 0, squares, 1))[blocks]
    return sp.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)


def inverse_document_frequency(counts: sp.csr_matrix) -> F64:
    """scikit-learn's smooth_idf."""
    return np.asarray(np.log((1 + counts.shape[0]) / (1 + document_frequency(counts))) + 1)


def document_frequency(counts: sp.csr_matrix, weights: F64 | None = None) -> F64:
    """In how many texts a term stands, each text counting its weight.

    >>> document_frequency(sp.csr_matrix([[2, 0], [1, 1]])).tolist()
    [2.0, 1.0]
    """
    each = np.ones(len(counts.indices)) if weights is None else np.repeat(weights, np.diff(counts.indptr))
    return np.bincount(counts.indices, each, minlength=counts.shape[1])


def log_count_ratio(counts: sp.csr_matrix, is_target: npt.NDArray[np.bool_], weights: F64) -> F64:
    """Log of (1 + texts of the class that hold a term) over the same of the others, each as a share of its sum."""
    inside, outside = (1 + document_frequency(counts, weights * chosen) for chosen in (is_target, ~is_target))
    return np.asarray(np.log(inside / inside.sum()) - np.log(outside / outside.sum()))
