"""A night through the stages, against the real servers: what goes in comes out once, and bad input harms only itself."""

import contextlib
import gzip
import io
import itertools
import json
import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from sentiment_core.errors import Permanent, Transient
from sentiment_core.reviews.bucket import Bucket
from sentiment_core.reviews.layout import incoming_prefix
from sentiment_core.stages import night as stages
from sentiment_core.stages.listing import objects_of
from sentiment_core.stages.night import score_window

DAY = date(2026, 11, 10)


def jsonl(*rows: dict) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def review(number: int, words: str = "a wonderful film with a moving story", **more) -> dict:
    return {"review_id": f"r{number}", "text": f"{words} number {number}", **more}


def deliver(services, name: str, content: bytes, day: date = DAY) -> None:
    services.bucket.put(incoming_prefix(day) + name, content)


def rows(services, query: str, **parameters) -> list[tuple]:
    with services.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query), parameters)]


def current(services) -> list[tuple]:
    return rows(services, "select review_date, review_id from sentiment.scored_reviews order by 1, 2")


@pytest.fixture
def champion(services, trained_model):
    """The services, with a champion registered."""
    trained_model(services)
    return services


def test_every_format_is_scored_once_and_a_second_run_changes_nothing(champion):
    table = pa.Table.from_pylist([review(n) for n in range(10)])
    sink = io.BytesIO()
    pq.write_table(table, sink)
    deliver(champion, "a.parquet", sink.getvalue())
    deliver(champion, "b.jsonl", jsonl(*(review(n) for n in range(10, 20))))
    deliver(champion, "c.jsonl.gz", gzip.compress(jsonl(*(review(n) for n in range(20, 30)))))
    csv = "review_id,text\n" + "".join(f"r{n},fine enough {n}\n" for n in range(30, 40))
    deliver(champion, "d.csv", csv.encode())
    deliver(champion, "e.csv.gz", gzip.compress(csv.replace("r3", "r4").encode()))
    first = score_window(champion, DAY)
    assert (first["n_objects"], first["n_scored"], first["n_quarantined"], first["n_failed"]) == (5, 50, 0, 0)
    before = rows(champion, "select * from sentiment.scored_reviews order by review_id")
    assert len(before) == 50
    second = score_window(champion, DAY)
    assert second["n_objects"] == 0
    assert rows(champion, "select * from sentiment.scored_reviews order by review_id") == before


def test_a_forced_run_scores_again_and_keeps_what_was_said_before(champion):
    deliver(champion, "a.jsonl", jsonl(review(1), review(2)))
    score_window(champion, DAY)
    again = score_window(champion, DAY, force=True)
    assert again["n_scored"] == 2
    assert current(champion) == [(DAY, "r1"), (DAY, "r2")]
    assert rows(champion, "select distinct run_id from sentiment.scored_reviews") == [(again["run_id"],)]
    assert rows(champion, "select count(*) from sentiment.score_history") == [(2,)]


def test_bad_objects_and_rows_are_listed_with_reasons_and_harm_nothing_else(champion, bad_folder):
    for name, content in bad_folder.objects.items():
        deliver(champion, name, content)
    outcome = score_window(champion, DAY)
    counts = (outcome["n_objects"], outcome["n_failed"], outcome["n_scored"], outcome["n_quarantined"])
    assert counts == (8, 4, len(bad_folder.good_ids), len(bad_folder.rejected))
    assert {review_id for _, review_id in current(champion)} == bad_folder.good_ids
    failed = dict(rows(champion, "select split_part(key, '/', 3), reason from sentiment.source_objects where status = 'failed'"))
    assert failed.keys() == bad_folder.unreadable.keys()
    assert [name for name, words in bad_folder.unreadable.items() if words not in failed[name]] == []
    query = """select split_part(key, '/', 3), row_number, q.reason
               from sentiment.quarantined_reviews q join sentiment.source_objects using (object_id)"""
    listed = {(name, number): reason for name, number, reason in rows(champion, query)}
    assert listed.keys() == bad_folder.rejected.keys()
    assert [place for place, words in bad_folder.rejected.items() if words not in listed[place]] == []
    lines = [
        json.loads(line) for item in champion.bucket.list("quarantine/") for line in champion.bucket.get(item.key).splitlines()
    ]
    assert {(line["key"].split("/")[2], line["row_number"]) for line in lines} == listed.keys()


def test_created_at_decides_the_date_and_every_date_is_published(champion):
    yesterday = datetime(2026, 11, 9, 23, 59, tzinfo=UTC)
    deliver(champion, "a.jsonl", jsonl(review(1, created_at=yesterday.isoformat()), review(2)))
    assert score_window(champion, DAY)["published"] == ["2026-11-09", "2026-11-10"]
    assert current(champion) == [(DAY - timedelta(days=1), "r1"), (DAY, "r2")]


def test_a_redelivered_review_replaces_what_was_there(champion):
    deliver(champion, "a.jsonl", jsonl(review(1, words="dreadful boring waste")))
    score_window(champion, DAY)
    [(worse,)] = rows(champion, "select p_positive from sentiment.scored_reviews")
    deliver(champion, "b.jsonl", jsonl(review(1, words="wonderful superb moving")))
    score_window(champion, DAY)
    [(better,)] = rows(champion, "select p_positive from sentiment.scored_reviews")
    assert better > worse
    assert rows(champion, "select count(*) from sentiment.score_history") == [(1,)]


def test_a_rewritten_object_takes_its_rows_away_and_back(champion):
    first, second = jsonl(review(1), review(2)), jsonl(review(2), review(3))
    for content in (first, second, first):
        deliver(champion, "a.jsonl", content)
        score_window(champion, DAY)
    assert current(champion) == [(DAY, "r1"), (DAY, "r2")]
    statuses = rows(champion, "select sequence, status from sentiment.source_objects order by sequence")
    assert statuses == [(1, "superseded"), (2, "superseded"), (3, "scored")]


def test_an_object_rewritten_between_listing_and_reading_is_scored_as_it_is_now(champion):
    deliver(champion, "a.jsonl", jsonl(review(1)))
    night = stages.Night(window_date=DAY, run_id="r", kind="manual", model="champion", force=False, allow_retrain=False)
    ref = stages.resolve_model(champion, night)
    [batch] = stages.list_new_objects(champion, night)
    deliver(champion, "a.jsonl", jsonl(review(2), review(3)))
    counts = stages.score_objects(champion, night, ref, batch)
    stages.publish_dates(champion, night, ref, [counts])
    assert current(champion) == [(DAY, "r2"), (DAY, "r3")]


class CountedBucket(Bucket):
    """A bucket that knows what has been read from it."""

    def __init__(self, bucket):
        super().__init__(bucket._client, bucket.name)
        self.opened = []

    def open(self, obj):
        self.opened.append(obj.key.rpartition("/")[2])
        return super().open(obj)


def test_objects_that_are_read_ahead_of_one_another_stay_apart(champion):
    for number in range(30):
        content = b"" if number % 7 == 3 else jsonl(*(review(100 * number + n) for n in range(number)), {"text": "no id"})
        deliver(champion, f"{number:02}.jsonl", content)
    champion.__dict__["bucket"] = CountedBucket(champion.bucket)
    outcome = score_window(champion, DAY)
    n_rows = sum(number for number in range(30) if number % 7 != 3)
    assert (outcome["n_objects"], outcome["n_failed"], outcome["n_scored"], outcome["n_quarantined"]) == (30, 4, n_rows, 26)
    counted = rows(champion, "select key, status, n_scored from sentiment.source_objects order by key")
    expected = [("failed", None) if number % 7 == 3 else ("scored", number) for number in range(30)]
    assert [(status, None if status == "failed" else n) for _, status, n in counted] == expected
    assert sorted(champion.bucket.opened) == [f"{number:02}.jsonl" for number in range(30)]


def test_a_task_that_is_tried_again_reads_only_what_it_has_not_staged(champion):
    for number in range(4):
        deliver(champion, f"{number}.jsonl", jsonl(review(number)))
    night = stages.Night(window_date=DAY, run_id="r", kind="manual", model="champion", force=False, allow_retrain=False)
    ref = stages.resolve_model(champion, night)
    [batch] = stages.list_new_objects(champion, night)
    first, _, third, _ = objects_of(champion, night, batch)
    for obj in (first, third):
        assert stages._score_object(champion, night, champion.registry.open(ref), obj).outcome == "staged"
    champion.__dict__["bucket"] = CountedBucket(champion.bucket)
    counts = stages.score_objects(champion, night, ref, batch)
    assert (counts["n_objects"], counts["n_scored"], counts["n_failed"]) == (4, 4, 0)
    assert sorted(champion.bucket.opened) == ["1.jsonl", "3.jsonl"]


def test_an_object_that_another_run_stages_meanwhile_is_passed_over(champion):
    for number in range(3):
        deliver(champion, f"{number}.jsonl", jsonl(review(number), review(number + 10)))
    night = stages.Night(window_date=DAY, run_id="r", kind="manual", model="champion", force=False, allow_retrain=False)
    ref = stages.resolve_model(champion, night)
    [batch] = stages.list_new_objects(champion, night)

    def stage_the_second(n_objects, n_scored):
        if n_objects == 1:
            _, second, _ = objects_of(champion, night, batch)
            stages._score_object(champion, replace(night, run_id="other"), champion.registry.open(ref), second)

    counts = stages.score_objects(champion, night, ref, batch, on_progress=stage_the_second)
    assert counts["n_scored"] == 6
    stages.publish_dates(champion, night, ref, [counts])
    found = rows(champion, "select review_id, run_id from sentiment.scored_reviews order by 1")
    assert found == [("r0", "r"), ("r1", "other"), ("r10", "r"), ("r11", "other"), ("r12", "r"), ("r2", "r")]


def test_trouble_in_the_middle_of_an_object_leaves_no_row_of_it_and_no_thread(champion):
    deliver(champion, "a.jsonl", jsonl(review(1)))
    big = jsonl(*(review(n) for n in range(20_000)))
    deliver(champion, "b.jsonl", big)

    class Interrupted(CountedBucket):
        def open(self, obj):
            stream = super().open(obj)
            return stream if obj.key.endswith("a.jsonl") else io.BufferedReader(Ending(stream, len(big) - 10))

    class Ending(io.RawIOBase):
        def __init__(self, stream, n_bytes):
            self.stream, self.n_bytes = stream, n_bytes

        def readable(self):
            return True

        def readinto(self, buffer):
            if self.n_bytes == 0:
                raise Transient("the object", expected="more", found="a broken connection", remedy="try again")
            part = self.stream.read(min(len(buffer), self.n_bytes))
            self.n_bytes -= len(part)
            buffer[: len(part)] = part
            return len(part)

    whole = champion.bucket
    champion.__dict__["bucket"] = Interrupted(whole)
    with pytest.raises(Transient, match="broken connection"):
        score_window(champion, DAY)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("read", "work"))]
    assert rows(champion, "select key, n_scored from sentiment.source_objects") == [(incoming_prefix(DAY) + "a.jsonl", 1)]
    champion.__dict__["bucket"] = whole
    assert score_window(champion, DAY)["n_scored"] == 20_000
    assert len(current(champion)) == 20_000


def test_a_run_that_dies_before_publishing_is_completed_by_the_next(champion):
    deliver(champion, "a.jsonl", jsonl(review(1)))
    night = stages.Night(window_date=DAY, run_id="dies", kind="manual", model="champion", force=False, allow_retrain=False)
    ref = stages.resolve_model(champion, night)
    [batch] = stages.list_new_objects(champion, night)
    stages.score_objects(champion, night, ref, batch)
    assert current(champion) == []
    score_window(champion, DAY + timedelta(days=1))
    assert current(champion) == [(DAY, "r1")]


def test_an_empty_night_is_a_night(champion):
    outcome = score_window(champion, DAY)
    assert (outcome["n_objects"], outcome["status"]) == (0, "succeeded")
    assert rows(champion, "select status, n_scored from sentiment.scoring_runs") == [("succeeded", 0)]


def test_without_a_model_the_night_says_how_to_make_one(services):
    deliver(services, "a.jsonl", jsonl(review(1)))
    with pytest.raises(Permanent, match="champion"):
        score_window(services, DAY)


def test_small_files_are_a_few_tasks(champion):
    for number in range(champion.policy.nightly.batch_objects + 5):
        deliver(champion, f"{number:04}.jsonl", jsonl(review(number)))
    night = stages.Night(window_date=DAY, run_id="r", kind="manual", model="champion", force=False, allow_retrain=False)
    batches = stages.list_new_objects(champion, night)
    assert [batch["n_objects"] for batch in batches] == [champion.policy.nightly.batch_objects, 5]
    assert [len(objects_of(champion, night, batch)) for batch in batches] == [champion.policy.nightly.batch_objects, 5]


def test_a_scheduled_night_finds_late_files_of_the_days_before_and_a_run_by_hand_does_not(champion):
    deliver(champion, "late.jsonl", jsonl(review(1)), day=DAY - timedelta(days=3))
    for kind, found in (("manual", 0), ("backfill", 0), ("scheduled", 1)):
        night = stages.Night(window_date=DAY, run_id=kind, kind=kind, model="champion", force=False, allow_retrain=False)
        assert len(stages.list_new_objects(champion, night)) == found


def with_policy(services, **changes):
    services.__dict__["policy"] = replace(services.policy, nightly=replace(services.policy.nightly, **changes))
    return services


def scheduled(services, day=DAY, run_id="scheduled"):
    night = stages.Night(window_date=day, run_id=run_id, kind="scheduled", model="champion", force=False, allow_retrain=False)
    ref = stages.resolve_model(services, night)
    batches = stages.list_new_objects(services, night)
    return stages.publish_dates(services, night, ref, [stages.score_objects(services, night, ref, batch) for batch in batches])


def test_a_sweep_finds_what_came_late_into_old_folders_in_its_own_date(champion):
    old = DAY - timedelta(days=400)
    scheduled(champion)
    deliver(champion, "late.jsonl", jsonl(review(1)), day=old)
    champion.bucket.put("incoming/date=2026-02-30/a.jsonl", jsonl(review(2)))
    champion.bucket.put("incoming/misplaced.jsonl", jsonl(review(3)))
    assert scheduled(champion, DAY + timedelta(days=1))["n_objects"] == 0
    with champion.engine.begin() as connection:
        connection.execute(text("update sentiment.scoring_runs set started_at = now() - interval '8 days'"))
    assert scheduled(champion, DAY + timedelta(days=2))["published"] == [old.isoformat()]
    assert current(champion) == [(old, "r1")]
    assert rows(champion, "select window_date, n_objects from sentiment.sweeps") == [(DAY + timedelta(days=2), 1)]


def test_a_sweep_notes_what_is_gone_from_old_folders(champion):
    old = DAY - timedelta(days=400)
    deliver(champion, "a.jsonl", jsonl(review(1)), day=old)
    score_window(champion, old)
    champion.bucket._client.delete_object(Bucket=champion.bucket.name, Key=incoming_prefix(old) + "a.jsonl")
    scheduled(with_policy(champion, gone_rows="remove", sweep_days=0))
    assert rows(champion, "select status, is_removed from sentiment.source_objects") == [("gone", True)]
    assert current(champion) == []
    deliver(champion, "a.jsonl", jsonl(review(1)), day=old)
    scheduled(champion, run_id="another")
    assert current(champion) == [(old, "r1")]


def test_a_batch_of_which_the_ledger_knows_nothing_says_what_to_clear(champion):
    deliver(champion, "a.jsonl", jsonl(review(1)))
    night = stages.Night(window_date=DAY, run_id="r", kind="manual", model="champion", force=False, allow_retrain=False)
    ref = stages.resolve_model(champion, night)
    [batch] = stages.list_new_objects(champion, night)
    assert batch == {"batch": 0, "n_objects": 1, "n_bytes": len(jsonl(review(1)))}
    stages.list_new_objects(champion, replace(night, window_date=DAY + timedelta(days=1)))
    stages.score_objects(champion, night, ref, batch)
    stages.list_new_objects(champion, night)
    with pytest.raises(Permanent, match="clear the task list_new_objects"):
        stages.score_objects(champion, night, ref, batch)


def test_a_version_that_was_read_before_a_newer_one_was_staged_is_not_staged_after_it(champion):
    """Read ahead, then overtaken: what lies there by now is what counts."""
    deliver(champion, "a.jsonl", jsonl(review(1)))
    night = stages.Night(window_date=DAY, run_id="r", kind="manual", model="champion", force=False, allow_retrain=False)
    model = champion.registry.open(stages.resolve_model(champion, night))
    [batch] = stages.list_new_objects(champion, night)
    [obj] = objects_of(champion, night, batch)
    with contextlib.closing(stages.score_ahead(champion, model, [obj])) as ahead:
        first = next(ahead)
        deliver(champion, "a.jsonl", jsonl(review(2), review(3)))
        score_window(champion, DAY)
        stages._score_object(champion, night, model, obj, ahead=itertools.chain([first], ahead))
    score_window(champion, DAY)
    assert current(champion) == [(DAY, "r2"), (DAY, "r3")]
    assert rows(champion, "select count(*) from sentiment.source_objects") == [(1,)]


def test_a_retried_run_keeps_its_model_and_a_backfill_takes_the_nights_own(champion, trained_model):
    night = stages.Night(window_date=DAY, run_id="r", kind="scheduled", model="champion", force=False, allow_retrain=False)
    first = stages.resolve_model(champion, night)
    stages.publish_dates(champion, night, first, [])
    second = trained_model(champion)
    assert second.version == first.version + 1
    backfill = stages.Night(window_date=DAY, run_id="b", kind="backfill", model="as-of", force=False, allow_retrain=False)
    assert stages.resolve_model(champion, backfill).version == first.version
    tomorrow = stages.Night(window_date=DAY, run_id="n", kind="manual", model="champion", force=False, allow_retrain=False)
    assert stages.resolve_model(champion, tomorrow).version == second.version
    assert stages.resolve_model(champion, night).version == first.version
