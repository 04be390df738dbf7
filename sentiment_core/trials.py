"""What a search for a model tried, as a value, and how people are told of it: the order, and parameters in words.

Made by the search, kept in `model_events`, shown by MLflow and by the pages. No search, no markup, no I/O.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

COMPARED = "log_loss"
"""The figure of a fold by which trials are compared; their mean is over the folds' own calibrations."""
_COMPLETE = "complete"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One recipe that was tried."""

    name: str
    family: str
    params: dict[str, Any]
    metrics: dict[str, Any]
    """`folds`: for each fold its log_loss and, when the trial was not pruned, accuracy, macro_f1 and the f1 of every class;
    their means beside."""
    mean: float
    """What trials are compared by: mean log loss of the folds, calibrated; less is better."""
    seconds: float
    state: str
    """`complete` or `pruned`."""

    def to_json(self) -> dict[str, Any]:
        """A small JSON value."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Trial":
        """The inverse of `to_json`; JSON has null for a mean that is no number."""
        return cls(**{**value, "mean": math.nan if value["mean"] is None else value["mean"]})

    @property
    def is_whole(self) -> bool:
        """False when it was given up before its last fold."""
        return self.state == _COMPLETE

    @property
    def means(self) -> dict[str, float]:
        """Its figures over all folds, by name."""
        return _numbers(self.metrics)

    @property
    def folds(self) -> list[dict[str, float]]:
        """Its figures by fold."""
        return [_numbers(fold) for fold in self.metrics.get("folds", ())]

    @property
    def compared(self) -> list[float]:
        """Of every fold the figure that counts."""
        return [fold[COMPARED] for fold in self.folds if COMPARED in fold]


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """The best first; those that were given up, whose mean is of fewer folds, last."""
    return sorted(trials, key=lambda trial: (not trial.is_whole, not math.isfinite(trial.mean), trial.mean))


def scale(trials: Iterable[Trial]) -> tuple[float, float]:
    """Between what values the folds of all trials lie."""
    values = [value for trial in trials for value in trial.compared]
    return (min(values), max(values)) if values else (0.0, 1.0)


def varied(trials: Sequence[Trial]) -> list[str]:
    """The parameters in which trials differ; the family stands in their names."""
    names = dict.fromkeys(name for trial in trials for name in trial.params if name != "family")
    return [name for name in names if len({repr(trial.params.get(name)) for trial in trials}) > 1]


def parameters(trial: Trial, names: Iterable[str]) -> str:
    """Parameters in words."""
    return ", ".join(filter(None, (parameter(name, trial.params.get(name)) for name in names)))


def parameter(name: str, value: Any) -> str:
    """A parameter in words; a switch that is off, and what is not set, is not worth one.

    >>> parameter("mark_negation", True), parameter("C", 0.31371), parameter("stem", False)
    ('mark negation', 'C 0.314', '')
    """
    if value is None or value is False:
        return ""
    if value is True:
        return words(name)
    return f"{words(name)} {f'{value:.3g}' if isinstance(value, float) else value}"


def words(name: str) -> str:
    """A name as people read it."""
    return name.replace("_", " ")


def is_number(value: Any) -> bool:
    """Whether a value is a figure that can be shown."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if is_number(value)}
