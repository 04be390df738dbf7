"""A folder with all that can be bad in it, through a real run: what is good is scored, the rest is listed with its reason."""

import json

import pytest

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def ended(machine, spoilt):
    assert machine.end("score_reviews", spoilt.run_id) == "success"
    return spoilt


def test_every_good_review_is_scored(machine, ended, bad_folder):
    scored = machine.rows("select review_id from sentiment.scored_reviews where review_date = :day", day=ended.date)
    assert sorted(review_id for (review_id,) in scored) == sorted(bad_folder.good_ids)
    [counts] = machine.rows(
        "select status, n_objects, n_scored, n_quarantined from sentiment.scoring_runs where run_id = :run_id",
        run_id=ended.run_id,
    )
    assert counts == ("succeeded", len(bad_folder.objects), ended.n, len(bad_folder.rejected))


def test_every_object_that_cannot_be_read_is_listed_with_its_reason(machine, ended, bad_folder):
    query = """select split_part(key, '/', 3), reason from sentiment.source_objects
               where window_date = :day and status = 'failed'"""
    failed = dict(machine.rows(query, day=ended.date))
    assert failed.keys() == bad_folder.unreadable.keys()
    assert [name for name, words in bad_folder.unreadable.items() if words not in failed[name]] == []


def test_every_bad_row_is_listed_with_its_reason(machine, ended, bad_folder):
    query = """select split_part(key, '/', 3), row_number, q.reason
               from sentiment.quarantined_reviews q join sentiment.source_objects using (object_id) where window_date = :day"""
    listed = {(name, number): reason for name, number, reason in machine.rows(query, day=ended.date)}
    assert listed.keys() == bad_folder.rejected.keys()
    assert [place for place, words in bad_folder.rejected.items() if words not in listed[place]] == []


def test_the_bad_rows_themselves_are_kept_beside_the_bucket_of_the_night(machine, ended, bad_folder):
    bucket = machine.services.bucket
    objects = [bucket.get(item.key) for item in bucket.list(f"quarantine/date={ended.date}/")]
    lines = [json.loads(line) for content in objects for line in content.splitlines()]
    assert {(line["key"].split("/")[2], line["row_number"]) for line in lines} == bad_folder.rejected.keys()
    assert all(line["raw"] for line in lines)
