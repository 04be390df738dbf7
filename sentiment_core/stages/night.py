"""A night of scoring: preflight, resolve the model once, list what is new (`listing`), score, publish.

Scoring copies an object's rows into staging and publishing makes them current, so each step can be killed and
run again. Which rows win is `store`'s business; what a valid row is, `reviews`'.
"""

import logging
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from sentiment_core import memory
from sentiment_core.domain import ModelRef, ObjectVersion, Reject, ReviewBatch, ScoredBatch
from sentiment_core.errors import Permanent, Transient
from sentiment_core.pipeline import pipelined
from sentiment_core.stages.listing import Batch, list_new_objects, objects_of
from sentiment_core.stages.services import Services
from sentiment_core.stages.window import Night

if TYPE_CHECKING:
    from sentiment_core.drift.sketch import Limits
    from sentiment_core.store.ledger import StagedObject

log = logging.getLogger(__name__)


def preflight(services: Services) -> dict[str, Any]:
    """Bring the schema up to date and see that S3 answers, before anything is promised."""
    from sentiment_core.store.migrate import latest_version, migrate

    applied = migrate(services.settings.database_url)
    next(services.bucket.list("incoming/"), None)
    return {"schema_version": latest_version(), "applied": applied, "bucket": services.settings.bucket}


def resolve_model(services: Services, night: Night) -> ModelRef:
    """Pin the run's model to one version, once; a run that is tried again keeps the version it had."""
    from sentiment_core.store.records import as_of_version, run_version, start_run

    pinned = run_version(services.engine, night.run_id, night.window_date)
    if pinned is None and night.model == "as-of":
        pinned = as_of_version(services.engine, night.window_date, night.scheduled_at)
    ref = services.registry.resolve(pinned or ("champion" if night.model == "as-of" else night.model))
    start_run(services.engine, window_date=night.window_date, run_id=night.run_id, model_version=ref.version)
    return ref


def score_objects(
    services: Services,
    night: Night,
    ref: ModelRef,
    batch: Batch,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score every object of a batch into staging; an unreadable one is recorded as failed and harms no other.

    Objects are read and scored ahead, each is staged in a transaction of its own, in order. Returns counts, and the
    review dates that the batch has rows in.
    """
    from sentiment_core.drift.sketch import Limits
    from sentiment_core.store.listing import new_objects

    memory.return_batches()
    model = services.registry.open(ref)
    objects = objects_of(services, night, batch)
    # What the ledger knows (a task that is tried again) may not be needed, so that it is not read before staging asks.
    new = set(new_objects(services.engine, objects, force=night.force))
    counts = {"n_objects": 0, "n_failed": 0, "n_scored": 0, "n_quarantined": 0}
    days: set[date] = set()
    limits = Limits(services.policy.drift.sample_rows)
    with closing(score_ahead(services, model, [obj for obj in objects if obj in new], with_texts=True)) as ahead:
        for obj in objects:
            staged = _score_object(services, night, model, obj, limits=limits, ahead=ahead if obj in new else None)
            counts["n_objects"] += 1
            if staged is None:
                counts["n_failed"] += 1
            else:
                counts["n_scored"] += staged.n_scored
                counts["n_quarantined"] += staged.n_quarantined
                days.update(staged.review_dates)
            if on_progress:
                on_progress(counts["n_objects"], counts["n_scored"])
    return {**counts, "dates": [day.isoformat() for day in sorted(days)]}


@dataclass(frozen=True)
class _End:
    """The object has no more batches, or cannot be read (any further)."""

    error: Exception | None = None


# Of which object, and what: a batch, its texts with it only where a drift sample is drawn from them, or the end.
Event = tuple[ObjectVersion, tuple[ScoredBatch, tuple[Reject, ...]] | _End]


def score_ahead(
    services: Services, model: Any, objects: Sequence[ObjectVersion], *, with_texts: bool = False
) -> Generator[Event]:
    """The scored batches of objects in order, with an end after each object's; read and scored before they are asked for."""
    from sentiment_core.scoring import score

    text_excerpt = services.policy.storage.text_excerpt

    def work(item: tuple[ObjectVersion, ReviewBatch | _End]) -> Event:
        obj, batch = item
        if isinstance(batch, _End):
            return obj, batch
        return obj, (score(model.estimator, model.ref, batch, text_excerpt=text_excerpt, with_texts=with_texts), batch.rejects)

    return pipelined(_read(services, objects), work)


def _read(services: Services, objects: Sequence[ObjectVersion]) -> Iterator[tuple[ObjectVersion, ReviewBatch | _End]]:
    from sentiment_core.reviews.ahead import open_ahead
    from sentiment_core.reviews.bucket import ObjectChanged, ObjectMissing
    from sentiment_core.reviews.layout import folder_date_of
    from sentiment_core.reviews.read import UnreadableObject, read_reviews

    limits = services.policy.nightly
    with closing(open_ahead(services.bucket, objects, n_readers=limits.readers, max_bytes=limits.read_ahead_bytes)) as ahead:
        for obj, opening in ahead:
            folder_date = folder_date_of(obj.key)
            try:
                with opening() as stream:
                    for batch in read_reviews(stream, obj.key, folder_date=folder_date, limits=services.policy.reading):
                        yield obj, batch
                yield obj, _End()
            except (ObjectChanged, ObjectMissing, UnreadableObject) as error:
                yield obj, _End(error)


def batches_of(obj: ObjectVersion, events: Iterator[Event]) -> Iterator[tuple[ScoredBatch, tuple[Reject, ...]]]:
    """One object's batches, past what was read of objects that turned out not to be needed; raises why it cannot be read."""
    for of, event in events:
        if of != obj:
            continue
        if not isinstance(event, _End):
            yield event
        elif event.error:
            raise event.error
        else:
            return


def _score_object(
    services: Services,
    night: Night,
    model: Any,
    obj: ObjectVersion,
    *,
    limits: "Limits | None" = None,
    ahead: Iterator[Event] | None = None,
) -> "StagedObject | None":
    """What became of an object; None when it cannot be read. Without `ahead` it is read when staging needs it."""
    from sentiment_core.reviews.bucket import ObjectChanged, ObjectMissing
    from sentiment_core.reviews.layout import folder_date_of
    from sentiment_core.reviews.read import UnreadableObject
    from sentiment_core.store.ledger import record_failed

    try:
        with closing(score_ahead(services, model, [obj], with_texts=True)) as own:
            return _stage_object(services, night, model, obj, own if ahead is None else ahead, limits=limits)
    except ObjectChanged:
        # Rewritten between listing and reading: what is there now is what is to be scored.
        current = services.bucket.current(obj)
        if current is None or current == obj:
            raise
        return _score_object(services, night, model, current, limits=limits)
    except (UnreadableObject, ObjectMissing) as error:
        log.warning("%s", error)
        record_failed(services.engine, obj, window_date=folder_date_of(obj.key), run_id=night.run_id, reason=str(error))
        return None


def _stage_object(
    services: Services, night: Night, model: Any, obj: ObjectVersion, events: Iterator[Event], *, limits: "Limits | None" = None
) -> "StagedObject":
    from sentiment_core.drift.sketch import Sketcher
    from sentiment_core.reviews.layout import folder_date_of, quarantine_key
    from sentiment_core.reviews.read import reject_lines
    from sentiment_core.store.ledger import stage

    lens = model.lens.examine if model.lens else None
    sketcher = Sketcher(services.policy.drift.sample_rows, lens=lens, limits=limits)
    window_date = folder_date_of(obj.key)
    with (
        tempfile.TemporaryFile() as rejected,
        stage(
            services.engine, obj, window_date=window_date, model=model.ref, run_id=night.run_id, force=night.force,
            lease_seconds=services.policy.nightly.lease_seconds,
        ) as staging,
    ):  # fmt: skip
        if staging.is_overtaken:
            services.bucket.verify(obj)
        if not staging.is_needed:
            return staging.result
        for scored, rejects in batches_of(obj, events):
            staging.add(scored, rejects)
            sketcher.add(scored.table, scored.texts)
            rejected.write(reject_lines(obj.key, rejects))
        sketches = sketcher.sketches()
        for review_date, sketch in sketches.items():
            staging.add_sketch(review_date, sketch.n, sketch.moments, sketch.to_bytes())
        if rejected.tell():
            rejected.seek(0)
            services.bucket.put(quarantine_key(obj.key, obj.etag), rejected, content_type="application/x-ndjson")
    if limits is not None:
        limits.note(sketches)
    return staging.result


def publish_dates(services: Services, night: Night, ref: ModelRef, counts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Make what is staged current, date by date, and close the run; returns counts and the run's own dates.

    Dates left behind by a run that died are published as well: whoever comes by completes them.
    """
    from sentiment_core.store.ledger import unpublished_dates
    from sentiment_core.store.publish import publish
    from sentiment_core.store.records import finish_run

    results = list(counts)
    total = {name: sum(result[name] for result in results) for name in ("n_objects", "n_failed", "n_scored", "n_quarantined")}
    for day in unpublished_dates(services.engine):
        publish(services.engine, day, run_id=night.run_id)
    status = "degraded" if ref.is_degraded else "succeeded"
    run_counts = {name: count for name, count in total.items() if name != "n_failed"}
    finish_run(services.engine, window_date=night.window_date, run_id=night.run_id, status=status, **run_counts)
    return {**total, "status": status, "published": sorted({day for result in results for day in result["dates"]})}


def record_failure(services: Services, night: Night) -> None:
    """Say in scoring_runs that the run did not finish; what it staged stays and is published by the next."""
    from sentiment_core.store.records import finish_run

    finish_run(
        services.engine,
        window_date=night.window_date,
        run_id=night.run_id,
        status="failed",
        n_objects=0,
        n_scored=0,
        n_quarantined=0,
    )


def score_window(
    services: Services,
    window_date: date,
    *,
    model: str = "champion",
    force: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The whole night in one process, for the command line: what the DAG does, without drift check and retrain."""
    night = Night(
        window_date=window_date,
        run_id=f"cli__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}",
        kind="manual",
        model=model,
        force=force,
        allow_retrain=False,
    )
    preflight(services)
    ref = resolve_model(services, night)
    try:
        counts = [
            score_objects(services, night, ref, batch, on_progress=on_progress) for batch in list_new_objects(services, night)
        ]
        outcome = publish_dates(services, night, ref, counts)
    except (Permanent, Transient):
        record_failure(services, night)
        raise
    return {"window_date": window_date.isoformat(), "run_id": night.run_id, "model_version": ref.version, **outcome}
