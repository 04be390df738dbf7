"""The drift check of a date: judge its current rows, keep the report, write the verdict, say whether to retrain.

The verdict is read from Evidently's own test results by `reports`; here stands only what a verdict sets off.
"""

import logging
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from sentiment_core.domain import ModelRef
from sentiment_core.stages.services import Services
from sentiment_core.stages.window import Night

if TYPE_CHECKING:
    import pyarrow as pa

    from sentiment_core.domain import DriftVerdict
    from sentiment_core.drift.history import History, PastNight
    from sentiment_core.drift.history import Night as DriftNight

log = logging.getLogger(__name__)


def check_drift(services: Services, night: Night, ref: ModelRef, published: list[str]) -> dict[str, Any]:
    """Check the night's date, and every other date that late rows have changed; returns the night's own check."""
    others = [day for day in map(date.fromisoformat, published) if day != night.window_date]
    for day in others:
        check_date(services, day, ref, run_id=night.run_id)
    return check_date(services, night.window_date, ref, run_id=night.run_id)


def check_date(services: Services, day: date, ref: ModelRef, *, run_id: str) -> dict[str, Any]:
    """Judge all current rows of one date that the version with most of them scored, against that version's reference.

    After a promotion a date may have rows of two versions: each version is judged by its own rows and reference alone.
    """
    from sentiment_core.reports import judge
    from sentiment_core.reviews.layout import report_key
    from sentiment_core.store import records

    by_version = records.count_current(services.engine, day)
    version = max(by_version, key=lambda item: by_version[item], default=ref.version)
    model = services.registry.open(ref if version == ref.version else services.registry.resolve(version))
    judged = judge(
        model.reference,
        night_of(services, day, version, n=by_version.get(version, 0)),
        history=history_of(services, day, model.ref),
        limits=services.policy.drift,
        title=f"Drift check of {day}",
        model_version=version,
    )
    verdict, statistics = judged.verdict, judged.measurement.statistics
    check_id = records.next_check_id(services.engine)
    key = report_key(day, check_id)
    services.bucket.put(key, judged.page, content_type="text/html; charset=utf-8")
    records.insert_check(
        services.engine,
        check_id=check_id,
        verdict=verdict,
        window_date=day,
        model_version=version,
        report_url=services.bucket.url(key),
        run_id=run_id,
        statistics=statistics.to_json() if statistics else None,
    )
    _tell(day, verdict, services.bucket.url(key))
    return {
        "check_id": check_id,
        "window_date": day.isoformat(),
        "model_version": version,
        "verdict": verdict.verdict,
        "n": verdict.n,
        "sentence": verdict.sentence,
        "report_url": services.bucket.url(key),
    }


def _tell(day: date, verdict: "DriftVerdict", report_url: str) -> None:
    """Into the log; what needs a person goes there as an error, which is what people are paged for."""
    if verdict.verdict == "quarantine":
        log.error("%s needs somebody to look at what was delivered. %s Report: %s", day, verdict.sentence, report_url)
    else:
        log.info("%s: %s. %s", day, verdict.verdict, verdict.sentence)


def night_of(services: Services, day: date, version: int, *, n: int) -> "DriftNight":
    """A date's current rows of one version, as its sketches hold them, with what people have said of them."""
    from sentiment_core.drift.history import Labels
    from sentiment_core.drift.history import Night as DriftNight
    from sentiment_core.store import records

    n_labelled, n_right = records.labelled(services.engine, day, version)
    return DriftNight(
        rows=current_sample(services, day, version),
        n=n,
        window_date=day,
        labels=Labels(n=n_labelled, n_right=n_right) if n_labelled else None,
    )


def history_of(services: Services, day: date, ref: ModelRef) -> "History":
    """What is known as of a night: the nights before it that the version scored, labels it has not learnt from, the last retrain."""
    from sentiment_core.drift.history import History
    from sentiment_core.drift.loop import retrained_on
    from sentiment_core.store import records
    from sentiment_core.store.requests import retrain_requests

    first = day - timedelta(days=services.policy.drift.season_days)
    rows = records.past_checks(services.engine, first=first, before=day, model_version=ref.version)
    nights = tuple(map(_past_night, rows))
    requests = [request for request in retrain_requests(services.engine) if request.window_date < day]
    return History(nights=nights, n_new_labels=count_new_labels(services, ref), retrained_on=retrained_on(requests))


def _past_night(row: dict[str, Any]) -> "PastNight":
    from sentiment_core.drift.history import Labels, PastNight, Statistics

    n_labelled, n_right, statistics = (row.pop(name) for name in ("n_labelled", "n_right", "statistics"))
    return PastNight(
        **row,
        labels=Labels(n=n_labelled, n_right=n_right) if n_labelled else None,
        statistics=Statistics.from_json(statistics) if statistics else None,
    )


def count_new_labels(services: Services, ref: ModelRef) -> int:
    """Labels of scored reviews beyond those that the version's training set holds."""
    from sentiment_core.stages.training_sets import count_learnt_labels
    from sentiment_core.store import records

    n_labels = records.count_scored_labels(services.engine)
    if not n_labels or not ref.snapshot:
        return n_labels
    return max(0, n_labels - count_learnt_labels(services, ref.snapshot))


def current_sample(services: Services, day: date, version: int) -> "pa.Table":
    """The merged sample of the date's sketches, without rows that are no longer current."""
    from sentiment_core.drift.sketch import Sketch, merge
    from sentiment_core.store import records

    stored = records.sketches(services.engine, day, version)
    parts = (Sketch.from_bytes(item.sample, n=item.n, moments=item.moments, object_id=item.object_id) for item in stored)
    merged = merge(parts, size=services.policy.drift.sample_rows)
    return merged.keep(records.current_rows(services.engine, day, version, merged.review_ids))


def is_retrain_due(services: Services, night: Night, check: dict[str, Any]) -> bool:
    """Whether this check sets off a retrain, and if so, write down that it does; `retrain_run_id` is what its run is called."""
    objection = _objection(services, night, check)
    if objection:
        log.info("%s: no retrain is set off. %s", night.window_date, objection)
    return not objection


def retrain_run_id(day: str) -> str:
    """What the run of retrain_model is called that a night sets off: one a night, however often the night is run.

    >>> retrain_run_id("2026-11-01")
    'drift__2026-11-01'
    """
    return f"drift__{day}"


def _objection(services: Services, night: Night, check: dict[str, Any]) -> str:
    """Why a check sets nothing off; empty when it does.

    A night that an earlier run has finished is a re-run, and rows of a version that is no longer champion say nothing of
    the one that is: both are recorded and set nothing off.
    """
    from sentiment_core.drift.loop import why_not_now
    from sentiment_core.stages.promotion import current_champion
    from sentiment_core.store.records import finished_before
    from sentiment_core.store.requests import request_retrain

    if check["verdict"] != "retrain":
        return f"The verdict is {check['verdict']}."
    if not night.allow_retrain:
        return "This run records only (allow_retrain)."
    if finished_before(services.engine, night.window_date, run_id=night.run_id):
        return "An earlier run has finished this night."
    champion = current_champion(services)
    if champion is None or champion.version != check["model_version"]:
        return f"It judges version {check['model_version']}, and champion is {champion.version if champion else 'none'}."
    return request_retrain(
        services.engine,
        window_date=night.window_date,
        run_id=night.run_id,
        retrain_run_id=retrain_run_id(check["window_date"]),
        model_version=champion.version,
        why_not=lambda requests, n_labels: why_not_now(night.window_date, requests, n_labels=n_labels, policy=services.policy),
    )
