"""What a check is told: tonight's reviews, and what earlier nights came to.

A past night is a handful of numbers, small enough to lie beside its verdict: history is read as of a night, or kept in
memory while nights are rehearsed. Values only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pyarrow as pa

from sentiment_core.domain import Verdict


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What people have said of reviews that were scored."""

    n: int
    """Reviews whose label is known."""
    n_right: int
    """Of those, how many the model got right."""


@dataclass(frozen=True, kw_only=True)
class Night:
    """The reviews of one date."""

    rows: pa.Table
    """A uniform sample of its rows: columns of `schema.SCORED_BATCH` and of the lens (`schema.LENS_COLUMNS`)."""
    n: int
    """Reviews of the date, of which `rows` may be a sample."""
    window_date: date | None = None
    """None where a file is judged by itself."""
    labels: Labels | None = None


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """How a night's means lie from the reference's: what later nights need of it."""

    n: int
    """Rows that were compared."""
    spread: float
    """Sum of the squared shares of products among them."""
    topics: tuple[float, ...] = ()
    columns: Mapping[str, float] = field(default_factory=dict)
    expected: float | None = None
    """Accuracy by the model's own confidence alone: what its labels are compared with when they have come."""

    def to_json(self) -> dict[str, Any]:
        """A JSON value; five digits are far below chance."""
        expected = {} if self.expected is None else {"expected": round(self.expected, 5)}
        return expected | {
            "n": self.n,
            "spread": self.spread,
            "topics": [round(value, 5) for value in self.topics],
            "columns": {name: round(value, 5) for name, value in self.columns.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Statistics":
        """The inverse of `to_json`."""
        return cls(
            n=value["n"],
            spread=value["spread"],
            topics=tuple(value["topics"]),
            columns=dict(value["columns"]),
            expected=value.get("expected"),
        )


@dataclass(frozen=True, kw_only=True)
class PastNight:
    """An earlier date as its latest check left it, of the same model version."""

    window_date: date
    n: int
    verdict: Verdict
    p_value: float | None
    effect: float | None
    estimated_accuracy: float | None = None
    labels: Labels | None = None
    """As of tonight, also those that came late."""
    statistics: Statistics | None = None

    @property
    def is_told(self) -> bool:
        """Whether a person was told of it: what it showed is no news any more."""
        return self.verdict not in {"quiet", "too_few"}


@dataclass(frozen=True, kw_only=True)
class History:
    """What is known as of a night."""

    nights: tuple[PastNight, ...] = ()
    """Of the version that scored tonight, oldest first, each date once, all before tonight."""
    n_new_labels: int = 0
    """Labels that have arrived since the version was trained: what a retrain could learn from."""
    retrained_on: date | None = None
    """The latest night that set off a retrain, whatever became of it."""
