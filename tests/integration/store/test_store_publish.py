"""Publishing: one current row an identity, whatever is delivered, redelivered, rewritten or interrupted.

Every test is run with publications that merge and with publications that swap the leaf.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from time import monotonic

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from sentiment_core.errors import Permanent
from sentiment_core.store import publish as module
from sentiment_core.store.engine import connect
from sentiment_core.store.ledger import record_failed, unpublished_dates
from sentiment_core.store.listing import note_gone
from sentiment_core.store.publish import publish

DAY = date(2026, 11, 1)
MORNING = datetime(2026, 11, 2, 8, tzinfo=UTC)
EVERYTHING = (
    "truncate sentiment.source_objects, sentiment.staged_reviews, sentiment.scored_reviews, sentiment.score_history,"
    " sentiment.runner_ups cascade"
)


@pytest.fixture(autouse=True, params=["merge", "swap"])
def way(request, monkeypatch):
    """How publications are made here; by their size all would be merged."""
    monkeypatch.setattr(module, "is_bulk", lambda *_: request.param == "swap")
    return request.param


def words(review_id, text_excerpt, **more):
    return {"review_id": review_id, "text_excerpt": text_excerpt, **more}


def test_a_redelivery_replaces_what_was_there_and_keeps_the_old_score(store):
    store.deliver(store.obj("a", last_modified=MORNING), [words("r1", "first"), words("r2", "other")], run_id="one")
    store.publish()
    store.deliver(store.obj("b", last_modified=MORNING + timedelta(hours=1)), [words("r1", "second")], run_id="two")
    [done] = store.publish()
    assert (done.n_inserted, done.n_updated, done.n_deleted, done.n_retired) == (0, 1, 0, 1)
    assert store.current() == {(DAY, "r1"): "second", (DAY, "r2"): "other"}
    history = "select review_id, text_excerpt, run_id, retired_at >= scored_at from sentiment.score_history"
    assert store.rows(history) == [("r1", "first", "one", True)]


def test_the_latest_object_wins_whatever_the_order_of_staging(store):
    store.deliver(store.obj("late", last_modified=MORNING + timedelta(hours=1)), [words("r1", "late")])
    store.publish()
    store.deliver(store.obj("early", last_modified=MORNING), [words("r1", "early")])
    store.publish()
    assert store.current() == {(DAY, "r1"): "late"}


def test_within_an_object_the_last_row_wins_and_between_equals_the_later_key(store):
    store.deliver("a", [words("r1", "a, row 0"), words("r1", "a, row 1")])
    store.deliver("b", [words("r2", "b")])
    store.deliver("B", [words("r2", "B")])
    store.publish()
    assert store.current() == {(DAY, "r1"): "a, row 1", (DAY, "r2"): "b"}


def test_a_rewrite_that_drops_a_row_restores_the_runner_up(store):
    store.deliver(store.obj("a", last_modified=MORNING), [words("r1", "runner-up")])
    store.deliver(store.obj("b", last_modified=MORNING + timedelta(hours=1)), [words("r1", "winner"), words("r2", "only")])
    store.publish()
    store.deliver(store.obj("b", last_modified=MORNING + timedelta(hours=2)), [words("r3", "new")])
    [done] = store.publish()
    assert store.current() == {(DAY, "r1"): "runner-up", (DAY, "r3"): "new"}
    assert (done.n_inserted, done.n_updated, done.n_deleted, done.n_retired) == (1, 1, 1, 2)
    retired = dict(store.rows("select review_id, text_excerpt from sentiment.score_history"))
    assert retired == {"r1": "winner", "r2": "only"}
    assert store.statuses("b") == ["superseded", "scored"]
    assert store.rows("select count(*) from sentiment.staged_reviews where object_id = 2") == [(0,)]


def test_an_object_of_several_dates_is_scored_when_the_last_is_published(store):
    days = [DAY - timedelta(days=back) for back in (2, 1, 0)]
    store.deliver("a", [{"review_id": f"r{number}", "review_date": day} for number, day in enumerate(days)])
    for day in days[:2]:
        publish(store.engine, day, run_id="run")
        assert store.statuses("a") == ["staged"]
    assert unpublished_dates(store.engine) == [DAY]
    publish(store.engine, DAY, run_id="run")
    assert store.statuses("a") == ["scored"]
    assert len(store.current()) == 3


def test_a_rewrite_publishes_the_dates_that_it_has_left_too(store):
    other = DAY - timedelta(days=1)
    store.deliver("a", ["r1", {"review_id": "r2", "review_date": other}])
    store.publish()
    store.deliver("a", ["r1"])
    assert unpublished_dates(store.engine) == [other, DAY]
    publish(store.engine, DAY, run_id="run")
    assert store.statuses("a") == ["scored", "staged"] or store.statuses("a") == ["scored", "scored"]
    publish(store.engine, other, run_id="run")
    assert store.statuses("a") == ["superseded", "scored"]
    assert set(store.current()) == {(DAY, "r1")}


def test_publishing_twice_equals_once(store):
    store.deliver("a", ["r1", "r2"])
    store.publish()
    before = store.rows("select * from sentiment.scored_reviews order by review_id")
    again = publish(store.engine, DAY, run_id="again")
    assert (again.n_inserted, again.n_updated, again.n_deleted, again.n_retired) == (0, 0, 0, 0)
    assert store.rows("select * from sentiment.scored_reviews order by review_id") == before


def test_a_date_nobody_delivered_publishes_as_empty(store):
    assert publish(store.engine, DAY, run_id="run").n_inserted == 0
    assert store.current() == {}


def test_two_publications_of_a_date_at_once_equal_one(store):
    store.deliver("a", [f"r{number}" for number in range(500)])
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda run: publish(store.engine, DAY, run_id=run), ["one", "two"]))
    assert sorted(item.n_inserted for item in done) == [0, 500]
    assert len(store.current()) == 500


def test_publications_of_an_objects_dates_at_once_make_it_scored(store):
    days = [DAY - timedelta(days=back) for back in range(4)]
    for attempt in range(5):
        store.deliver("a", [{"review_id": f"r{attempt}", "review_date": day} for day in days])
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda day: publish(store.engine, day, run_id="run"), days))
        assert store.statuses("a") == ["superseded"] * attempt + ["scored"]


def test_what_is_staged_while_a_date_is_published_is_published_next(store):
    store.deliver("a", ["r1"])
    with ThreadPoolExecutor(3) as pool:
        for number in range(20):
            staging = pool.submit(store.deliver, f"{number}", [f"s{number}"])
            publishing = [pool.submit(publish, store.engine, DAY, run_id="run") for _ in range(2)]
            staging.result()
            for item in publishing:
                item.result()
    store.publish()
    assert len(store.current()) == 21
    assert store.rows("select distinct status from sentiment.source_objects") == [("scored",)]


def test_an_object_scored_anew_while_its_date_is_published_is_published_again(store, owner):
    obj = store.obj("a")
    store.deliver(obj, ["r1"], run_id="one")
    store.publish()
    store.deliver(obj, ["r1"], run_id="two", force=True)
    with ThreadPoolExecutor(2) as pool:
        with owner.begin() as blocker:  # the merge waits for this row, having looked at what is staged
            blocker.execute(text("select 1 from sentiment.scored_reviews for update"))
            publishing = pool.submit(publish, store.engine, DAY, run_id="two")
            await_waiting(owner, 1, publishing)
            staging = pool.submit(store.deliver, obj, ["r1"], run_id="three", force=True)
            await_waiting(owner, 2, staging)
        publishing.result(timeout=30)
        staging.result(timeout=30)
    store.publish()
    assert store.current("run_id") == {(DAY, "r1"): "three"}


def await_waiting(owner, n_waiting, future):
    """Until so many sessions wait for a lock, or the future is done."""
    waiting = text("select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()")
    deadline = monotonic() + 30
    while monotonic() < deadline and not future.done():
        with owner.begin() as connection:
            if connection.execute(waiting).scalar_one() >= n_waiting:
                return
    assert future.done(), "nobody came to wait"


def test_readers_go_on_while_leaves_are_made_and_dates_published(store, reader_url):
    store.deliver("a", ["r1"])
    store.publish()
    with connect(reader_url).begin() as reader:
        count = text("select count(*) from sentiment.scored_reviews")
        assert reader.execute(count).scalar_one() == 1
        store.deliver("b", ["r2", {"review_id": "r3", "review_date": DAY + timedelta(days=1)}])
        store.publish()
        assert reader.execute(count).scalar_one() == 3


def test_a_publication_that_dies_leaves_what_was_there(store, owner):
    store.deliver("a", ["r1"])
    store.publish()
    store.deliver("a", ["r2"])
    with owner.begin() as connection:
        connection.execute(text("alter table sentiment.score_history add constraint nothing check (false) not valid"))
    with pytest.raises(Permanent, match='constraint "nothing"'):
        publish(store.engine, DAY, run_id="run")
    assert set(store.current()) == {(DAY, "r1")}
    assert unpublished_dates(store.engine) == [DAY]


KEYS, IDS, DAYS = "ab", ("x", "y", "z"), (DAY, DAY - timedelta(days=1))
PUT = st.tuples(
    st.just("put"),
    st.sampled_from(KEYS + "c"),
    st.integers(0, 2),
    st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from(DAYS)), max_size=4),
)
OTHER = st.tuples(st.sampled_from(["fail", "gone", "again", "publish"]), st.sampled_from(KEYS))


@settings(
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(history=[("put", "a", 0, [("x", DAY)]), ("put", "b", 1, [("x", DAY)]), ("publish", "a"), ("put", "b", 2, [])])
@given(history=st.lists(st.one_of(PUT, PUT, OTHER), max_size=10))
def test_after_any_history_the_latest_live_row_of_every_identity_is_current(store, owner, history, way, monkeypatch):
    with owner.begin() as connection:
        connection.execute(text(EVERYTHING))
    live = {}
    for number, (action, key, *content) in enumerate(history):
        if action == "put":
            hours, identities = content
            obj = store.obj(key, last_modified=MORNING + timedelta(hours=hours))
            rows = [words(review_id, f"{number}.{row}", review_date=day) for row, (review_id, day) in enumerate(identities)]
            store.deliver(obj, rows)
            live[key] = (obj, rows)
        elif action == "fail":
            record_failed(store.engine, store.obj(key), window_date=DAY, run_id="run", reason="truncated")
        elif action == "gone":
            note_gone(store.engine, bucket="reviews", window_dates=[DAY], listed_keys=[f"incoming/{key}"])
        elif action == "again" and key in live:
            obj, rows = live[key]
            latest = store.rows(
                "select etag from sentiment.source_objects where key = :key order by sequence desc limit 1", key=obj.key
            )
            if latest == [(obj.etag,)]:
                store.deliver(obj, rows, force=True, run_id=f"run-{number}")
        elif action == "publish":  # now one way, now the other: each finds what the other has left
            monkeypatch.setattr(module, "is_bulk", lambda *_, key=key: (way == "swap") == (key == "a"))
            store.publish()
    store.publish()
    expected = {}
    for _, rows in sorted(live.values(), key=lambda delivered: (delivered[0].last_modified, delivered[0].key)):
        expected |= {(row["review_date"], row["review_id"]): row["text_excerpt"] for row in rows}
    assert store.current() == expected
    assert unpublished_dates(store.engine) == []
    assert store.rows("select count(*) from sentiment.source_objects where status = 'staged'") == [(0,)]
