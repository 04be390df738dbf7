"""Where a night's sample lies on the reference's axes, beside where it should.

Every set of axes (columns each alone, topics, both together) goes through the same steps: the mean's shift from the
reference, the baseline that quiet nights have taught, and how much of the rest is chance. Pure.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sentiment_core.drift.baseline import Baseline, learn, night_variance, quiet_nights, reference_variance
from sentiment_core.drift.evidence import Residual, Scale
from sentiment_core.drift.history import History, Night, PastNight, Statistics
from sentiment_core.drift.reference import F64, Basis, Reference, group_numbers, has_topics
from sentiment_core.policy import Drift


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """A night that is being measured."""

    reference: Reference
    night: Night
    rows: pa.Table
    """Those of its sample that are complete in `names`."""
    names: tuple[str, ...]
    """Columns that are judged."""
    with_topics: bool
    statistics: Statistics
    past: tuple[PastNight, ...]
    """Earlier nights of which the same values are known."""
    limits: Drift

    @classmethod
    def of(
        cls, reference: Reference, night: Night, rows: pa.Table, names: tuple[str, ...], *, history: History, limits: Drift
    ) -> "Asked":
        """Sum the night up, and choose what of the past is of use."""
        with_topics = bool(reference.n_topics) and has_topics(rows)
        shift = reference.means(rows, names)
        n_columns = len(reference.names)
        statistics = Statistics(
            n=len(rows),
            spread=spread_of(reference, rows, limits),
            topics=tuple(shift[n_columns:].tolist()) if with_topics else (),
            columns={name: float(shift[reference.names.index(name)]) for name in names},
        )
        past = tuple(
            item
            for item in history.nights
            if item.statistics is not None
            and (not with_topics or len(item.statistics.topics) == reference.n_topics)
            and set(names) <= item.statistics.columns.keys()
        )
        return cls(
            reference=reference, night=night, rows=rows, names=names, with_topics=with_topics, statistics=statistics, past=past,
            limits=limits,
        )  # fmt: skip

    def shift(self, statistics: Statistics) -> F64:
        """The shift of a night's values, in the reference's order."""
        reference = self.reference
        shift = np.full(len(reference.mean), np.nan)
        for name in self.names:
            shift[reference.names.index(name)] = statistics.columns[name]
        if self.with_topics:
            shift[len(reference.names) :] = statistics.topics
        return shift

    def place(self, basis: Basis) -> "Place":
        """The night on the axes of a basis."""
        quiet = [
            (item.window_date, item.n, night_variance(basis, item.statistics), basis.place(self.shift(item.statistics)))
            for item in quiet_nights(self.past, self.night.window_date, self.limits)
            if item.statistics is not None
        ]
        prior = reference_variance(basis, len(self.reference), self.reference.spread)
        return Place(
            basis=basis,
            shift=basis.place(self.shift(self.statistics)),
            baseline=learn(prior, quiet, on=self.night.window_date, n=self.night.n, limits=self.limits),
            chance=night_variance(basis, self.statistics),
        )

    def residuals(self, place: "Place") -> list[Residual]:
        """Of the last nights and tonight, what is left beside the baseline."""
        return [
            place.residual_of(place.basis.place(self.shift(statistics)), statistics, self.limits)
            for statistics in (*self.recent, self.statistics)
        ]

    @property
    def heavy_tail(self) -> float:
        """How heavy the tails of one night are: heavier where no product can be told from the others, and so none left out."""
        return self.limits.heavy_tail if names_products(self.rows, self.limits) else self.limits.unnamed_tail

    @property
    def recent(self) -> list[Statistics]:
        """Of the nights whose evidence counts with tonight's: those since the last one that was told of.

        What has been said once is not said again on its evidence alone: one odd night, were it counted on, would have the
        seven after it warned of as well.
        """
        on = self.night.window_date
        if on is None:
            return []
        near = [item for item in self.past if 0 < (on - item.window_date).days <= self.limits.evidence_days]
        since = max((place + 1 for place, item in enumerate(near) if item.is_told), default=0)
        return [item.statistics for item in near[since:] if item.statistics is not None]


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


def spread_of(reference: Reference, rows: pa.Table, limits: Drift) -> float:
    """Sum of the squared shares of products; rows that do not name them are taken to be as clustered as the reference's."""
    sizes = np.bincount(group_numbers(rows)).astype(np.float64)
    spread = float(np.square(sizes).sum()) / len(rows) ** 2
    return spread if names_products(rows, limits) else min(1.0, max(spread, reference.group_size / len(rows)))


def names_products(rows: pa.Table, limits: Drift) -> bool:
    """Whether enough of the rows say which product they are of."""
    return "product_id" in rows.column_names and bool(len(rows) - rows["product_id"].null_count >= limits.least_named * len(rows))
