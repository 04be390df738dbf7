"""How many labels would change, from a sample of clusters: the share with its interval.

Reviews lie in objects and objects are read as a whole, so that a sample is one of objects first and of rows within them
second. Which rows there are and what they say is not known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.stats import t

_Z = NormalDist().inv_cdf(0.975)  # an interval of 95 %


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share with its interval of 95 %."""

    n: int
    """Rows it is estimated from."""
    n_changed: int
    share: float
    low: float
    high: float


def draw_clusters(sizes: Sequence[int], n: int, *, seed: int) -> list[int]:
    """Positions of n clusters, drawn with a chance in proportion to their size, each draw from all of them.

    Where there are no more than n, every one of them once: then nothing is left to chance between them.

    >>> draw_clusters([5, 1, 9], 3, seed=0)
    [0, 1, 2]
    >>> len(draw_clusters([1] * 100, 10, seed=0))
    10
    """
    if len(sizes) <= n:
        return list(range(len(sizes)))
    weights = np.asarray(sizes, np.float64)
    drawn: list[int] = np.random.default_rng(seed).choice(len(weights), n, p=weights / weights.sum()).tolist()
    return drawn


def allot(weights: Sequence[int], n: int) -> list[int]:
    """How many of n rows to take from each drawn cluster, in proportion to its weight; at least one.

    >>> allot([900, 90, 10], 100)
    [90, 9, 1]
    """
    total = sum(weights)
    return [max(1, round(n * weight / total)) for weight in weights]


def share_of_drawn(counts: Sequence[tuple[int, int]]) -> Share:
    """The share from (rows looked at, rows changed) of clusters that were drawn in proportion to their size.

    Every draw estimates the share by itself, so that the spread between draws holds all of the chance, of the drawing and
    of the rows within (Hansen and Hurwitz 1943). The interval is Wilson's on the number of independent rows that would
    spread as much (Korn and Graubard 1998), which holds for shares near 0 too.
    """
    shares = np.array([changed / n for n, changed in counts])
    n, changed = sum(n for n, _ in counts), sum(changed for _, changed in counts)
    share, variance = float(shares.mean()), float(shares.var(ddof=1)) / len(shares)
    worth = float(n) if share in (0, 1) or variance == 0 else min(float(n), share * (1 - share) / variance)
    worth *= (_Z / float(t.ppf(0.975, max(1, len(counts) - 1)))) ** 2  # the spread itself is an estimate, of few draws
    return _wilson(share, worth, n, changed)


def share_of_all(counts: Sequence[tuple[int, int, int]]) -> Share:
    """The share from (size, rows looked at, rows changed) of every cluster there is: rows alone are left to chance.

    >>> share_of_all([(4, 4, 1)])
    Share(n=4, n_changed=1, share=0.25, low=0.25, high=0.25)
    """
    total = sum(size for size, *_ in counts)
    share = sum(size * changed / n for size, n, changed in counts) / total
    n, changed = sum(n for _, n, _ in counts), sum(changed for *_, changed in counts)
    if n == total:
        return Share(n=n, n_changed=changed, share=share, low=share, high=share)
    # Who has looked at most rows knows most of them: the finite population correction.
    return _wilson(share, n / (1 - n / total), n, changed)


def _wilson(share: float, worth: float, n: int, changed: int) -> Share:
    """Wilson's interval of a share that is as certain as one of `worth` independent rows."""
    square = _Z * _Z / worth
    centre = (share + square / 2) / (1 + square)
    half = _Z * (share * (1 - share) / worth + square / (4 * worth)) ** 0.5 / (1 + square)
    return Share(n=n, n_changed=changed, share=share, low=max(0.0, centre - half), high=min(1.0, centre + half))
