"""A rehearsal: nights judged one after the other as the machine would have judged them, and what each would have set off.

Nights come from anywhere: past ones as they were scored, files, or drawn from the rows of a reference that make no
reference (`quiet_years`); drift can be planted in any of them. A rehearsal trains nothing: after a retrain it goes on
with the same model, and the policy's cooldown holds. Pure: no server, no file, no Evidently; that Evidently comes to
the same verdicts is tested.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from sentiment_core.domain import DriftVerdict
from sentiment_core.drift.checks import checks, failures
from sentiment_core.drift.history import History, Labels, Night, PastNight
from sentiment_core.drift.loop import Request, retrained_on, why_not_now
from sentiment_core.drift.measure import Measurement, measure
from sentiment_core.drift.reference import Reference, group_numbers
from sentiment_core.drift.verdict import conclude
from sentiment_core.errors import Permanent
from sentiment_core.policy import Policy

NIGHTS_A_YEAR = 365
TRUE_LABEL = "true_label"
"""Column of a night's rows: what a person said of the review, null where nobody has."""
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Drift to be planted: rows of another domain in the place of a share of a night's own."""

    name: str
    rows: pa.Table
    share: float
    first: date
    ramp: int = 0
    """Nights until the share is reached, evenly; 0: from the first night on."""

    def share_on(self, day: date) -> float:
        """Share of the rows of a night that are replaced."""
        nights = (day - self.first).days
        if nights < 0:
            return 0.0
        return self.share if nights >= self.ramp else self.share * (nights + 1) / (self.ramp + 1)


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """What would have happened on a night."""

    window_date: date
    verdict: DriftVerdict
    sets_off_retrain: bool
    objection: str
    """Why a verdict to retrain sets nothing off."""
    planted_share: float = 0.0


@dataclass(kw_only=True)
class Rehearsal:
    """The machine's memory while nights are rehearsed: one model version, one policy."""

    reference: Reference | None
    policy: Policy
    n_labels: int = 0
    """Labels that have arrived so far."""
    past: list[PastNight] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def play(self, night: Night, *, planted_share: float = 0.0) -> Rehearsed:
        """Judge one more night, later than those before it."""
        assert night.window_date is not None  # noqa: S101  # only a file by itself has none
        limits = self.policy.drift
        measured = measure(self.reference, night, history=self._history(night.window_date), limits=limits)
        verdict = conclude(measured, failures(checks(measured, limits)), limits)
        self.past.append(as_past(night.window_date, measured, verdict))
        objection = self._objection(night.window_date, verdict)
        sets_off = verdict.verdict == "retrain" and not objection
        if sets_off:
            request = Request(window_date=night.window_date, n_labels=self.n_labels, outcome="promoted", has_trained=True)
            self.requests.append(request)
        # What labels say of a night is known when it is judged; learnt from they are by a retrain of a later one.
        self.n_labels += night.labels.n if night.labels else 0
        return Rehearsed(
            window_date=night.window_date,
            verdict=verdict,
            sets_off_retrain=sets_off,
            objection=objection,
            planted_share=planted_share,
        )

    def _history(self, day: date) -> History:
        nights = tuple(night for night in self.past if night.window_date < day)
        n_learnt = self.requests[-1].n_labels if self.requests else 0
        return History(nights=nights, n_new_labels=self.n_labels - n_learnt, retrained_on=retrained_on(self.requests))

    def _objection(self, day: date, verdict: DriftVerdict) -> str:
        if verdict.verdict != "retrain":
            return ""
        return why_not_now(day, self.requests, n_labels=self.n_labels, policy=self.policy)


def as_past(day: date, measured: Measurement, verdict: DriftVerdict) -> PastNight:
    """What later nights need to know of a night that has been judged."""
    return PastNight(
        window_date=day,
        n=verdict.n,
        verdict=verdict.verdict,
        p_value=verdict.p_value,
        effect=verdict.effect,
        estimated_accuracy=verdict.estimated_accuracy,
        labels=measured.labels,
        statistics=measured.statistics,
    )


def with_planted(night: Night, planted: Sequence[Planted], *, seed: int) -> tuple[Night, float]:
    """A night with drift in it, and the share of its rows that is foreign; the night itself where none is due."""
    assert night.window_date is not None  # noqa: S101
    share = 0.0
    for place, drift in enumerate(planted):
        part = drift.share_on(night.window_date)
        if part > 0:
            rng = np.random.default_rng((seed, night.window_date.toordinal(), place))
            night = replace(night, rows=_mixed(night.rows, drift.rows, part, rng))
            share += part
    return (replace(night, labels=labels_of(night.rows)) if share else night), share


def labels_of(rows: pa.Table) -> Labels | None:
    """What people said of a night's rows; None where nobody said anything."""
    if TRUE_LABEL not in rows.column_names:
        return None
    said = rows.filter(rows[TRUE_LABEL].is_valid())
    if not len(said):
        return None
    n_right = int(np.sum(said["label"].to_numpy(zero_copy_only=False) == said[TRUE_LABEL].to_numpy(zero_copy_only=False)))
    return Labels(n=len(said), n_right=n_right)


def quiet_nights(
    rows: pa.Table,
    *,
    first: date,
    n_nights: int,
    n_reviews: int,
    labelled_share: float,
    is_clustered: bool,
    rng: np.random.Generator,
) -> Iterator[Night]:
    """Nights of reviews that have not drifted.

    Args:
        rows: reviews of products that are not in the reference, with `true_label`.
        first: date of the first night.
        n_nights: how many.
        n_reviews: reviews of each; where there are fewer rows, all of them.
        labelled_share: share of them whose label arrives.
        is_clustered: all reviews of a product come in one night, so that a night is about few products.
        rng: source of chance.
    """
    members = _by_product(rows) if is_clustered else [np.arange(len(rows))]
    for later in range(n_nights):
        night = rows.take(pa.array(_draw(members, n_reviews, rng)))
        night = _forget_labels(night, labelled_share, rng)
        yield Night(rows=night, n=len(night), window_date=first + timedelta(days=later), labels=labels_of(night))


def quiet_year(
    reference: Reference,
    policy: Policy,
    *,
    year: int,
    first: date,
    n_nights: int,
    n_reviews: int,
    labelled_share: float,
    is_clustered: bool,
    planted: Sequence[Planted] = (),
) -> Iterator[Rehearsed]:
    """A year of nights that have not drifted but for what is planted; the same arguments give the same nights.

    Half of the reference's products stay the reference, the nights are drawn from the others: what is judged has never
    been seen. Such a reference is half as large and its nights come back to the same products, so that more alarms are
    counted than there would be.
    """
    judged, rows = reference.split(0.5, policy.drift, seed=year)
    rng = np.random.default_rng((year, n_reviews))
    rehearsal = Rehearsal(reference=judged, policy=policy)
    nights = quiet_nights(
        rows,
        first=first,
        n_nights=n_nights,
        n_reviews=n_reviews,
        labelled_share=labelled_share,
        is_clustered=is_clustered,
        rng=rng,
    )
    for night in nights:
        mixed, share = with_planted(night, planted, seed=year)
        yield rehearsal.play(mixed, planted_share=share)


def nights_until(nights: Iterable[Rehearsed], first: date, *, is_retrain: bool = False) -> int | None:
    """Nights from the first planted one to the first alarm, both counted; None where there is none.

    An alarm is a verdict of warn or worse, or, `is_retrain`, a retrain that is set off.
    """
    for night in nights:
        is_alarm = night.sets_off_retrain if is_retrain else night.verdict.verdict in ("warn", "retrain", "quarantine")
        if night.window_date >= first and is_alarm:
            return (night.window_date - first).days + 1
    return None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval."""

    mean: float
    low: float
    high: float


def rate(counts: Sequence[int], *, n_nights: int = NIGHTS_A_YEAR) -> Estimate:
    """Events in 365 nights, of so many in stretches of `n_nights`: the exact Poisson interval (Garwood 1936), wider where they differ.

    Of no event in 20 years it says at most .15 a year, which is one-sided.

    >>> rate([0] * 20), rate([0] * 40, n_nights=73).high
    (Estimate(mean=0.0, low=0.0, high=0.15), 0.37)
    """
    n, total = len(counts) * n_nights / NIGHTS_A_YEAR, sum(counts)
    if not total:
        return Estimate(mean=0.0, low=0.0, high=round(-float(np.log(0.05)) / n, 2))
    # Nights of one year share a reference: their alarms come together, and the count varies more than Poisson's.
    spread = max(1.0, float(np.var(counts, ddof=1)) / (total / len(counts))) if len(counts) > 1 else 1.0
    effective = total / spread
    low, high = stats.chi2.ppf(0.025, 2 * effective) / 2, stats.chi2.ppf(0.975, 2 * effective + 2) / 2
    return Estimate(mean=total / n, low=float(low) * spread / n, high=float(high) * spread / n)


def share(n: int, of: int) -> Estimate:
    """A share with the exact binomial interval (Clopper and Pearson 1934).

    >>> share(0, 10).high < share(1, 10).high
    True
    """
    low = float(stats.beta.ppf(0.025, n, of - n + 1)) if n else 0.0
    high = float(stats.beta.ppf(0.975, n + 1, of - n)) if n < of else 1.0
    return Estimate(mean=n / of, low=low, high=high)


def _mixed(rows: pa.Table, foreign: pa.Table, share: float, rng: np.random.Generator) -> pa.Table:
    """Rows of which a share is foreign, none of them twice: copies would be drift of another kind."""
    n_foreign = min(len(rows), round(share * len(rows)))
    if n_foreign > len(foreign):
        raise Permanent(
            "drift to plant",
            expected=f"{n_foreign:,} different reviews for {share:.0%} of {len(rows):,}",
            found=f"{len(foreign):,}",
            remedy="name a file with more reviews, or a smaller share",
        )
    kept = rows.take(pa.array(np.sort(rng.choice(len(rows), len(rows) - n_foreign, replace=False))))
    drawn = rng.choice(len(foreign), n_foreign, replace=False)
    names = [name for name in rows.column_names if name in foreign.column_names]
    taken = foreign.select(names).take(pa.array(drawn))
    if TRUE_LABEL in names:
        taken = _forget_labels(taken, _labelled_share(rows), rng)
    return pa.concat_tables([kept.select(names), taken.cast(kept.select(names).schema)]).combine_chunks()


def _labelled_share(rows: pa.Table) -> float:
    return float(1 - rows[TRUE_LABEL].null_count / max(len(rows), 1))


def _forget_labels(rows: pa.Table, share: float, rng: np.random.Generator) -> pa.Table:
    """Rows of which only a share is labelled."""
    if TRUE_LABEL not in rows.column_names or share >= 1:
        return rows
    labels = pa.array(rows[TRUE_LABEL].to_pylist(), pa.string(), from_pandas=True)
    is_kept = pa.array(rng.random(len(rows)) < share)
    kept = pc.if_else(is_kept, labels, pa.scalar(None, pa.string()))
    return rows.set_column(rows.column_names.index(TRUE_LABEL), TRUE_LABEL, kept)


def _by_product(rows: pa.Table) -> list[Places]:
    numbers = group_numbers(rows)
    return np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1])


def _draw(members: Sequence[Places], n: int, rng: np.random.Generator) -> Places:
    """So many rows of groups in any order, chosen at random from the last one."""
    taken: list[Places] = []
    n_taken = 0
    for group in rng.permutation(len(members)):
        if n_taken >= n:
            break
        taken.append(rng.permutation(members[group])[: n - n_taken])
        n_taken += len(taken[-1])
    return np.concatenate(taken)
