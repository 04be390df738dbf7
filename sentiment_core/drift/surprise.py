"""How surprising one night is, and whether it stays so without any one of its products.

A product may lie anywhere: thirty reviews of one film about a war move the topics of a night of five hundred farther than
chance does among seventy films, though nothing has changed but that this film was reviewed. Products' tails are heavier
than their variance tells, and one in a hundred nights about few products has such a product. Drift is in the reviews of
many products, and does not go away with one of them. So a night is as surprising as what is left of it when the product is left
out that makes it so: the largest p-value over all of them, and the night as a whole (a deletion test; compare Belsley, Kuh and
Welsch, "Regression diagnostics", 1980). Chance is counted anew for every remainder.

A product that is more than `most_left_out` of a night is never left out: the rest would speak for fewer reviews than it
does, and a feed about one product could drift for ever unseen. Such a night is judged whole, with the heavy tails of few products,
and evidence over several nights leaves nothing out at all. Where reviews do not name their products none can be found and left out;
tails are taken to be heavier there (`unnamed_tail`), at some cost of power.
What the numbers mean is not known here. Pure.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from sentiment_core.drift.places import Asked, Place
from sentiment_core.drift.reference import F64, Reference, group_numbers, topics_of, values_of

_NOTHING = -1
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Surprise:
    """The p-value of a night, and of what."""

    p_value: float
    """Of what is left without the product that makes the night surprising; never below `p_whole`."""
    p_whole: float
    """Of all reviews."""
    row: int
    """A row of that product; -1 where the night as a whole is the least surprising."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Products:
    """The products of a night that can be left out; the first is none of them, so that the whole night is one of the remainders."""

    rows: npt.NDArray[np.int64]
    """A row of each; -1 for none."""
    sizes: F64
    """Reviews of each."""
    sums: F64
    """Products by the reference's values: the shifts of its reviews, summed; not a number for what is not judged."""

    @classmethod
    def of(cls, asked: Asked) -> "Products":
        """Sum up the products of a night."""
        numbers = group_numbers(asked.rows)
        order = np.argsort(numbers, kind="stable")
        _, begins, sizes = np.unique(numbers[order], return_index=True, return_counts=True)
        sums = np.add.reduceat(_shifts(asked.reference, asked.rows, asked.names, with_topics=asked.with_topics)[order], begins)
        is_left_out = sizes <= asked.limits.most_left_out * len(numbers)
        return cls(
            rows=np.concatenate([[_NOTHING], order[begins][is_left_out]]),
            sizes=np.concatenate([[0.0], sizes[is_left_out]]),
            sums=np.vstack([np.zeros(sums.shape[1]), sums[is_left_out]]),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Remainders:
    """A night without each of its products: remainders by axes."""

    residual: F64
    variance: F64
    share_of_chance: F64
    """Of the variance, what is the remainder's own."""
    spread: F64
    """Sum of the squared shares of products in each."""

    @classmethod
    def of(cls, asked: Asked, products: Products, place: Place) -> "Remainders":
        """Leave one product out after the other, on the axes of one basis."""
        n, basis, baseline = asked.statistics.n, place.basis, place.baseline
        left = n - products.sizes
        spread = (asked.statistics.spread * n**2 - products.sizes**2) / left**2
        sums = products.sums[:, basis.chosen] @ basis.axes
        chance = (1 / left)[:, np.newaxis] + basis.between * spread[:, np.newaxis]
        variance = chance * baseline.excess + baseline.variance
        return cls(
            residual=(n * place.shift - sums) / left[:, np.newaxis] - baseline.mean,
            variance=variance,
            share_of_chance=chance / variance,
            spread=spread,
        )


def all_together(asked: Asked, products: Products, place: Place) -> Surprise:
    """Of all axes of a basis in one sum of squares."""
    rest = Remainders.of(asked, products, place)
    p_values = quadratic_p(
        rest.residual,
        rest.variance,
        share_of_chance=rest.share_of_chance.mean(axis=1),
        spread=rest.spread,
        heavy_tail=asked.heavy_tail,
    )
    return _largest(p_values, products)


def each_alone(asked: Asked, products: Products, place: Place) -> Surprise:
    """Of the axis that has moved most, corrected for their number."""
    rest = Remainders.of(asked, products, place)
    p_values = column_p(
        rest.residual / np.sqrt(rest.variance),
        share_of_chance=rest.share_of_chance,
        spread=rest.spread[:, np.newaxis],
        heavy_tail=asked.heavy_tail,
    )
    return _largest(np.minimum(1.0, p_values.shape[1] * p_values.min(axis=1)), products)


def either(one: Surprise, other: Surprise) -> Surprise:
    """Of two tests of one night (Bonferroni), with the product of the one that is the more surprising as a whole."""
    first = min(one, other, key=lambda found: found.p_whole)
    return Surprise(
        p_value=min(1.0, 2 * min(one.p_value, other.p_value)),
        p_whole=min(1.0, 2 * first.p_whole),
        row=first.row,
    )


def quadratic_p(shift: F64, variance: F64, *, share_of_chance: F64, spread: F64, heavy_tail: float) -> F64:
    """P-values of sums of squares, over the last axis, of shifts in units of their variance.

    Over few products the sum has heavier tails than chi-squared: its variance grows by `heavy_tail` times the spread
    (Satterthwaite's scaled chi-squared), as far as the variance is the night's own.
    """
    growth = 1 + heavy_tail * spread * share_of_chance**2
    total = (shift**2 / variance).sum(axis=-1)
    return np.asarray(stats.gamma.sf(total, shift.shape[-1] / (2 * growth), scale=2 * growth))


def column_p(z: F64, *, share_of_chance: F64, spread: F64, heavy_tail: float) -> F64:
    """Two-sided p-values of columns' shifts in standard errors, by Student's t with the kurtosis of few products."""
    kurtosis = np.maximum(heavy_tail * spread * share_of_chance**2, 1e-6)
    degrees = 4 + 6 / kurtosis
    return np.asarray(2 * stats.t.sf(np.abs(z) * np.sqrt(degrees / (degrees - 2)), degrees))


def _largest(p_values: F64, products: Products) -> Surprise:
    foremost = int(p_values.argmax())
    return Surprise(p_value=float(p_values[foremost]), p_whole=float(p_values[0]), row=int(products.rows[foremost]))


def _shifts(reference: Reference, rows: pa.Table, names: tuple[str, ...], *, with_topics: bool) -> F64:
    """Rows by the reference's values: how far each lies from the reference's mean, on the scales that are compared."""
    found = np.full((len(rows), len(reference.mean)), np.nan)
    for place, name in enumerate(reference.names):
        if name in names:
            found[:, place] = np.clip(values_of(rows, name), reference.lows[place], reference.highs[place])
    if with_topics:
        found[:, len(reference.names) :] = topics_of(rows)
    return np.asarray(found - reference.mean)
