"""What histories have found, or might have: each a short one of its own."""

import json
from datetime import UTC, date, datetime, timedelta

import pytest

from sentiment_core.reviews.layout import incoming_prefix
from sentiment_core.stages import night, promotion
from sentiment_core.stages.window import Night
from tests.histories.place import Models

DAY = date(2026, 11, 1)
MORNING = datetime(2026, 11, 2, 8, tzinfo=UTC)
KEY = incoming_prefix(DAY) + "a.jsonl"


@pytest.fixture
def services(place):
    place.services.__dict__["registry"] = Models()
    promotion.promote(place.services, 1, run_id="first", reason="a person")
    return place.services


def deliver(services, review_id, modified):
    content = json.dumps({"review_id": review_id, "text": "words"}).encode()
    metadata = {"mtime": str(modified.timestamp())}
    services.bucket._client.put_object(Bucket=services.bucket.name, Key=KEY, Body=content, Metadata=metadata)


def begin(services, run_id, model="champion"):
    of = Night(window_date=DAY, run_id=run_id, kind="manual", model=model, force=False, allow_retrain=False)
    return of, night.resolve_model(services, of), night.list_new_objects(services, of)


def go_on(services, run):
    of, ref, batches = run
    counts = [night.score_objects(services, of, ref, batch) for batch in batches]
    return night.publish_dates(services, of, ref, counts)


def test_of_two_runs_with_different_versions_the_first_to_stage_an_object_decides(place, services):
    deliver(services, "r1", MORNING)
    first, second = begin(services, "first", "1"), begin(services, "second", "2")
    go_on(services, first)
    go_on(services, second)
    assert place.rows("select review_id, model_version, run_id from sentiment.scored_reviews") == [("r1", 1, "first")]
    assert place.rows("select count(*) from sentiment.score_history") == [(0,)]


def test_a_run_whose_object_was_overtaken_and_then_deleted_goes_on(place, services):
    """What it had listed is recorded as failed; the later version, which another run has read, keeps its rows."""
    deliver(services, "r1", MORNING)
    slow = begin(services, "slow")
    deliver(services, "r2", MORNING + timedelta(hours=1))
    go_on(services, begin(services, "quick"))
    services.bucket._client.delete_object(Bucket=services.bucket.name, Key=KEY)
    assert go_on(services, slow)["n_failed"] == 1
    assert place.rows("select review_id, run_id from sentiment.scored_reviews") == [("r2", "quick")]
    found = place.rows("select sequence, status, run_id from sentiment.source_objects order by 1")
    assert found == [(1, "scored", "quick"), (2, "failed", "slow")]
