"""Where a night's sample lies on the reference's axes, beside where it should.

The two sets of axes, topics and columns, go through the same steps: the mean's shift from the reference, the baseline that
quiet nights have taught, and how much of the rest is chance. Pure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sentiment_core.drift.baseline import Baseline, learn, night_variance, quiet_nights, reference_variance
from sentiment_core.drift.evidence import Residual, Scale
from sentiment_core.drift.history import History, Night, PastNight, Statistics
from sentiment_core.drift.reference import F64, Basis, Reference, group_numbers, has_topics, topics_of
from sentiment_core.policy import Drift

_LONGEST_GAP = 31
"""Days back from tonight in which evidence is gathered."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """A night that is being measured."""

    reference: Reference
    night: Night
    rows: pa.Table
    """Those of its sample that are complete in `names`."""
    names: tuple[str, ...]
    """Columns that are judged."""
    spread: float
    """Sum of the squared shares of products."""
    past: tuple[PastNight, ...]
    """Earlier nights whose statistics lie on the reference's axes and have all of `names`."""
    limits: Drift

    @classmethod
    def of(
        cls, reference: Reference, night: Night, rows: pa.Table, names: tuple[str, ...], *, history: History, limits: Drift
    ) -> "Asked":
        """Choose what of the past is of use."""
        n_topics = 0 if reference.topics is None else len(reference.topics.mean)
        past = tuple(
            item
            for item in history.nights
            if item.statistics is not None
            and len(item.statistics.topics) in (0, n_topics)
            and set(names) <= item.statistics.columns.keys()
        )
        return cls(
            reference=reference, night=night, rows=rows, names=names, spread=spread_of(reference, rows), past=past, limits=limits
        )

    @property
    def statistics(self) -> Statistics:
        """Numbers of the sample, without places."""
        return Statistics(n=len(self.rows), spread=self.spread)

    @property
    def recent(self) -> list[Statistics]:
        """Of the nights whose evidence counts with tonight's."""
        on = self.night.window_date
        if on is None:
            return []
        near = [item for item in self.past if 0 < (on - item.window_date).days <= _LONGEST_GAP]
        return [item.statistics for item in near if item.statistics is not None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """A sample on the axes of one basis."""

    basis: Basis
    shift: F64
    """From the reference."""
    baseline: Baseline
    chance: F64
    """Variance of the shift that the sample itself adds."""

    @property
    def residual(self) -> F64:
        """From where it should be."""
        return np.asarray(self.shift - self.baseline.mean)

    @property
    def variance(self) -> F64:
        """Of the residual, if nothing has changed."""
        return np.asarray(self.chance * self.baseline.excess + self.baseline.variance)

    @property
    def scale(self) -> Scale:
        """What all nights have in common."""
        return Scale(common=self.baseline.lasting, total=self.basis.total)

    def residual_of(self, shift: F64, statistics: Statistics, limits: Drift) -> Residual:
        """A night's evidence; over few products chance counts for more, since its tails are heavy."""
        growth = self.baseline.excess * (1 + limits.heavy_tail * statistics.spread)
        return Residual(shift=shift - self.baseline.mean, chance=night_variance(self.basis, statistics) * growth)

    def size(self, shift: F64) -> float:
        """Squared distance in variances of one review, less what chance adds to it."""
        return max(0.0, float(((shift**2 - self.variance) / self.basis.total).sum()))


def spread_of(reference: Reference, rows: pa.Table) -> float:
    """Sum of the squared shares of products; rows that do not name them are taken to be as clustered as the reference's."""
    sizes = np.bincount(group_numbers(rows)).astype(np.float64)
    spread = float(np.square(sizes).sum()) / len(rows) ** 2
    is_named = "product_id" in rows.column_names and rows["product_id"].null_count <= len(rows) / 2
    return spread if is_named else min(1.0, max(spread, reference.group_size / len(rows)))


def place_columns(asked: Asked) -> Place:
    """The columns, each on its axis."""
    reference, names = asked.reference, asked.names
    chosen = np.array([reference.names.index(name) for name in names])
    whole = reference.columns
    basis = Basis(mean=whole.mean[chosen], axes=whole.axes[np.ix_(chosen, chosen)], between=whole.between[chosen])
    values = np.column_stack([reference.column_values(asked.rows, name) for name in names])
    return _place(asked, basis, values, lambda statistics: [statistics.columns[name] for name in names])


def place_topics(asked: Asked) -> Place | None:
    """The topics; None where the model or the night has none."""
    basis = asked.reference.topics
    if basis is None or not has_topics(asked.rows):
        return None
    return _place(asked, basis, topics_of(asked.rows), lambda statistics: statistics.topics)


def _place(asked: Asked, basis: Basis, values: F64, read: Callable[[Statistics], Sequence[float]]) -> Place:
    reference, night = asked.reference, asked.night
    quiet = [
        (item.window_date, item.n, item.statistics, np.array(read(item.statistics)))
        for item in quiet_nights(asked.past, night.window_date, asked.limits)
        if item.statistics is not None and len(read(item.statistics))
    ]
    prior = reference_variance(basis, len(reference), reference.spread)
    return Place(
        basis=basis,
        shift=basis.shift_of(values),
        baseline=learn(basis, prior, quiet, on=night.window_date, n=night.n),
        chance=night_variance(basis, asked.statistics),
    )
