"""Making what is staged current, one review_date at a time.

A publication is one transaction under a lock on its date: it picks the winner of every identity among the live
objects, merges them into the date's leaf, keeps what it replaces in score_history, and settles the ledger. Readers
go on reading. Publishing twice equals once, and whoever comes by can complete what a killed run has left.
"""

from dataclasses import dataclass
from datetime import date

from sqlalchemy import TextClause, text
from sqlalchemy.engine import Connection, Engine, RowMapping

from sentiment_core.schema import SCORED_REVIEWS
from sentiment_core.store.engine import statement, statements
from sentiment_core.store.ledger import leaf, settle


@dataclass(frozen=True, kw_only=True)
class PublishedDate:
    """What a publication changed."""

    review_date: date
    n_inserted: int
    n_updated: int
    n_deleted: int
    """Identities that no live object holds any more."""
    n_retired: int
    """Scores that went to score_history: updated and deleted ones."""
    n_rows: int
    """Current rows of the date afterwards."""


def publish(engine: Engine, review_date: date, *, run_id: str) -> PublishedDate:
    """Make the winners among the live objects the current rows of a date.

    Args:
        engine: as the writer.
        review_date: the date; another publication of it is waited for.
        run_id: named in the server's list of sessions while it runs; rows keep the run that scored them.
    """
    with engine.begin() as connection:
        connection.execute(
            text("select set_config('application_name', :name, true)"), {"name": f"sentiment publish {run_id}"[:63]}
        )
        connection.execute(statement("publish.set_memory"))
        connection.execute(statement("ledger.ensure_leaf"), {"review_date": review_date})
        connection.execute(statement("publish.lock_date"), {"review_date": review_date.isoformat()})
        claimed = list(connection.execute(statement("publish.claim"), {"review_date": review_date}).scalars())
        counts = _merge(connection, review_date)
        connection.execute(statement("publish.mark"), {"review_date": review_date, "object_ids": claimed})
        connection.execute(statement("ledger.lock_objects"), {"object_ids": claimed})
        settle(connection, claimed)
    return PublishedDate(review_date=review_date, **counts)


def _merge(connection: Connection, review_date: date) -> RowMapping:
    """Merge the winners into the date's leaf: right for a trickle; a bulk night may build a new leaf and swap it."""
    return connection.execute(_merge_statement(review_date), {"review_date": review_date}).mappings().one()


def _merge_statement(review_date: date) -> TextClause:
    names = SCORED_REVIEWS.column_names
    return text(
        statements("publish")["merge"].format(
            staged_leaf=leaf("staged_reviews", review_date),
            scored_leaf=leaf("scored_reviews", review_date),
            columns=", ".join(names),
            values=", ".join(f"w.{name}" for name in names),
            assignments=", ".join(f"{name} = w.{name}" for name in names if name not in ("review_date", "review_id")),
        )
    )
