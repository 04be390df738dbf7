"""A listing of the bucket against the ledger: what is new, what is gone, and what a run still has to read.

Comparing is one statement over a copied listing, whatever its length. What is new is kept here by run and batch until it
is scored: between tasks only the number of a batch travels. Reading and staging the objects is not known here.
"""

from collections.abc import Sequence
from datetime import date, datetime

import pyarrow as pa
from sqlalchemy.engine import Connection, Engine

from sentiment_core import schema
from sentiment_core.domain import ObjectVersion
from sentiment_core.store.copy import Constant, copy_table
from sentiment_core.store.engine import statement

_NEVER = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def new_objects(engine: Engine, listed: Sequence[ObjectVersion], *, force: bool = False) -> list[ObjectVersion]:
    """Those of a listing that differ from the latest recorded version of their key, in the order of the listing.

    A version that failed is recorded too: it is new again only when it changes, or with `force`.
    """
    if force or not listed:
        return list(listed)
    with engine.begin() as connection:
        _copy_listing(connection, listed)
        return [listed[position] for position in connection.execute(statement("listing.new_objects")).scalars()]


def note_gone(engine: Engine, *, bucket: str, window_dates: Sequence[date] | None, listed_keys: Sequence[str]) -> int:
    """Mark live objects of these nights' folders that are no longer listed as gone, and say how many.

    Their rows stay: a lifecycle rule that empties the bucket takes no score away (but see `remove_gone`). An object that
    is listed again gets its status back.

    Args:
        engine: as the writer.
        bucket: the bucket that was listed.
        window_dates: folders that were listed; None: all there are.
        listed_keys: what was in them.
    """
    listed = [ObjectVersion(bucket=bucket, key=key, etag="", size=0, last_modified=_NEVER) for key in listed_keys]
    with engine.begin() as connection:
        _copy_listing(connection, listed)
        return int(connection.execute(statement("listing.note_gone"), _folders(bucket, window_dates)).scalar_one())


def remove_gone(engine: Engine, *, bucket: str, window_dates: Sequence[date] | None) -> int:
    """Take the rows of objects that are gone out of their dates, for the next publication; says of how many objects.

    What they outranked becomes current again. Listed again, such an object is new.
    """
    with engine.begin() as connection:
        found = connection.execute(statement("listing.with_rows"), _folders(bucket, window_dates)).scalars()
        ids = {"object_ids": list(found)}
        if not ids["object_ids"]:
            return 0
        connection.execute(statement("ledger.lock_dates"), ids)
        connection.execute(statement("ledger.lock_objects"), ids)
        ids = {"object_ids": list(connection.execute(statement("listing.take_rows"), ids).scalars())}
        connection.execute(statement("listing.empty_dates"), ids)
        connection.execute(statement("ledger.delete_sketches"), ids)
    return len(ids["object_ids"])


def keep_batches(engine: Engine, batches: Sequence[Sequence[ObjectVersion]], *, window_date: date, run_id: str) -> None:
    """Keep what a run has to score, in the place of what it had listed before."""
    run = {"window_date": window_date, "run_id": run_id}
    with engine.begin() as connection:
        connection.execute(statement("listing.forget_batches"), run)
        listed_at: datetime = connection.execute(statement("listing.now")).scalar_one()
        rows = [(number, place, obj) for number, batch in enumerate(batches) for place, obj in enumerate(batch)]
        columns = {
            "batch": pa.array([number for number, _, _ in rows], pa.int32()),
            "place": pa.array([place for _, place, _ in rows], pa.int32()),
            **_columns([obj for _, _, obj in rows]),
        }
        constants: dict[str, tuple[str, Constant]] = {
            "window_date": ("date", window_date), "run_id": ("text", run_id), "listed_at": ("timestamptz", listed_at),
        }  # fmt: skip
        copy_table(connection, f"{schema.SCHEMA}.{schema.BATCH_OBJECTS.name}", pa.table(columns), constants)


def batch_objects(engine: Engine, *, window_date: date, run_id: str, batch: int) -> list[ObjectVersion]:
    """The objects of a run's batch, in order; none where the run has listed anew, or long ago."""
    values = {"window_date": window_date, "run_id": run_id, "batch": batch}
    with engine.connect() as connection:
        return [ObjectVersion(**row) for row in connection.execute(statement("listing.batch"), values).mappings()]


def is_sweep_due(engine: Engine, *, window_date: date, run_id: str, days: int) -> bool:
    """Whether no other run has listed every folder in the so many nights up to this one."""
    values = {"window_date": window_date, "run_id": run_id, "days": days}
    with engine.connect() as connection:
        return bool(connection.execute(statement("listing.is_sweep_due"), values).scalar_one())


def record_sweep(engine: Engine, *, window_date: date, run_id: str, n_objects: int) -> None:
    """Write down that a run has listed every folder."""
    values = {"window_date": window_date, "run_id": run_id, "n_objects": n_objects}
    with engine.begin() as connection:
        connection.execute(statement("listing.record_sweep"), values)


def _folders(bucket: str, window_dates: Sequence[date] | None) -> dict[str, object]:
    return {"bucket": bucket, "window_dates": None if window_dates is None else list(window_dates)}


def _copy_listing(connection: Connection, listed: Sequence[ObjectVersion]) -> None:
    connection.execute(statement("listing.make_listing"))
    columns = {"position": pa.array(range(len(listed)), pa.int64()), **_columns(listed)}
    copy_table(connection, "pg_temp.listed_objects", pa.table(columns))
    connection.execute(statement("listing.analyze_listing"))


def _columns(listed: Sequence[ObjectVersion]) -> dict[str, pa.Array]:
    return {
        "bucket": pa.array([obj.bucket for obj in listed], pa.string()),
        "key": pa.array([obj.key for obj in listed], pa.string()),
        "etag": pa.array([obj.etag for obj in listed], pa.string()),
        "size": pa.array([obj.size for obj in listed], pa.int64()),
        "last_modified": pa.array([obj.last_modified for obj in listed], schema.TIMESTAMP),
    }
