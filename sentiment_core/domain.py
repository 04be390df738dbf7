"""The nouns that cross module boundaries, as frozen values.

No I/O, no clients, no behaviour beyond what a value knows of itself. Arrow tables inside them follow the
field lists of `schema`.
"""

import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import pyarrow as pa

LABELS = ("negative", "neutral", "positive")
Verdict = Literal["quiet", "warn", "retrain", "quarantine", "too_few"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """A half-open UTC interval [start, end); a night's window is the one day whose reviews it scores."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for moment in (self.start, self.end):
            if moment.utcoffset() != timedelta(0):
                raise ValueError(f"a Window is in UTC, not {moment!r}")
        if self.end <= self.start:
            raise ValueError(f"a Window ends after it starts, not {self.start} to {self.end}")

    @classmethod
    def of_date(cls, day: date) -> "Window":
        """The window of one UTC day.

        >>> Window.of_date(date(2026, 11, 1)).end
        datetime.datetime(2026, 11, 2, 0, 0, tzinfo=datetime.timezone.utc)
        """
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return cls(start=start, end=start + timedelta(days=1))

    @property
    def window_date(self) -> date:
        """The UTC date on which the window starts."""
        return self.start.date()


@dataclass(frozen=True, kw_only=True, order=True)
class ObjectVersion:
    """One version of an S3 object as a listing shows it."""

    bucket: str
    key: str
    etag: str
    size: int
    last_modified: datetime


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A registered model pinned to one version: what a run resolves once and stamps on every row."""

    name: str
    version: int
    digest: str
    """SHA-256 over the model's files; what is loaded has to match it."""
    snapshot: str | None = None
    """Key of the training set in the bucket, `snapshots/<sha256>.parquet`."""
    is_degraded: bool = False
    """True when MLflow was away and this is the last known good model from the cache."""

    def to_json(self) -> dict[str, Any]:
        """A small JSON value, for passing between tasks."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "ModelRef":
        """The inverse of `to_json`."""
        return cls(**value)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which scored reviews are meant; None leaves a side open."""

    version: int | None = None
    """Whose current score is this version's."""
    product_id: str | None = None
    first: date | None = None
    """Review dates from this one on."""
    last: date | None = None
    """Review dates up to this one, included."""


@dataclass(frozen=True, kw_only=True)
class Reject:
    """A row that did not pass validation."""

    row_number: int
    """Place in the object, from 0, counting every row."""
    review_id: str | None
    reason: str
    raw: str
    """The row as JSON (lossy where it is not valid text), cut to a bounded length."""


@dataclass(frozen=True, kw_only=True)
class ReviewBatch:
    """Validated rows of one object in order, with the rejects found between them."""

    table: pa.Table
    """Columns of `schema.REVIEW_BATCH`, one row a valid review."""
    rejects: tuple[Reject, ...] = ()
    n_ignored_columns: int = 0
    """Columns of the object that the contract does not name."""


@dataclass(frozen=True, kw_only=True)
class ScoredBatch:
    """The rows of a ReviewBatch in the same order, with their scores, and the model that gave them."""

    table: pa.Table
    """Columns of `schema.SCORED_BATCH`, one row a review."""
    model: ModelRef
    texts: pa.LargeStringArray | None = None
    """The rows' texts, while a drift sample is drawn from them."""


@dataclass(frozen=True, kw_only=True)
class DriftVerdict:
    """What a drift check says about one date."""

    verdict: Verdict
    n: int
    """Reviews judged."""
    p_value: float | None
    """How surprising the night is if nothing has changed, corrected for the number of columns; in [0, 1]."""
    effect: float | None
    """How large the largest change is, on a scale that does not grow with n."""
    estimated_accuracy: float | None
    """Accuracy expected from the model's own probabilities, without labels; in [0, 1]."""
    labelled_accuracy: float | None
    """Accuracy on the night's reviews whose labels have arrived; in [0, 1]."""
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By column: statistic, score, p_value, shift, is_drifted and both means; or left_out, why it was not judged."""
    sentence: str = ""
    """The verdict in words, for a person."""

    def __post_init__(self) -> None:
        for name in ("p_value", "effect", "estimated_accuracy", "labelled_accuracy"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} of a verdict is a finite number or None, not {value}")


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """The outcome of comparing a candidate with the champion."""

    outcome: Literal["promoted", "held"]
    reason: str
    metrics: dict[str, Any]
    """Figures of candidate and champion, and every gate with its limit."""
