"""The drift check of a date: judge its current rows, keep the report, write the verdict, say whether to retrain.

The verdict is read from Evidently's own test results by `reports`; here stands only what a verdict sets off.
"""

import logging
from datetime import date
from typing import Any

from sentiment_core.domain import ModelRef
from sentiment_core.stages.services import Services
from sentiment_core.stages.window import Night

log = logging.getLogger(__name__)


def check_drift(services: Services, night: Night, ref: ModelRef, published: list[str]) -> dict[str, Any]:
    """Check the night's date, and every other date that late rows have changed; returns the night's own check."""
    others = [day for day in map(date.fromisoformat, published) if day != night.window_date]
    for day in others:
        check_date(services, day, ref, run_id=night.run_id)
    return check_date(services, night.window_date, ref, run_id=night.run_id)


def check_date(services: Services, day: date, ref: ModelRef, *, run_id: str) -> dict[str, Any]:
    """Judge all current rows of one date against the reference of the version that scored most of them."""
    from sentiment_core.reports import judge
    from sentiment_core.reviews.layout import report_key
    from sentiment_core.store import records

    by_version = records.count_current(services.engine, day)
    version = max(by_version, key=lambda item: by_version[item], default=ref.version)
    model = services.registry.open(ref if version == ref.version else services.registry.resolve(version))
    verdict, html = judge(
        model.reference.rows if model.reference else None,
        _current_sample(services, day, version),
        n=by_version.get(version, 0),
        labelled_accuracy=records.labelled_accuracy(services.engine, day, version),
        policy=services.policy.drift,
        title=f"Drift check of {day}",
        model_version=version,
    )
    check_id = records.next_check_id(services.engine)
    key = report_key(day, check_id)
    services.bucket.put(key, html, content_type="text/html; charset=utf-8")
    records.insert_check(
        services.engine,
        check_id=check_id,
        verdict=verdict,
        window_date=day,
        model_version=version,
        report_url=services.bucket.url(key),
        run_id=run_id,
    )
    log.info("%s: %s. %s", day, verdict.verdict, verdict.sentence)
    return {
        "check_id": check_id,
        "window_date": day.isoformat(),
        "model_version": version,
        "verdict": verdict.verdict,
        "n": verdict.n,
        "sentence": verdict.sentence,
        "report_url": services.bucket.url(key),
    }


def _current_sample(services: Services, day: date, version: int) -> Any:
    """The merged sample of the date's sketches, without rows that are no longer current."""
    from sentiment_core.drift.sketch import Sketch, merge
    from sentiment_core.store import records

    stored = records.sketches(services.engine, day, version)
    parts = (Sketch.from_bytes(item.sample, n=item.n, moments=item.moments, object_id=item.object_id) for item in stored)
    merged = merge(parts, size=services.policy.drift.sample_rows)
    return merged.keep(records.current_rows(services.engine, day, version, merged.review_ids))


def is_retrain_due(services: Services, night: Night, check: dict[str, Any]) -> bool:
    """Whether this check sets off a retrain: the verdict says so, the run may, and the night is judged by its own run.

    A night that an earlier run has finished is a re-run: its verdict is recorded and sets nothing off.
    """
    from sentiment_core.store.records import finished_before

    if check["verdict"] != "retrain" or not night.allow_retrain:
        return False
    return not finished_before(services.engine, night.window_date, run_id=night.run_id)
