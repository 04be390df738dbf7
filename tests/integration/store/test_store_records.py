"""Runs, checks, labels and model events: written once, read back as they were meant."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from sqlalchemy import text

from sentiment_core.domain import DriftVerdict, ScoredBatch
from sentiment_core.errors import Permanent
from sentiment_core.store import records
from sentiment_core.store.ledger import stage
from sentiment_core.store.listing import note_gone

DAY = date(2026, 11, 1)
NIGHT = datetime(2026, 11, 2, 2, tzinfo=UTC)
LABELS = pa.schema(
    [
        ("row_number", pa.int64()),
        ("review_date", pa.date32()),
        ("review_id", pa.string()),
        ("label", pa.string()),
        ("rating", pa.int8()),
        ("labelled_at", pa.timestamp("us", tz="UTC")),
    ]
)


def event(store, version, name, *, at=None, run_id="run"):
    records.insert_event(store.engine, model_version=version, event=name, reason="because", run_id=run_id)
    if at:
        with store.engine.begin() as connection:
            connection.execute(
                text(
                    "update sentiment.model_events set at = :at where event_id = (select max(event_id) from sentiment.model_events)"
                ),
                {"at": at},
            )


def finish(store, run_id, status="succeeded", day=DAY, **counts):
    counts = {"n_objects": 1, "n_scored": 2, "n_quarantined": 3} | counts
    records.finish_run(store.engine, window_date=day, run_id=run_id, status=status, **counts)


def labels(*rows):
    given = [{"row_number": number, "labelled_at": NIGHT, **row} for number, row in enumerate(rows)]
    return pa.Table.from_pylist(given, schema=LABELS)


def stored_labels(store):
    return store.rows("select review_date, review_id, label, rating from sentiment.labels order by review_id, review_date")


def test_a_run_is_written_when_it_begins_and_when_it_ends(store):
    records.start_run(store.engine, window_date=DAY, run_id="run", model_version=3)
    begun = records.scoring_run(store.engine, "run", DAY)
    assert (begun["status"], begun["model_version"], begun["finished_at"]) == ("running", 3, None)
    assert records.run_version(store.engine, "run", DAY) == 3
    finish(store, "run")
    ended = records.scoring_run(store.engine, "run", DAY)
    assert (ended["status"], ended["n_objects"], ended["n_scored"], ended["n_quarantined"]) == ("succeeded", 1, 2, 3)
    assert ended["finished_at"] >= ended["started_at"]


def test_a_run_that_is_tried_again_stays_one_run_and_keeps_its_beginning(store):
    records.start_run(store.engine, window_date=DAY, run_id="run", model_version=3)
    first = records.scoring_run(store.engine, "run", DAY)
    finish(store, "run", "failed")
    records.start_run(store.engine, window_date=DAY, run_id="run", model_version=3)
    assert records.scoring_run(store.engine, "run", DAY) == first | {"n_objects": 1, "n_scored": 2, "n_quarantined": 3}


def test_a_run_that_never_began_has_no_record(store):
    finish(store, "unknown")
    assert records.scoring_run(store.engine, "unknown", DAY) is None
    assert records.run_version(store.engine, "unknown", DAY) is None


def test_a_night_was_finished_before_when_another_run_succeeded(store):
    records.start_run(store.engine, window_date=DAY, run_id="mine", model_version=1)
    finish(store, "mine")
    assert not records.finished_before(store.engine, DAY, run_id="mine")
    records.start_run(store.engine, window_date=DAY, run_id="other", model_version=1)
    finish(store, "other", "failed")
    assert not records.finished_before(store.engine, DAY, run_id="mine")
    finish(store, "other", "degraded")
    assert records.finished_before(store.engine, DAY, run_id="mine")
    assert not records.finished_before(store.engine, DAY + timedelta(days=1), run_id="mine")


def test_as_of_is_the_version_of_the_first_successful_run(store):
    event(store, 9, "promoted", at=NIGHT - timedelta(days=1))
    for run_id, version, status in (("a", 1, "failed"), ("b", 2, "succeeded"), ("c", 3, "succeeded")):
        records.start_run(store.engine, window_date=DAY, run_id=run_id, model_version=version)
        finish(store, run_id, status)
    assert records.as_of_version(store.engine, DAY, NIGHT) == 2


def test_as_of_a_night_without_a_run_is_the_champion_of_its_hour(store):
    assert records.as_of_version(store.engine, DAY, NIGHT) is None
    hours = [NIGHT + timedelta(hours=hour) for hour in (-3, -2, -1, 1)]
    event(store, 1, "promoted", at=hours[0])
    event(store, 2, "held", at=hours[1])
    assert records.as_of_version(store.engine, DAY, NIGHT) == 1
    event(store, 2, "promoted", at=hours[1])
    assert records.as_of_version(store.engine, DAY, NIGHT) == 2
    event(store, 1, "rolled_back", at=hours[2])
    assert records.as_of_version(store.engine, DAY, NIGHT) == 1
    event(store, 3, "promoted", at=hours[3])
    assert records.as_of_version(store.engine, DAY, NIGHT) == 1
    assert records.as_of_version(store.engine, DAY, hours[3]) == 3


def test_an_event_is_written_once_a_run_however_often_it_is_tried(store):
    for reason in ("first", "again"):
        records.insert_event(
            store.engine, model_version=2, event="promoted", reason=reason, run_id="run", snapshot="snapshots/x", code_version="1",
            metrics={"accuracy": 0.9, "precision": float("nan"), "by_label": [1, float("inf")]},
        )  # fmt: skip
    event(store, 2, "promoted", run_id="other")
    first, second = records.events(store.engine)
    assert (first["reason"], first["snapshot"], first["code_version"], second["run_id"]) == ("first", "snapshots/x", "1", "other")
    assert first["metrics"] == {"accuracy": 0.9, "precision": None, "by_label": [1, None]}


def test_an_event_nobody_knows_is_refused(store):
    with pytest.raises(Permanent, match="violates check constraint"):
        event(store, 2, "celebrated")


def verdict(name="quiet", **more):
    values = {"n": 500, "p_value": 0.3, "effect": None, "estimated_accuracy": 0.9, "labelled_accuracy": None}
    return DriftVerdict(
        verdict=name, columns={"n_words": {"score": 0.1, "is_drifted": False}}, sentence="Quiet.", **(values | more)
    )


def check(store, name="quiet", day=DAY):
    return records.insert_check(
        store.engine, check_id=records.next_check_id(store.engine), verdict=verdict(name), window_date=day, model_version=2,
        report_url="s3://reviews/reports/1.html", run_id="run",
    )  # fmt: skip


def test_a_check_is_numbered_before_its_report_and_the_latest_stands_in_the_history(store):
    first, second = check(store), check(store, "retrain")
    assert second > first
    found = store.rows("select check_id, verdict, n, columns, sentence, report_url from sentiment.drift_history")
    columns = {"n_words": {"score": 0.1, "is_drifted": False}}
    assert found == [(second, "retrain", 500, columns, "Quiet.", "s3://reviews/reports/1.html")]
    assert store.rows("select count(*) from sentiment.drift_checks") == [(2,)]


def test_nights_say_what_a_night_was(store):
    store.deliver(
        "a", ["r1", "r2", {"review_id": "r3", "label": "negative"}, {"review_id": "r4", "label": "negative"}], version=2
    )
    store.publish()
    records.start_run(store.engine, window_date=DAY, run_id="run", model_version=2)
    finish(store, "run")
    check_id = check(store, "warn")
    [night] = records.nights(store.engine)
    names = ("review_date", "n_reviews", "positive_share", "verdict", "check_id", "model_version", "status")
    assert [night[name] for name in names] == [DAY, 4, 0.5, "warn", check_id, 2, "succeeded"]


def test_current_rows_are_counted_by_version(store):
    store.deliver("a", ["r1", "r2", "r3"], version=1)
    store.deliver("b", ["r3"], version=2)
    store.deliver("c", [{"review_id": "r9", "review_date": DAY + timedelta(days=1)}], version=2)
    store.publish()
    assert records.count_current(store.engine, DAY) == {1: 2, 2: 1}
    assert records.count_scored(store.engine, DAY, DAY) == (3, 3)
    assert records.count_scored(store.engine, DAY, DAY + timedelta(days=1)) == (4, 4)


def test_sketches_come_from_live_objects_and_current_rows_say_which_object_counts(store):
    def deliver(key, reviews, version=1):
        model = store.model(version)
        with stage(store.engine, store.obj(key), window_date=DAY, model=model, run_id="run", lease_seconds=60) as staging:
            staging.add(ScoredBatch(table=store.batch(reviews), model=model))
            staging.add_sketch(DAY, len(reviews), {"label": {"positive": len(reviews)}}, key.encode())
        return staging.result.object_id

    deliver("a", ["old"])
    rewritten, later, other = deliver("a", ["r1", "r2"]), deliver("b", ["r2"]), deliver("c", ["r3"], version=2)
    store.publish()
    found = records.sketches(store.engine, DAY, 1)
    assert [(sketch.object_id, sketch.n, sketch.sample) for sketch in found] == [(rewritten, 2, b"a"), (later, 1, b"b")]
    assert found[0].moments == {"label": {"positive": 2}}
    assert records.current_rows(store.engine, DAY, 1, ["r1", "r2", "r3", "unknown"]) == {"r1": rewritten, "r2": later}
    assert records.current_rows(store.engine, DAY, 2, ["r3"]) == {"r3": other}


def test_accuracy_counts_labelled_reviews_and_a_binary_model_takes_neutral_as_positive(store):
    assert records.labelled(store.engine, DAY, 1) == (0, 0)
    reviews = [
        {"review_id": "right", "label": "positive", "rating": 5},
        {"review_id": "neutral", "label": "positive", "rating": 3},
        {"review_id": "wrong", "label": "positive", "rating": 1},
        {"review_id": "unknown", "label": "positive"},
        {"review_id": "three-class", "label": "positive", "rating": 3, "p_neutral": 0.1},
    ]
    store.deliver("a", reviews)
    store.publish()
    assert records.labelled(store.engine, DAY, 1) == (4, 2)
    assert records.labelled(store.engine, DAY, 2) == (0, 0)
    card = store.rows("select model_version, n_scored, positive_share, n_labelled, accuracy from sentiment.model_scorecard")
    assert card == [(1, 5, 1.0, 4, 0.5)]


def test_the_scorecard_knows_versions_that_have_scored_nothing(store):
    event(store, 4, "registered")
    event(store, 4, "promoted", at=NIGHT)
    card = "select model_version, n_scored, n_labelled, accuracy, promoted_at from sentiment.model_scorecard"
    assert store.rows(card) == [(4, 0, 0, None, NIGHT)]


def test_daily_and_product_sentiment_add_up(store):
    reviews = [{"review_id": "r1"}, {"review_id": "r2", "label": "negative"}, {"review_id": "r3", "product_id": None}]
    store.deliver("a", reviews, version=2)
    store.deliver("b", [{"review_id": "r4", "label": "neutral", "review_date": DAY + timedelta(days=1)}], version=1)
    store.publish()
    daily = "select review_date, n_reviews, positive_share, negative_share, neutral_share, n_products, model_versions from sentiment.daily_sentiment order by 1"
    assert store.rows(daily) == [
        (DAY, 3, pytest.approx(2 / 3), pytest.approx(1 / 3), 0, 1, [2]),
        (DAY + timedelta(days=1), 1, 0, 0, 1, 1, [1]),
    ]
    product = "select product_id, n_reviews, positive_share, first_review_date, last_review_date from sentiment.product_sentiment"
    assert store.rows(product) == [("p", 3, pytest.approx(1 / 3), DAY, DAY + timedelta(days=1))]


def test_a_label_without_a_date_means_the_reviews_latest(store):
    later = DAY + timedelta(days=1)
    store.deliver("a", ["r1", {"review_id": "r1", "review_date": later}, "r2"])
    store.publish()
    outcome = records.upsert_labels(
        store.engine,
        labels(
            {"review_id": "r1", "label": "negative"}, {"review_id": "r2", "rating": 3}, {"review_id": "r9", "label": "positive"}
        ),
    )
    assert stored_labels(store) == [(later, "r1", "negative", None), (DAY, "r2", "neutral", 3)]
    assert (outcome.n_labels, outcome.n_changed, outcome.n_waiting) == (2, 2, 0)
    [reject] = outcome.rejects
    assert (reject.row_number, reject.review_id) == (2, "r9")
    assert "neither" in reject.reason
    assert "r9" in reject.raw


def test_a_label_that_comes_before_its_review_waits_for_it(store):
    outcome = records.upsert_labels(store.engine, labels({"review_id": "r1", "review_date": DAY, "label": "negative"}))
    assert (outcome.n_labels, outcome.n_waiting, outcome.rejects) == (1, 1, ())
    store.deliver("a", ["r1"])
    store.publish()
    assert records.labelled(store.engine, DAY, 1)[1] == 0


def test_the_latest_label_stands_and_the_same_labels_again_change_nothing(store):
    def say(label, hours):
        row = {"review_id": "r1", "review_date": DAY, "label": label, "labelled_at": NIGHT + timedelta(hours=hours)}
        return records.upsert_labels(store.engine, labels(row)).n_changed

    assert [say("negative", 1), say("positive", 0), say("negative", 1), say("neutral", 2)] == [1, 0, 0, 1]
    assert stored_labels(store) == [(DAY, "r1", "neutral", None)]
    both = [{"review_id": "r2", "review_date": DAY, "label": label} for label in ("negative", "positive")]
    assert records.upsert_labels(store.engine, labels(*both)).n_changed == 1
    assert stored_labels(store)[1] == (DAY, "r2", "positive", None)


def test_fresh_labels_say_where_the_texts_lie(store):
    obj = store.obj("b")
    store.deliver(obj, ["r1", "r2", "r1"])
    store.deliver(store.obj("a"), ["r3"])
    store.deliver(store.obj("gone"), ["r4"])
    store.publish()
    note_gone(store.engine, bucket="reviews", window_dates=[DAY], listed_keys=["incoming/a", "incoming/b"])
    rows = [{"review_id": f"r{number}", "review_date": DAY, "label": "negative"} for number in range(1, 6)]
    rows[1]["labelled_at"] = NIGHT - timedelta(days=1)
    records.upsert_labels(store.engine, labels(*rows))
    found = records.fresh_labels(store.engine)
    assert [(row["key"], row["row_number"], row["review_id"]) for row in found] == [
        ("incoming/a", 0, "r3"),
        ("incoming/b", 1, "r2"),
        ("incoming/b", 2, "r1"),
    ]
    assert {name: found[2][name] for name in ("bucket", "key", "etag", "size", "last_modified")} == vars(obj)
    assert (found[2]["label"], found[2]["labelled_at"], found[2]["product_id"], found[2]["source"]) == (
        "negative",
        NIGHT,
        "p",
        None,
    )
    assert [row["review_id"] for row in records.fresh_labels(store.engine, since=NIGHT - timedelta(hours=1))] == ["r3", "r1"]


def add_check(store, day, verdict="quiet", *, version=1, statistics=None):
    check_id = records.next_check_id(store.engine)
    judged = DriftVerdict(verdict=verdict, n=4, p_value=0.5, effect=0.01, estimated_accuracy=0.9, labelled_accuracy=None)
    return records.insert_check(
        store.engine, check_id=check_id, verdict=judged, window_date=day, model_version=version, report_url=None, run_id="run",
        statistics=statistics,
    )  # fmt: skip


def past(store, before, *, version=1):
    return records.past_checks(store.engine, first=DAY, before=before, model_version=version)


def test_history_is_the_check_that_counts_of_every_earlier_date_and_none_of_later_ones(store):
    for later in range(4):
        add_check(store, DAY + timedelta(days=later), "warn", statistics={"n": later})
    add_check(store, DAY + timedelta(days=1), "quiet", statistics={"n": 9})
    found = past(store, DAY + timedelta(days=3))
    assert [(row["window_date"], row["verdict"], row["statistics"]) for row in found] == [
        (DAY, "warn", {"n": 0}), (DAY + timedelta(days=1), "quiet", {"n": 9}), (DAY + timedelta(days=2), "warn", {"n": 2}),
    ]  # fmt: skip


def test_history_of_a_version_leaves_out_what_another_has_scored(store):
    add_check(store, DAY, version=1)
    add_check(store, DAY + timedelta(days=1), version=1)
    add_check(store, DAY + timedelta(days=1), version=2)
    assert [row["window_date"] for row in past(store, DAY + timedelta(days=2))] == [DAY]
    assert [row["window_date"] for row in past(store, DAY + timedelta(days=2), version=2)] == [DAY + timedelta(days=1)]


def test_history_counts_the_labels_that_came_late(store):
    store.deliver("a.jsonl", ["r1", "r2", "r3"])
    store.publish()
    add_check(store, DAY)
    assert [(row["n_labelled"], row["n_right"]) for row in past(store, NIGHT.date())] == [(0, 0)]
    given = [{"review_date": DAY, "review_id": "r1", "label": "positive"}, {"review_date": DAY, "review_id": "r2", "rating": 1}]
    records.upsert_labels(store.engine, labels(*given))
    assert [(row["n_labelled"], row["n_right"]) for row in past(store, NIGHT.date())] == [(2, 1)]
    assert records.count_scored_labels(store.engine) == 2
    assert records.labels_of(store.engine, DAY, 1) == {"r1": "positive", "r2": "negative"}


def test_the_nights_of_a_version_are_those_with_rows_of_it(store):
    store.deliver("a.jsonl", ["r1", "r2", "r3"])
    store.publish()
    for later in range(2):
        add_check(store, DAY + timedelta(days=later))
    assert records.nights_of_version(store.engine, 1, first=DAY, last=NIGHT.date()) == [(DAY, 3)]
    assert records.nights_of_version(store.engine, 2, first=DAY, last=NIGHT.date()) == []
