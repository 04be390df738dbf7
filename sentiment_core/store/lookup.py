"""Single reviews, looked up by their id: the current score, and the object row that it came from. Only reading."""

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy.engine import Engine

from sentiment_core.domain import ObjectVersion
from sentiment_core.store.engine import statement


@dataclass(frozen=True, kw_only=True)
class ReviewScore:
    """A row of scored_reviews with its place."""

    review_date: date
    review_id: str
    product_id: str | None
    source: str | None
    label: str
    p_negative: float
    p_neutral: float | None
    p_positive: float
    confidence: float
    model_name: str
    model_version: int
    scored_at: datetime
    run_id: str
    object_id: int
    row_number: int | None
    """Place in the object; None of rows that were scored before it was kept."""
    origin: ObjectVersion | None
    """The object version that holds the text; None where the ledger knows of none."""
    object_status: str
    """As in source_objects."""


def find_reviews(engine: Engine, review_id: str, review_date: date | None = None, *, n_most: int = 50) -> list[ReviewScore]:
    """The current scores under an id, the latest date first; of one date where one is given.

    Raises:
        Transient, Permanent: as `engine.translate` judges.
    """
    names = ("bucket", "key", "etag", "size", "last_modified")
    values = {"review_id": review_id, "review_date": review_date, "n_most": n_most}
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(statement("lookup.review"), values).mappings()]
    found = []
    for row in rows:
        place = {name: row.pop(name) for name in names}
        found.append(ReviewScore(**row, origin=ObjectVersion(**place) if place["key"] is not None else None))
    return found
