"""The ledger and staging: what is new, what an object delivered, and what a death in between leaves (nothing)."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from threading import Barrier
from time import monotonic

import pytest
from sqlalchemy import text

from sentiment_core.domain import Reject, ScoredBatch
from sentiment_core.errors import Permanent, Transient
from sentiment_core.store.ledger import record_failed, stage, unpublished_dates
from sentiment_core.store.listing import new_objects, note_gone

DAY = date(2026, 11, 1)
MORNING = datetime(2026, 11, 2, 8, tzinfo=UTC)
EVERYTHING = "select count(*) from sentiment."


def test_what_is_listed_is_new_until_it_is_recorded(store):
    objects = [store.obj(key) for key in "cab"]
    assert new_objects(store.engine, objects) == objects
    store.deliver(objects[1], ["r1"])
    record_failed(store.engine, objects[2], window_date=DAY, run_id="run", reason="truncated")
    assert new_objects(store.engine, objects) == [objects[0]]
    assert new_objects(store.engine, objects, force=True) == objects
    assert new_objects(store.engine, []) == []


@pytest.mark.parametrize("change", [{"etag": "other"}, {"size": 8}, {"last_modified": MORNING}])
def test_a_changed_listing_is_new(store, change):
    obj = store.obj("a", etag="first")
    store.deliver(obj, ["r1"])
    changed = type(obj)(**{**vars(obj), **change})
    assert new_objects(store.engine, [obj, changed]) == [changed]


def test_content_that_goes_from_a_to_b_to_a_ends_as_a(store):
    for hour, reviews in enumerate([["r1", "r2"], ["r2", "r3"], ["r1", "r2"]]):
        obj = store.obj("a", etag=" ".join(reviews), last_modified=MORNING + timedelta(hours=hour))
        assert new_objects(store.engine, [obj]) == [obj]
        store.deliver(obj, reviews)
        store.publish()
    assert set(store.current()) == {(DAY, "r1"), (DAY, "r2")}
    assert store.statuses("a") == ["superseded", "superseded", "scored"]
    assert store.rows("select sequence from sentiment.source_objects order by object_id") == [(1,), (2,), (3,)]


def test_many_keys_are_compared_in_one_go(store):
    objects = [store.obj(f"{number:06}", etag="same") for number in range(20_000)]
    store.deliver(objects[7], ["r1"])
    assert new_objects(store.engine, objects) == [*objects[:7], *objects[8:]]


def test_an_object_that_is_gone_keeps_its_rows_and_comes_back_as_it_was(store):
    first, second = store.obj("a"), store.obj("b")
    store.deliver(first, ["r1"])
    store.deliver(second, ["r2"])
    store.publish()
    listing = {"bucket": "reviews", "window_dates": [DAY]}
    assert note_gone(store.engine, **listing, listed_keys=[second.key]) == 1
    assert (store.statuses("a"), store.statuses("b")) == (["gone"], ["scored"])
    store.deliver("c", ["r3"])
    store.publish()
    assert set(store.current()) == {(DAY, "r1"), (DAY, "r2"), (DAY, "r3")}
    assert note_gone(store.engine, bucket="reviews", window_dates=[DAY + timedelta(days=1)], listed_keys=[]) == 0
    third = store.rows("select key from sentiment.source_objects where key like '%c'")[0][0]
    assert note_gone(store.engine, **listing, listed_keys=[first.key, second.key, third]) == 0
    assert store.statuses("a") == ["scored"]
    assert new_objects(store.engine, [first, second]) == []


def test_an_object_that_goes_before_it_is_published_is_published_all_the_same(store):
    store.deliver("a", ["r1"])
    note_gone(store.engine, bucket="reviews", window_dates=[DAY], listed_keys=[])
    store.publish()
    assert set(store.current()) == {(DAY, "r1")}
    assert store.statuses("a") == ["gone"]
    assert store.rows("select scored_at is not null from sentiment.source_objects") == [(True,)]


def test_a_failed_version_leaves_the_one_before_it_live(store):
    store.deliver("a", ["r1"])
    store.publish()
    broken = store.obj("a")
    object_id = record_failed(store.engine, broken, window_date=DAY, run_id="run", reason="half\x00 of it \ud800")
    assert record_failed(store.engine, broken, window_date=DAY, run_id="again", reason="still") == object_id
    assert store.statuses("a") == ["scored", "failed"]
    assert store.rows("select reason, run_id from sentiment.source_objects where status = 'failed'") == [("still", "again")]
    store.deliver("b", ["r2"])
    store.publish()
    assert set(store.current()) == {(DAY, "r1"), (DAY, "r2")}
    store.deliver("a", ["r3"])
    store.publish()
    assert set(store.current()) == {(DAY, "r2"), (DAY, "r3")}
    assert store.statuses("a") == ["superseded", "failed", "scored"]


def test_a_version_that_is_scored_already_does_not_become_failed(store):
    obj = store.obj("a")
    store.deliver(obj, ["r1"])
    record_failed(store.engine, obj, window_date=DAY, run_id="run", reason="the model broke")
    store.publish()
    assert store.statuses("a") == ["scored"]
    assert set(store.current()) == {(DAY, "r1")}


def test_an_object_says_what_it_delivered(store):
    reject = Reject(row_number=2, review_id="bad\x00", reason="text: expected words, found \x00", raw="{}")
    result = store.deliver("a", ["r1", {"review_id": "r2", "review_date": date(2026, 10, 31)}], rejects=[reject])
    assert (result.n_rows, result.n_scored, result.n_quarantined) == (3, 2, 1)
    assert result.review_dates == (date(2026, 10, 31), DAY)
    found = "select status, n_rows, n_scored, n_quarantined, model_version, run_id, window_date, scored_at from sentiment.source_objects"
    assert store.rows(found) == [("staged", 3, 2, 1, 1, "run", DAY, None)]
    assert unpublished_dates(store.engine) == [date(2026, 10, 31), DAY]
    quarantined = store.rows("select object_id, row_number, review_id, reason from sentiment.quarantined_reviews")
    assert quarantined == [
        (result.object_id, 2, "bad\N{REPLACEMENT CHARACTER}", "text: expected words, found \N{REPLACEMENT CHARACTER}")
    ]


def test_an_object_without_a_valid_row_is_scored_at_once(store):
    store.deliver("a", [], rejects=[Reject(row_number=0, review_id=None, reason="no text", raw="")])
    assert store.statuses("a") == ["scored"]
    assert unpublished_dates(store.engine) == []
    store.deliver("a", [])
    assert store.statuses("a") == ["superseded", "scored"]


def test_the_same_version_is_staged_once_for_a_model(store):
    obj = store.obj("a")
    first = store.deliver(obj, ["r1"], rejects=[Reject(row_number=1, review_id=None, reason="x", raw="")])
    again = store.deliver(obj, ["something else"], run_id="other")
    assert again == type(first)(**{**vars(first), "outcome": "unchanged"})
    assert store.rows(EVERYTHING + "staged_reviews") == [(1,)]


def test_a_version_that_is_staged_is_left_alone_by_a_run_with_another_model(store):
    obj = store.obj("a")
    store.deliver(obj, ["r1"], version=1)
    assert store.deliver(obj, ["r1"], version=2).outcome == "unchanged"
    store.publish()
    assert store.current("model_version") == {(DAY, "r1"): 1}


@pytest.mark.parametrize("how", [{"force": True, "version": 2}, {"force": True}])
def test_force_scores_the_version_anew_in_its_row(store, how):
    obj = store.obj("a")
    reject = Reject(row_number=9, review_id=None, reason="x", raw="")
    first = store.deliver(obj, ["r1", {"review_id": "r2", "review_date": date(2026, 10, 31)}], rejects=[reject])
    store.publish()
    again = store.deliver(obj, ["r1"], rejects=[reject], run_id="later", **how)
    assert (again.object_id, again.outcome) == (first.object_id, "staged")
    assert store.statuses("a") == ["staged"]
    store.publish()
    assert store.current("run_id") == {(DAY, "r1"): "later"}
    assert store.statuses("a") == ["scored"]
    assert store.rows(EVERYTHING + "quarantined_reviews") == [(1,)]
    assert store.rows(EVERYTHING + "score_history") == [(2,)]


def test_two_runs_on_one_object_stage_it_once(store):
    obj, barrier = store.obj("a"), Barrier(2)

    def run(number):
        barrier.wait()
        return store.deliver(obj, ["r1", "r2"], run_id=f"run-{number}").outcome

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(run, range(2))) == ["staged", "unchanged"]
    assert store.rows(EVERYTHING + "staged_reviews") == [(2,)]


def test_objects_of_many_dates_staged_at_once_make_every_leaf(store):
    days = [date(2026, 10, 1) + timedelta(days=number) for number in range(12)]

    def run(number):
        return store.deliver(f"{number}", [{"review_id": f"r{number}-{day}", "review_date": day, "rating": 5} for day in days])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(8)))
    assert [day.n_inserted for day in store.publish()] == [8] * 12


def test_an_exception_while_reading_leaves_nothing(store):
    obj = store.obj("a")
    with pytest.raises(Permanent, match="truncated"):
        _read_half(store, obj)
    for relation in ("source_objects", "staged_reviews", "object_dates"):
        assert store.rows(EVERYTHING + relation) == [(0,)], relation
    assert new_objects(store.engine, [obj]) == [obj]


def _read_half(store, obj):
    with stage(store.engine, obj, window_date=DAY, model=store.model(1), run_id="run", lease_seconds=60) as staging:
        staging.add(ScoredBatch(table=store.batch(["r1"]), model=store.model(1)))
        raise Permanent("object", expected="rows", found="truncated", remedy="send it again")


def test_a_backend_killed_in_the_middle_of_its_copy_leaves_nothing(store, owner):
    store.deliver("before", ["r0"])
    obj = store.obj("a")
    with ThreadPoolExecutor(1) as pool:
        with owner.begin() as blocker:
            blocker.execute(text("lock table sentiment.staged_reviews_20261101 in access exclusive mode"))
            staging = pool.submit(store.deliver, obj, [f"r{number}" for number in range(20_000)])
            _kill(owner, "copy sentiment.staged_reviews%")
        with pytest.raises(Transient):
            staging.result(timeout=30)
    assert store.statuses("a") == []
    assert store.rows(EVERYTHING + "staged_reviews") == [(1,)]
    assert store.deliver(obj, ["r1"]).outcome == "staged"


def _kill(owner, query):
    deadline = monotonic() + 30
    found = "select pg_terminate_backend(pid) from pg_stat_activity where query like :query and wait_event_type = 'Lock' and datname = current_database()"
    while monotonic() < deadline:
        with owner.begin() as connection:
            if connection.execute(text(found), {"query": query}).all():
                return
    pytest.fail(f"no backend came to {query}")


def test_sketches_are_kept_with_the_object_and_replaced_with_it(store):
    obj = store.obj("a")
    for version, n in ((1, 3), (2, 4)):
        model = store.model(version)
        with stage(store.engine, obj, window_date=DAY, model=model, run_id="run", lease_seconds=60, force=True) as staging:
            staging.add(ScoredBatch(table=store.batch(["r1"]), model=model))
            staging.add_sketch(DAY, n, {"label": {"positive": n}}, b"sample\x00")
    found = store.rows("select review_date, model_version, n, moments, sample from sentiment.drift_sketches")
    assert [(*row[:4], bytes(row[4])) for row in found] == [(DAY, 2, 4, {"label": {"positive": 4}}, b"sample\x00")]


LABELS = "select review_date, review_id, label, rating, labelled_at from sentiment.labels order by review_id"


def test_ratings_become_labels_dated_when_the_review_was_written(store):
    written = datetime(2026, 11, 1, 10, tzinfo=UTC)
    reviews = [{"review_id": f"r{stars}", "rating": stars, "created_at": written} for stars in range(1, 6)]
    store.deliver("a", [*reviews, "unrated", {"review_id": "undated", "rating": 1}])
    assert store.rows(LABELS) == [
        (DAY, "r1", "negative", 1, written),
        (DAY, "r2", "negative", 2, written),
        (DAY, "r3", "neutral", 3, written),
        (DAY, "r4", "positive", 4, written),
        (DAY, "r5", "positive", 5, written),
        (DAY, "undated", "negative", 1, store.obj("a").last_modified),
    ]


def test_of_several_ratings_the_latest_stands(store):
    early, late = datetime(2026, 11, 1, 10, tzinfo=UTC), datetime(2026, 11, 1, 11, tzinfo=UTC)
    store.deliver(
        "a", [{"review_id": "r", "rating": 5, "created_at": late}, {"review_id": "r", "rating": 1, "created_at": early}]
    )
    assert [row[3] for row in store.rows(LABELS)] == [5]
    store.deliver("b", [{"review_id": "r", "rating": 2, "created_at": early}])
    assert [row[3] for row in store.rows(LABELS)] == [5]
    store.deliver("c", [{"review_id": "r", "rating": 4, "created_at": late}])
    assert [row[3] for row in store.rows(LABELS)] == [4]
