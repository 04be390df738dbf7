"""Training sets: content-addressed Parquet under `snapshots/`, and how labels that arrived late get into one.

A model version names the set it was trained from, and the next one starts from it. What stands in a set decides
everything about a training: which rows are weighted, which are held out because they are the latest, and which classes
are told apart. How rows are split by product is the business of `model.examples`.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sentiment_core import schema
from sentiment_core.domain import LABELS, ObjectVersion
from sentiment_core.errors import Permanent
from sentiment_core.stages.services import Services

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """The next training set, not stored yet, and what became of the labels that arrived."""

    table: "pa.Table"
    n_standing: int
    n_fresh: int
    """Labels of texts that the standing set did not hold."""
    n_duplicates: int
    """Labels that say of a text what is known of it already."""
    n_conflicts: int
    """Rows whose text stands there with different labels; kept in the set as contradicted, used for nothing."""


def classes_of(table: "pa.Table") -> tuple[str, ...]:
    """The classes that a model of this set tells apart: all three where the set says so, else two."""
    from sentiment_core.model.examples import BINARY

    stored = (table.schema.metadata or {}).get(schema.CLASSES_NOTE)
    return tuple(stored.decode().split(",")) if stored else BINARY


def with_classes(table: "pa.Table", classes: Sequence[str]) -> "pa.Table":
    """The set with a note of its classes; for two classes none, so that the same rows give the same key."""
    return _noted(table, schema.CLASSES_NOTE, ",".join(classes).encode() if tuple(classes) == LABELS else None)


def with_held_out_share(table: "pa.Table", share: float) -> "pa.Table":
    """The set with a note of how much of it is held out, here and in every set that grows out of it."""
    return _noted(table, schema.HELD_OUT_NOTE, f"{share:g}".encode())


def _noted(table: "pa.Table", name: bytes, value: bytes | None) -> "pa.Table":
    notes = {**(table.schema.metadata or {}), name: value}
    kept = {key: notes[key] for key in (schema.CLASSES_NOTE, schema.HELD_OUT_NOTE) if notes.get(key)}
    return table.cast(schema.SNAPSHOT).replace_schema_metadata(kept or None)


def write_snapshot(services: Services, table: "pa.Table") -> str:
    """Store a training set under the digest of its content; the same rows give the same key."""
    import pyarrow.parquet as pq

    from sentiment_core.reviews.layout import snapshot_key

    sink = io.BytesIO()
    pq.write_table(with_classes(table, classes_of(table)).combine_chunks(), sink, compression="zstd")
    content = sink.getvalue()
    key = snapshot_key(hashlib.sha256(content).hexdigest())
    if not services.bucket.exists(key):
        services.bucket.put(key, content, content_type="application/vnd.apache.parquet")
    return key


def read_snapshot(services: Services, key: str) -> "pa.Table":
    """A training set by its key, checked against the digest in its name."""
    import pyarrow.parquet as pq

    from sentiment_core.reviews.layout import snapshot_key

    content = services.bucket.get(key)
    found = snapshot_key(hashlib.sha256(content).hexdigest())
    if found != key:
        raise Permanent(
            f"training set {key}",
            expected="content with the digest in its name",
            found=found,
            remedy="restore the object, or train from another",
        )
    table = pq.read_table(io.BytesIO(content))
    return with_classes(table, classes_of(table))


def count_learnt_labels(services: Services, key: str) -> int:
    """Labels of scored reviews that a training set holds; those it began with were no such labels."""
    import pyarrow.parquet as pq

    arrived = pq.read_table(io.BytesIO(services.bucket.get(key)), columns=["labelled_at"])
    return len(arrived) - int(arrived["labelled_at"].null_count)


def extend(services: Services, standing: "pa.Table", *, with_labels: bool = True) -> TrainingSet:
    """The standing set, and the labelled reviews it does not hold yet with their texts from S3.

    A later label of a review that is held takes the earlier one's place. A label of a text that is known already adds
    nothing; one that contradicts what is known of the text takes both out, and both stay in the set as contradicted,
    so that neither comes back unopposed.
    """
    import pyarrow as pa

    classes = classes_of(standing)
    rows = [{**row, "origin": "standing"} for row in standing.to_pylist()]
    fresh = _fresh_rows(services, rows) if with_labels else []
    corrected = {(row["review_id"], row["text"]) for row in fresh}
    rows = [row for row in rows if (row["review_id"], row["text"]) not in corrected]
    said = _labels_by_text(rows, classes)
    added = []
    for row in fresh:
        known = said.setdefault(_key(row), set())
        if known != {_folded(row, classes)}:
            known.add(_folded(row, classes))
            added.append(row)
    _mark_origins(rows, added, services)
    contradicted = [row for row in (*rows, *added) if len(said[_key(row)]) > 1]
    for row in contradicted:
        row["origin"] = "contradicted"
    table = pa.Table.from_pylist([*rows, *added], schema=schema.SNAPSHOT).replace_schema_metadata(standing.schema.metadata)
    return TrainingSet(
        table=with_classes(table, classes),
        n_standing=sum(row["origin"] == "standing" for row in rows),
        n_fresh=sum(row["origin"] != "contradicted" for row in added),
        n_duplicates=len(fresh) - len(added),
        n_conflicts=len(contradicted),
    )


def _fresh_rows(services: Services, standing: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Labels that the standing set does not hold, joined on the identity of their reviews, with the texts from S3."""
    from sentiment_core.reviews.fetch import texts_of
    from sentiment_core.store.records import fresh_labels

    known = {(row["review_id"], row["labelled_at"]) for row in standing}
    labels = [row for row in fresh_labels(services.engine) if (row["review_id"], row["labelled_at"]) not in known]
    rows: list[dict[str, Any]] = []
    names = ("bucket", "key", "etag", "size", "last_modified")
    for place, group in groupby(labels, key=lambda row: tuple(row[name] for name in names)):
        members = list(group)
        obj = ObjectVersion(**dict(zip(names, place, strict=True)))
        texts = texts_of(services.bucket, obj, [row["row_number"] for row in members], services.policy.reading)
        rows += [
            {name: {**row, "text": texts[row["row_number"]], "origin": "fresh"}[name] for name in schema.SNAPSHOT.names}
            for row in members
        ]
    return rows


def _mark_origins(standing: list[dict[str, Any]], fresh: list[dict[str, Any]], services: Services) -> None:
    """Say of fresh rows whether their domain is foreign, and hold out the latest of them."""
    limits = services.policy.retrain
    sources = Counter(row["source"] for row in standing)
    for row in fresh:
        # Of a review whose source nobody named nothing is known; what set the retrain off is more likely foreign.
        is_foreign = row["source"] is None or sources[row["source"]] < limits.foreign_share * len(standing)
        row["origin"] = "fresh" if is_foreign else "familiar"
    by_time = sorted(fresh, key=lambda row: (row["labelled_at"], row["review_id"]))
    for row in by_time[len(by_time) - int(limits.latest_share * len(by_time)) :]:
        row["origin"] = "latest"


def _labels_by_text(rows: list[dict[str, Any]], classes: Sequence[str]) -> dict[str, set[str]]:
    said: dict[str, set[str]] = {}
    for row in rows:
        said.setdefault(_key(row), set()).add(_folded(row, classes))
    return said


def _key(row: dict[str, Any]) -> str:
    from sentiment_core.model.examples import normalise

    return normalise(row["text"])


def _folded(row: dict[str, Any], classes: Sequence[str]) -> str:
    from sentiment_core.model.examples import fold_labels

    return fold_labels([row["label"]], classes)[0]
