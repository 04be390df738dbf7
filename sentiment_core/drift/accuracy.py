"""Accuracy without labels: what the model's own probabilities say about a night.

Confidence-based performance estimation (CBPE, NannyML's documentation): on the reference, whose labels are known and
which the model was not trained on, learn how often a confidence is right; average that over the night. It sees what
the model doubts and is blind to confident mistakes. How far the reference's products lie from this season's in that it cannot see
either; labels of quiet nights, which come weeks late, show it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from sentiment_core.drift.history import Labels, PastNight
from sentiment_core.drift.reference import Reference, components, group_numbers
from sentiment_core.policy import Drift

Floats = npt.NDArray[np.float64]
Variation = tuple[Floats, Floats]
"""Variance within and between products."""
_CERTAIN = 1e-4
"""No accuracy is taken to be nearer to 0 or 1, or better known, than this."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What is expected of a night's accuracy without labels."""

    accuracy: float
    """Expected share of right labels, in [0, 1]."""
    sigma: float
    """Standard error of it as a forecast of the share that labels would show."""
    fall: float
    """By how much it lies below what reviews of this mood come to on the reference; negative where above."""
    fall_sigma: float
    """How much of a fall is chance: one standard error."""
    expected: float
    """The accuracy before labels of earlier nights corrected it."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """By how much labels of quiet nights were right more often than expected, and how well that is known."""

    mean: float
    variance: float


@dataclass(frozen=True, kw_only=True)
class Mood:
    """The share of positive reviews, estimated without labels."""

    share: float
    """Tonight's, in [0, 1]."""
    sigma: float
    reference: float
    """The reference's, by its labels."""
    has_moved: bool
    """By more than chance explains."""

    @property
    def shift(self) -> float:
        """By how much it has moved."""
        return self.share - self.reference


class Rightness:
    """How often a confidence is right, learnt from the reference; of its rows and of others."""

    def __init__(self, reference: Reference) -> None:
        """Fit the map (isotonic), and how far chance moves its mean."""
        self._map = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        right = reference.is_right.astype(np.float64)
        self._map.fit(_confidence(reference.rows, "known_confidence"), right)
        self._known = np.asarray(self._map.predict(_confidence(reference.rows)))
        numbers = group_numbers(reference.rows)
        self._chance = components(self._known[:, np.newaxis], numbers)
        self._error = components((right - self._known)[:, np.newaxis], numbers)
        is_positive = _is_positive(reference.rows, "true_label")
        whole = float(self._known.mean())
        self._by_mood = [float(self._known[side].mean()) if side.any() else whole for side in (is_positive, ~is_positive)]
        self._reference = reference

    def learn(self, nights: Sequence[PastNight]) -> Lesson:
        """What labels of quiet nights add to the reference, which is a sample of products: of none, that it is off by chance.

        Nights of drift tell of another matter and are not to be among them.
        """
        precision, weighted = 1 / max(self.reference_sigma, _CERTAIN) ** 2, 0.0
        for night in nights:
            labels, statistics = night.labels, night.statistics
            if labels and labels.n and statistics and statistics.expected is not None:
                weight = 1 / max(_chance(self._error, labels.n, statistics.spread), _CERTAIN**2)
                precision += weight
                weighted += weight * (labels.n_right / labels.n - statistics.expected)
        return Lesson(mean=weighted / precision, variance=1 / precision)

    def expect(self, rows: pa.Table, spread: float, mood: Mood | None, lesson: Lesson, limits: Drift) -> Estimate:
        """The accuracy to expect of a night.

        Args:
            rows: of the night.
            spread: sum of the squared shares of products among them.
            lesson: what labels of earlier nights have shown.
            mood: the night's, where it has moved: what positive and negative reviews come to is weighed by it.
            limits: what of a fall is put down to chance, and by how much more accuracy falls than confidence does.
        """
        rightness = np.asarray(self._map.predict(_confidence(rows)))
        n, mean = len(rows), float(rightness.mean())
        before = self.reference_accuracy
        if mood is not None and mood.has_moved:
            before = mood.share * self._by_mood[0] + (1 - mood.share) * self._by_mood[1]
        fall_sigma = self._sigma(self._chance, n, spread)
        beyond = max(0.0, before - mean - limits.fall_chance_sigmas * fall_sigma)
        labels = float((rightness * (1 - rightness)).mean()) / n
        expected = max(0.0, mean - (limits.fall_factor - 1) * beyond)
        return Estimate(
            accuracy=min(1.0, max(0.0, expected + lesson.mean)),
            sigma=float(np.sqrt(labels + lesson.variance)),
            fall=before - mean,
            fall_sigma=fall_sigma,
            expected=expected,
        )

    @property
    def reference_accuracy(self) -> float:
        """Accuracy on reviews like the reference's: its labels, as sure as the whole model is."""
        return float(self._known.mean())

    @property
    def reference_sigma(self) -> float:
        """Standard error of it."""
        return self._sigma(self._error, 1, 1.0, with_night=False)

    def _sigma(self, variation: Variation, n: int, spread: float, *, with_night: bool = True) -> float:
        """Standard error of the difference between a night's mean and the reference's."""
        variance = _chance(variation, len(self._reference), self._reference.spread)
        return float(np.sqrt(variance + (_chance(variation, n, spread) if with_night else 0.0)))


def _chance(variation: Variation, n: int, spread: float) -> float:
    """Variance of the mean of n rows over products."""
    within, between = (float(part[0, 0]) for part in variation)
    return within / max(n, 1) + max(between, 0.0) * spread


class Said:
    """How the model's labels tell positive reviews from others, learnt from the reference."""

    def __init__(self, reference: Reference, limits: Drift) -> None:
        """Count hits and slips, and how far chance moves the share it calls positive."""
        labels, true = (_is_positive(reference.rows, name) for name in ("label", "true_label"))
        self.is_usable = bool(
            true.any() and not true.all() and labels[true].mean() - labels[~true].mean() >= limits.least_mood_gap
        )
        self._sigmas = limits.mood_sigmas
        if self.is_usable:
            self._hits, self._slips, self._share = float(labels[true].mean()), float(labels[~true].mean()), float(true.mean())
            self._variation = components(labels[:, np.newaxis].astype(np.float64), group_numbers(reference.rows))
            self._known = _chance(self._variation, len(reference), reference.spread)

    def mood(self, rows: pa.Table, spread: float) -> Mood | None:
        """The share of positive reviews from the labels the model gave (BBSE; Lipton, Wang and Smola 2018).

        None where the model's labels say too little: of reviews that are positive and of others it calls nearly as many so.
        """
        if not self.is_usable:
            return None
        gap = self._hits - self._slips
        share = min(1.0, max(0.0, (float(_is_positive(rows, "label").mean()) - self._slips) / gap))
        sigma = float(np.sqrt(self._known + _chance(self._variation, len(rows), spread))) / gap
        has_moved = abs(share - self._share) > self._sigmas * sigma
        return Mood(share=share, sigma=sigma, reference=self._share, has_moved=has_moved)


def _is_positive(rows: pa.Table, name: str) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.equal(rows[name], "positive").to_numpy(zero_copy_only=False), np.bool_)


def compare_labels(labels: Labels, expected: float, sigma: float) -> float:
    """One-sided p-value of so few right labels if accuracy were as expected (beta-binomial, exact).

    Near 1 a share has a long lower tail, which a normal one lacks: of nights without drift .2 % passed a limit of .1 %.

    Args:
        labels: what people said.
        expected: accuracy, by the reference.
        sigma: its standard error.

    >>> compare_labels(Labels(n=10, n_right=9), 0.9, 0.0) > 0.5 > compare_labels(Labels(n=10, n_right=8), 0.9, 0.0)
    True
    """
    mean = min(max(expected, _CERTAIN), 1 - _CERTAIN)
    weight = max(mean * (1 - mean) / max(sigma, _CERTAIN) ** 2 - 1, 1.0)
    return float(stats.betabinom.cdf(labels.n_right, labels.n, mean * weight, (1 - mean) * weight))


def _confidence(rows: pa.Table, name: str = "confidence") -> Floats:
    """The probability of the label; `known_confidence` where a reference has it."""
    return np.asarray(rows[name if name in rows.column_names else "confidence"].to_numpy(zero_copy_only=False), np.float64)
