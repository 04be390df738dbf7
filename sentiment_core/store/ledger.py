"""The ledger: versions of objects, and how one's rows get into staging.

Versions of an object are a sequence per key, never a set: content that goes A, B, A ends as A. Staging an object is
one transaction under a lease of its key (`lease`), held while the object is read, so that the order of versions is the
order in which they were read; until its last statements it keeps no lock that another staging of the object would have
to wait for. What is listed and new is `listing`'s business; what is staged becomes current only through `publish`.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy.engine import Connection, Engine, Row

from sentiment_core import schema
from sentiment_core.domain import ModelRef, ObjectVersion, Reject, ScoredBatch
from sentiment_core.store.copy import Constant, copy_table
from sentiment_core.store.engine import statement
from sentiment_core.store.lease import Lease, leased

_LIVE = ("staged", "scored", "gone")
_IDENTITY = ("etag", "size", "last_modified")
_SKETCHES = pa.schema([
    ("object_id", pa.int64()), ("review_date", pa.date32()), ("model_version", pa.int32()), ("n", pa.int64()),
    ("moments", pa.large_binary()), ("sample", pa.large_binary()),
])  # fmt: skip
# What COPY sends before a jsonb value: the version of its layout.
_JSONB = b"\x01"


@dataclass(frozen=True, kw_only=True)
class StagedObject:
    """What became of an object version."""

    object_id: int
    outcome: Literal["staged", "unchanged"]
    """unchanged: another run had staged this version already."""
    n_rows: int
    n_scored: int
    n_quarantined: int
    review_dates: tuple[date, ...]
    """Dates the object has rows in."""


def record_failed(engine: Engine, obj: ObjectVersion, *, window_date: date, run_id: str, reason: str) -> int:
    """Record an object version that could not be read, with the reason; the version before it stays live.

    A version whose rows are live already (it is scored once more) keeps its status: what it delivered still holds.
    """
    with engine.begin() as connection:
        latest = _lock_key(connection, obj)
        reason = _storable(reason)
        if latest is None or not _is_same(latest, obj):
            object_id = int(connection.execute(statement("ledger.draw_object_id")).scalar_one())
            values: dict[str, Any] = {"object_id": object_id, "status": "failed", "reason": reason, "run_id": run_id}
            _insert_version(connection, obj, latest, window_date, **values)
            return object_id
        values = {"object_id": latest.object_id, "reason": reason, "run_id": run_id}
        connection.execute(statement("ledger.fail_again"), values)
        return int(latest.object_id)


def unpublished_dates(engine: Engine) -> list[date]:
    """Dates whose current rows may differ from what has been staged."""
    with engine.connect() as connection:
        return list(connection.execute(statement("ledger.unpublished_dates")).scalars())


@contextmanager
def stage(
    engine: Engine,
    obj: ObjectVersion,
    *,
    window_date: date,
    model: ModelRef,
    run_id: str,
    lease_seconds: float,
    force: bool = False,
) -> Iterator["Staging"]:
    """One object version's rows into staging, in one transaction; an exception inside leaves nothing behind.

    The caller reads the object inside the block, and only when `is_needed`. `result` is known when it is not
    needed, and after the block.

    Raises:
        LeaseLost: this process slept for longer than the lease, and another run has taken the object over.
    """
    place: dict[str, Any] = {"bucket": obj.bucket, "key": obj.key, "run_id": run_id, "seconds": lease_seconds}
    with engine.begin() as connection, leased(engine, connection, **place) as lease:
        staging = Staging(connection, lease, obj, window_date=window_date, model=model, run_id=run_id, force=force)
        yield staging
        if staging.is_needed:
            staging.finish()
        else:
            lease.hand_back(connection)


class Staging:
    """An object version on its way into staging; made by `stage`."""

    def __init__(
        self,
        connection: Connection,
        lease: Lease,
        obj: ObjectVersion,
        *,
        window_date: date,
        model: ModelRef,
        run_id: str,
        force: bool,
    ) -> None:
        self._connection = connection
        self._lease = lease
        self._obj = obj
        self._window_date = window_date
        self._model = model
        self._run_id = run_id
        self._n_by_date: Counter[date] = Counter()
        self._n_quarantined = 0
        self._is_rated = False
        self._sketches: list[dict[str, Any]] = []
        self._result: StagedObject | None = None
        latest = _latest_version(connection, obj)
        self._is_known = latest is not None and _is_same(latest, obj)
        if latest is not None and self._is_known:
            self._object_id = int(latest.object_id)
            # Whichever version scored it: of two runs on a night the one that comes later has nothing to do, so that what
            # stands there does not depend on who comes last. Another version scores it when it is told to.
            if latest.status in _LIVE and not latest.is_removed and not force:
                self._result = self._unchanged(latest)
        else:
            self._object_id = int(self._execute("draw_object_id").scalar_one())
        self.is_needed = self._result is None
        """False when another run has staged this version: the object need not be read."""
        self.is_overtaken = latest is not None and not self._is_known and latest.last_modified > obj.last_modified
        """True when a later version has been recorded since this one was listed: is this one still what lies there?"""
        # By which publishing tells the rows of an object's stagings apart. Equal or not is all that is asked of it: a
        # clock that is set back does no harm.
        self._staged_at: datetime = self._execute("clock").scalar_one()
        self._constants: dict[str, tuple[str, Constant]] = {
            "model_name": ("text", model.name),
            "model_version": ("integer", model.version),
            "scored_at": ("timestamptz", self._staged_at),
            "run_id": ("text", run_id),
            "object_id": ("bigint", self._object_id),
        }

    @property
    def result(self) -> StagedObject:
        """What became of the object; known after the block, or at once when nothing is needed."""
        if self._result is None:
            raise RuntimeError("the result of a staging is known when its block has ended")
        return self._result

    def add(self, scored: ScoredBatch, rejects: Sequence[Reject] = ()) -> None:
        """Append scored rows and rejected ones; a row number may be given once."""
        self._lease.check()
        table = scored.table.select([name for name in schema.SCORED_BATCH.names if name in schema.STAGED_REVIEWS.column_names])
        days = table["review_date"]
        found = pc.unique(days).to_pylist()
        for day in found:
            rows = table if len(found) == 1 else table.filter(pc.equal(days, day))
            if day not in self._n_by_date:
                self._ensure_leaf(day)
            copy_table(self._connection, leaf("staged_reviews", day), rows, self._constants)
            self._n_by_date[day] += len(rows)
        self._add_ratings(scored.table)
        self._add_rejects(rejects)

    def add_sketch(self, review_date: date, n: int, moments: dict[str, Any], sample: bytes) -> None:
        """Keep the drift statistics of the object's rows of one date."""
        self._sketches.append({
            "object_id": self._object_id, "review_date": review_date, "model_version": self._model.version,
            "n": n, "moments": _JSONB + json.dumps(moments, allow_nan=False).encode(), "sample": sample,
        })  # fmt: skip

    def finish(self) -> None:
        """Close the books: version, rejects and sketches, counts, dates to publish, status."""
        self._lease.hand_back(self._connection)
        latest = _lock_key(self._connection, self._obj)
        if not self._is_known:
            self._insert_version(latest)
        self._replace_records()
        older = list(self._execute("older_versions", self._place()).scalars())
        ids = sorted([*older, self._object_id])
        n_scored = self._n_by_date.total()
        if self._is_rated:
            self._execute("upsert_ratings")
        self._execute("lock_dates", {"object_ids": ids})
        self._execute("unpublish", {"object_ids": ids})
        self._execute("clear_counts", {"object_id": self._object_id})
        for day, n_rows in self._n_by_date.items():
            values = {"object_id": self._object_id, "review_date": day, "n_rows": n_rows, "staged_at": self._staged_at}
            self._execute("count_date", values)
        self._execute("lock_objects", {"object_ids": ids})
        values = {
            "object_id": self._object_id, "n_rows": n_scored + self._n_quarantined, "n_scored": n_scored,
            "n_quarantined": self._n_quarantined, "model_version": self._model.version, "run_id": self._run_id,
            "window_date": self._window_date,
        }  # fmt: skip
        self._execute("finish_staging", values)
        settle(self._connection, ids)
        self._result = StagedObject(
            object_id=self._object_id, outcome="staged", n_rows=n_scored + self._n_quarantined, n_scored=n_scored,
            n_quarantined=self._n_quarantined, review_dates=tuple(sorted(self._n_by_date)),
        )  # fmt: skip

    def _execute(self, name: str, values: dict[str, Any] | list[dict[str, Any]] | None = None) -> Any:
        return self._connection.execute(statement(f"ledger.{name}"), values or {})

    def _place(self) -> dict[str, Any]:
        return {"bucket": self._obj.bucket, "key": self._obj.key, "object_id": self._object_id}

    def _unchanged(self, latest: Row[Any]) -> StagedObject:
        days = self._execute("dates_of", {"object_id": self._object_id}).scalars()
        return StagedObject(
            object_id=self._object_id, outcome="unchanged", n_rows=latest.n_rows, n_scored=latest.n_scored,
            n_quarantined=latest.n_quarantined, review_dates=tuple(days),
        )  # fmt: skip

    def _insert_version(self, latest: Row[Any] | None) -> None:
        values: dict[str, Any] = {"object_id": self._object_id, "status": "staged", "reason": None, "run_id": self._run_id}
        _insert_version(self._connection, self._obj, latest, self._window_date, **values)

    def _replace_records(self) -> None:
        """In the place of what an earlier scoring of the same version left; its rows are replaced when they are published."""
        self._execute("delete_sketches", {"object_ids": [self._object_id]})
        self._execute("delete_quarantined", {"object_id": self._object_id})
        if self._sketches:
            # Megabytes in a statement would be quoted, parsed and read back.
            sketches = pa.Table.from_pylist(self._sketches, _SKETCHES)
            copy_table(self._connection, "sentiment.drift_sketches", sketches)
        if self._n_quarantined:
            self._execute("insert_rejects", {"object_id": self._object_id})

    def _ensure_leaf(self, day: date) -> None:
        name = leaf("staged_reviews", day).partition(".")[2]
        if self._connection.execute(statement("publish.has_leaf"), {"leaf": name}).scalar_one():
            return
        # In a transaction of its own: a leaf made here would keep every other night from making one until this
        # object has been read to its end.
        with self._connection.engine.begin() as connection:
            connection.execute(statement("ledger.ensure_staged_leaf"), {"review_date": day})

    def _add_ratings(self, table: pa.Table) -> None:
        rated = table.select(["review_date", "review_id", "row_number", "rating", "created_at"])
        rated = rated.filter(rated["rating"].is_valid())
        if not len(rated):
            return
        if not self._is_rated:
            self._execute("make_ratings")
            self._is_rated = True
        stated_at = pc.coalesce(rated["created_at"], pa.scalar(self._obj.last_modified, schema.TIMESTAMP))
        ratings = rated.drop_columns("created_at").append_column("labelled_at", stated_at)
        copy_table(self._connection, "pg_temp.staged_ratings", ratings)

    def _add_rejects(self, rejects: Sequence[Reject]) -> None:
        # Beside the table they belong to until the books are closed: there they name an object version, which is not
        # recorded before.
        if not rejects:
            return
        if not self._n_quarantined:
            self._execute("make_rejects")
        columns = {
            "row_number": pa.array([reject.row_number for reject in rejects], pa.int64()),
            "review_id": pa.array([reject.review_id and _storable(reject.review_id) for reject in rejects], pa.string()),
            "reason": pa.array([_storable(reject.reason) for reject in rejects], pa.string()),
        }
        copy_table(self._connection, "pg_temp.staged_rejects", pa.table(columns))
        self._n_quarantined += len(rejects)


def leaf(relation: str, day: date) -> str:
    """The leaf of a partitioned relation that holds one date, as `sentiment.ensure_leaf` names it.

    >>> leaf("scored_reviews", date(2026, 11, 1))
    'sentiment.scored_reviews_20261101'
    """
    return f"{schema.SCHEMA}.{relation}_{day:%Y%m%d}"


def settle(connection: Connection, object_ids: Sequence[int]) -> None:
    """Bring the statuses of these versions in line with what has been published; sketches of superseded ones go.

    The caller holds their row locks, so that of two publishers the second sees what the first has done.
    """
    values = {"object_ids": list(object_ids)}
    connection.execute(statement("ledger.settle_scored"), values)
    superseded = {"object_ids": list(connection.execute(statement("ledger.settle_superseded"), values).scalars())}
    if superseded["object_ids"]:
        connection.execute(statement("ledger.delete_sketches"), superseded)


def _lock_key(connection: Connection, obj: ObjectVersion) -> Row[Any] | None:
    """Keep others from recording a version of the key until the transaction ends; returns the latest that is recorded."""
    connection.execute(statement("ledger.lock_key"), {"bucket": obj.bucket, "key": obj.key})
    return _latest_version(connection, obj)


def _latest_version(connection: Connection, obj: ObjectVersion) -> Row[Any] | None:
    return connection.execute(statement("ledger.latest_version"), {"bucket": obj.bucket, "key": obj.key}).one_or_none()


def _is_same(latest: Row[Any], obj: ObjectVersion) -> bool:
    return all(getattr(latest, name) == getattr(obj, name) for name in _IDENTITY)


def _insert_version(
    connection: Connection, obj: ObjectVersion, latest: Row[Any] | None, window_date: date, **values: str | int | None
) -> None:
    values_ = {**vars(obj), **values, "window_date": window_date, "sequence": latest.sequence + 1 if latest else 1}
    connection.execute(statement("ledger.insert_version"), values_)


def _storable(words: str) -> str:
    """Words about a bad row, as PostgreSQL takes them: what made the row bad may stand in them."""
    return words.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
