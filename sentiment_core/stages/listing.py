"""What a night has to score: which folders it lists, what of them is new, and in which batches.

Of what is new the ledger keeps the listing; what travels to the tasks is the number of a batch and how large it is.
Reading objects is `night`'s business, comparing them with what is known `store`'s.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

from sentiment_core.domain import ObjectVersion
from sentiment_core.errors import Permanent
from sentiment_core.stages.services import Services
from sentiment_core.stages.window import Night

# Folders listed at a time. A page of a thousand keys is a round trip; more would only queue at the server.
_AT_ONCE = 8

log = logging.getLogger(__name__)
Batch = dict[str, Any]
"""batch (its number in the run), n_objects and n_bytes."""


def list_new_objects(services: Services, night: Night) -> list[Batch]:
    """Object versions the ledger does not know yet, cut into batches of about equal work.

    A scheduled night also looks into the folders of the days before, for late files, and once in a while (the policy's
    sweep_days) into all there are; a run for one date looks into its folder alone.
    """
    from sentiment_core.store import listing

    limits = services.policy.nightly
    run: dict[str, Any] = {"window_date": night.window_date, "run_id": night.run_id}
    is_sweep = night.kind == "scheduled" and listing.is_sweep_due(services.engine, **run, days=limits.sweep_days)
    n_folders = 1 + (limits.late_days if night.kind == "scheduled" else 0)
    recent = [night.window_date - timedelta(days=back) for back in range(n_folders)]
    folders = all_folders(services) if is_sweep else recent
    listed = _list(services, folders)
    seen: dict[str, Any] = {"bucket": services.settings.bucket, "window_dates": None if is_sweep else recent}
    listing.note_gone(services.engine, **seen, listed_keys=[obj.key for obj in listed])
    if limits.gone_rows == "remove":
        listing.remove_gone(services.engine, **seen)
    new = listing.new_objects(services.engine, listed, force=night.force)
    log.info("%d objects in %d folders, %d to score", len(listed), len(folders), len(new))
    batches = list(_cut(new, services))
    listing.keep_batches(services.engine, batches, **run)
    if is_sweep:
        listing.record_sweep(services.engine, **run, n_objects=len(listed))
    return [
        {"batch": number, "n_objects": len(batch), "n_bytes": sum(obj.size for obj in batch)}
        for number, batch in enumerate(batches)
    ]


def objects_of(services: Services, night: Night, batch: Batch) -> list[ObjectVersion]:
    """What was listed for a batch."""
    from sentiment_core.store.listing import batch_objects

    objects = batch_objects(services.engine, window_date=night.window_date, run_id=night.run_id, batch=batch["batch"])
    if len(objects) != batch["n_objects"]:
        raise Permanent(
            f"batch {batch['batch']} of run {night.run_id}",
            expected=f"{batch['n_objects']} objects in sentiment.batch_objects",
            found=str(len(objects)),
            remedy="clear the task list_new_objects as well: the run has listed anew since, or longer than a month ago",
        )
    return objects


def all_folders(services: Services) -> list[date]:
    """The dates of all folders of incoming/, in order; what lies in none is told to the log."""
    from sentiment_core.reviews.layout import folder_date_of

    dates, strays = set(), []
    for prefix in services.bucket.folders("incoming/"):
        try:
            dates.add(folder_date_of(prefix))
        except Permanent:
            strays.append(prefix)
    if strays:
        log.warning("no date can be read from %d folders, nothing in them is scored; the first is %s", len(strays), strays[0])
    return sorted(dates)


def _list(services: Services, folders: Sequence[date]) -> list[ObjectVersion]:
    from sentiment_core.reviews.layout import incoming_prefix, is_review_key

    def one(day: date) -> list[ObjectVersion]:
        return [obj for obj in services.bucket.list(incoming_prefix(day)) if is_review_key(obj.key)]

    if len(folders) == 1:
        return one(folders[0])
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="list") as pool:
        return [obj for found in pool.map(one, folders) for obj in found]


def _cut(objects: Sequence[ObjectVersion], services: Services) -> Iterator[list[ObjectVersion]]:
    limits = services.policy.nightly
    batch: list[ObjectVersion] = []
    n_bytes = 0
    for obj in objects:
        if batch and (len(batch) >= limits.batch_objects or n_bytes + obj.size > limits.batch_bytes):
            yield batch
            batch, n_bytes = [], 0
        batch.append(obj)
        n_bytes += obj.size
    if batch:
        yield batch
