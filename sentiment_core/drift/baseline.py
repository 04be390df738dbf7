"""What tonight should look like: the reference, and what quiet nights of the past have shown beside it.

On every axis the expected place is a sum: an offset that stays (the reference is a sample, and so are the products that
are reviewed now), one for the weekday, and one that follows the logarithm of the volume. Each has a prior around zero; quiet nights,
old enough that a slow ramp has not begun to teach them, narrow it down: Bayesian linear regression, an axis at a time, the
sizes of weekday and volume chosen by the likelihood of the past (empirical Bayes; Bishop 2006, 3.3 and 3.5). With no past
the answer is the prior: zero, as uncertain as the reference, and over many nights twice that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from sentiment_core.drift.history import PastNight, Statistics
from sentiment_core.drift.reference import Basis
from sentiment_core.policy import Drift

F64 = npt.NDArray[np.float64]
_WEEK = 7
_NEXT_TO_NONE = 1e-12
# How large weekday and volume may be, in units of the variance of one review; the likelihood chooses.
_SIZES = (0.0, 0.0003, 0.001, 0.003, 0.01)


@dataclass(frozen=True, kw_only=True, eq=False)
class Baseline:
    """The expected place on every axis of a basis, and how well it is known."""

    mean: F64
    variance: F64
    """Of the expectation; the night's own chance comes on top."""
    lasting: F64
    """Of the expectation of many nights: the products reviewed these months are a sample too, and stay."""
    excess: float = 1.0
    """By how much quiet nights varied more than chance explains; at least 1."""
    n_nights: int = 0
    """Quiet nights it was learnt from."""


def night_variance(basis: Basis, statistics: Statistics) -> F64:
    """How far chance moves the mean of such a night, on every axis."""
    return np.asarray(1 / max(statistics.n, 1) + basis.between * statistics.spread)


def reference_variance(basis: Basis, n: int, spread: float) -> F64:
    """How far the reference may lie from all reviews there could be: it is a sample."""
    return np.asarray(1 / max(n, 1) + basis.between * spread)


def quiet_nights(nights: Sequence[PastNight], on: date | None, limits: Drift) -> list[PastNight]:
    """The nights a baseline may be learnt from: quiet ones, not too recent and not too old; none if they are few."""
    if on is None:
        return []
    latest, earliest = on - timedelta(days=limits.season_lag), on - timedelta(days=limits.season_days)
    found = [
        night
        for night in nights
        if night.verdict == "quiet" and night.statistics is not None and earliest <= night.window_date <= latest
    ]
    return found if len(found) >= limits.season_nights else []


def learn(basis: Basis, prior: F64, past: Sequence[tuple[date, int, Statistics, F64]], *, on: date | None, n: int) -> Baseline:
    """The baseline of a basis for one night.

    Args:
        basis: the axes.
        prior: variance of the reference, by axis.
        past: quiet nights: date, reviews, statistics, and place on every axis.
        on: tonight.
        n: reviews tonight.
    """
    if not past or on is None:
        return Baseline(mean=np.zeros(len(prior)), variance=prior, lasting=2 * prior)
    places = np.stack([place for *_, place in past])
    noise = np.stack([night_variance(basis, statistics) for _, _, statistics, _ in past])
    volumes = np.log([max(night_n, 1) for _, night_n, _, _ in past])
    design = np.stack([_describe(day, volume - volumes.mean()) for (day, *_), volume in zip(past, volumes, strict=True)])
    asked = _describe(on, float(np.log(max(n, 1)) - volumes.mean()))
    choices = [_Fit(places, noise, design, _variances(2 * prior, weekday, volume)) for weekday in _SIZES for volume in _SIZES]
    best = max(choices, key=lambda fit: fit.evidence)
    mean, variance = best.predict(asked)
    return Baseline(mean=mean, variance=variance, lasting=variance, excess=best.excess(), n_nights=len(past))


def _describe(day: date, volume: float) -> F64:
    return np.concatenate([[1.0], np.eye(_WEEK)[day.weekday()], [np.clip(volume, -3, 3)]])


def _variances(prior: F64, weekday: float, volume: float) -> F64:
    """Axes by parts of the sum: variances before any night."""
    parts = np.concatenate([[1.0], np.full(_WEEK, max(weekday, _NEXT_TO_NONE)), [max(volume, _NEXT_TO_NONE)]])
    variances = np.outer(np.ones(len(prior)), parts)
    variances[:, 0] = prior
    return variances


class _Fit:
    """The regression with one choice of sizes, all axes at once."""

    def __init__(self, places: F64, noise: F64, design: F64, variances: F64) -> None:
        self._places, self._noise, self._design = places, noise, design
        precision = np.einsum("ti,tj,ta->aij", design, design, 1 / noise) + np.stack([np.diag(1 / row) for row in variances])
        self._covariance = np.linalg.inv(precision)
        weighted = np.einsum("ti,ta->ai", design, places / noise)
        self._weights = np.einsum("aij,aj->ai", self._covariance, weighted)
        fit = float((weighted * self._weights).sum())
        self.evidence = 0.5 * float(fit - np.linalg.slogdet(precision)[1].sum() - np.log(variances).sum())

    def predict(self, asked: F64) -> tuple[F64, F64]:
        return self._weights @ asked, np.einsum("i,aij,j->a", asked, self._covariance, asked)

    def excess(self) -> float:
        """Mean squared residual in units of chance; what the fit has taken up is given back by its degrees of freedom."""
        residuals = self._places - self._design @ self._weights.T
        used = np.einsum("ti,aij,tj,ta->", self._design, self._covariance, self._design, 1 / self._noise)
        free = max(float(residuals.size - used), 1.0)
        return max(1.0, float((residuals**2 / self._noise).sum()) / free)
