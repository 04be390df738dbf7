"""How surprising the last nights are together; how one alone is, is `surprise`'s business.

E-values. Against "the nights lie around the baseline" stands "they lie off it, together, by something of size s", for
several s, or "they have moved away from it night by night, up to something of size s"; the ratio of the two likelihoods is
at least as large as 1/a with probability a at most, whenever one looks, since the baseline's own error is part of the first
hypothesis (Grünwald, de Heide and Koolen, "Safe testing", 2024). Summed over where the drift may have begun this is a
Shiryaev-Roberts e-detector: a limit of 200 is passed once in 200 quiet nights at most for every shape that is looked for, or
once in 200 over the stake on it (Shin, Ramdas and Rinaldo, "E-detectors", 2023), and in fact far less often, as far as means
of nights are normal and the baseline's error is as large as it is taken to be, which the policy's `lasting_share` trades for
power. It is told of nights since the last warning only and so begins anew with each, as such detectors do: what has been said
is no news. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from sentiment_core.policy import Drift

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Residual:
    """Where a night lies from where it should, on the axes of one basis."""

    shift: F64
    chance: F64
    """Variance that the night itself adds; independent from night to night."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale:
    """What is common to all nights, on the axes of one basis."""

    common: F64
    """Variance of the baseline, the same error in every night."""
    total: F64
    """Variance of one review."""


def longest(limits: Drift) -> int:
    """Nights of the longest shape that is looked for."""
    return max(*limits.evidence_nights, *limits.evidence_ramps)


def shapes(limits: Drift) -> list[tuple[F64, float]]:
    """What is looked for: of every night of a shape the part that is of the last one's shift, and the stake on it.

    Shifts that stay the same come first, then those that grow by the same part every night. How the reference lies is the
    same in all nights, so that a ramp stands out from it, while to the others it looks like drift: at equal stakes they use
    up what quiet nights allow, and so the longest ramp has a stake of its own.
    """
    steady = [(np.ones(length), 1.0) for length in limits.evidence_nights]
    ramps = [
        (np.arange(1.0, length + 1) / length, limits.ramp_stake if length == max(limits.evidence_ramps) else 1.0)
        for length in limits.evidence_ramps
    ]
    return steady + ramps


def evidence(together: Sequence[Residual], joint: Scale, columns: Sequence[Residual], single: Scale, limits: Drift) -> float:
    """Log of the e-detector's value for tonight, the last of the nights.

    Half of the stake on a shape is on all axes together, half on the columns, each alone. Nights before the first are not
    there: a shape that is longer than the nights are many is not looked for.
    """
    parts, sizes = [], np.array(limits.evidence_sizes)
    for profile, stake in shapes(limits):
        length = len(profile)
        if length <= len(together):
            all_axes = _logmeanexp(_bets(together[-length:], profile, joint, sizes / len(joint.total)).sum(axis=1))
            alone = _logmeanexp(_bets(columns[-length:], profile, single, sizes))
            parts.append(float(np.logaddexp(all_axes, alone) + np.log(stake / 2)))
    return float(special.logsumexp(parts))


def _bets(nights: Sequence[Residual], profile: F64, scale: Scale, sizes: F64) -> F64:
    """Log likelihood ratios of consecutive nights: sizes by axes.

    The shift of the last night is estimated by generalised least squares, every night's being its part of the profile.
    """
    precision = np.stack([1 / night.chance for night in nights])
    weighted = profile[:, np.newaxis] * precision
    places = np.stack([night.shift for night in nights])
    # What the nights' common error takes away (Sherman and Morrison).
    taken = scale.common / (1 + scale.common * precision.sum(axis=0)) * weighted.sum(axis=0)
    variance = 1 / ((profile[:, np.newaxis] * weighted).sum(axis=0) - taken * weighted.sum(axis=0))
    shift = variance * ((weighted * places).sum(axis=0) - taken * (precision * places).sum(axis=0))
    extra = np.outer(sizes, scale.total)
    return np.asarray(0.5 * (shift**2 * extra / (variance * (variance + extra)) - np.log1p(extra / variance)))


def _logmeanexp(values: F64) -> float:
    return float(special.logsumexp(values) - np.log(values.size))
