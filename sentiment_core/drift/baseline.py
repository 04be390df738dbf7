"""What tonight should look like: the reference, and what quiet nights of the past have shown beside it.

On every axis the expected place is a sum: an offset that stays (the reference is a sample, and so are the products that
are reviewed now), one for the weekday, and one that follows the logarithm of the volume. Each has a prior around zero; quiet nights,
old enough that a slow ramp has not begun to teach them, narrow it down: Bayesian linear regression, an axis at a time, the
sizes of weekday and volume chosen by the likelihood of the past (empirical Bayes; Bishop 2006, 3.3 and 3.5). With no past
the answer is the prior: zero, as uncertain as the reference, and over many nights more than that.
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
Past = Sequence[tuple[date, int, F64, F64]]
"""Of every quiet night: date, reviews, the variance of chance on every axis, and its place there."""
_WEEK = 7
_NEXT_TO_NONE = 1e-12


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
    return found if len(found) >= limits.baseline_nights else []


def learn(prior: F64, past: Past, *, on: date | None, n: int, limits: Drift) -> Baseline:
    """The baseline for one night.

    Args:
        prior: variance of the reference, by axis.
        past: quiet nights.
        on: tonight.
        n: reviews tonight.
        limits: section [drift] of the policy.
    """
    lasting = limits.lasting_share * prior
    if not past or on is None:
        return Baseline(mean=np.zeros(len(prior)), variance=prior, lasting=prior + lasting)
    taught = _Taught.of(past, limits)
    # A few nights teach how the reference lies; weekdays, volume and excess take more.
    has_seasons = len(past) >= limits.season_nights
    sizes = limits.season_sizes if has_seasons else (0.0,)
    choices = [taught.fit(_variances(prior + lasting, weekday, volume)) for weekday in sizes for volume in sizes]
    best = max(choices, key=lambda fit: fit.evidence)
    asked = _describe(on, float(np.log(max(n, 1)) - taught.mean_volume), limits)
    mean, variance = best.weights @ asked, np.einsum("i,aij,j->a", asked, best.covariance, asked)
    return Baseline(
        mean=mean, variance=variance, lasting=variance, excess=taught.excess(best) if has_seasons else 1.0, n_nights=len(past)
    )


def _describe(day: date, volume: float, limits: Drift) -> F64:
    return np.concatenate([[1.0], np.eye(_WEEK)[day.weekday()], [np.clip(volume, -limits.season_volume, limits.season_volume)]])


def _variances(prior: F64, weekday: float, volume: float) -> F64:
    """Axes by parts of the sum: variances before any night."""
    parts = np.concatenate([[1.0], np.full(_WEEK, max(weekday, _NEXT_TO_NONE)), [max(volume, _NEXT_TO_NONE)]])
    variances = np.outer(np.ones(len(prior)), parts)
    variances[:, 0] = prior
    return variances


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fit:
    """The regression with one choice of sizes, all axes at once."""

    evidence: float
    """Log of the likelihood of the past, up to a constant."""
    weights: F64
    """Axes by parts of the sum."""
    covariance: F64


@dataclass(frozen=True, kw_only=True, eq=False)
class _Taught:
    """What the past says, whatever the sizes of weekday and volume."""

    places: F64
    """Nights by axes."""
    noise: F64
    design: F64
    """Nights by parts of the sum."""
    mean_volume: float
    information: F64
    weighted: F64

    @classmethod
    def of(cls, past: Past, limits: Drift) -> "_Taught":
        places = np.stack([place for *_, place in past])
        # A night's chance is 1/n + between * spread: the nights share the axes' parts.
        noise = np.stack([chance for _, _, chance, _ in past])
        volumes = np.log([max(n, 1) for _, n, _, _ in past])
        mean_volume = float(volumes.mean())
        design = np.stack([_describe(day, volume - mean_volume, limits) for (day, *_), volume in zip(past, volumes, strict=True)])
        pairs = (design[:, :, np.newaxis] * design[:, np.newaxis]).reshape(len(design), -1)
        n_parts = design.shape[1]
        return cls(
            places=places,
            noise=noise,
            design=design,
            mean_volume=mean_volume,
            information=((1 / noise).T @ pairs).reshape(-1, n_parts, n_parts),
            weighted=(places / noise).T @ design,
        )

    def fit(self, variances: F64) -> _Fit:
        """The regression with these variances before any night: axes by parts."""
        precision = self.information + np.eye(variances.shape[1]) / variances[:, np.newaxis]
        covariance = np.linalg.inv(precision)
        weights = (covariance @ self.weighted[:, :, np.newaxis])[:, :, 0]
        fit = float((self.weighted * weights).sum())
        evidence = 0.5 * float(fit - np.linalg.slogdet(precision)[1].sum() - np.log(variances).sum())
        return _Fit(evidence=evidence, weights=weights, covariance=covariance)

    def excess(self, fit: _Fit) -> float:
        """Mean squared residual in units of chance; what the fit has taken up is given back by its degrees of freedom."""
        residuals = self.places - self.design @ fit.weights.T
        used = float((self.information * fit.covariance).sum())
        free = max(residuals.size - used, 1.0)
        return max(1.0, float((residuals**2 / self.noise).sum()) / free)
