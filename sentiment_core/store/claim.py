"""What a publication answers for, and what it changed: the values that `publish` and `bulk` share.

How rows become current is not decided here.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.engine import Connection, CursorResult

from sentiment_core.schema import SCORED_REVIEWS
from sentiment_core.store.engine import statement, statements
from sentiment_core.store.ledger import leaf


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


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a publication answers for: objects whose rows of the date have changed since they were last published."""

    review_date: date
    object_ids: list[int]
    live_ids: list[int]
    """Of these, the newest versions of their keys: their staged rows contend, those of the others are gone."""
    stale_ids: list[int]
    """Of these, those that may have rows among the current ones."""
    n_staged: int
    """Rows that the live ones have staged."""

    @property
    def values(self) -> dict[str, object]:
        """As the statements name it."""
        return {"review_date": self.review_date, "object_ids": self.object_ids, "live_ids": self.live_ids}

    def execute(self, connection: Connection, name: str, **values: object) -> CursorResult[Any]:
        """Run a statement of `sql/publish.sql` about the leaves of the date."""
        return connection.execute(_named(name, self.review_date), {**self.values, **values})


def claim(connection: Connection, review_date: date) -> Claim:
    """Claim what is unpublished of a date; nobody stages these objects anew before the transaction ends."""
    values = {"review_date": review_date}
    object_ids = list(connection.execute(statement("publish.claim"), values).scalars())
    found = connection.execute(statement("publish.claimed"), {**values, "object_ids": object_ids}).all()
    return Claim(
        review_date=review_date,
        object_ids=object_ids,
        live_ids=[row.object_id for row in found if row.is_live],
        stale_ids=[row.object_id for row in found if row.was_published],
        n_staged=sum(row.n_rows for row in found if row.is_live),
    )


def _named(name: str, review_date: date) -> TextClause:
    """A statement of `sql/publish.sql` about the leaves of a date."""
    names = SCORED_REVIEWS.column_names
    scored_leaf = leaf("scored_reviews", review_date)
    return text(
        statements("publish")[name].format(
            staged_leaf=leaf("staged_reviews", review_date),
            scored_leaf=scored_leaf,
            new_leaf=f"{scored_leaf}_new",
            columns=", ".join(names),
            values=", ".join(f"w.{name}" for name in names),
            assignments=", ".join(f"{name} = w.{name}" for name in names if name not in ("review_date", "review_id")),
        )
    )
