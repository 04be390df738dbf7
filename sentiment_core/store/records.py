"""What is written down about runs, drift checks, labels and model versions, and read back by the stages.

Rows of reviews come in through `ledger` and become current through `publish`; here are the records beside them.
Rows are handed out as dicts under the names of `schema`.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy.engine import Engine

from sentiment_core.domain import DriftVerdict, Reject
from sentiment_core.store.copy import copy_table
from sentiment_core.store.engine import statement
from sentiment_core.store.overview import list_nights

_EVER = datetime(1, 1, 1, tzinfo=UTC)
_LABEL_COLUMNS = ("row_number", "review_date", "review_id", "label", "rating", "labelled_at")


@dataclass(frozen=True, kw_only=True)
class StoredSketch:
    """A drift sketch of one object and date, as the stage that scored the object handed it in."""

    object_id: int
    n: int
    moments: dict[str, Any]
    sample: bytes


@dataclass(frozen=True, kw_only=True)
class LabelOutcome:
    """What became of a batch of labels."""

    n_labels: int
    """Labels whose identity is known; each is stored, unless a later label of the review is there already."""
    n_changed: int
    """Labels that are new, or replaced an earlier one."""
    n_waiting: int
    """Reviews, among those labelled, that have not been scored (yet); their labels are kept."""
    rejects: tuple[Reject, ...]
    """Labels that name no date and whose review is unknown: nothing says which review they mean."""


def start_run(engine: Engine, *, window_date: date, run_id: str, model_version: int) -> None:
    """Record that a run has begun (again), with the version it is pinned to."""
    _write(engine, "start_run", window_date=window_date, run_id=run_id, model_version=model_version)


def finish_run(
    engine: Engine, *, window_date: date, run_id: str, status: str, n_objects: int, n_scored: int, n_quarantined: int
) -> None:
    """Record how a run ended; one that never began leaves no record."""
    _write(
        engine, "finish_run", window_date=window_date, run_id=run_id, status=status,
        n_objects=n_objects, n_scored=n_scored, n_quarantined=n_quarantined,
    )  # fmt: skip


def scoring_run(engine: Engine, run_id: str, window_date: date) -> dict[str, Any] | None:
    """A run's row; None when it has not begun."""
    rows = _read(engine, "scoring_run", run_id=run_id, window_date=window_date)
    return rows[0] if rows else None


def run_version(engine: Engine, run_id: str, window_date: date) -> int | None:
    """The version a run is pinned to; None when it has not begun."""
    run = scoring_run(engine, run_id, window_date)
    return run["model_version"] if run else None


def finished_before(engine: Engine, window_date: date, *, run_id: str) -> bool:
    """Whether another run has scored this night already."""
    return bool(_value(engine, "finished_before", window_date=window_date, run_id=run_id))


def as_of_version(engine: Engine, window_date: date, scheduled_at: datetime) -> int | None:
    """The version of the night's first successful run, else the champion when the night was scheduled, else None."""
    version: int | None = _value(engine, "as_of_version", window_date=window_date, scheduled_at=scheduled_at)
    return version


def nights(engine: Engine, limit: int = 60) -> list[dict[str, Any]]:
    """The latest nights, newest first: `overview.NightRow` as a dict, with review_date and the leading model_version."""
    return [
        {**vars(night), "review_date": night.window_date, "model_version": next(iter(night.model_versions), None)}
        for night in list_nights(engine, limit=limit)
    ]


def count_scored(engine: Engine, first: date, last: date) -> tuple[int, int]:
    """Current rows of these dates (both included), and the distinct identities among them."""
    with engine.connect() as connection:
        n_rows, n_distinct = connection.execute(statement("records.count_scored"), {"first": first, "last": last}).one()
    return n_rows, n_distinct


def count_current(engine: Engine, review_date: date) -> dict[int, int]:
    """Current rows of a date by model version."""
    with engine.connect() as connection:
        rows = connection.execute(statement("records.count_current"), {"review_date": review_date}).all()
    return dict(map(tuple, rows))


def sketches(engine: Engine, review_date: date, model_version: int) -> list[StoredSketch]:
    """The sketches that a version's scoring left for a date; they may hold rows that are no longer current."""
    rows = _read(engine, "sketches", review_date=review_date, model_version=model_version)
    return [StoredSketch(**{**row, "sample": bytes(row["sample"])}) for row in rows]


def current_rows(engine: Engine, review_date: date, model_version: int, review_ids: Sequence[str]) -> dict[str, int]:
    """Of these reviews, those whose current score is the version's, each with the object that holds its current row."""
    rows = _read(engine, "current_rows", review_date=review_date, model_version=model_version, review_ids=list(review_ids))
    return {row["review_id"]: row["object_id"] for row in rows}


def labelled(engine: Engine, review_date: date, model_version: int) -> tuple[int, int]:
    """Reviews of a date that the version scored and whose labels are known, and how many of them it got right."""
    [row] = _read(engine, "labelled", review_date=review_date, model_version=model_version)
    return row["n"], row["n_right"]


def labels_of(engine: Engine, review_date: date, model_version: int) -> dict[str, str]:
    """What people said of a date's reviews that the version scored, by review_id; in the version's classes."""
    rows = _read(engine, "labels_of", review_date=review_date, model_version=model_version)
    return {row["review_id"]: row["label"] for row in rows}


def nights_of_version(engine: Engine, model_version: int, *, first: date, last: date) -> list[tuple[date, int]]:
    """The dates in a range that have been checked and hold current rows of a version, each with how many."""
    rows = _read(engine, "nights_of_version", model_version=model_version, first=first, last=last)
    return [(row["window_date"], row["n"]) for row in rows]


def count_scored_labels(engine: Engine) -> int:
    """Labels of reviews that have been scored."""
    return int(_value(engine, "count_scored_labels"))


def past_checks(engine: Engine, *, first: date, before: date, model_version: int) -> list[dict[str, Any]]:
    """Of every date from `first` to the day before `before` the check that counts, oldest first, where it judged the version.

    Beside it the labels known by now of reviews that the version scored: n_labelled, n_right.
    """
    return _read(engine, "past_checks", first=first, before=before, model_version=model_version)


def next_check_id(engine: Engine) -> int:
    """A number for a drift check, taken before its report is written so that the report's name can hold it."""
    return int(_value(engine, "next_check_id"))


def insert_check(
    engine: Engine,
    *,
    check_id: int,
    verdict: DriftVerdict,
    window_date: date,
    model_version: int,
    report_url: str | None,
    run_id: str | None,
    statistics: dict[str, Any] | None = None,
) -> int:
    """Record a drift check beside earlier ones of its date."""
    values = {**vars(verdict), "columns": _json(verdict.columns), "statistics": None if statistics is None else _json(statistics)}
    _write(
        engine, "insert_check", check_id=check_id, window_date=window_date, model_version=model_version,
        report_url=report_url, run_id=run_id, **values,
    )  # fmt: skip
    return check_id


def upsert_labels(engine: Engine, table: pa.Table) -> LabelOutcome:
    """Keep labels: of several for a review the one with the latest labelled_at.

    Args:
        engine: as the writer.
        table: columns review_date (null: the review's latest date), review_id, label (null: by the rating), rating,
            labelled_at, and row_number where rejects shall say which row of their object they are.
    """
    if "row_number" not in table.column_names:
        table = table.append_column("row_number", pa.array(range(len(table)), pa.int64()))
    table = table.select(_LABEL_COLUMNS)
    with engine.begin() as connection:
        connection.execute(statement("records.make_delivered"))
        copy_table(connection, "pg_temp.delivered_labels", table)
        connection.execute(statement("records.find_dates"))
        unmatched = list(connection.execute(statement("records.unmatched")).scalars())
        n_waiting = connection.execute(statement("records.count_waiting")).scalar_one()
        n_changed = connection.execute(statement("records.upsert_labels")).rowcount
    return LabelOutcome(
        n_labels=len(table) - len(unmatched),
        n_changed=n_changed,
        n_waiting=n_waiting,
        rejects=_unmatched(table, unmatched),
    )


def _unmatched(table: pa.Table, row_numbers: Sequence[int]) -> tuple[Reject, ...]:
    rows = table.filter(pc.is_in(table["row_number"], pa.array(row_numbers, pa.int64()))).to_pylist()
    reason = "review_date: expected a date or the id of a scored review, found neither"
    return tuple(
        Reject(row_number=row["row_number"], review_id=row["review_id"], reason=reason, raw=json.dumps(row, default=str))
        for row in rows
    )


def fresh_labels(engine: Engine, *, since: datetime = _EVER) -> list[dict[str, Any]]:
    """Labels given after `since` of reviews that are scored, each with the object and row where its text lies.

    Ordered by object and row, so that every object is read once.
    """
    return _read(engine, "fresh_labels", since=since)


def insert_event(
    engine: Engine,
    *,
    model_version: int,
    event: str,
    reason: str,
    metrics: dict[str, Any] | None = None,
    snapshot: str | None = None,
    code_version: str | None = None,
    run_id: str | None = None,
) -> None:
    """Record what happened to a model version; once a run, version and event, however often the step is tried.

    The version of `rolled_back` is the one that became champion again.
    """
    _write(
        engine, "insert_event", model_version=model_version, event=event, reason=reason, metrics=_json(metrics or {}),
        snapshot=snapshot, code_version=code_version, run_id=run_id,
    )  # fmt: skip


@contextmanager
def champion_lock(engine: Engine) -> Iterator[None]:
    """Decide about the champion alone: whoever else wants to waits until the block ends, and then sees what was decided."""
    with engine.begin() as connection:
        connection.execute(statement("records.lock_champion"))
        yield


def events(engine: Engine) -> list[dict[str, Any]]:
    """What happened to model versions, in order."""
    return _read(engine, "events")


def registration(engine: Engine, *, run_id: str, snapshot: str) -> dict[str, Any] | None:
    """Which version a run has registered from a training set, and its figures; None where it has not."""
    rows = _read(engine, "registration", run_id=run_id, snapshot=snapshot)
    return rows[0] if rows else None


def decisions(engine: Engine) -> list[dict[str, Any]]:
    """Who was promoted, held and rolled back, in order: model_version, event, reason and run_id, without the figures."""
    return _read(engine, "decisions")


def _read(engine: Engine, name: str, **values: Any) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(statement(f"records.{name}"), values).mappings()]


def _value(engine: Engine, name: str, **values: Any) -> Any:
    with engine.connect() as connection:
        return connection.execute(statement(f"records.{name}"), values).scalar_one()


def _write(engine: Engine, name: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(statement(f"records.{name}"), values)


def _json(value: Any) -> str:
    """JSON as PostgreSQL takes it: figures that are not numbers (precision of a class nobody predicted) are null."""
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()  # a numpy scalar
    return None if isinstance(value, float) and not math.isfinite(value) else value
