"""Listings against the ledger: sweeps, batches of a run, and objects that are deleted with their rows."""

from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import text

from sentiment_core.store.listing import (
    batch_objects,
    is_sweep_due,
    keep_batches,
    new_objects,
    note_gone,
    record_sweep,
    remove_gone,
)
from sentiment_core.store.records import start_run

DAY = date(2026, 11, 1)
MORNING = datetime(2026, 11, 2, 8, tzinfo=UTC)
EVERYWHERE = {"bucket": "reviews", "window_dates": None}


def delete(store, *left):
    """The bucket is listed, and this is what is left of it."""
    note_gone(store.engine, **EVERYWHERE, listed_keys=[obj.key for obj in left])
    remove_gone(store.engine, **EVERYWHERE)
    return store.publish()


def test_rows_of_a_deleted_object_go_where_the_policy_says_so_and_the_runner_up_is_restored(store):
    early = store.obj("a", last_modified=MORNING)
    late = store.obj("b", last_modified=MORNING + timedelta(hours=1))
    store.deliver(early, [{"review_id": "both", "text_excerpt": "early"}, "r1"])
    store.deliver(late, [{"review_id": "both", "text_excerpt": "late"}, "r2"])
    store.publish()
    [done] = delete(store, early)
    assert store.current() == {(DAY, "both"): "early", (DAY, "r1"): "words"}
    assert (done.n_updated, done.n_deleted) == (1, 1)
    assert store.rows("select review_id from sentiment.score_history order by 1") == [("both",), ("r2",)]
    assert (store.statuses("a"), store.statuses("b")) == (["scored"], ["gone"])
    assert delete(store, early) == []


def test_a_runner_up_whose_object_is_deleted_is_not_restored(store):
    early = store.obj("a", last_modified=MORNING)
    late = store.obj("b", last_modified=MORNING + timedelta(hours=1))
    store.deliver(early, [{"review_id": "both", "text_excerpt": "early"}])
    store.deliver(late, [{"review_id": "both", "text_excerpt": "late"}])
    store.publish()
    delete(store, late)
    assert store.current() == {(DAY, "both"): "late"}
    delete(store)
    assert store.current() == {}
    assert store.rows("select count(*) from sentiment.runner_ups") == [(0,)]


def test_a_deleted_object_that_is_listed_again_is_new_and_brings_its_rows_back(store):
    obj, other = store.obj("a"), store.obj("b")
    store.deliver(obj, ["r1"])
    store.deliver(other, ["r2"])
    store.publish()
    delete(store, other)
    assert set(store.current()) == {(DAY, "r2")}
    note_gone(store.engine, **EVERYWHERE, listed_keys=[obj.key, other.key])
    assert store.statuses("a") == ["gone"]
    assert new_objects(store.engine, [obj, other]) == [obj]
    assert store.deliver(obj, ["r1"]).outcome == "staged"
    store.publish()
    assert set(store.current()) == {(DAY, "r1"), (DAY, "r2")}
    assert store.statuses("a") == ["scored"]
    assert new_objects(store.engine, [obj, other]) == []


def test_what_was_kept_goes_when_the_policy_changes(store):
    store.deliver("a", ["r1"])
    store.publish()
    note_gone(store.engine, **EVERYWHERE, listed_keys=[])
    assert store.publish() == []
    assert remove_gone(store.engine, **EVERYWHERE) == 1
    store.publish()
    assert store.current() == {}


def test_a_whole_leaf_of_rows_goes_with_its_objects(store):
    many = [f"r{number:06}" for number in range(25_000)]
    first, second = store.obj("a", last_modified=MORNING), store.obj("b", last_modified=MORNING + timedelta(hours=1))
    store.deliver(first, many)
    store.deliver(second, many[:24_000])
    store.publish()
    delete(store, first)
    assert store.rows("select count(*), count(distinct object_id) from sentiment.scored_reviews") == [(25_000, 1)]
    assert store.rows("select count(*) from sentiment.score_history") == [(24_000,)]


def test_folders_that_were_not_listed_are_left_alone(store):
    store.deliver("a", ["r1"])
    store.publish()
    note_gone(store.engine, bucket="reviews", window_dates=[DAY + timedelta(days=1)], listed_keys=[])
    note_gone(store.engine, bucket="other", window_dates=None, listed_keys=[])
    assert store.statuses("a") == ["scored"]


@pytest.mark.parametrize("n", [0, 5])
def test_a_runs_batches_are_kept_until_it_lists_anew(store, n):
    objects = [store.obj(f"{number}") for number in range(7)]
    run = {"window_date": DAY, "run_id": "run"}
    keep_batches(store.engine, [objects[:5], objects[5:]], **run)
    keep_batches(store.engine, [objects[:1]], window_date=DAY, run_id="other")
    assert batch_objects(store.engine, **run, batch=0) == objects[:5]
    assert batch_objects(store.engine, **run, batch=1) == objects[5:]
    keep_batches(store.engine, [objects[:n]] if n else [], **run)
    assert batch_objects(store.engine, **run, batch=0) == objects[:n]
    assert batch_objects(store.engine, **run, batch=1) == []
    assert batch_objects(store.engine, window_date=DAY, run_id="other", batch=0) == objects[:1]


def test_batches_of_long_ago_are_forgotten(store):
    keep_batches(store.engine, [[store.obj("a")]], window_date=DAY, run_id="old")
    with store.engine.begin() as connection:
        connection.execute(text("update sentiment.batch_objects set listed_at = now() - interval '31 days'"))
    keep_batches(store.engine, [], window_date=DAY, run_id="new")
    assert store.rows("select count(*) from sentiment.batch_objects") == [(0,)]


def test_a_sweep_is_due_once_in_so_many_nights_and_not_before_the_machine_has_run_for_as_long(store):
    def is_due(night, run_id="run"):
        return is_sweep_due(store.engine, window_date=night, run_id=run_id, days=7)

    assert not is_due(DAY)
    start_run(store.engine, window_date=DAY, run_id="first", model_version=1)
    assert not is_due(DAY)
    with store.engine.begin() as connection:
        connection.execute(text("update sentiment.scoring_runs set started_at = now() - interval '8 days'"))
    assert is_due(DAY)
    record_sweep(store.engine, window_date=DAY, run_id="run", n_objects=3)
    assert [is_due(DAY + timedelta(days=days), "later") for days in (0, 1, 6, 7, 8)] == [False, False, False, True, True]
    assert is_due(DAY), "a run that is tried again sweeps again"
