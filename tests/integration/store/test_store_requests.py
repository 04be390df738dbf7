"""Which nights set off a retrain: one at a time, and not twice from the same evidence."""

import threading
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from sentiment_core.drift.loop import why_not_now
from sentiment_core.policy import read_policy
from sentiment_core.store import records
from sentiment_core.store.requests import request_retrain

POLICY = read_policy(Path(__file__).parents[3] / "include" / "policy.toml")
COOLDOWN, LABELS = POLICY.drift.cooldown_nights, POLICY.retrain.min_fresh_labels
DAY = date(2026, 11, 1)


def ask(store, nights_later=0, *, run_id="run"):
    day = DAY + timedelta(days=nights_later)
    return request_retrain(
        store.engine,
        window_date=day,
        run_id=run_id,
        retrain_run_id=f"drift__{day}",
        model_version=1,
        why_not=lambda requests, n_labels: why_not_now(day, requests, n_labels=n_labels, policy=POLICY),
    )


def end(store, event, nights_later=0, *, version=2):
    """The retrain that a night has set off ends."""
    run_id = f"drift__{DAY + timedelta(days=nights_later)}"
    records.insert_event(store.engine, model_version=version, event=event, reason="because", run_id=run_id)


def add_labels(store, n, start=0):
    with store.engine.begin() as connection:
        connection.execute(
            text(
                """insert into sentiment.labels (review_date, review_id, label, labelled_at)
                   select :day, 'r' || i, 'positive', now() from generate_series(cast(:start as integer) + 1, :start + :n) i"""
            ),
            {"day": DAY, "n": n, "start": start},
        )


def test_the_first_night_that_asks_gets_its_retrain(store):
    assert ask(store) == ""
    assert store.rows("select window_date, run_id, retrain_run_id, model_version, n_labels from sentiment.retrain_requests") == [
        (DAY, "run", f"drift__{DAY}", 1, 0)
    ]


def test_a_task_that_is_tried_again_gets_the_same_answer_and_another_run_of_the_night_none(store):
    assert ask(store) == ask(store) == ""
    assert "Another run" in ask(store, run_id="another")
    assert store.rows("select count(*) from sentiment.retrain_requests") == [(1,)]


def test_while_a_retrain_runs_no_other_is_set_off(store):
    ask(store)
    add_labels(store, 10_000)
    assert "has not ended" in ask(store, 1)


@pytest.mark.parametrize("event", ["promoted", "held"])
def test_a_candidate_is_given_a_week_whatever_became_of_it(store, event):
    ask(store)
    end(store, "registered")
    end(store, event)
    add_labels(store, 10_000)
    assert f"was {event}" in ask(store, COOLDOWN - 1)
    assert ask(store, COOLDOWN) == ""


def test_after_a_hold_the_next_retrain_waits_for_new_evidence(store):
    ask(store)
    end(store, "held", version=1)
    add_labels(store, LABELS - 1)
    assert "labels have come since" in ask(store, 1)
    assert "labels have come since" in ask(store, 100)
    add_labels(store, 1, start=LABELS)
    assert ask(store, 1) == ""


def test_an_older_night_judged_late_sets_nothing_off_beside_a_younger_one(store):
    ask(store, 3)
    assert "has not ended" in ask(store, 0)


def test_of_nights_that_ask_at_once_one_goes_ahead(store):
    answers = []
    threads = [threading.Thread(target=lambda later=later: answers.append(ask(store, later))) for later in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(map(bool, answers)) == [False, True, True, True]
    assert store.rows("select count(*) from sentiment.retrain_requests") == [(1,)]
