"""What pages show: nights with their figures, single drift checks, what happened to models.

Only reading, allowed to `sentiment_reader`. Every question is answered within a time limit, because a person waits for it.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Engine, Row

from sentiment_core.store.engine import statement

_TIME_LIMIT = text("set local statement_timeout = '20s'")
_MAX_BIGINT = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class NightRow:
    """A date: what its reviews say, its latest drift check and its latest run."""

    window_date: date
    n_reviews: int = 0
    positive_share: float | None = None
    """None where there are no reviews."""
    model_versions: tuple[int, ...] = ()
    """Versions behind the current scores, the one with most rows first."""
    check_id: int | None = None
    verdict: str | None = None
    sentence: str | None = None
    estimated_accuracy: float | None = None
    labelled_accuracy: float | None = None
    status: str | None = None
    """Of the latest run: running, succeeded, degraded or failed."""
    n_quarantined: int = 0
    """Rows the latest run rejected."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A drift check, as relation drift_checks has it."""

    check_id: int
    window_date: date
    model_version: int
    n: int
    verdict: str
    p_value: float | None
    effect: float | None
    estimated_accuracy: float | None
    labelled_accuracy: float | None
    columns: dict[str, Any] = field(default_factory=dict)
    sentence: str
    report_url: str | None
    checked_at: datetime
    latest_check_id: int
    """The check of the same date that counts; another number when late rows have been judged since."""


@dataclass(frozen=True, kw_only=True)
class ModelEvent:
    """Something that happened to a model version, as relation model_events has it."""

    event_id: int
    at: datetime
    model_version: int
    event: str
    """registered, promoted, held or rolled_back."""
    reason: str
    figures: dict[str, Any] = field(default_factory=dict)
    """On the held-out reviews of its training, or of its comparison with the champion."""
    has_gates: bool = False
    has_trials: bool = False
    """Whether gates of a comparison, or trials of a search, are kept with it: `list_gates`, `list_trials`."""
    snapshot: str | None = None
    code_version: str | None = None
    run_id: str | None = None


def list_nights(engine: Engine, *, before: date | None = None, limit: int) -> list[NightRow]:
    """The latest nights before a date (of all, without one), newest first.

    Raises:
        Transient, Permanent: as `engine.translate` judges.
    """
    values = {"before": before or date.max, "n_nights": limit}
    return [
        NightRow(**{**row._mapping, "model_versions": tuple(row.model_versions or ())})  # noqa: SLF001 (SQLAlchemy's public name)
        for row in _ask(engine, "overview.nights", values)
    ]


def find_check(engine: Engine, check_id: int) -> Check | None:
    """A drift check by its number; None when there is none.

    Raises:
        Transient, Permanent: as `engine.translate` judges.
    """
    if not 0 <= check_id <= _MAX_BIGINT:
        return None
    rows = _ask(engine, "overview.check", {"check_id": check_id})
    return Check(**rows[0]._mapping) if rows else None  # noqa: SLF001


def list_events(engine: Engine, *, limit: int) -> list[ModelEvent]:
    """What happened to model versions last, oldest first; without gates and trials, which are large.

    Raises:
        Transient, Permanent: as `engine.translate` judges.
    """
    rows = _ask(engine, "overview.events", {"n_events": limit})
    return [ModelEvent(**row._mapping) for row in reversed(rows)]  # noqa: SLF001


def list_gates(engine: Engine, event_id: int) -> list[dict[str, Any]]:
    """The gates of the comparison behind an event; raises as `list_events`."""
    return _parts(engine, event_id, "gates")


def list_trials(engine: Engine, event_id: int) -> list[dict[str, Any]]:
    """What the search behind an event tried; raises as `list_events`."""
    return _parts(engine, event_id, "trials")


def _parts(engine: Engine, event_id: int, part: str) -> list[dict[str, Any]]:
    rows = _ask(engine, "overview.event_parts", {"event_id": event_id, "part": part})
    return list(rows[0][0]) if rows else []


def _ask(engine: Engine, name: str, values: dict[str, Any]) -> list[Row[Any]]:
    with engine.begin() as connection:
        connection.execute(_TIME_LIMIT)
        return list(connection.execute(statement(name), values))
