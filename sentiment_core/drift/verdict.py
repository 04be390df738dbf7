"""From findings to a verdict: one word, the figures behind it, and a sentence for a person.

Which tests failed is not decided here: that is Evidently's result, read by `reports`, and comes in as `Findings`.
The words: `too_few` when nothing can be said, `retrain` when the dataset's own test failed, `warn` when at least one
column's did, else `quiet`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sentiment_core.domain import DriftVerdict, Verdict
from sentiment_core.drift import checks as named
from sentiment_core.drift.columns import ColumnTest, Comparison
from sentiment_core.drift.measure import ColumnShift, Measurement
from sentiment_core.policy import Drift

HOW_TO_MAKE_A_REFERENCE = "make one by training: run the DAG retrain_model (or `sentiment train`), which keeps held-out rows as the new version's reference"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What Evidently's tests said."""

    is_dataset_drifted: bool
    """The test of the share of drifted columns failed."""
    scores: Mapping[str, float]
    """By column: the value of its statistic."""
    is_drifted: Mapping[str, bool]
    """By column: its test failed."""


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """What is known of the model's accuracy; None where nothing is."""

    estimated: float | None
    """On the night, from the model's own probabilities."""
    labelled: float | None
    """On the night's reviews whose labels have arrived."""
    reference: float | None
    """On the reference."""


def why_too_few(reference: pa.Table | None, current: pa.Table, *, n: int, limits: Drift) -> str:
    """Why a night cannot be judged, as a sentence; empty when it can."""
    if reference is None or not len(reference):
        return f"The model version has no reference to compare with: {HOW_TO_MAKE_A_REFERENCE}."
    if len(reference) < limits.min_reviews:
        return f"The reference has {len(reference):,} rows and {limits.min_reviews:,} are needed: {HOW_TO_MAKE_A_REFERENCE}."
    if n < limits.min_reviews or len(current) < limits.min_reviews:
        fewest = min(n, len(current))
        what = "1 review is" if fewest == 1 else f"{fewest:,} reviews are"
        return f"{what} too few to judge: chance alone moves the columns of fewer than {limits.min_reviews:,}."
    return ""


def too_few(reason: str, *, n: int, labelled_accuracy: float | None) -> DriftVerdict:
    """The verdict on a night that cannot be judged."""
    return DriftVerdict(
        verdict="too_few",
        n=n,
        p_value=None,
        effect=None,
        estimated_accuracy=None,
        labelled_accuracy=labelled_accuracy,
        sentence=reason,
    )


def decide(comparison: Comparison, findings: Findings, accuracies: Accuracies, *, n: int, limits: Drift) -> DriftVerdict:
    """The verdict on a night whose columns were tested.

    p_value is the smallest of the columns' times their number (Bonferroni); effect the largest statistic.
    """
    tests = comparison.tests
    word: Verdict = "retrain" if findings.is_dataset_drifted else "warn" if any(findings.is_drifted.values()) else "quiet"
    return DriftVerdict(
        verdict=word,
        n=n,
        p_value=min(1.0, len(tests) * min(test.p_value for test in tests)),
        effect=max(findings.scores.values()),
        estimated_accuracy=accuracies.estimated,
        labelled_accuracy=accuracies.labelled,
        columns={test.name: _describe(test, findings) for test in tests}
        | {name: _left_out(reason) for name, reason in comparison.left_out.items()},
        sentence=" ".join(
            filter(None, (_what_moved(word, tests, findings, limits), _say_left_out(comparison), _say(accuracies)))
        ),
    )


def _describe(test: ColumnTest, findings: Findings) -> dict[str, Any]:
    return {
        "statistic": test.method,
        "score": findings.scores[test.name],
        "threshold": test.threshold,
        "p_value": test.p_value,
        "is_drifted": findings.is_drifted[test.name],
        "reference_mean": test.reference_mean,
        "current_mean": test.current_mean,
    }


def _left_out(reason: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("statistic", "score", "threshold", "p_value", "is_drifted", "reference_mean", "current_mean"))
    return {**nothing, "left_out": reason}


def _what_moved(word: Verdict, tests: tuple[ColumnTest, ...], findings: Findings, limits: Drift) -> str:
    foremost = max(tests, key=lambda test: findings.scores[test.name] / test.threshold)
    figures = f"{foremost.name} ({findings.scores[foremost.name]:.2f}, limit {foremost.threshold:.2f})"
    n_drifted = sum(findings.is_drifted.values())
    if word == "quiet":
        return f"None of {len(tests)} columns moved past its limit; the nearest was {figures}."
    moved = f"{n_drifted} of {len(tests)} columns moved past " + (
        f"its limit: {figures}" if n_drifted == 1 else f"their limits, most of all {figures}"
    )
    if word == "retrain":
        return f"{moved}: these reviews are unlike those the model was tested on."
    return f"{moved}. Worth a look; a retrain is due when {limits.retrain_share:.0%} of them move."


def _say_left_out(comparison: Comparison) -> str:
    reasons = ", ".join(f"{name} ({reason})" for name, reason in comparison.left_out.items())
    return f"Left out: {reasons}." if reasons else ""


def _say(accuracies: Accuracies) -> str:
    parts = []
    if accuracies.estimated is not None and accuracies.reference is not None:
        parts.append(f"Estimated accuracy {accuracies.estimated:.3f} against {accuracies.reference:.3f} on the reference.")
    if accuracies.labelled is not None:
        parts.append(f"Accuracy on the labels that have arrived: {accuracies.labelled:.3f}.")
    return " ".join(parts)


def conclude(measurement: Measurement, failed: Mapping[str, bool], limits: Drift) -> DriftVerdict:
    """The verdict on a measured night.

    Args:
        measurement: its numbers.
        failed: by name, whether each of its checks has failed, as the report's own tests say.
        limits: section [drift] of the policy.
    """
    if measurement.too_few:
        return too_few(measurement.too_few, n=measurement.n, labelled_accuracy=measurement.labelled_accuracy)
    word, reasons = _weigh(measurement, failed, limits)
    return DriftVerdict(
        verdict=word,
        n=measurement.n,
        p_value=measurement.p_value,
        effect=measurement.effect,
        estimated_accuracy=measurement.estimate.accuracy if measurement.estimate else None,
        labelled_accuracy=measurement.labelled_accuracy,
        columns={column.name: _report(column, failed) for column in measurement.columns}
        | {name: _left_out(reason) for name, reason in measurement.left_out.items()},
        sentence=" ".join([*reasons, *_say_accuracy(measurement), *_say_unjudged(measurement)]),
    )


def _weigh(measured: Measurement, failed: Mapping[str, bool], limits: Drift) -> tuple[Verdict, list[str]]:
    """The word, and the sentences that lead to it."""
    if not any(failed.get(name, False) for name in _DECIDING):
        return "quiet", [_say_quiet(measured)]
    reasons = _say_change(measured, failed)
    is_harmful = failed.get(named.ESTIMATED_FALL, False) or failed.get(named.LABELLED_FALL, False)
    if is_harmful and failed[named.EFFECT] and failed[named.SURPRISE]:
        missing = _what_is_missing(measured, limits)
        if not missing:
            return "retrain", [*reasons, "The model gets these reviews wrong more often: a retrain is due."]
        reasons.append(f"The model gets these reviews wrong more often; a retrain waits for {' and '.join(missing)}.")
    if failed[named.GIBBERISH] or failed[named.COPIES]:
        return "quarantine", [*reasons, "Somebody has to look at these reviews; nothing is learnt from them."]
    if not is_harmful:
        reasons.append("Nothing suggests that the model gets them wrong.")
    elif not failed[named.EFFECT]:
        reasons.append("What they are about is the same, so that a retrain would have nothing to learn.")
    return "warn", reasons


_DECIDING = (named.SURPRISE, named.EVIDENCE, named.LABELLED_FALL, named.GIBBERISH, named.COPIES)


def _what_is_missing(measured: Measurement, limits: Drift) -> list[str]:
    """What keeps a harmful drift from setting off a retrain, in words."""
    history, tonight = measured.history, measured.night_date
    missing = []
    if history.retrained_on and tonight and (tonight - history.retrained_on).days < limits.cooldown_nights:
        missing.append(f"{limits.cooldown_nights} nights after the last one, of {history.retrained_on}")
    if limits.mode == "evidence":
        recent = [night for night in history.nights if tonight and 0 < (tonight - night.window_date).days < limits.of_nights]
        n_unusual = 1 + sum(night.p_value is not None and night.p_value < limits.retrain_p for night in recent)
        if n_unusual < limits.retrain_nights:
            missing.append(f"another night like it ({limits.retrain_nights} of {limits.of_nights})")
        if history.n_new_labels < limits.retrain_labels:
            missing.append(f"{limits.retrain_labels} new labels ({history.n_new_labels} have arrived)")
    return missing


def _say_quiet(measured: Measurement) -> str:
    foremost = _foremost(measured.columns)
    return (
        f"Nothing unusual: a night like this is to be expected with a probability of {_percent(measured.p_value)}; "
        f"of {len(measured.columns)} columns {foremost.name} moved most, by {abs(foremost.z):.1f} standard errors."
    )


def _say_change(measured: Measurement, failed: Mapping[str, bool]) -> list[str]:
    said = []
    if failed[named.SURPRISE]:
        said.append(
            f"A night like this has a probability of {_percent(measured.p_value)} if nothing has changed: {_say_what(measured)}."
        )
    elif failed[named.EVIDENCE]:
        said.append(f"No night alone is unusual, but the last ones have moved together: {_say_what(measured)}.")
    if measured.mood is not None and measured.mood.has_moved:
        said.append(f"About {_percent(measured.mood.share)} are positive, against {_percent(measured.mood.reference)} before.")
    if failed[named.GIBBERISH]:
        said.append(f"{_percent(measured.gibberish_share)} are gibberish, or of another language.")
    if failed[named.COPIES]:
        said.append(f"{_percent(measured.copied_share)} are copies of each other.")
    if failed.get(named.LABELLED_FALL, False):
        said.append("Fewer labels are right than chance explains.")
    return said


def _say_what(measured: Measurement) -> str:
    foremost = _foremost(measured.columns)
    column = f"{foremost.name} moved by {abs(foremost.shift):.2f} standard deviations of a review"
    if measured.p_topics is not None and (measured.p_columns is None or measured.p_topics <= measured.p_columns):
        return f"what the reviews are about (effect {measured.effect:.2f}); of the columns, {column}"
    return column


def _foremost(columns: tuple[ColumnShift, ...]) -> ColumnShift:
    return max(columns, key=lambda column: abs(column.z))


def _percent(share: float) -> str:
    """A share for a person.

    >>> [_percent(share) for share in (0.5, 0.031, 0.0004, 1e-9)]
    ['50 %', '3.1 %', '0.04 %', 'less than 0.01 %']
    """
    if share < _LEAST_SHOWN:
        return f"less than {_LEAST_SHOWN:.2%}".replace("%", " %")
    return f"{share * 100:.2g} %" if share < 1 else "100 %"


_LEAST_SHOWN = 0.0001


def _report(column: ColumnShift, failed: Mapping[str, bool]) -> dict[str, Any]:
    return {
        "statistic": "z",
        "score": column.z,
        "p_value": column.p_value,
        "shift": column.shift,
        "is_drifted": failed.get(named.COLUMN + column.name, False),
        "reference_mean": column.reference_mean,
        "current_mean": column.current_mean,
    }


def _say_accuracy(measured: Measurement) -> list[str]:
    said = []
    if measured.estimate is not None:
        said.append(
            f"Estimated accuracy {measured.estimate.accuracy:.3f} ± {measured.estimate.sigma:.3f},"
            f" against {measured.reference_accuracy:.3f} on the reference."
        )
    if measured.labels is not None:
        said.append(f"Accuracy on the {measured.labels.n:,} labels that have arrived: {measured.labelled_accuracy:.3f}.")
    return said


def _say_unjudged(measured: Measurement) -> list[str]:
    reasons = ", ".join(f"{name} ({reason})" for name, reason in measured.left_out.items())
    return [f"Left out: {reasons}."] if reasons else []
