"""The named tests of a night: each one number against one limit, and what it means in a sentence.

A report registers every check as a test of its own and reads back which have failed; `verdict.conclude` makes a word of
those. Nothing is decided twice, and nothing else decides.
"""

from dataclasses import dataclass
from typing import Literal

from scipy import stats

from sentiment_core.drift.measure import Measurement
from sentiment_core.policy import Drift

SURPRISE, PLAUSIBLE, EVIDENCE, EFFECT = "surprise", "plausible_surprise", "evidence", "effect"
ESTIMATED_FALL, LABELLED_FALL = "estimated_fall", "labelled_fall"
GIBBERISH, COPIES, GARBAGE = "gibberish", "copies", "garbage"
COLUMN = "column: "
"""Checks of single columns are named so; they show what moved and decide nothing."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One test."""

    name: str
    value: float
    """Finite."""
    limit: float
    direction: Literal["below", "above"]
    """On which side of the limit the value has to lie; a value at the limit fails."""
    sentence: str
    """What is tested, for a person."""

    @property
    def has_failed(self) -> bool:
        """Whether the value lies on the wrong side."""
        return not (self.value < self.limit if self.direction == "below" else self.value > self.limit)


def checks(measurement: Measurement, limits: Drift) -> tuple[Check, ...]:
    """The tests of a measured night; none of one that is too few."""
    if measurement.too_few:
        return ()
    return (
        *_of_change(measurement, limits),
        *_of_harm(measurement, limits),
        *_of_rows(measurement, limits),
        *_of_columns(measurement, limits),
    )


def failures(found: tuple[Check, ...]) -> dict[str, bool]:
    """By name, whether each check has failed: what a report's own tests say, without the report."""
    return {check.name: check.has_failed for check in found}


def _of_change(measured: Measurement, limits: Drift) -> list[Check]:
    small = measured.n_compared < limits.small_night
    return [
        Check(
            name=SURPRISE,
            value=measured.p_value,
            limit=limits.warn_p,
            direction="above",
            sentence="How likely a night this unusual is if nothing has changed (p-value of topics and columns together).",
        ),
        Check(
            name=PLAUSIBLE,
            value=measured.p_plausible,
            limit=limits.warn_p,
            direction="above",
            sentence="How likely plausible reviews this unusual are if nothing has changed (gibberish and copies left out).",
        ),
        Check(
            name=EVIDENCE,
            value=measured.evidence,
            limit=limits.warn_evidence,
            direction="below",
            sentence="Evidence of a change that the last nights share; quiet nights pass the limit once in as many nights.",
        ),
        Check(
            name=EFFECT,
            value=measured.effect_beyond_mood,
            limit=limits.retrain_effect_small if small else limits.retrain_effect,
            direction="below",
            sentence="How far the topics of plausible reviews have moved, mood aside; does not grow with the number of reviews.",
        ),
    ]  # fmt: skip


def _of_harm(measured: Measurement, limits: Drift) -> list[Check]:
    found = []
    if measured.estimate is not None:
        found.append(
            Check(
                name=ESTIMATED_FALL,
                value=measured.estimate.fall,
                limit=max(limits.min_fall, limits.fall_sigmas * measured.estimate.fall_sigma),
                direction="below",
                sentence="By how much accuracy is expected to have fallen, by the model's own confidence in plausible reviews.",
            )
        )
    if measured.labels_p is not None:
        found.append(
            Check(
                name=LABELLED_FALL,
                value=measured.labels_p,
                limit=limits.labelled_p,
                direction="above",
                sentence=f"How likely so few right labels are if accuracy lies {100 * limits.min_fall:.1f} points below the reference's.",
            )
        )
    return found


def _of_rows(measured: Measurement, limits: Drift) -> list[Check]:
    limit = limits.quarantine_share + limits.quarantine_rows / max(measured.n_compared, 1)
    return [
        Check(
            name=name,
            value=share,
            limit=most,
            direction="below",
            sentence=f"Share of reviews that {what}, beyond the reference's share{and_so}.",
        )
        for name, share, most, what, and_so in (
            (GIBBERISH, measured.gibberish_share, limit, "are no language the model's reviews are written in", ""),
            (COPIES, measured.copied_share, limit, "are copies of each other", ""),
            (
                GARBAGE,
                measured.salad_share + measured.copied_share,
                limits.most_garbage,
                "are copies, or known words in no order",
                "; a night with more sets off no retrain",
            ),
        )
    ]


def _of_columns(measured: Measurement, limits: Drift) -> list[Check]:
    # Two-sided, corrected for the columns, and once more for the test of all together.
    limit = float(stats.norm.isf(limits.warn_p / (2 * 2 * max(len(measured.columns), 1))))
    return [
        Check(
            name=COLUMN + column.name,
            value=abs(column.z),
            limit=limit,
            direction="below",
            sentence=f"How far the mean of {column.name} has moved, in standard errors.",
        )
        for column in measured.columns
    ]
