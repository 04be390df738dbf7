"""Forgetting, once a night: what the policy's section `retention` says of PostgreSQL and of the bucket.

Everything is counted. A night that was killed, or did not come, is made good by the next: nothing depends on when it
runs. What senders have put into the bucket stays theirs, and so does what MLflow holds.
"""

import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sentiment_core.domain import ObjectVersion
from sentiment_core.stages.services import Services

log = logging.getLogger(__name__)


def forget_rows(services: Services, *, run_id: str) -> dict[str, Any]:
    """Take away what PostgreSQL has kept long enough; returns counts by kind.

    The current row of a review goes only where the policy's review_days says so.
    """
    from sentiment_core.store import retention

    limits, engine = services.policy.retention, services.engine
    today = retention.today(engine)
    reviews_before = _cutoff(today, limits.review_days)
    counts: dict[str, int] = {}
    if reviews_before:  # first: what is gone need not be shortened
        counts |= retention.drop_reviews(engine, run_id=run_id, before=reviews_before)
    history_before = _cutoff(today, limits.history_days)
    if history_before or reviews_before:
        counts["history"] = retention.drop_history(engine, run_id=run_id, before=history_before, reviews_before=reviews_before)
    counts["excerpts"] = retention.cut_excerpts(
        engine,
        run_id=run_id,
        before=_cutoff(today, limits.excerpt_days),
        excerpt_chars=services.policy.storage.text_excerpt,
    )
    if before := _cutoff(today, limits.sample_days):
        counts["samples"] = retention.drop_sketches(engine, run_id=run_id, before=before)
    if before := _cutoff(today, limits.quarantine_days):
        counts["quarantined_rows"] = retention.drop_quarantined(engine, run_id=run_id, before=before)
    if before := _cutoff(today, limits.staging_days):
        counts |= retention.drop_staging(engine, run_id=run_id, before=before)
    log.info("forgotten in PostgreSQL: %s", counts)
    return counts


def forget_objects(services: Services, *, run_id: str) -> dict[str, Any]:
    """Take away reports, training sets and rejected rows that the bucket has kept long enough; returns counts by kind.

    The training sets of the champion, of a challenger and of the version that a rollback returns to stay.

    Raises:
        Transient: MLflow is away, so that nobody knows which training sets are in use; the others have gone by then.
    """
    from sentiment_core.reviews.layout import QUARANTINE, REPORTS, SNAPSHOTS
    from sentiment_core.store.retention import today

    limits, day = services.policy.retention, today(services.engine)
    counts = {
        "reports": _forget(services, REPORTS, _cutoff(day, limits.report_days), run_id=run_id),
        "quarantined_objects": _forget(services, QUARANTINE, _cutoff(day, limits.quarantine_days), run_id=run_id),
    }
    if before := _cutoff(day, limits.snapshot_days):
        in_use = _snapshots_in_use(services)
        counts["snapshots"] = _forget(services, SNAPSHOTS, before, run_id=run_id, keeps=lambda obj: obj.key in in_use)
    log.info("forgotten in the bucket: %s", counts)
    return counts


def _cutoff(today: date, days: int) -> date | None:
    """The first date that is kept; None where everything is.

    >>> _cutoff(date(2026, 11, 21), 7), _cutoff(date(2026, 11, 21), 0)
    (datetime.date(2026, 11, 14), None)
    """
    return today - timedelta(days=days) if days else None


def _forget(
    services: Services,
    prefix: str,
    before: date | None,
    *,
    run_id: str,
    keeps: Callable[[ObjectVersion], bool] = lambda _: False,
) -> int:
    """Delete the objects below a prefix that were written before a date; noted as they go, should the run be killed."""
    from sentiment_core.store.retention import record_removal

    if before is None:
        return 0
    n_deleted, moment = 0, datetime.combine(before, time(), UTC)
    try:
        for obj in services.bucket.list(prefix):
            if obj.last_modified < moment and not keeps(obj):
                services.bucket.delete(obj.key)
                n_deleted += 1
    finally:
        record_removal(services.engine, run_id=run_id, what=f"objects of {prefix}", n=n_deleted, before=before)
    return n_deleted


def _snapshots_in_use(services: Services) -> set[str]:
    """Training sets of versions that an alias names, and of all that a rollback may return to next."""
    from sentiment_core.stages.promotion import line_of_champions
    from sentiment_core.store.records import events

    versions = {version["version"]: version for version in services.registry.versions()}
    line = [version for version in line_of_champions(events(services.engine)) if version in versions]
    kept = {number for number, version in versions.items() if version["aliases"]} | set(line[-2:])
    kept = kept or set(versions)  # nobody has been made champion yet: any of them may be
    return {versions[number]["snapshot"] for number in kept if versions[number]["snapshot"]}
