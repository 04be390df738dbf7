"""Which night a run is about, and what it may do: the one place where a run's window is decided."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from sentiment_core.domain import Window
from sentiment_core.errors import Permanent

# What is counted in days from a night, to either side, stays within the calendar.
_FIRST, _LAST = date(1970, 1, 1), date(8999, 12, 31)
RunKind = Literal["scheduled", "manual", "backfill"]


@dataclass(frozen=True, kw_only=True)
class Night:
    """What one run of `score_reviews` is asked to do."""

    window_date: date
    run_id: str
    kind: RunKind
    model: str
    """champion, challenger, as-of or a version number."""
    force: bool
    """Score objects again that the ledger knows already."""
    allow_retrain: bool

    def __post_init__(self) -> None:
        if not _FIRST <= self.window_date <= _LAST:
            raise Permanent(
                f"night {self.window_date}",
                expected=f"a date from {_FIRST} to {_LAST}",
                found="another",
                remedy="correct the date",
            )

    def to_json(self) -> dict[str, Any]:
        """A small JSON value, for passing between tasks."""
        return {**vars(self), "window_date": self.window_date.isoformat()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Night":
        """The inverse of `to_json`."""
        return cls(**{**value, "window_date": date.fromisoformat(value["window_date"])})

    @property
    def scheduled_at(self) -> datetime:
        """When the schedule runs this night."""
        return scheduled_at(self.window_date)


def scheduled_at(window_date: date) -> datetime:
    """When the schedule runs a night: 02:00 UTC of the day after."""
    return Window.of_date(window_date).end + timedelta(hours=2)


def window_of(*, partition_key: str | None, param_date: str | None, run_after: datetime | None) -> Window:
    """The window of a run: its partition key, else its `date` param, else the day before it may run.

    A backfill's run_after lies a day before the scheduled run's, so it is looked at only where nothing else says.

    >>> window_of(partition_key=None, param_date=None, run_after=datetime(2026, 11, 21, 2, tzinfo=UTC)).window_date
    datetime.date(2026, 11, 20)
    """
    for source, text in (("partition key", partition_key), ("param date", param_date)):
        if text:
            try:
                return Window.of_date(date.fromisoformat(text))
            except (ValueError, OverflowError) as error:
                raise Permanent(
                    source, expected="a date such as 2026-11-20", found=repr(text), remedy="trigger the run again with a date"
                ) from error
    moment = run_after or datetime.now(UTC)
    return Window.of_date(moment.astimezone(UTC).date() - timedelta(days=1))


def plan_night(
    *,
    partition_key: str | None,
    params: dict[str, Any],
    run_after: datetime | None,
    run_id: str,
    run_type: str,
) -> Night:
    """Turn what Airflow knows of a run into a Night.

    A backfill gives what the nights themselves would have given (`as-of`) and sets nothing off, unless its
    params say otherwise.
    """
    kind: RunKind = "backfill" if run_type == "backfill" else "scheduled" if run_type == "scheduled" else "manual"
    allow_retrain = params.get("allow_retrain")
    return Night(
        window_date=window_of(partition_key=partition_key, param_date=params.get("date"), run_after=run_after).window_date,
        run_id=run_id,
        kind=kind,
        model=str(params.get("model") or ("as-of" if kind == "backfill" else "champion")),
        force=bool(params.get("force")),
        allow_retrain=kind != "backfill" if allow_retrain is None else bool(allow_retrain),
    )
