"""From findings to a verdict: one word, the figures behind it, and a sentence for a person.

Which tests failed is not decided here: `conclude` is told, by `reports` out of Evidently's results, by a rehearsal out of
the checks themselves.
"""

from collections.abc import Mapping
from typing import Any

from sentiment_core.domain import DriftVerdict, Verdict
from sentiment_core.drift import checks as named
from sentiment_core.drift.evidence import longest
from sentiment_core.drift.measure import ColumnShift, Measurement
from sentiment_core.policy import Drift


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
        return "quiet", [_say_quiet(measured), *_say_lone_product(measured, limits), *_say_since(measured, limits)]
    reasons = _say_change(measured, failed, limits)
    is_labelled_worse = failed.get(named.LABELLED_FALL, False)
    # Where labels say that the model fails and it is as sure of itself as ever, the reviews are not what they seem.
    is_deceived = is_labelled_worse and failed[named.EFFECT] and not _has_doubt(measured, limits)
    # Labels are of all reviews, of garbage too, and do not say whether plausible ones are got wrong. Of much garbage some passes
    # for plausible, so that confidence does not either; but what looks like gibberish may be another domain, unless it is a salad.
    has_garbage = failed[named.GIBBERISH] or failed[named.COPIES]
    is_harmful = failed.get(named.ESTIMATED_FALL, False) or (is_labelled_worse and not is_deceived and not has_garbage)
    is_unusual = failed[named.SURPRISE] and failed[named.PLAUSIBLE]
    if is_harmful and is_unusual and failed[named.EFFECT] and not failed[named.GARBAGE]:
        missing = _what_is_missing(measured, limits)
        if not missing:
            return "retrain", [*reasons, "The model gets these reviews wrong more often: a retrain is due."]
        # Of plausible reviews, so this is drift, whatever else has come: another domain's words are rare ones too.
        return "warn", [*reasons, f"The model gets these reviews wrong more often; a retrain waits for {' and '.join(missing)}."]
    if is_deceived:
        reasons.append("The model is as sure as ever of what it gets wrong: spam, or words that have changed their meaning.")
    if has_garbage or is_deceived:
        return "quarantine", [*reasons, "Somebody has to look at these reviews; nothing is learnt from them."]
    if not is_harmful:
        reasons.append("Nothing suggests that the model gets them wrong.")
    elif not failed[named.EFFECT]:
        reasons.append("What they are about is the same, so that a retrain would have nothing to learn.")
    return "warn", reasons


def _has_doubt(measured: Measurement, limits: Drift) -> bool:
    """Whether the model has grown less sure: of another domain it is, of spam it is not."""
    estimate = measured.estimate
    return estimate is not None and estimate.fall > limits.doubt_sigmas * estimate.fall_sigma


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


def _say_lone_product(measured: Measurement, limits: Drift) -> list[str]:
    """What a person would otherwise wonder at: columns that have moved on a quiet night. Products are not named in reports."""
    if measured.p_whole > limits.warn_p or not measured.lone_share:
        return []
    return [f"One product alone ({_percent(measured.lone_share)} of the reviews) would make it unusual; without that it is not."]


def _say_since(measured: Measurement, limits: Drift) -> list[str]:
    """What a person would otherwise wonder at: a quiet night just after one that was not."""
    told = [night.window_date for night in measured.history.nights if night.is_told]
    if not told or measured.night_date is None or (measured.night_date - told[-1]).days >= longest(limits):
        return []
    return [f"Together only nights since {told[-1]} are looked at, which was not quiet itself."]


def _say_change(measured: Measurement, failed: Mapping[str, bool], limits: Drift) -> list[str]:
    said = []
    if failed[named.SURPRISE]:
        said.append(
            f"A night like this has a probability of {_percent(measured.p_value)} if nothing has changed: {_say_what(measured, limits)}."
        )
    elif failed[named.EVIDENCE]:
        said.append(f"No night alone is unusual, but the last ones have moved together: {_say_what(measured, limits)}.")
    if measured.mood is not None and measured.mood.has_moved:
        said.append(f"About {_percent(measured.mood.share)} are positive, against {_percent(measured.mood.reference)} before.")
    if failed[named.GIBBERISH]:
        said.append(f"{_percent(measured.gibberish_share)} are gibberish, or of another language.")
    if failed[named.COPIES]:
        said.append(f"{_percent(measured.copied_share)} are copies of each other.")
    if failed.get(named.LABELLED_FALL, False):
        said.append("Fewer labels are right than chance explains.")
    return said


def _say_what(measured: Measurement, limits: Drift) -> str:
    foremost = _foremost(measured.columns)
    column = f"{foremost.name} moved by {abs(foremost.shift):.2f} standard deviations of a review"
    if measured.effect >= limits.told_effect:
        return f"what the reviews are about (effect {measured.effect:.2f}); of the columns, {column}"
    return column


def _foremost(columns: tuple[ColumnShift, ...]) -> ColumnShift:
    return max(columns, key=lambda column: abs(column.z))


def _percent(share: float) -> str:
    """A share for a person.

    >>> [_percent(share) for share in (0.997, 0.5, 0.031, 0.0004, 1e-9)]
    ['100 %', '50 %', '3.1 %', '0.04 %', 'less than 0.01 %']
    """
    if share < _LEAST_SHOWN:
        return f"less than {_LEAST_SHOWN:.2%}".replace("%", " %")
    return f"{share * 100:.2g} %" if share < _NEARLY_ALL else "100 %"


_LEAST_SHOWN, _NEARLY_ALL = 0.0001, 0.995


def _left_out(reason: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("statistic", "score", "p_value", "shift", "is_drifted", "reference_mean", "current_mean"))
    return {**nothing, "left_out": reason}


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
