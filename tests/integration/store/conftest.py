"""A migrated database with short words for what a night does to it."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import Engine, text

from sentiment_core import schema
from sentiment_core.domain import ModelRef, ObjectVersion, Reject, ScoredBatch
from sentiment_core.store.engine import connect
from sentiment_core.store.ledger import StagedObject, stage, unpublished_dates
from sentiment_core.store.publish import PublishedDate, publish

DAY = date(2026, 11, 1)
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


@dataclass
class Store:
    """The database as the writer, with deliveries whose rows carry a `text` to tell them by."""

    url: str
    engine: Engine
    _etags: Iterator[int] = field(default_factory=itertools.count)

    def obj(self, key: str, *, etag: str | None = None, last_modified: datetime = NOON) -> ObjectVersion:
        """An object version; without an etag one that no other has."""
        etag = etag or f"etag-{next(self._etags)}"
        return ObjectVersion(bucket="reviews", key=f"incoming/{key}", etag=etag, size=7, last_modified=last_modified)

    def batch(self, reviews: Sequence[dict[str, Any] | str]) -> pa.Table:
        """Scored rows; a review is an id, or a dict of what matters in the test."""
        rows = []
        for number, review in enumerate(reviews):
            given = {"review_id": review} if isinstance(review, str) else review
            rows.append(
                {
                    "row_number": number, "review_date": DAY, "product_id": "p", "label": "positive",
                    "p_negative": 0.25, "p_positive": 0.75, "confidence": 0.75, "text_excerpt": "words",
                    "n_chars": 5, "n_words": 1, "unknown_share": 0.0, "upper_share": 0.0, "non_letter_share": 0.0,
                }
                | given
            )  # fmt: skip
        return pa.Table.from_pylist(rows, schema=schema.SCORED_BATCH)

    def model(self, version: int) -> ModelRef:
        return ModelRef(name="sentiment", version=version, digest=f"digest-{version}")

    def deliver(
        self,
        key: str | ObjectVersion,
        reviews: Sequence[dict[str, Any] | str],
        *,
        version: int = 1,
        run_id: str = "run",
        force: bool = False,
        rejects: Sequence[Reject] = (),
    ) -> StagedObject:
        """Stage an object as a scoring task does."""
        obj = key if isinstance(key, ObjectVersion) else self.obj(key)
        model = self.model(version)
        with stage(self.engine, obj, window_date=DAY, model=model, run_id=run_id, lease_seconds=60, force=force) as staging:
            if staging.is_needed:
                staging.add(ScoredBatch(table=self.batch(reviews), model=model), rejects)
        return staging.result

    def publish(self) -> list[PublishedDate]:
        """Publish what waits, as a night's last step does."""
        return [publish(self.engine, day, run_id="run") for day in unpublished_dates(self.engine)]

    def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement), values)]

    def current(self, column: str = "text_excerpt") -> dict[tuple[date, str], Any]:
        """A column of the current rows by identity; fails when an identity has two."""
        found = self.rows(f"select review_date, review_id, {column} from sentiment.scored_reviews")
        assert len({row[:2] for row in found}) == len(found)
        return {(day, review_id): value for day, review_id, value in found}

    def statuses(self, key: str) -> list[str]:
        """Statuses of a key's versions, in sequence."""
        key = f"incoming/{key}"
        return [
            row[0] for row in self.rows("select status from sentiment.source_objects where key = :key order by sequence", key=key)
        ]


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    engine = connect(database_url)
    yield Store(url=database_url, engine=engine)
    engine.dispose()


@pytest.fixture
def owner(database_url: str) -> Iterator[Engine]:
    """The schema's owner, for what no other login may do."""
    engine = connect(database_url, role=None)
    yield engine
    engine.dispose()
