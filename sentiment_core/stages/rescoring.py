"""Scoring again what is scored: first what it would cost and change, then the doing.

Texts are read from S3 once more, for PostgreSQL keeps excerpts alone. An object that is no longer there, or no longer the
version that was scored, is told and its rows are kept. Which rows are meant is a Selection; how scores are replaced is the
store's business. Nothing here is a night: `scoring_runs`, and with it what as-of means, stays as it is.
"""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from sentiment_core import memory
from sentiment_core.domain import ModelRef, ObjectVersion, ReviewBatch, ScoredBatch, Selection
from sentiment_core.errors import Transient
from sentiment_core.pipeline import n_cores
from sentiment_core.stages.night import batches_of, score_ahead
from sentiment_core.stages.services import Services
from sentiment_core.stages.window import scheduled_at

if TYPE_CHECKING:
    from sentiment_core.model.flips import Share
    from sentiment_core.store.rescoring import ChosenObject, Replacing

Tell = Callable[[int, int, int], None]
"""Told after every object: how many, of how many, and rows so far."""
_SEED = 11  # the same selection is asked twice and answered the same


@dataclass(frozen=True, kw_only=True)
class Task:
    """Objects to be scored again by one version."""

    ref: ModelRef
    objects: list["ChosenObject"]


def plan_rescore(
    services: Services, selection: Selection, *, model: str = "champion", on_progress: Tell | None = None
) -> dict[str, Any]:
    """Say what scoring a selection again would touch, take and change; nothing is written.

    Returns model_versions, n_rows and n_objects to be scored again, n_bytes to be read for it, kept (objects whose texts
    are gone, with their rows), flips (share of labels that would change, with an interval of 95 % and the rows it means,
    from a sample) and minutes.
    """
    tasks, kept = _split(services, _tasks(services, selection, model))
    sample = _Sample(services, selection, on_progress)
    n_rows = sum(chosen.n_rows for task in tasks for chosen in task.objects)
    share = sample.take(tasks)
    n_bytes = sum(chosen.obj.size for task in tasks for chosen in task.objects)
    return {
        "model_versions": sorted({task.ref.version for task in tasks}),
        "n_rows": n_rows,
        "n_objects": sum(len(task.objects) for task in tasks),
        "n_bytes": n_bytes,
        "kept": kept,
        "flips": _flips(share, n_rows, sample.moved) if share else None,
        "minutes": round(sample.seconds(n_bytes, n_rows, services.policy.rescore.rows_per_second) / 60, 4),
    }


def apply_rescore(
    services: Services,
    selection: Selection,
    *,
    model: str = "champion",
    run_id: str | None = None,
    on_progress: Tell | None = None,
) -> dict[str, Any]:
    """Score a selection again; what was said before goes to score_history.

    Killed and started again, it goes on where it was: rows that the version has scored are not touched.

    Returns run_id, model_versions, n_rows and n_objects scored again, n_flipped, kept (as `plan_rescore` has it) and seconds.
    """
    from sentiment_core.store.rescoring import replacing

    memory.return_batches()
    began = time.monotonic()
    run_id = run_id or f"rescore__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"
    tasks = _tasks(services, selection, model)
    n_all, total, kept = sum(len(task.objects) for task in tasks), Counter[str](), []
    for task in tasks:
        opened = services.registry.open(task.ref)
        with (
            replacing(services.engine, task.ref, run_id=run_id) as session,
            closing(score_ahead(services, opened, [chosen.obj for chosen in task.objects], with_texts=True)) as ahead,
        ):
            for chosen in task.objects:
                reason = _rescore_object(
                    services, opened, session=session, chosen=chosen, selection=selection, ahead=ahead, total=total
                )
                if reason:
                    kept.append(_told(chosen, reason))
                if on_progress:
                    on_progress(total["n_objects"] + len(kept), n_all, total["n_rows"])
    return {
        "run_id": run_id,
        "model_versions": sorted({task.ref.version for task in tasks}),
        **{name: total[name] for name in ("n_rows", "n_objects", "n_flipped")},
        "kept": kept,
        "seconds": round(time.monotonic() - began, 3),
    }


def _tasks(services: Services, selection: Selection, model: str) -> list[Task]:
    from sentiment_core.store.rescoring import choose_objects, window_dates

    if model != "as-of":
        ref = _resolve(services, model)
        return [Task(ref=ref, objects=choose_objects(services.engine, selection, model_version=ref.version))]
    nights: dict[int, list[date]] = {}
    refs: dict[int, ModelRef] = {}
    for day in window_dates(services.engine, selection):
        ref = _of_night(services, day)
        nights.setdefault(ref.version, []).append(day)
        refs[ref.version] = ref
    return [
        Task(ref=ref, objects=choose_objects(services.engine, selection, model_version=version, window_dates=nights[version]))
        for version, ref in sorted(refs.items())
    ]


def _of_night(services: Services, day: date) -> ModelRef:
    from sentiment_core.store.records import as_of_version

    version = as_of_version(services.engine, day, scheduled_at(day))
    return _resolve(services, str(version or "champion"))


def _resolve(services: Services, model: str) -> ModelRef:
    ref = services.registry.resolve(model)
    if ref.is_degraded and not model.isdigit():  # a night goes on with what was known last; this can wait
        raise Transient(
            f"model {model}",
            expected="an answer from MLflow",
            found=f"none; version {ref.version} is what the cache remembers",
            remedy=f"try again when MLflow is back, or name the version: --model {ref.version}",
        )
    return ref


def _split(services: Services, tasks: Sequence[Task]) -> tuple[list[Task], list[dict[str, Any]]]:
    """What can be read, by what the bucket lists now, and what cannot."""
    from sentiment_core.reviews.layout import incoming_prefix

    days = {chosen.window_date for task in tasks for chosen in task.objects}
    there = {obj.key: obj.etag for day in sorted(days) for obj in services.bucket.list(incoming_prefix(day))}
    readable, kept = [], []
    for task in tasks:
        found = [chosen for chosen in task.objects if there.get(chosen.obj.key) == chosen.obj.etag]
        readable.append(Task(ref=task.ref, objects=found))
        kept += [
            _told(chosen, "rewritten since it was scored" if chosen.obj.key in there else "no longer in the bucket")
            for chosen in task.objects
            if there.get(chosen.obj.key) != chosen.obj.etag
        ]
    return readable, kept


def _told(chosen: "ChosenObject", reason: str) -> dict[str, Any]:
    return {"key": chosen.obj.key, "n_rows": chosen.n_rows, "reason": reason}


def _rescore_object(
    services: Services,
    model: Any,
    *,
    session: "Replacing",
    chosen: "ChosenObject",
    selection: Selection,
    ahead: Iterator[Any],
    total: Counter[str],
) -> str | None:
    """Replace the scores of an object and count them; a reason when its texts cannot be read."""
    from sentiment_core.drift.sketch import Sketcher
    from sentiment_core.reviews.bucket import ObjectChanged, ObjectMissing
    from sentiment_core.reviews.read import UnreadableObject

    sketcher = Sketcher(services.policy.drift.sample_rows, lens=model.lens.examine if model.lens else None)
    days = pa.array(chosen.review_dates, pa.date32())

    def wanted() -> Iterator[ScoredBatch]:
        for scored, _ in batches_of(chosen.obj, ahead):
            is_wanted = pc.is_in(scored.table["review_date"], days)
            table = scored.table.filter(is_wanted)
            sketcher.add(table, None if scored.texts is None else scored.texts.filter(is_wanted.combine_chunks()))
            yield ScoredBatch(table=table, model=scored.model)

    try:
        session.take(wanted())
    except ObjectChanged:
        return "rewritten since it was scored"
    except ObjectMissing:
        return "no longer in the bucket"
    except UnreadableObject as error:
        return str(error)
    sketches = sketcher.sketches()
    for day in chosen.review_dates:
        sketch = sketches.get(day)
        done = session.replace(chosen, day, selection, (sketch.n, sketch.moments, sketch.to_bytes()) if sketch else None)
        total.update(n_rows=done.n_rows, n_flipped=done.n_flipped)
    total.update(n_objects=1)
    return None


class _Sample:
    """Rows that are scored again for the plan alone, and how long that took."""

    def __init__(self, services: Services, selection: Selection, on_progress: Tell | None) -> None:
        self._services, self._selection, self._on_progress = services, selection, on_progress
        self.moved: Counter[tuple[str, str]] = Counter()
        """Sampled rows by label before and after."""
        self._n_scored = self._n_bytes = 0
        self._read_s = self._score_s = 0.0

    def take(self, tasks: Sequence[Task]) -> "Share | None":
        """Estimate which share of the labels would change; None where no row is meant."""
        from sentiment_core.model.flips import allot, draw_clusters, share_of_all, share_of_drawn

        limits = self._services.policy.rescore
        found = [(task.ref, chosen) for task in tasks for chosen in task.objects if chosen.n_rows]
        if not found:
            return None
        drawn = Counter(draw_clusters([chosen.n_rows for _, chosen in found], limits.sample_objects, seed=_SEED))
        is_all = len(found) <= limits.sample_objects
        weights = [found[place][1].n_rows if is_all else times for place, times in drawn.items()]
        allotted = allot(weights, limits.sample_rows)
        counts: list[tuple[int, list[bool]]] = []
        for number, (place, n) in enumerate(zip(drawn, allotted, strict=True), 1):
            ref, chosen = found[place]
            counts.append((place, self._look_into(ref, chosen, n)))
            if self._on_progress:
                self._on_progress(number, len(drawn), self._n_scored)
        if is_all:
            return share_of_all([(found[place][1].n_rows, len(flips), sum(flips)) for place, flips in counts if flips])
        # An object that was drawn several times is as many samples of its rows, none twice.
        parts = [flips[turn :: drawn[place]] for place, flips in counts for turn in range(drawn[place])]
        return share_of_drawn([(len(part), sum(part)) for part in parts if part])

    def _look_into(self, ref: ModelRef, chosen: "ChosenObject", n: int) -> list[bool]:
        """Whether the label changes, for at most n of an object's rows."""
        from sentiment_core.scoring import score
        from sentiment_core.store.rescoring import sample_labels

        labels = sample_labels(self._services.engine, chosen, self._selection, model_version=ref.version, n=n)
        numbers = pa.array(labels, pa.int64())
        found: list[tuple[int, str]] = []
        estimator = self._services.registry.open(ref).estimator
        began = time.monotonic()
        score_s = 0.0
        for batch in self._read(chosen.obj):
            table = batch.table.filter(pc.is_in(batch.table["row_number"], numbers))
            if len(table):
                scoring = time.monotonic()
                scored = score(estimator, ref, ReviewBatch(table=table), text_excerpt=0).table
                score_s += time.monotonic() - scoring
                found += zip(scored["row_number"].to_pylist(), scored["label"].to_pylist(), strict=True)
        self._read_s += time.monotonic() - began - score_s
        self._score_s += score_s
        self._n_bytes += chosen.obj.size
        self._n_scored += len(found)
        self.moved.update((labels[row_number], label) for row_number, label in found)
        return [labels[row_number] != label for row_number, label in found]

    def _read(self, obj: ObjectVersion) -> Generator[ReviewBatch]:
        from sentiment_core.reviews.layout import folder_date_of
        from sentiment_core.reviews.read import read_reviews

        with self._services.bucket.open(obj) as stream:
            yield from read_reviews(stream, obj.key, folder_date=folder_date_of(obj.key), limits=self._services.policy.reading)

    def seconds(self, n_bytes: int, n_rows: int, rows_per_second: int) -> float:
        """How long reading, scoring on all cores and replacing take, by what the sample took."""
        if not self._n_scored:
            return 0.0
        return (
            self._read_s / self._n_bytes * n_bytes
            + self._score_s / self._n_scored * n_rows / n_cores()
            + n_rows / rows_per_second
        )


def _flips(share: "Share", n_rows: int, moved: Counter[tuple[str, str]]) -> dict[str, Any]:
    return {
        "n_sampled": share.n,
        "n_changed": share.n_changed,
        "share": share.share,
        "share_low": share.low,
        "share_high": share.high,
        "n": round(share.share * n_rows),
        "n_low": round(share.low * n_rows),
        "n_high": round(share.high * n_rows),
        "moved": [{"before": before, "after": after, "n": n} for (before, after), n in sorted(moved.items()) if before != after],
    }
