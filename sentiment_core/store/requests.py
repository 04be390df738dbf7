"""Which nights have set off a retrain: asked and answered under one lock, so that of two nights at once one goes ahead.

Whether a night may is not decided here: the caller's rule is.
"""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from sqlalchemy.engine import Engine

from sentiment_core.drift.loop import Request
from sentiment_core.store.engine import statement

Rule = Callable[[Sequence[Request], int], str]
"""Given the requests before and the number of labels now: why not; empty when nothing speaks against it."""


def retrain_requests(engine: Engine) -> list[Request]:
    """The retrains that nights have set off, in order."""
    with engine.connect() as connection:
        return [_request(dict(row)) for row in connection.execute(statement("requests.requests")).mappings()]


def request_retrain(
    engine: Engine, *, window_date: date, run_id: str, retrain_run_id: str, model_version: int, why_not: Rule
) -> str:
    """Write down that a night sets off a retrain, unless the rule objects; returns the objection, or nothing.

    A run that asks again (a task that is tried again) gets the answer it had.
    """
    with engine.begin() as connection:
        connection.execute(statement("requests.lock"))
        rows = [dict(row) for row in connection.execute(statement("requests.requests")).mappings()]
        if any((row["retrain_run_id"], row["run_id"]) == (retrain_run_id, run_id) for row in rows):
            return ""
        if any(row["retrain_run_id"] == retrain_run_id for row in rows):
            return f"Another run of {window_date} has set off its retrain already."
        n_labels = int(connection.execute(statement("requests.count_labels")).scalar_one())
        if objection := why_not([_request(row) for row in rows], n_labels):
            return objection
        values = {
            "window_date": window_date, "run_id": run_id, "retrain_run_id": retrain_run_id,
            "model_version": model_version, "n_labels": n_labels,
        }  # fmt: skip
        connection.execute(statement("requests.insert"), values)
    return ""


def _request(row: dict[str, Any]) -> Request:
    return Request(**{name: row[name] for name in ("window_date", "n_labels", "outcome", "has_trained")})
