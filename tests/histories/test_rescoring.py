"""Scoring again what is scored: the plan says what happens, only what is meant changes, and nothing is lost on the way."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from sentiment_core.domain import Selection
from sentiment_core.errors import Transient
from sentiment_core.reviews.layout import incoming_prefix
from sentiment_core.stages import night, promotion
from sentiment_core.stages.rescoring import apply_rescore, plan_rescore
from sentiment_core.stages.window import Night
from sentiment_core.store.records import sketches
from tests.histories.place import Models, label_of
from tests.histories.trouble import Cut

DAY, NEXT = date(2026, 11, 1), date(2026, 11, 2)
EVERYTHING = Selection()


@pytest.fixture
def services(place):
    """Services with version 1 as champion."""
    place.services.__dict__["registry"] = Models()
    promotion.promote(place.services, 1, run_id="first", reason="a person")
    return place.services


def deliver(services, name, numbers, *, day=DAY, product_id="p", modified=None):
    rows = [{"review_id": f"r{number}", "text": f"text {number}", "product_id": product_id} for number in numbers]
    client, key = services.bucket._client, incoming_prefix(day) + name
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    metadata = {"mtime": str(modified.timestamp())} if modified else {}
    client.put_object(Bucket=services.bucket.name, Key=key, Body=content, Metadata=metadata)


def versions(place):
    found = place.rows("select review_id, model_version, label, text_excerpt from sentiment.scored_reviews")
    assert all(label == label_of(text, version) for _, version, label, text in found)
    return {review_id: version for review_id, version, *_ in found}


def test_the_plan_says_what_applying_does_and_a_second_time_there_is_nothing_to_do(place, services):
    deliver(services, "a.jsonl", range(300))
    deliver(services, "b.jsonl", range(300, 400), day=NEXT)
    for day in (DAY, NEXT):
        night.score_window(services, day)
    before = place.rows("select review_id, model_version, label, scored_at from sentiment.scored_reviews order by 1")
    plan = plan_rescore(services, EVERYTHING, model="2")
    n_flips = sum(label_of(f"text {n}", 1) != label_of(f"text {n}", 2) for n in range(400))
    assert (plan["model_versions"], plan["n_rows"], plan["n_objects"], plan["kept"]) == ([2], 400, 2, [])
    assert (plan["flips"]["n"], plan["flips"]["n_low"], plan["flips"]["n_high"]) == (n_flips,) * 3  # it has looked at all
    assert sum(move["n"] for move in plan["flips"]["moved"]) == n_flips
    assert plan["minutes"] > 0
    assert set(versions(place).values()) == {1}
    done = apply_rescore(services, EVERYTHING, model="2")
    assert (done["n_rows"], done["n_objects"], done["n_flipped"]) == (400, 2, n_flips)
    assert set(versions(place).values()) == {2}
    assert place.rows("select review_id, model_version, label, scored_at from sentiment.score_history order by 1") == before
    assert place.rows("select distinct run_id from sentiment.scored_reviews") == [(done["run_id"],)]
    assert plan_rescore(services, EVERYTHING, model="2")["n_rows"] == 0
    assert apply_rescore(services, EVERYTHING, model="2")["n_rows"] == 0


def test_the_interval_of_a_plan_holds_what_applying_finds(place, services):
    for number in range(24):
        deliver(services, f"{number:02}.jsonl", range(100 * number, 100 * number + 20 + 2 * number))
    night.score_window(services, DAY)
    policy = services.policy
    few = replace(policy.rescore, sample_objects=10, sample_rows=200)
    services.__dict__["policy"] = replace(policy, rescore=few)
    flips = plan_rescore(services, EVERYTHING, model="3")["flips"]
    done = apply_rescore(services, EVERYTHING, model="3")
    assert flips["n_sampled"] <= 210
    assert flips["n_low"] < flips["n_high"]
    assert flips["n_low"] <= done["n_flipped"] <= flips["n_high"]


@pytest.mark.parametrize(
    ("selection", "changed"),
    [
        (Selection(version=2), {"c"}),
        (Selection(product_id="q"), {"b"}),
        (Selection(first=NEXT), {"c"}),
        (Selection(last=DAY), {"a", "b"}),
        (Selection(version=1, product_id="p", first=DAY, last=DAY), {"a"}),
        (Selection(product_id="nobody's"), set()),
    ],
)
def test_only_what_is_meant_is_scored_again(place, services, selection, changed):
    deliver(services, "a.jsonl", [1, 2])
    deliver(services, "b.jsonl", [3, 4], product_id="q")
    deliver(services, "c.jsonl", [5, 6], day=NEXT)
    night.score_window(services, DAY)
    night.score_window(services, NEXT, model="2")
    before, members = versions(place), {"a": {"r1", "r2"}, "b": {"r3", "r4"}, "c": {"r5", "r6"}}
    expected = {review_id for name in changed for review_id in members[name]}
    assert plan_rescore(services, selection, model="3")["n_rows"] == len(expected)
    apply_rescore(services, selection, model="3")
    assert versions(place) == before | dict.fromkeys(expected, 3)


def test_of_one_object_the_rows_of_one_product_alone(place, services):
    rows = [{"review_id": f"r{n}", "text": f"text {n}", "product_id": "pq"[n % 2]} for n in range(10)]
    services.bucket.put(incoming_prefix(DAY) + "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    night.score_window(services, DAY)
    assert apply_rescore(services, Selection(product_id="q"), model="2")["n_rows"] == 5
    assert versions(place) == {f"r{n}": 1 + n % 2 for n in range(10)}
    assert apply_rescore(services, Selection(version=1), model="3")["n_rows"] == 5
    assert versions(place) == {f"r{n}": 3 - n % 2 for n in range(10)}


def test_an_object_that_is_gone_or_rewritten_is_told_and_its_rows_are_kept(place, services):
    for number, name in enumerate(["gone.jsonl", "rewritten.jsonl", "there.jsonl"]):
        deliver(services, name, [number])
    night.score_window(services, DAY)
    services.bucket._client.delete_object(Bucket=services.bucket.name, Key=incoming_prefix(DAY) + "gone.jsonl")
    deliver(services, "rewritten.jsonl", [7])
    plan, done = plan_rescore(services, EVERYTHING, model="2"), apply_rescore(services, EVERYTHING, model="2")
    prefix = incoming_prefix(DAY)
    assert (
        plan["kept"]
        == done["kept"]
        == [
            {"key": f"{prefix}gone.jsonl", "n_rows": 1, "reason": "no longer in the bucket"},
            {"key": f"{prefix}rewritten.jsonl", "n_rows": 1, "reason": "rewritten since it was scored"},
        ]
    )
    assert (plan["n_rows"], done["n_rows"]) == (1, 1)
    assert versions(place) == {"r0": 1, "r1": 1, "r2": 2}


def test_a_row_that_another_outranks_comes_along(place, services):
    morning = datetime(2026, 11, 2, 8, tzinfo=UTC)
    deliver(services, "a.jsonl", [1], modified=morning)
    deliver(services, "b.jsonl", [1, 2], modified=morning + timedelta(hours=1))
    night.score_window(services, DAY)
    apply_rescore(services, EVERYTHING, model="2")
    deliver(services, "b.jsonl", [2], modified=morning + timedelta(hours=2))
    night.score_window(services, DAY, model="2")
    assert versions(place) == {"r1": 2, "r2": 2}


@pytest.mark.parametrize("n_left", range(0, 28, 6))
def test_killed_and_started_again_it_ends_as_if_nothing_had_been(place, services, n_left):
    for number in range(4):
        deliver(services, f"{number}.jsonl", range(10 * number, 10 * number + 10))
    night.score_window(services, DAY)
    place.trouble.arm("statement", n_left)
    with pytest.raises(Cut):
        apply_rescore(services, EVERYTHING, model="2", run_id="killed")
    place.trouble.disarm()
    apply_rescore(services, EVERYTHING, model="2", run_id="again")
    assert versions(place) == {f"r{n}": 2 for n in range(40)}
    history = place.rows("select review_id, model_version from sentiment.score_history order by 1")
    assert history == sorted((f"r{n}", 1) for n in range(40))


def test_a_drift_check_finds_the_statistics_of_the_version_that_scored_last(place, services):
    deliver(services, "a.jsonl", range(50))
    night.score_window(services, DAY)
    apply_rescore(services, EVERYTHING, model="2")
    [sketch] = sketches(services.engine, DAY, 2)
    assert sketch.n == 50


def test_a_champion_that_only_the_cache_remembers_scores_nothing_again(place, services):
    resolve = services.registry.resolve
    services.registry.resolve = lambda which: replace(resolve(which), is_degraded=True)
    deliver(services, "a.jsonl", [1])
    night.score_window(services, DAY, model="2")
    with pytest.raises(Transient, match="--model 1"):
        plan_rescore(services, EVERYTHING)
    assert apply_rescore(services, EVERYTHING, model="1")["n_rows"] == 1


def test_beside_a_night_that_rewrites_the_objects_every_row_is_there_once_and_says_what_its_text_says(place, services):
    """Truly at once: one thread scores everything again and again, the other delivers and publishes."""
    for number in range(6):
        deliver(services, f"{number}.jsonl", range(10 * number, 10 * number + 10))
    night.score_window(services, DAY)
    is_over = threading.Event()

    def rescore():
        count = 0
        while not is_over.is_set():
            apply_rescore(services, EVERYTHING, model=str(2 + count % 2))
            count += 1
        return count

    def deliver_and_publish():
        try:
            for turn in range(1, 6):
                for number in range(0, 6, 2):
                    deliver(services, f"{number}.jsonl", range(10 * number, 10 * number + 10 + turn))
                night.score_window(services, DAY)
        finally:
            is_over.set()

    with ThreadPoolExecutor(2) as pool:
        again, publisher = pool.submit(rescore), pool.submit(deliver_and_publish)
        publisher.result()
        assert again.result() > 0
    apply_rescore(services, EVERYTHING, model="1")
    assert set(versions(place)) == {f"r{10 * number + n}" for number in range(6) for n in range(15 if number % 2 == 0 else 10)}
    assert set(versions(place).values()) == {1}


# -- as-of, and two runs at once


def rows_of(place):
    """What a night gave, without when and by whom."""
    return place.rows(
        "select review_date, review_id, product_id, source, label, p_negative, p_positive, confidence, model_name, s.model_version,"
        " text_excerpt, key, row_number from sentiment.scored_reviews s join sentiment.source_objects using (object_id) order by 1, 2"
    )


def a_night(run_id, *, kind="scheduled", model="champion", force=False, day=DAY):
    return Night(window_date=day, run_id=run_id, kind=kind, model=model, force=force, allow_retrain=False)


def play(services, of):
    ref = night.resolve_model(services, of)
    counts = [night.score_objects(services, of, ref, batch) for batch in night.list_new_objects(services, of)]
    return night.publish_dates(services, of, ref, counts)


@pytest.mark.parametrize("way", ["backfill", "rescore", "rescore of one version"])
def test_a_date_run_as_of_gives_row_for_row_what_the_night_gave(place, services, way):
    deliver(services, "a.jsonl", range(30))
    play(services, a_night("the night"))
    gave = rows_of(place)
    promotion.promote(services, 2, run_id="second", reason="a person")
    deliver(services, "b.jsonl", range(30, 40), day=NEXT)
    play(services, a_night("the next night", day=NEXT))
    apply_rescore(services, EVERYTHING, model="3")
    assert {row[9] for row in rows_of(place)} == {3}
    match way:
        case "backfill":
            for day in (DAY, NEXT):
                play(services, a_night(f"backfill {day}", kind="backfill", model="as-of", force=True, day=day))
        case "rescore":
            apply_rescore(services, EVERYTHING, model="as-of")
        case _:
            apply_rescore(services, Selection(version=3), model="as-of")
    assert [row for row in rows_of(place) if row[0] == DAY] == gave
    assert versions(place) == {f"r{n}": 1 if n < 30 else 2 for n in range(40)}


def test_what_is_delivered_later_is_scored_as_of_the_night_too(place, services):
    deliver(services, "a.jsonl", range(10))
    play(services, a_night("the night"))
    gave = rows_of(place)
    promotion.promote(services, 2, run_id="second", reason="a person")
    deliver(services, "late.jsonl", range(10, 20))
    play(services, a_night("backfill", kind="backfill", model="as-of"))
    assert versions(place) == {f"r{n}": 1 for n in range(20)}
    assert rows_of(place)[:0] + [row for row in rows_of(place) if row[11].endswith("a.jsonl")] == gave


def test_a_promotion_in_mid_run_changes_nothing_until_the_next_run(place, services):
    for number in range(6):
        deliver(services, f"{number}.jsonl", [number])
    of = a_night("the night")
    ref = night.resolve_model(services, of)
    batches = night.list_new_objects(services, of)
    counts = [night.score_objects(services, of, ref, batches[0])]
    promotion.promote(services, 2, run_id="meanwhile", reason="a person")
    assert night.resolve_model(services, of) == ref  # a task that is cleared and run again
    counts += [night.score_objects(services, of, ref, batch) for batch in batches[1:]]
    night.publish_dates(services, of, ref, counts)
    assert len(batches) == 3
    assert set(versions(place).values()) == {1}
    deliver(services, "late.jsonl", [9])
    play(services, a_night("the next run"))
    assert versions(place) == {**{f"r{n}": 1 for n in range(6)}, "r9": 2}


@pytest.mark.parametrize("champion", [1, 2])
def test_a_backfill_and_the_nightly_run_at_the_same_moment_end_in_the_same_rows(place, services, champion):
    """They list at once and score at once; whoever comes first with an object decides about it, and it is there once.

    With a champion that was promoted between the night's hour and now the two are pinned to different versions: then each
    row is stamped with the version whose score it is.
    """
    for turn in range(3):
        place.clear()
        services.registry.aliases.clear()
        promotion.promote(services, 1, run_id="first", reason="a person")
        for number in range(8):
            deliver(services, f"{number}.jsonl", range(3 * number, 3 * number + 5))  # neighbours share reviews
        play(services, a_night("alone"))
        alone = rows_of(place)
        truncate(place)
        with place.owner.begin() as connection:
            connection.exec_driver_sql("update sentiment.model_events set at = '2026-11-01'")
        promotion.promote(services, champion, run_id="again", reason="a person")
        barrier = threading.Barrier(2, timeout=60)

        def run(of, barrier=barrier):
            ref = night.resolve_model(services, of)
            barrier.wait()
            batches = night.list_new_objects(services, of)
            barrier.wait()
            counts = [night.score_objects(services, of, ref, batch) for batch in batches]
            return night.publish_dates(services, of, ref, counts)

        with ThreadPoolExecutor(2) as pool:
            runs = [
                pool.submit(run, a_night("scheduled")),
                pool.submit(run, a_night("backfill", kind="backfill", model="as-of")),
            ]
            assert [item.result()["status"] for item in runs] == ["succeeded"] * 2
        together = rows_of(place)
        assert [place_of(row) for row in together] == [place_of(row) for row in alone], turn
        assert set(versions(place).values()) <= {1, champion}
        if champion == 1:
            assert together == alone
        assert place.rows("select count(*) from sentiment.score_history") == [(0,)]


def place_of(row):
    """Review, excerpt, object and row number."""
    return (*row[:4], *row[10:])


def truncate(place):
    """As if nothing had been scored yet; what is in the bucket stays."""
    with place.owner.begin() as connection:
        for relation in ("scored_reviews", "score_history", "runner_ups", "staged_reviews", "scoring_runs"):
            connection.exec_driver_sql(f"delete from sentiment.{relation}")
        connection.exec_driver_sql("truncate sentiment.source_objects cascade")
