"""A retrain: snapshot, train, register, compare, then promote or hold, with the reason.

A hold is a normal outcome. The training set is content-addressed Parquet under `snapshots/`; a model version names
the one it was trained from, and the next starts from it.
"""

import hashlib
import io
import logging
from collections.abc import Callable
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sentiment_core import __version__, schema
from sentiment_core.domain import ModelRef, ObjectVersion
from sentiment_core.errors import Permanent, Transient
from sentiment_core.stages.services import Services

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)


def build_snapshot(services: Services, *, run_id: str, reason: str, snapshot: str | None = None) -> dict[str, Any]:
    """Write the training set of this retrain and return its key, or hold when there is nothing to learn from.

    Args:
        services: the servers.
        run_id: run to which events are attributed.
        reason: why a retrain was asked for.
        snapshot: key of a standing training set; None takes the champion's.
    """
    import pyarrow as pa

    champion = _champion(services)
    standing_key = snapshot or (champion.snapshot if champion else None)
    if standing_key is None:
        raise Permanent(
            "retrain",
            expected="a training set: the champion's, or param `snapshot`",
            found="neither a champion nor a param",
            remedy="put labelled reviews under snapshots/ and name the key, or run `make demo`",
        )
    standing = read_snapshot(services, standing_key)
    place = standing.schema.get_field_index("origin")
    standing = standing.set_column(place, "origin", pa.array(["standing"] * len(standing), pa.string())).cast(schema.SNAPSHOT)
    fresh = _fresh_rows(services, standing) if champion else standing.slice(0, 0)
    needed = services.policy.retrain.min_fresh_labels
    if champion and not snapshot and len(fresh) < needed:
        held = f"{len(fresh)} labels since version {champion.version} was trained; {needed} are needed to learn from"
        _event(services, champion.version, "held", f"{held} (asked for: {reason})", run_id=run_id, snapshot=standing_key)
        return {"outcome": "held", "reason": held, "snapshot": None, "n_standing": len(standing), "n_fresh": len(fresh)}
    key = write_snapshot(services, pa.concat_tables([standing, fresh]))
    return {"outcome": "built", "reason": reason, "snapshot": key, "n_standing": len(standing), "n_fresh": len(fresh)}


def write_snapshot(services: Services, table: "pa.Table") -> str:
    """Store a training set under the digest of its content; the same rows give the same key."""
    import pyarrow.parquet as pq

    from sentiment_core.reviews.layout import snapshot_key

    sink = io.BytesIO()
    pq.write_table(table.cast(schema.SNAPSHOT).combine_chunks(), sink, compression="zstd")
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
    return pq.read_table(io.BytesIO(content)).cast(schema.SNAPSHOT)


def _fresh_rows(services: Services, standing: "pa.Table") -> "pa.Table":
    """Labelled reviews that the standing set does not hold yet, with their texts from S3."""
    import pyarrow as pa

    from sentiment_core.reviews.fetch import texts_of
    from sentiment_core.store.records import fresh_labels

    known = set(zip(standing["review_id"].to_pylist(), standing["labelled_at"].to_pylist(), strict=True))
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
    return pa.Table.from_pylist(rows, schema=schema.SNAPSHOT)


def train_candidate(
    services: Services, *, snapshot: str, run_id: str, reason: str, on_progress: Callable[[str], None] | None = None
) -> ModelRef:
    """Train from a snapshot and register the result as challenger."""
    from sentiment_core.model.training import train

    candidate = train(read_snapshot(services, snapshot), policy=services.policy, progress=on_progress)
    registered = next(
        (item for item in services.registry.versions() if (item["run"], item["snapshot"]) == (run_id, snapshot)), None
    )
    if registered:  # this run has come this far before: one retrain, one version
        ref = services.registry.resolve(registered["version"])
    else:
        ref = services.registry.register(
            candidate, snapshot_key=snapshot, code_version=code_version(), run_name=run_id, description=reason
        )
    services.registry.set_alias("challenger", ref.version)
    _event(services, ref.version, "registered", reason, run_id=run_id, snapshot=snapshot, metrics=candidate.metrics)
    return ref


def compare_with_champion(services: Services, candidate: ModelRef) -> dict[str, Any]:
    """Score candidate and champion anew on the same held-out rows and say which gates pass."""
    from sentiment_core.model.evaluation import compare

    champion = _champion(services)
    snapshot = read_snapshot(services, str(candidate.snapshot))
    current = services.registry.open(champion).estimator if champion else None
    promotion = compare(current, services.registry.open(candidate).estimator, snapshot, services.policy)
    return {
        "outcome": promotion.outcome,
        "reason": promotion.reason,
        "metrics": promotion.metrics,
        "champion": champion.version if champion else None,
        "candidate": candidate.version,
    }


def conclude(
    services: Services, candidate: ModelRef, comparison: dict[str, Any], *, run_id: str, approved: bool | None
) -> dict[str, Any]:
    """Promote or hold; `approved` is a person's answer, None where nobody was asked."""
    outcome, reason = comparison["outcome"], comparison["reason"]
    if outcome == "promoted" and approved is False:
        outcome, reason = "held", f"not approved by a person ({reason})"
    champion = _champion(services)
    if outcome == "promoted" and champion and champion.version not in (comparison["champion"], candidate.version):
        outcome = "held"
        reason = f"version {champion.version} became champion while this candidate was compared with {comparison['champion']}"
    if outcome == "promoted":
        services.registry.set_alias("champion", candidate.version)
    _event(
        services, candidate.version, outcome, reason,
        run_id=run_id, snapshot=candidate.snapshot, metrics=comparison["metrics"],
    )  # fmt: skip
    return {"model_version": candidate.version, "outcome": outcome, "reason": reason}


def code_version() -> str:
    """The package's version, with the commit where the code is a checkout."""
    from sentiment_core.settings import REPOSITORY

    head = REPOSITORY / ".git" / "HEAD"
    if not head.is_file():
        return __version__
    content = head.read_text(encoding="utf-8").strip()
    if content.startswith("ref: "):
        ref = REPOSITORY / ".git" / content.removeprefix("ref: ")
        content = ref.read_text(encoding="utf-8").strip() if ref.is_file() else ""
    return f"{__version__}+{content[:12]}" if content else __version__


def _champion(services: Services) -> ModelRef | None:
    from sentiment_core.registry import NoModel

    try:
        champion = services.registry.resolve("champion")
    except NoModel:
        return None
    if champion.is_degraded:
        raise Transient(
            "retrain",
            expected="an answer from MLflow, to know the champion",
            found=f"none; version {champion.version} is what the cache remembers",
            remedy="try again when MLflow is back",
        )
    return champion


def _event(
    services: Services,
    version: int,
    event: str,
    reason: str,
    *,
    run_id: str,
    snapshot: str | None,
    metrics: dict[str, Any] | None = None,
) -> None:
    from sentiment_core.store.records import insert_event

    insert_event(
        services.engine,
        model_version=version,
        event=event,
        reason=reason,
        metrics=metrics or {},
        snapshot=snapshot,
        code_version=code_version(),
        run_id=run_id,
    )
