"""Leases: one stages at a time, the dead are succeeded at once, sleepers after their time, and none of them writes then."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date

import pytest
from sqlalchemy import text

from sentiment_core.domain import Reject, ScoredBatch
from sentiment_core.errors import Transient
from sentiment_core.store.lease import LeaseLost
from sentiment_core.store.ledger import stage

DAY = date(2026, 11, 1)
LEASES = "select token, run_id from sentiment.object_leases"


def staging(store, obj, *, run_id="run", seconds=120.0):
    return stage(store.engine, obj, window_date=DAY, model=store.model(1), run_id=run_id, lease_seconds=seconds)


def add(store, item, *review_ids):
    reject = Reject(row_number=99, review_id=None, reason="no text", raw="{}")
    item.add(ScoredBatch(table=store.batch(review_ids), model=store.model(1)), [reject])


@contextmanager
def failing(error, store, obj, **how):
    with pytest.raises(error), staging(store, obj, **how) as item:
        yield item


def asleep(item):
    """The staging's worker no longer stirs: its session stays, its lease is not renewed."""
    item._lease.end()


def test_a_lease_is_held_while_an_object_is_staged_and_handed_back_with_it(store):
    with staging(store, store.obj("a"), run_id="mine") as item:
        [(token, run_id)] = store.rows(LEASES)
        assert run_id == "mine"
        add(store, item, "r1")
    assert store.rows(LEASES) == []
    with staging(store, store.obj("b")):
        [(later, _)] = store.rows(LEASES)
    assert later > token


def test_what_is_unchanged_leaves_no_lease_behind(store):
    obj = store.obj("a")
    store.deliver(obj, ["r1"])
    with staging(store, obj) as item:
        assert not item.is_needed
    assert store.rows(LEASES) == []


def test_a_lease_is_renewed_for_as_long_as_its_holder_works(store):
    ends = "select expires_at from sentiment.object_leases"
    with staging(store, store.obj("a"), seconds=0.5) as item:
        first = store.rows(ends)
        deadline = time.monotonic() + 20
        while store.rows(ends) == first:
            assert time.monotonic() < deadline
        add(store, item, "r1")
    store.publish()
    assert set(store.current()) == {(DAY, "r1")}


def test_one_who_died_is_succeeded_at_once(store, owner):
    obj = store.obj("a")
    with failing(Transient, store, obj, run_id="dies", seconds=3600) as item:
        add(store, item, "r0")
        with owner.begin() as connection:
            held = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted and database = (select oid from pg_database where datname = current_database())"
            assert connection.execute(text(held)).all() == [(True,)]
        add(store, item, "r1")
    assert [run_id for _, run_id in store.rows(LEASES)] == ["dies"]
    started = time.monotonic()
    assert store.deliver(obj, ["r1"]).outcome == "staged"
    assert time.monotonic() - started < 60
    store.publish()
    assert set(store.current()) == {(DAY, "r1")}


def test_one_who_sleeps_is_overtaken_and_cannot_write_when_it_wakes(store):
    obj = store.obj("a")
    with failing(LeaseLost, store, obj, run_id="sleeps", seconds=0.3) as item:
        add(store, item, "r1", "r2", "stale")
        asleep(item)
        # The sleeper's transaction is open: nothing of the other's may wait for it.
        other = store.deliver(obj, ["r1", "r2"], run_id="wakes")
    assert other.outcome == "staged"
    store.publish()
    assert store.current("run_id") == {(DAY, "r1"): "wakes", (DAY, "r2"): "wakes"}
    assert store.rows("select count(*) from sentiment.source_objects") == [(1,)]
    assert store.rows("select count(*) from sentiment.staged_reviews") == [(0,)]
    assert store.rows("select count(*) from sentiment.quarantined_reviews") == [(0,)]


def test_one_who_was_overtaken_by_a_newer_version_does_not_bring_the_older_back(store):
    old, new = store.obj("a", etag="old"), store.obj("a", etag="new")
    with failing(LeaseLost, store, old, seconds=0.3) as item:
        add(store, item, "r1")
        asleep(item)
        store.deliver(new, ["r2"])
    store.publish()
    assert set(store.current()) == {(DAY, "r2")}
    assert store.rows("select etag from sentiment.source_objects") == [("new",)]


def test_a_renewal_that_comes_too_late_stops_the_work(store):
    obj = store.obj("a")
    with failing(LeaseLost, store, obj, seconds=0.3) as item:
        asleep(item)
        store.deliver(obj, ["r1"])
        item._lease._renew(store.engine)
        add(store, item, "r1")


def test_a_clock_that_is_set_back_makes_nobody_wait_for_the_lease_of_a_sleeper(store):
    obj = store.obj("a")
    with failing(LeaseLost, store, obj, seconds=3600) as item:
        asleep(item)
        with store.engine.begin() as connection:  # as if it had been taken an hour from now
            connection.execute(text("update sentiment.object_leases set expires_at = expires_at + interval '1 hour'"))
        assert stage_once(store, obj, seconds=3600).outcome == "staged"
    store.publish()
    assert set(store.current()) == {(DAY, "r1")}


def stage_once(store, obj, *, seconds):
    with staging(store, obj, run_id="other", seconds=seconds) as item:
        if item.is_needed:
            item.add(ScoredBatch(table=store.batch(["r1"]), model=store.model(1)))
    return item.result


def test_many_at_once_stage_an_object_once(store):
    obj = store.obj("a")

    def run(number):
        return store.deliver(obj, ["r1", "r2"], run_id=f"run-{number}").outcome

    with ThreadPoolExecutor(5) as pool:
        assert sorted(pool.map(run, range(5))) == ["staged"] + ["unchanged"] * 4
    assert store.rows("select count(*) from sentiment.staged_reviews") == [(2,)]


def test_a_later_version_recorded_meanwhile_is_told(store):
    early, late = store.obj("a"), store.obj("a")
    late = type(late)(**{**vars(late), "last_modified": late.last_modified.replace(hour=20)})
    store.deliver(late, ["r1"])
    with staging(store, early) as item:
        assert item.is_overtaken
        add(store, item, "r1")
    with staging(store, late) as item:
        assert not item.is_overtaken
        add(store, item, "r1")
