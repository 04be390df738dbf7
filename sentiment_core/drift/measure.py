"""A night, measured against its reference and its past: numbers only.

What the numbers mean, and from where on they count, is `checks`' and `verdict`'s business. Pure and quick: a night of
10,000 reviews takes a fraction of a second. Nothing here knows of Evidently, files or servers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiment_core.drift.accuracy import Estimate, Mood, Rightness, Said, compare_labels
from sentiment_core.drift.baseline import quiet_nights
from sentiment_core.drift.evidence import evidence
from sentiment_core.drift.history import History, Labels, Night, Statistics
from sentiment_core.drift.oddities import find_oddities
from sentiment_core.drift.places import Asked, Place
from sentiment_core.drift.reference import F64, Reference, complete_rows, group_numbers, missing_share
from sentiment_core.drift.surprise import Products, Surprise, all_together, column_p, each_alone, either
from sentiment_core.policy import Drift

HOW_TO_MAKE_A_REFERENCE = (
    "make one by training: run the DAG retrain_model (or `sentiment train`), which keeps a reference with the new version"
)
_LARGEST = 600.0
"""Of a logarithm: what is beyond it is no number any more."""


@dataclass(frozen=True, kw_only=True)
class ColumnShift:
    """How one column has moved."""

    name: str
    z: float
    """In standard errors, the baseline considered."""
    p_value: float
    """Of this column alone."""
    shift: float
    """In standard deviations of one review; does not grow with n."""
    reference_mean: float
    """On the scale the column is compared on."""
    current_mean: float


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The numbers of a night; `too_few` says why there are none."""

    n: int
    """Reviews of the night."""
    night_date: date | None = None
    n_compared: int = 0
    """Rows of its sample that were compared."""
    too_few: str = ""
    columns: tuple[ColumnShift, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Columns that cannot be judged tonight, with the reason."""
    p_together: float | None = None
    """Of all columns and topics together."""
    p_columns: float | None = None
    """Of the column that moved most, corrected for their number."""
    p_value: float = 1.0
    """How surprising the night is if nothing has changed, whichever of its products is left out."""
    p_whole: float = 1.0
    """The same with no product left out."""
    p_plausible: float = 1.0
    """`p_value` of the rows alone that a person may have written."""
    lone_share: float = 0.0
    """Share of the rows that are of the product without which the night is least surprising; 0 where none makes it less so."""
    evidence: float = 1.0
    """The e-detector over the last nights; passes a limit L in one of L quiet nights at most."""
    effect: float = 0.0
    """Squared distance of the topics from where they should be, in variances of one review, chance taken off."""
    effect_beyond_mood: float = 0.0
    """The same without what another share of positive reviews explains."""
    estimate: Estimate | None = None
    mood: Mood | None = None
    labels: Labels | None = None
    labels_p: float | None = None
    """One-sided p-value of the labelled accuracy against the reference's less `min_fall`."""
    reference_accuracy: float | None = None
    gibberish_share: float = 0.0
    salad_share: float = 0.0
    """The part of gibberish that is known words in no order."""
    copied_share: float = 0.0
    n_quiet_nights: int = 0
    """Past nights that the baseline was learnt from."""
    statistics: Statistics | None = None
    """What later nights need of this one."""
    history: History = field(default_factory=History)

    @property
    def labelled_accuracy(self) -> float | None:
        """Accuracy on the labels that have arrived."""
        return self.labels.n_right / self.labels.n if self.labels and self.labels.n else None


def measure(reference: Reference | None, night: Night, *, history: History, limits: Drift) -> Measurement:
    """Measure a night.

    Args:
        reference: of the version that scored it; None for a version that has none.
        night: its reviews.
        history: what is known as of the night.
        limits: section [drift] of the policy.
    """
    labels = night.labels if night.labels and night.labels.n else None
    if reference is None or (reason := why_too_few(reference, night, limits)):
        reason = (
            reason if reference is not None else f"The model version has no reference to compare with: {HOW_TO_MAKE_A_REFERENCE}."
        )
        return Measurement(n=night.n, night_date=night.window_date, too_few=reason, labels=labels, history=history)
    names, left_out = _judged(reference, night.rows, limits)
    rows = complete_rows(night.rows, names)
    if len(rows) < limits.min_reviews or not names:
        reason = f"{_reviews(len(rows))} with a value in every column are too few to judge."
        return Measurement(
            n=night.n, night_date=night.window_date, too_few=reason, left_out=left_out, labels=labels, history=history
        )
    measured = _measure(Asked.of(reference, night, rows, names, history=history, limits=limits))
    return Measurement(
        n=night.n,
        night_date=night.window_date,
        n_compared=len(rows),
        left_out=left_out,
        labels=labels,
        labels_p=_labels_p(reference, labels, history, night.window_date, limits),
        reference_accuracy=_rightness(reference).reference_accuracy,
        history=history,
        **measured,
    )


def why_too_few(reference: Reference, night: Night, limits: Drift) -> str:
    """Why a night cannot be judged, as a sentence; empty when it can."""
    if len(reference) < limits.min_reference:
        return f"The reference has {_reviews(len(reference))} and {limits.min_reference:,} are needed: {HOW_TO_MAKE_A_REFERENCE}."
    fewest = min(night.n, len(night.rows))
    if fewest < limits.min_reviews:
        verb = "is" if fewest == 1 else "are"
        return f"{_reviews(fewest)} {verb} too few to judge: chance alone moves the columns of fewer than {limits.min_reviews:,}."
    return ""


def _reviews(n: int) -> str:
    return "1 review" if n == 1 else f"{n:,} reviews"


def _judged(reference: Reference, rows: pa.Table, limits: Drift) -> tuple[tuple[str, ...], dict[str, str]]:
    left_out = dict(reference.left_out)
    for name in reference.names:
        share = missing_share(rows, name)
        if share > limits.most_missing:
            left_out[name] = f"{share:.0%} of its values tonight are missing"
    return tuple(name for name in reference.names if name not in left_out), left_out


def _measure(asked: Asked) -> dict[str, Any]:
    reference, rows, limits, spread = asked.reference, asked.rows, asked.limits, asked.statistics.spread
    columns, together = _places(asked)
    moved = _column_shifts(asked, columns)
    by_column, by_all = _surprises(asked, columns, together)
    night = either(by_column, by_all)
    mood = _said(reference, limits).mood(rows, spread)
    odd = find_oddities(reference, rows, limits)
    plausible = rows.filter(pa.array(odd.is_plausible))
    nights, alone = asked.residuals(together), asked.residuals(columns)
    value = evidence(nights, together.scale, alone, columns.scale, limits)
    estimate = _estimate(asked, plausible, mood) if len(plausible) else None
    return {
        "columns": moved,
        "p_together": by_all.p_value,
        "p_columns": by_column.p_value,
        "p_value": night.p_value,
        "p_whole": night.p_whole,
        "p_plausible": night.p_value if odd.is_plausible.all() else _surprise_of(asked, plausible),
        "lone_share": _lone_share(rows, night),
        "evidence": float(np.exp(min(value, _LARGEST))),
        **_effects(asked, plausible, mood),
        "estimate": estimate,
        "mood": mood,
        "gibberish_share": odd.gibberish_share,
        "salad_share": odd.salad_share,
        "copied_share": odd.copied_share,
        "n_quiet_nights": columns.baseline.n_nights,
        "statistics": replace(asked.statistics, expected=estimate.expected if estimate else None),
    }


def _places(asked: Asked) -> tuple[Place, Place]:
    """On the axes of the columns, each alone, and of all values together."""
    reference = asked.reference
    return asked.place(reference.single(asked.names)), asked.place(reference.joint(asked.names, with_topics=asked.with_topics))


def _surprises(asked: Asked, columns: Place, together: Place) -> tuple[Surprise, Surprise]:
    products = Products.of(asked)
    return each_alone(asked, products, columns), all_together(asked, products, together)


def _surprise_of(asked: Asked, plausible: pa.Table) -> float:
    if len(plausible) < asked.limits.min_reviews:
        return 1.0
    part = Asked.of(asked.reference, asked.night, plausible, asked.names, history=History(nights=asked.past), limits=asked.limits)
    return either(*_surprises(part, *_places(part))).p_value


def _estimate(asked: Asked, plausible: pa.Table, mood: Mood | None) -> Estimate:
    rightness, limits = _rightness(asked.reference), asked.limits
    taught = quiet_nights(asked.past, asked.night.window_date, limits)
    lesson = rightness.learn(taught)
    return rightness.expect(plausible, asked.statistics.spread, mood, lesson, limits)


def _labels_p(reference: Reference, labels: Labels | None, history: History, on: date | None, limits: Drift) -> float | None:
    """Of tonight's labels and those of the nights just before: the drift that a single night's labels are too few to see.

    If accuracy has fallen by as much as is not worth a training: the products of a season are rated right a little more or
    less often than the reference's for as long as they are reviewed.
    """
    near = [night.labels for night in history.nights if on and 0 < (on - night.window_date).days < limits.labelled_nights]
    known = [item for item in (labels, *near) if item is not None and item.n]
    if not known:
        return None
    pooled = Labels(n=sum(item.n for item in known), n_right=sum(item.n_right for item in known))
    rightness = _rightness(reference)
    return compare_labels(pooled, rightness.reference_accuracy - limits.min_fall, rightness.reference_sigma)


@lru_cache(maxsize=4)
def _rightness(reference: Reference) -> Rightness:
    return Rightness(reference)


def _lone_share(rows: pa.Table, night: Surprise) -> float:
    if night.row < 0:
        return 0.0
    numbers = group_numbers(rows)
    return float((numbers == numbers[night.row]).mean())


def _column_shifts(asked: Asked, columns: Place) -> tuple[ColumnShift, ...]:
    basis, variance, residual = columns.basis, columns.variance, columns.residual
    z = residual / np.sqrt(variance)
    p_values = column_p(
        z,
        share_of_chance=columns.chance / variance,
        spread=np.asarray(asked.statistics.spread),
        heavy_tail=asked.heavy_tail,
    )
    found = []
    for place, name in enumerate(asked.names):
        mean = float(asked.reference.mean[basis.chosen[place]])
        found.append(
            ColumnShift(
                name=name,
                z=float(z[place]),
                p_value=float(p_values[place]),
                shift=float(residual[place] / np.sqrt(basis.total[place])),
                reference_mean=mean,
                current_mean=mean + asked.statistics.columns[name],
            )
        )
    return tuple(found)


def _effects(asked: Asked, plausible: pa.Table, mood: Mood | None) -> dict[str, float]:
    """The effect, of all rows, and of the plausible ones beyond what the mood explains."""
    reference = asked.reference
    if not asked.with_topics:
        return {}
    topics = asked.place(reference.joint((), with_topics=True))
    beyond = topics.residual
    if len(plausible):
        beyond = topics.basis.place(reference.means(plausible, ())) - topics.baseline.mean
    if mood is not None and mood.has_moved:
        beyond = beyond - mood.shift * topics.basis.place(_mood_axis(reference))
    return {"effect": topics.size(topics.residual), "effect_beyond_mood": topics.size(beyond)}


@lru_cache(maxsize=4)
def _said(reference: Reference, limits: Drift) -> Said:
    return Said(reference, limits)


@lru_cache(maxsize=4)
def _mood_axis(reference: Reference) -> F64:
    """By how much the values of positive reviews lie from those of others."""
    is_positive = pc.equal(reference.rows["true_label"], "positive")
    positive, others = (reference.rows.filter(side) for side in (is_positive, pc.invert(is_positive)))
    return np.asarray(reference.means(positive, ()) - reference.means(others, ()))
