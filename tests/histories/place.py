"""Where histories happen: one database and one bucket behind real servers, three model versions, and what is found there.

A version says of a text what the hash of both says, so that the model knows it too. Nothing here knows what is right.
"""

import re
import zlib
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, Engine, text

from sentiment_core.domain import ModelRef
from sentiment_core.registry import LoadedModel, NoModel
from sentiment_core.settings import Settings
from sentiment_core.stages.services import Services
from sentiment_core.store.engine import connect
from tests.histories.trouble import Trouble

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ROW = "s.review_date, s.review_id, o.key, o.sequence, s.row_number, s.model_version, s.run_id, s.text_excerpt, s.label"
_OBJECT = "join sentiment.source_objects o using (object_id)"
_NEWEST = "max(sequence) filter (where status in ('staged', 'scored', 'gone')) over (partition by key)"
QUERIES = {
    "scored_reviews": f"select {_ROW} from sentiment.scored_reviews s {_OBJECT}",
    "n_current": "select count(*) from sentiment.scored_reviews",
    "score_history": f"select {_ROW} from sentiment.score_history s {_OBJECT}",
    # Those of objects that are being published anew are about to be forgotten.
    "runner_ups": f"select {_ROW} from sentiment.runner_ups s {_OBJECT}"
    " join sentiment.object_dates d using (object_id, review_date) where d.is_published",
    "source_objects": "select key, sequence, etag, case when status in ('staged', 'scored', 'gone', 'superseded')"
    f" and sequence < {_NEWEST} then 'old' else status end as state, run_id, model_version, n_scored, n_quarantined"
    " from sentiment.source_objects",
    "quarantined_reviews": f"select key, row_number from (select *, {_NEWEST} as live from sentiment.source_objects) o"
    " join sentiment.quarantined_reviews using (object_id) where o.sequence = o.live",
    "labels": "select review_date, review_id, label from sentiment.labels",
    "scoring_runs": "select run_id, window_date, model_version, status from sentiment.scoring_runs",
    "model_events": "select event, model_version from sentiment.model_events order by event_id",
    "unpublished": "select distinct review_date from sentiment.object_dates where not is_published",
}
VERSIONS = (1, 2, 3)
LABELS = ("negative", "positive")


def label_of(words: str, version: int) -> str:
    return LABELS[_hash(words, version) % 2]


def _hash(words: str, version: int) -> int:
    return zlib.crc32(f"{version} {words}".encode())


class Scorer:
    """A version that says what the hash of the text says."""

    classes_ = np.array(LABELS)

    def __init__(self, version: int) -> None:
        self.version = version

    def examine(self, texts: pa.Array) -> tuple[np.ndarray, dict[str, Any]]:
        p_positive = np.array([0.25 + 0.5 * (_hash(words, self.version) % 2) for words in texts.to_pylist()])
        zeros = {
            name: np.zeros(len(texts)) for name in ("n_chars", "n_words", "unknown_share", "upper_share", "non_letter_share")
        }
        return np.column_stack([1 - p_positive, p_positive]), zeros

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities.argmax(axis=1).astype(np.int8)


@dataclass
class Models:
    """A registry with three versions and an alias."""

    aliases: dict[str, int] = field(default_factory=dict)

    def resolve(self, which: str | int) -> ModelRef:
        version = int(which) if str(which).isdigit() else self.aliases.get(str(which))
        if version not in VERSIONS:
            raise NoModel(str(which), expected="a version", found="none", remedy="register it")
        return ModelRef(name="sentiment", version=version, digest=f"{version:064}")

    def open(self, ref: ModelRef) -> LoadedModel:
        return LoadedModel(estimator=Scorer(ref.version), reference=pa.table({}), ref=ref)

    def set_alias(self, alias: str, version: int) -> None:
        self.aliases[alias] = version


@dataclass(frozen=True)
class Place:
    """Where histories happen: services of one database and one bucket, and the database as its owner."""

    services: Services
    owner: Engine
    onlooker: Connection
    """A session that reads, kept open: most of a history's time would go into opening and closing it."""
    trouble: Trouble

    @classmethod
    def at(cls, settings: Settings) -> "Place":
        """The place of these settings, whose login owns the schema; its nights are cut into tasks of two objects."""
        services, owner = Services(settings), connect(settings.database_url, role=None)
        policy = services.policy
        # Staging is cleaned up to the day after today: whatever is left over there, and only that, goes at once.
        clean = replace(policy.retention, excerpt_days=0, history_days=0, sample_days=0, quarantine_days=0, staging_days=-1)
        services.__dict__["policy"] = replace(
            policy, retention=clean, nightly=replace(policy.nightly, batch_objects=2, late_days=2, readers=2)
        )
        trouble = Trouble()
        trouble.install(services, owner)
        return cls(services, owner, owner.connect().execution_options(isolation_level="AUTOCOMMIT"), trouble)

    def close(self) -> None:
        self.onlooker.close()
        self.owner.dispose()
        self.services.engine.dispose()

    def clear(self) -> None:
        """No object, no row, no leaf that was retired; the leaves of the dates stay."""
        bucket = self.services.bucket
        keys = [{"Key": obj.key} for obj in bucket.list("")]
        if keys:
            bucket._client.delete_objects(Bucket=bucket.name, Delete={"Objects": keys})
        with self.owner.begin() as connection:
            retired = connection.execute(
                text("select inhrelid::regclass::text from pg_inherits where inhparent = 'sentiment.score_history'::regclass")
            ).scalars()
            for relation in retired.all():
                connection.execute(text(f"drop table {relation}"))
            tables = connection.execute(
                text(
                    "select string_agg('sentiment.' || quote_ident(relname), ', ') from pg_class"
                    " where relnamespace = 'sentiment'::regnamespace and relkind in ('r', 'p') and not relispartition"
                    " and relname <> 'schema_migrations'"
                )
            ).scalar_one()
            connection.execute(text(f"truncate {tables} cascade"))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.onlooker.execute(text(query))]

    def view(self) -> dict[str, Any]:
        """The relations, as `World.view` has them; fails where an identity has two current rows."""
        found = self._read_relations()
        current = found["scored_reviews"]
        assert len({row[:2] for row in current}) == len(current), current
        assert found["n_current"] == [(len(current),)]  # none comes from an object that the ledger does not know
        return {
            "scored_reviews": {row[:2]: row[2:] for row in current},
            "score_history": Counter(found["score_history"]),
            "runner_ups": set(found["runner_ups"]),
            "source_objects": {row[:2]: (*row[2:5], None) if row[3] == "failed" else row[2:] for row in found["source_objects"]},
            "quarantined_reviews": set(found["quarantined_reviews"]),
            "labels": {row[:2]: row[2] for row in found["labels"]},
            "scoring_runs": {row[0]: row[1:] for row in found["scoring_runs"]},
            "model_events": found["model_events"],
            "unpublished": {day for (day,) in found["unpublished"]},
        }

    def _read_relations(self) -> dict[str, list[tuple[Any, ...]]]:
        """All in one statement: at one moment, and one round trip."""
        parts = (
            f"'{name}', (select coalesce(json_agg(row_to_json(q)), '[]') from ({query}) q)" for name, query in QUERIES.items()
        )
        found = self.onlooker.execute(text(f"select json_build_object({', '.join(parts)})")).scalar_one()
        return {name: [tuple(map(_plain, row.values())) for row in rows] for name, rows in found.items()}


def _plain(value: Any) -> Any:
    return date.fromisoformat(value) if isinstance(value, str) and _DATE.fullmatch(value) else value
