"""Forgetting: excerpts, old scores, samples and rejected rows that have been kept long enough, and leaves nobody needs.

Every leaf is a transaction of its own, so that nothing waits long and a killed run is completed by the next. What is
taken away is counted in `removals`, in the same transaction. For how long things are kept is the policy's business, and
objects of S3 are `reviews`'.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine, Row

from sentiment_core.schema import RUNNER_UPS, SCHEMA, SCORE_HISTORY, SCORED_REVIEWS, STAGED_REVIEWS
from sentiment_core.store.engine import statement, statements

# A publication is stamped when it begins: rows may come in this long after what its stamp says.
_LONGEST_PUBLICATION = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A table that holds the rows of one date."""

    name: str
    leaf_date: date

    @property
    def table(self) -> str:
        """As SQL has it; the catalogue's own names need no quotes."""
        return f"{SCHEMA}.{self.name}"


class Removing:
    """A transaction in which things are taken away and counted."""

    def __init__(self, connection: Connection, run_id: str) -> None:
        self.connection = connection
        self._run_id = run_id

    def execute(self, name: str, /, **values: Any) -> Any:
        """Run a statement of `sql/retention.sql`."""
        return self.connection.execute(statement(f"retention.{name}"), values)

    def execute_on(self, table: str, name: str, /, **values: Any) -> Any:
        """Run a statement of `sql/retention.sql` about a table."""
        return self.connection.execute(text(statements("retention")[name].format(leaf=table, relation=table)), values)

    def count(self, what: str, n: int, before: date | None) -> int:
        """Note how many were taken away."""
        if n:
            self.execute("record", run_id=self._run_id, what=what, before_date=before, n=n)
        return n


@contextmanager
def removing(engine: Engine, run_id: str) -> Iterator[Removing]:
    """One transaction; an exception inside leaves everything as it was."""
    with engine.begin() as connection:
        yield Removing(connection, run_id)


def record_removal(engine: Engine, *, run_id: str, what: str, n: int, before: date | None) -> None:
    """Note what has been taken away outside PostgreSQL."""
    with removing(engine, run_id) as work:
        work.count(what, n, before)


def today(engine: Engine) -> date:
    """The UTC date: of the server or of this machine, whichever is behind, so that one wrong clock removes nothing early."""
    with engine.connect() as connection:
        there: date = connection.execute(statement("retention.today")).scalar_one()
    return min(there, datetime.now(UTC).date())


def cut_excerpts(engine: Engine, *, run_id: str, before: date | None, excerpt_chars: int) -> int:
    """Take the excerpts of reviews before a date away, and cut all others to a length; returns how many rows changed.

    Args:
        engine: as the writer.
        run_id: noted with the count.
        before: date of the first review that keeps its excerpt; None: all do.
        excerpt_chars: length of an excerpt; 0 keeps none.
    """
    n_cut = 0
    for leaf, chars in _uncut_leaves(engine, before or date.min, excerpt_chars):
        with removing(engine, run_id) as work:
            work.execute("lock_date", review_date=leaf.leaf_date.isoformat())
            work.execute("mark", leaf=leaf.name, excerpt_chars=chars)
            n_cut += work.count("excerpts", work.execute_on(leaf.table, "cut_excerpts", excerpt_chars=chars).rowcount, before)
    for table in (f"{SCHEMA}.{RUNNER_UPS.name}", f"only {SCHEMA}.{SCORE_HISTORY.name}"):
        with removing(engine, run_id) as work:
            values = {"before": before or date.min, "excerpt_chars": excerpt_chars}
            n_cut += work.count("excerpts", work.execute_on(table, "cut_undated_excerpts", **values).rowcount, before)
    return n_cut


def _uncut_leaves(engine: Engine, before: date, excerpt_chars: int) -> list[tuple[Leaf, int]]:
    """Leaves that may hold longer excerpts than they should, and how long these may be."""
    with engine.begin() as connection:
        connection.execute(statement("retention.forget_marks"))
        marks = {row.leaf: row for row in connection.execute(statement("retention.marks"))}
        changed = {row.review_date: row.published_at for row in connection.execute(statement("retention.changed_dates"))}
    current, retired = _leaves(engine, SCORED_REVIEWS.name), _leaves(engine, SCORE_HISTORY.name)
    wanted = [(leaf, 0 if leaf.leaf_date < before else excerpt_chars) for leaf in (*current, *retired)]
    return [
        (leaf, chars)
        for leaf, chars in wanted
        if _is_uncut(marks.get(leaf.name), chars, changed.get(leaf.leaf_date) if leaf in current else None)
    ]


def _is_uncut(mark: Row[Any] | None, chars: int, changed_at: datetime | None) -> bool:
    if mark is None or mark.excerpt_chars > chars:
        return True
    return changed_at is not None and changed_at > mark.marked_at - _LONGEST_PUBLICATION


def drop_history(engine: Engine, *, run_id: str, before: date | None, reviews_before: date | None) -> int:
    """Take away scores retired before a date, and those of reviews before another; returns how many."""
    n_dropped = 0
    for leaf in _leaves(engine, SCORE_HISTORY.name):
        with removing(engine, run_id) as work:
            retired_at = work.execute_on(leaf.table, "newest_retired_at").scalar_one()
            is_old = retired_at is None or retired_at < _midnight(before) or leaf.leaf_date < (reviews_before or date.min)
            if is_old:
                n_rows = work.execute_on(leaf.table, "count_rows").scalar_one()
                if work.execute("drop_history_leaf", leaf=leaf.name).scalar_one():
                    n_dropped += work.count("history", n_rows, before)
    with removing(engine, run_id) as work:
        values = {"retired_before": _midnight(before), "before": reviews_before or date.min}
        return n_dropped + work.count("history", work.execute("delete_history", **values).rowcount, before)


def drop_reviews(engine: Engine, *, run_id: str, before: date) -> dict[str, int]:
    """Take away the reviews before a date: their current rows, what these outrank, and labels.

    A date with rows that wait to be published is left for the night after.
    """
    counts = {"reviews": 0, "labels": 0}
    for leaf in _leaves(engine, SCORED_REVIEWS.name):
        if leaf.leaf_date < before:
            counts["reviews"] += _drop_scored_leaf(engine, leaf, run_id=run_id, may_hold_rows=True)[1]
    with removing(engine, run_id) as work:
        counts["reviews"] += work.count("reviews", work.execute("delete_runner_ups", before=before).rowcount, before)
        counts["labels"] += work.count("labels", work.execute("delete_labels", before=before).rowcount, before)
    return counts


def drop_sketches(engine: Engine, *, run_id: str, before: date) -> int:
    """Take away the drift statistics of dates before this one; returns how many."""
    with removing(engine, run_id) as work:
        return work.count("samples", work.execute("delete_sketches", before=before).rowcount, before)


def drop_quarantined(engine: Engine, *, run_id: str, before: date) -> int:
    """Forget the rejected rows of folders before this date; how many there were stays with their objects."""
    with removing(engine, run_id) as work:
        return work.count("quarantined rows", work.execute("delete_quarantined", before=before).rowcount, before)


def drop_staging(engine: Engine, *, run_id: str, before: date) -> dict[str, int]:
    """Take away staged rows from before a date that no publication will look at, and empty leaves of dates before it."""
    counts = {"staged_rows": 0, "leaves": 0}
    for leaf in _leaves(engine, STAGED_REVIEWS.name):
        with removing(engine, run_id) as work:
            work.execute("lock_date", review_date=leaf.leaf_date.isoformat())
            n_rows = work.execute_on(leaf.table, "delete_staged", before=_midnight(before)).rowcount
            counts["staged_rows"] += work.count("staged rows", n_rows, before)
        if leaf.leaf_date < before:
            with removing(engine, run_id) as work:
                is_empty = not work.execute_on(leaf.table, "has_rows").scalar_one()
                is_dropped = is_empty and work.execute("drop_staged_leaf", review_date=leaf.leaf_date).scalar_one()
                counts["leaves"] += work.count("empty leaves", int(is_dropped), before)
    for leaf in _leaves(engine, SCORED_REVIEWS.name):
        if leaf.leaf_date < before:
            counts["leaves"] += _drop_scored_leaf(engine, leaf, run_id=run_id, may_hold_rows=False)[0]
    return counts


def _drop_scored_leaf(engine: Engine, leaf: Leaf, *, run_id: str, may_hold_rows: bool) -> tuple[int, int]:
    """How many leaves went, none or one, and how many rows with it."""
    with removing(engine, run_id) as work:
        work.execute("lock_date", review_date=leaf.leaf_date.isoformat())
        if work.execute("is_unpublished", review_date=leaf.leaf_date).scalar_one():
            return 0, 0
        # Nobody but a publication puts rows in. Asked before the function, which keeps readers out for a moment.
        if not may_hold_rows and work.execute_on(leaf.table, "has_rows").scalar_one():
            return 0, 0
        n_rows = work.execute_on(leaf.table, "count_rows").scalar_one() if may_hold_rows else 0
        if not work.execute("drop_scored_leaf", review_date=leaf.leaf_date, may_hold_rows=may_hold_rows).scalar_one():
            return 0, 0
        after = leaf.leaf_date + timedelta(days=1) if leaf.leaf_date < date.max else None
        if n_rows:
            return 0, work.count("reviews", n_rows, after)
        return work.count("empty leaves", 1, after), 0


def _leaves(engine: Engine, relation: str) -> list[Leaf]:
    with engine.connect() as connection:
        rows = connection.execute(statement("retention.leaves"), {"relation": f"{SCHEMA}.{relation}"})
        return [Leaf(name=row.name, leaf_date=row.leaf_date) for row in rows]


def _midnight(day: date | None) -> datetime:
    return datetime.combine(day or date.min, time(), UTC)
