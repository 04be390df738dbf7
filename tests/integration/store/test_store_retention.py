"""Forgetting: what is old goes and is counted, what is not stays, and a review's current row goes only when it is asked for."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from threading import Event

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from sentiment_core.domain import Reject, ScoredBatch
from sentiment_core.errors import Permanent
from sentiment_core.store import publish as publishing
from sentiment_core.store import records, retention
from sentiment_core.store.ledger import stage
from sentiment_core.store.retention import cut_excerpts, drop_history, drop_reviews, drop_staging

DAY = date(2026, 11, 1)
NEXT = DAY + timedelta(days=1)
EXCERPTS = "select review_id, text_excerpt from {} order by 1"


def cut(store, *, before=None, chars=120):
    return cut_excerpts(store.engine, run_id="maintain", before=before, excerpt_chars=chars)


def removals(store):
    return store.rows("select run_id, what, before_date, n from sentiment.removals order by removal_id")


def leaves(store, relation):
    query = """select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
               where i.inhparent = cast(:relation as regclass) order by 1"""
    return [name for (name,) in store.rows(query, relation=f"sentiment.{relation}")]


def run_of(store, status):
    records.start_run(store.engine, window_date=DAY, run_id="night", model_version=1)
    if status != "running":
        counts = {"n_objects": 0, "n_scored": 0, "n_quarantined": 0}
        records.finish_run(store.engine, window_date=DAY, run_id="night", status=status, **counts)


@pytest.fixture(params=["merged", "swapped"])
def rescored(request, store, monkeypatch):
    """Two dates, scored twice: excerpts are current, superseded, and of a row that another object outranks."""
    monkeypatch.setattr(publishing, "is_bulk", lambda *_: request.param == "swapped")
    rows = [{"review_id": "r1", "review_date": DAY}, {"review_id": "r2", "review_date": NEXT}]
    obj = store.obj("a")
    store.deliver(obj, rows)
    store.publish()
    store.deliver(obj, rows, force=True)
    store.deliver(store.obj("b", last_modified=datetime(2026, 11, 1, tzinfo=UTC)), rows)
    store.publish()
    for relation in ("scored_reviews", "score_history", "runner_ups"):
        assert store.rows(EXCERPTS.format(f"sentiment.{relation}")) == [("r1", "words"), ("r2", "words")], relation
    return store


def test_excerpts_of_old_reviews_go_wherever_they_lie_and_nothing_else_does(rescored):
    before = rescored.current("(p_positive, run_id, object_id, row_number)")
    assert cut(rescored, before=NEXT) == 3
    for relation in ("scored_reviews", "score_history", "runner_ups"):
        assert rescored.rows(EXCERPTS.format(f"sentiment.{relation}")) == [("r1", None), ("r2", "words")], relation
    assert rescored.current("(p_positive, run_id, object_id, row_number)") == before
    assert {row[:3] for row in removals(rescored)} == {("maintain", "excerpts", NEXT)}
    assert sum(row[3] for row in removals(rescored)) == 3


def test_excerpts_that_are_longer_than_the_policy_allows_by_now_are_cut(rescored):
    assert cut(rescored, chars=2) == 6
    for relation in ("scored_reviews", "score_history", "runner_ups"):
        assert rescored.rows(EXCERPTS.format(f"sentiment.{relation}")) == [("r1", "wo"), ("r2", "wo")], relation
    assert cut(rescored, chars=120) == 0
    assert cut(rescored, chars=0) == 6
    assert rescored.rows("select count(text_excerpt) from sentiment.score_history") == [(0,)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(excerpts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12) | st.none(), max_size=5),
       chars=st.lists(st.integers(0, 12), min_size=1, max_size=3))  # fmt: skip
def test_an_excerpt_keeps_as_many_characters_as_the_shortest_policy_allowed(store, excerpts, chars):
    store.deliver("a", [{"review_id": f"r{n}", "text_excerpt": words} for n, words in enumerate(excerpts)])
    store.publish()
    for limit in chars:
        cut(store, chars=limit)
    kept = {
        (DAY, f"r{n}"): (words and words[: min(chars)]) or (None if words is None else "") for n, words in enumerate(excerpts)
    }
    assert {place: words or "" for place, words in store.current().items()} == {
        place: words or "" for place, words in kept.items()
    }


def test_what_has_been_looked_at_is_not_looked_at_again_until_rows_have_come_in(store, monkeypatch):
    monkeypatch.setattr(retention, "_LONGEST_PUBLICATION", timedelta(0))
    store.deliver("a", ["r1"])
    store.publish()
    assert cut(store, before=NEXT) == 1
    assert retention._uncut_leaves(store.engine, NEXT, 120) == []
    store.deliver("late", ["r2"])
    store.publish()
    assert [leaf.leaf_date for leaf, _ in retention._uncut_leaves(store.engine, NEXT, 120)] == [DAY]
    assert cut(store, before=NEXT) == 1
    assert set(store.current().values()) == {None}


def test_a_publication_that_began_before_the_cut_and_ended_after_it_is_noticed(store, owner):
    """It is stamped with its beginning, and waits for the date's lock."""
    store.deliver("a", ["r1"])
    store.publish()
    store.deliver("late", ["r2"])
    with owner.connect() as holder, ThreadPoolExecutor(1) as pool:
        holder.execute(text("select pg_advisory_xact_lock(hashtextextended('sentiment.publish ' || :day, 0))"), {"day": str(DAY)})
        publication = pool.submit(store.publish)
        waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        while not publication.done() and store.rows(waiting) != [(1,)]:
            Event().wait(0.01)
        holder.execute(
            text("insert into sentiment.retention_marks values (:leaf, 0, clock_timestamp())"),
            {"leaf": f"scored_reviews_{DAY:%Y%m%d}"},
        )
        holder.commit()
        publication.result(timeout=20)
    assert cut(store, before=NEXT) == 2


@pytest.mark.parametrize("by", ["retired_at", "review_date"])
def test_superseded_scores_go_when_they_are_old_and_current_ones_stay(rescored, by):
    before = rescored.current()
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    if by == "retired_at":
        assert drop_history(rescored.engine, run_id="m", before=tomorrow - timedelta(days=2), reviews_before=None) == 0
        assert drop_history(rescored.engine, run_id="m", before=tomorrow, reviews_before=None) == 2
        assert rescored.rows("select count(*) from sentiment.score_history") == [(0,)]
        assert leaves(rescored, "score_history") == []
    else:
        assert drop_history(rescored.engine, run_id="m", before=None, reviews_before=NEXT) == 1
        assert rescored.rows("select review_date from sentiment.score_history") == [(NEXT,)]
    assert rescored.current() == before


def test_the_current_row_of_a_review_goes_only_when_it_is_asked_for(rescored):
    before = rescored.current()
    cut(rescored, before=date.max, chars=0)
    drop_history(rescored.engine, run_id="m", before=date.max, reviews_before=None)
    retention.drop_sketches(rescored.engine, run_id="m", before=date.max)
    retention.drop_quarantined(rescored.engine, run_id="m", before=date.max)
    drop_staging(rescored.engine, run_id="m", before=date.max)
    assert rescored.current().keys() == before.keys()
    rescored.rows("select 1")
    assert drop_reviews(rescored.engine, run_id="m", before=NEXT) == {"reviews": 2, "labels": 0}  # one is a runner-up
    assert rescored.current().keys() == {(NEXT, "r2")}
    assert leaves(rescored, "scored_reviews") == [f"scored_reviews_{NEXT:%Y%m%d}"]
    assert drop_reviews(rescored.engine, run_id="m", before=NEXT) == {"reviews": 0, "labels": 0}


def test_labels_go_with_their_reviews(store):
    ratings = [{"review_id": "r1", "rating": 5}, {"review_id": "r2", "rating": 1, "review_date": NEXT}]
    store.deliver("a", ratings)
    store.publish()
    assert drop_reviews(store.engine, run_id="m", before=NEXT) == {"reviews": 1, "labels": 1}
    assert store.rows("select review_id from sentiment.labels") == [("r2",)]


def test_reviews_that_are_gone_can_be_scored_anew(store):
    obj = store.obj("a")
    store.deliver(obj, ["r1"])
    store.publish()
    drop_reviews(store.engine, run_id="m", before=NEXT)
    assert store.current() == {}
    store.deliver(obj, ["r1"], force=True)
    store.publish()
    assert store.current().keys() == {(DAY, "r1")}
    store.deliver("a", ["r2"])
    store.publish()
    assert store.current().keys() == {(DAY, "r2")}


def test_a_date_that_waits_to_be_published_is_left_alone(store):
    store.deliver("a", ["r1"])
    store.publish()
    store.deliver("b", ["r2"])
    assert drop_reviews(store.engine, run_id="m", before=NEXT)["reviews"] == 0
    store.publish()
    assert store.current().keys() == {(DAY, "r1"), (DAY, "r2")}


def test_rejected_rows_are_forgotten_and_how_many_they_were_is_not(store):
    reject = Reject(row_number=9, review_id="x", reason="text: expected 1 to 9 characters, found none", raw="{}")
    store.deliver("a", ["r1"], rejects=[reject])
    assert retention.drop_quarantined(store.engine, run_id="m", before=DAY) == 0
    assert retention.drop_quarantined(store.engine, run_id="m", before=NEXT) == 1
    assert store.rows("select count(*) from sentiment.quarantined_reviews") == [(0,)]
    assert store.rows("select n_quarantined from sentiment.source_objects") == [(1,)]


def test_what_a_killed_run_left_in_staging_goes_and_what_waits_to_be_published_stays(store):
    obj = store.obj("a")
    for run_id in ("killed", "again"):
        store.deliver(obj, ["r1", "r2"], run_id=run_id, force=True)
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert store.rows("select count(*) from sentiment.staged_reviews") == [(4,)]
    assert drop_staging(store.engine, run_id="m", before=tomorrow - timedelta(days=2)) == {"staged_rows": 0, "leaves": 0}
    assert drop_staging(store.engine, run_id="m", before=tomorrow) == {"staged_rows": 2, "leaves": 0}
    assert store.rows("select distinct run_id from sentiment.staged_reviews") == [("again",)]
    store.publish()
    assert store.current("run_id") == {(DAY, "r1"): "again", (DAY, "r2"): "again"}


def test_empty_leaves_go_and_the_next_night_makes_them_again(store):
    run_of(store, "succeeded")
    obj = store.obj("a")
    store.deliver(obj, ["r1"])
    store.publish()
    assert drop_staging(store.engine, run_id="m", before=DAY) == {"staged_rows": 0, "leaves": 0}
    assert drop_staging(store.engine, run_id="m", before=NEXT) == {"staged_rows": 0, "leaves": 1}
    assert leaves(store, "staged_reviews") == []
    assert leaves(store, "scored_reviews") == [f"scored_reviews_{DAY:%Y%m%d}"]
    store.deliver("a", [])  # takes its review away
    store.publish()
    assert drop_staging(store.engine, run_id="m", before=NEXT)["leaves"] == 2
    assert leaves(store, "scored_reviews") == leaves(store, "staged_reviews") == []
    store.deliver("a", ["r1"])
    store.publish()
    assert store.current().keys() == {(DAY, "r1")}


def test_a_leaf_of_staging_stays_while_a_run_is_under_way(store):
    store.deliver("a", ["r1"])
    store.publish()
    run_of(store, "running")
    assert drop_staging(store.engine, run_id="m", before=NEXT)["leaves"] == 0
    with store.engine.begin() as connection:  # killed the day before yesterday, and running for good
        connection.execute(text("update sentiment.scoring_runs set started_at = now() - interval '2 days'"))
    assert drop_staging(store.engine, run_id="m", before=NEXT)["leaves"] == 1


def test_a_leaf_that_somebody_stages_into_or_reads_is_left_for_another_night(store):
    model = store.model(1)
    with stage(store.engine, store.obj("a"), window_date=DAY, model=model, run_id="night", lease_seconds=60) as staging:
        staging.add(ScoredBatch(table=store.batch(["r1"]), model=model))
        assert drop_staging(store.engine, run_id="m", before=NEXT)["leaves"] == 0
    store.publish()
    store.deliver("a", [])
    store.publish()
    with store.engine.connect() as reader:
        reader.execute(text("select count(*) from sentiment.scored_reviews"))
        drop_staging(store.engine, run_id="m", before=NEXT)
        assert leaves(store, "scored_reviews") == [f"scored_reviews_{DAY:%Y%m%d}"]
    drop_staging(store.engine, run_id="m", before=NEXT)
    assert leaves(store, "scored_reviews") == []


def test_forgetting_twice_equals_once(rescored):
    def forget():
        cut(rescored, before=NEXT)
        drop_history(rescored.engine, run_id="m", before=None, reviews_before=NEXT)
        drop_staging(rescored.engine, run_id="m", before=date.max)
        return drop_reviews(rescored.engine, run_id="m", before=NEXT)

    forget()
    noted = removals(rescored)
    assert forget() == {"reviews": 0, "labels": 0}
    assert removals(rescored) == noted


def test_only_leaves_of_the_history_can_be_dropped_as_such(store):
    store.deliver("a", ["r1"])
    store.publish()
    for name in ("labels", "scored_reviews_20261101", 'x"; drop table sentiment.labels; --'):
        with pytest.raises(Permanent, match="no leaf of score_history"), store.engine.begin() as connection:
            connection.execute(text("select sentiment.drop_history_leaf(:name)"), {"name": name})


def test_a_wrong_clock_of_this_machine_does_not_bring_anything_forward(store, monkeypatch):
    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=400)

    there = retention.today(store.engine)
    monkeypatch.setattr(retention, "datetime", Tomorrow)
    assert retention.today(store.engine) == there
