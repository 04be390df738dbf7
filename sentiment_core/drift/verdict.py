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
from sentiment_core.drift.columns import ColumnTest, Comparison
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
