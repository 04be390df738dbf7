"""Shadow scores: what a challenger would have said, in score_history alone.

They were never current: `scored_at` and `retired_at` are the same moment, and no publication looks at them. Which
version scores in the shadow, and on how many nights, is decided by the stages.
"""

from collections.abc import Iterable
from datetime import date
from typing import Any

from sqlalchemy.engine import Engine

from sentiment_core import schema
from sentiment_core.domain import ModelRef, ObjectVersion, ScoredBatch
from sentiment_core.store.copy import Constant, copy_table
from sentiment_core.store.engine import statement

_COLUMNS = [name for name in schema.SCORED_BATCH.names if name in schema.SCORE_HISTORY.column_names]


def shadow_nights(engine: Engine, *, model_version: int, other_than: date) -> int:
    """Other nights on which a version has scored in the shadow."""
    values = {"model_version": model_version, "window_date": other_than}
    with engine.connect() as connection:
        return int(connection.execute(statement("shadow.n_nights"), values).scalar_one())


def waiting_objects(engine: Engine, *, model_version: int, run_id: str, window_date: date) -> dict[int, ObjectVersion]:
    """Object versions of a night that a version has not scored in the shadow yet, by their number."""
    values = {"model_version": model_version, "run_id": run_id, "window_date": window_date}
    with engine.connect() as connection:
        rows = connection.execute(statement("shadow.waiting_objects"), values).mappings().all()
    return {row["object_id"]: ObjectVersion(**{name: row[name] for name in row if name != "object_id"}) for row in rows}


def keep_shadow(
    engine: Engine, object_id: int, batches: Iterable[ScoredBatch], *, model: ModelRef, run_id: str, window_date: date
) -> dict[str, int]:
    """Keep a version's scores of an object, in one transaction and once, however often it is tried.

    Returns n_scored, and n_agreed: on how many reviews of the object it says what their current score says.
    """
    place = {"object_id": object_id, "model_version": model.version}
    with engine.begin() as connection:
        connection.execute(statement("shadow.lock"), place)
        if connection.execute(statement("shadow.is_done"), place).scalar_one():
            return {"n_scored": 0, "n_agreed": 0}
        scored_at = connection.execute(statement("shadow.clock")).scalar_one()
        constants: dict[str, tuple[str, Constant]] = {
            "model_name": ("text", model.name),
            "model_version": ("integer", model.version),
            "scored_at": ("timestamptz", scored_at),
            "run_id": ("text", run_id),
            "object_id": ("bigint", object_id),
            "retired_at": ("timestamptz", scored_at),
        }
        n_scored = 0
        for batch in batches:
            copy_table(connection, f"{schema.SCHEMA}.{schema.SCORE_HISTORY.name}", batch.table.select(_COLUMNS), constants)
            n_scored += len(batch.table)
        values: dict[str, Any] = {**place, "run_id": run_id}
        n_agreed = int(connection.execute(statement("shadow.n_agreed"), values).scalar_one())
        values |= {"window_date": window_date, "n_scored": n_scored, "n_agreed": n_agreed, "scored_at": scored_at}
        connection.execute(statement("shadow.record"), values)
    return {"n_scored": n_scored, "n_agreed": n_agreed}
