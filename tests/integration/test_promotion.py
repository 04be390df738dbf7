"""Who is champion: promoted, held, rolled back, by several at once; and a challenger that scores in the shadow."""

import contextlib
import itertools
import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from sentiment_core import cli
from sentiment_core.errors import Permanent, Transient
from sentiment_core.registry import Registry
from sentiment_core.reviews.bucket import ObjectChanged
from sentiment_core.reviews.layout import incoming_prefix
from sentiment_core.stages import promotion
from sentiment_core.stages.night import score_window
from sentiment_core.stages.promotion import conclude, line_of_champions, promote, roll_back
from sentiment_core.stages.shadow import score_shadow
from sentiment_core.stages.window import Night
from sentiment_core.store.records import events

DAY = date(2026, 11, 10)


def rows(services, query: str) -> list[tuple]:
    with services.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def deliver(services, *ids: str, day: date = DAY, name: str = "a.jsonl") -> None:
    lines = [json.dumps({"review_id": one, "text": f"a wonderful film with a moving story, {one}"}) for one in ids]
    services.bucket.put(incoming_prefix(day) + name, "\n".join(lines).encode())


@pytest.fixture(scope="module")
def registered(mlflow_server, candidate, tmp_path_factory):
    """A registered model with versions 1 to 4; registering takes seconds, so that tests share it and move aliases alone."""
    registry = Registry(
        mlflow_server.tracking_uri, f"sentiment-{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("state") / "models"
    )
    for number in range(4):
        registry.register(
            candidate, snapshot_key=f"snapshots/{number:064}.parquet", code_version="test", run_name=f"train {number}"
        )
    return registry


@pytest.fixture
def versions(services, registered):
    """The services, with versions 1 to 4 registered and none of them champion yet."""
    from mlflow.exceptions import MlflowException

    with registered._mlflow("test") as client:
        for alias in ("champion", "challenger"):
            with contextlib.suppress(MlflowException):
                client.delete_registered_model_alias(registered.name, alias)
    state_dir = registered._cache.directory.parent
    return replace(services, settings=replace(services.settings, model_name=registered.name, state_dir=state_dir))


@pytest.fixture
def promoted(versions):
    """Versions 1 to 3 became champion one after the other."""
    for version in (1, 2, 3):
        promote(versions, version, run_id=f"run {version}", reason="better")
    return versions


def champion_of(services) -> int:
    return services.registry.resolve("champion").version


def happened(services) -> list[tuple[int, str]]:
    return [(event["model_version"], event["event"]) for event in events(services.engine)]


def test_a_promotion_by_hand_is_written_down_with_reason_and_run(versions):
    done = promote(versions, 2, run_id="cli__1", reason="the shop asked for it")
    assert (done["outcome"], done["model_version"], champion_of(versions)) == ("promoted", 2, 2)
    [event] = events(versions.engine)
    assert (event["model_version"], event["event"], event["reason"], event["run_id"]) == (
        2, "promoted", "the shop asked for it", "cli__1",
    )  # fmt: skip
    assert event["snapshot"] == versions.registry.resolve(2).snapshot
    assert event["code_version"]


def test_promoting_the_champion_changes_and_writes_nothing(promoted):
    before = happened(promoted)
    assert promote(promoted, 3, run_id="again", reason="again")["outcome"] == "unchanged"
    assert happened(promoted) == before


def test_a_promotion_that_died_before_it_was_written_down_is_completed(promoted):
    promoted.registry.set_alias("champion", 4)  # what a killed process leaves behind
    assert promote(promoted, 4, run_id="again", reason="again")["outcome"] == "promoted"
    assert happened(promoted)[-1] == (4, "promoted")


def test_what_is_not_registered_or_not_to_be_trusted_is_not_promoted(promoted):
    with pytest.raises(Permanent, match="version 9"):
        promote(promoted, 9, run_id="r", reason="r")
    with promoted.registry._mlflow("test") as client:
        digest = client.get_model_version(promoted.registry.name, "4").tags["sentiment.digest"]
        client.set_model_version_tag(promoted.registry.name, "4", "sentiment.digest", "0" * 64)
        with pytest.raises(Permanent, match="digest"):
            promote(promoted, 4, run_id="r", reason="r")
        client.set_model_version_tag(promoted.registry.name, "4", "sentiment.digest", digest)
    assert champion_of(promoted) == 3
    assert len(happened(promoted)) == 3


def test_a_rollback_restores_the_champion_before_and_the_next_night_uses_it(promoted):
    deliver(promoted, "r1")
    assert score_window(promoted, DAY)["model_version"] == 3
    done = roll_back(promoted, run_id="cli__2", reason="complaints")
    assert (done["model_version"], done["previous"], champion_of(promoted)) == (2, 3, 2)
    event = events(promoted.engine)[-1]
    assert (event["model_version"], event["event"], event["reason"], event["run_id"]) == (
        2, "rolled_back", "version 3 rolled back: complaints", "cli__2",
    )  # fmt: skip
    tomorrow = DAY + timedelta(days=1)
    deliver(promoted, "r2", day=tomorrow)
    assert score_window(promoted, tomorrow)["model_version"] == 2
    assert rows(promoted, "select review_id, model_version from sentiment.scored_reviews order by 1") == [("r1", 3), ("r2", 2)]


def test_a_version_that_was_rolled_back_is_never_returned_to(promoted):
    assert roll_back(promoted, run_id="a", reason="r")["model_version"] == 2
    promote(promoted, 4, run_id="b", reason="r")
    assert roll_back(promoted, run_id="c", reason="r")["model_version"] == 2
    assert roll_back(promoted, run_id="d", reason="r")["model_version"] == 1
    with pytest.raises(Permanent, match="none before it"):
        roll_back(promoted, run_id="e", reason="r")
    assert champion_of(promoted) == 1
    assert happened(promoted)[-1] == (1, "rolled_back")


def test_a_version_that_was_deleted_is_passed_over(promoted):
    promote(promoted, 4, run_id="run 4", reason="better")
    record = {"run_id": "gone", "reason": "better", "snapshot": None}
    promotion.record(promoted, 9, "promoted", **record)  # of a version that nobody finds any more
    assert roll_back(promoted, run_id="a", reason="r")["model_version"] == 3


def test_without_any_champion_there_is_nothing_to_return_to(services):
    with pytest.raises(Permanent, match="found no champion"):
        roll_back(services, run_id="a", reason="r")


def test_a_rollback_takes_less_than_a_second(promoted):
    promoted.registry.resolve("champion")  # MLflow is imported
    seconds = []
    for run_id in ("a", "b"):  # the quicker of two: other tests run beside this one
        started = time.perf_counter()
        roll_back(promoted, run_id=run_id, reason="r")
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1


def test_while_mlflow_is_away_nothing_is_decided(promoted):
    champion_of(promoted)
    away = replace(promoted, settings=replace(promoted.settings, mlflow_tracking_uri="http://127.0.0.1:9"))
    before = happened(promoted)
    for decide in (lambda: roll_back(away, run_id="a", reason="r"), lambda: promote(away, 1, run_id="a", reason="r")):
        with pytest.raises(Transient):
            decide()
    assert happened(promoted) == before
    assert champion_of(promoted) == 3


def test_decisions_at_once_end_in_one_state_that_the_events_explain(versions):
    def decide(number: int) -> None:
        if number % 3 == 2:
            try:
                roll_back(versions, run_id=f"run {number}", reason="r")
            except Permanent:
                return
        else:
            promote(versions, 1 + number % 4, run_id=f"run {number}", reason="r")

    promote(versions, 1, run_id="first", reason="r")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(decide, range(16)))
    last = [event for event in events(versions.engine) if event["event"] in ("promoted", "rolled_back")][-1]
    assert champion_of(versions) == last["model_version"]
    assert line_of_champions(events(versions.engine))[-1] == last["model_version"]


def comparison(champion: int | None, candidate: int, outcome: str = "promoted") -> dict:
    return {"outcome": outcome, "reason": "because", "metrics": {"gates": []}, "champion": champion, "candidate": candidate}


def test_two_candidates_at_once_do_not_both_replace_the_same_champion(versions):
    promote(versions, 1, run_id="first", reason="r")
    refs = {version: versions.registry.resolve(version) for version in (2, 3)}
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda v: conclude(versions, refs[v], comparison(1, v), run_id=f"run {v}", approved=None), (2, 3)))
    outcomes = {item["outcome"]: item for item in done}
    assert set(outcomes) == {"promoted", "held"}
    assert champion_of(versions) == outcomes["promoted"]["model_version"]
    assert "became champion while" in outcomes["held"]["reason"]
    assert len([one for one in happened(versions) if one[1] == "held"]) == 1


def test_a_conclusion_that_is_tried_again_does_not_undo_a_rollback(versions):
    promote(versions, 1, run_id="first", reason="r")
    ref = versions.registry.resolve(2)
    first = conclude(versions, ref, comparison(1, 2), run_id="run", approved=None)
    roll_back(versions, run_id="cli", reason="r")
    assert conclude(versions, ref, comparison(1, 2), run_id="run", approved=None) == first
    assert champion_of(versions) == 1


def test_the_commands_say_what_they_did(promoted, point_commands, monkeypatch, capsys):
    point_commands(promoted)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.run(list(arguments))
        said = capsys.readouterr()
        return status, said.out, said.err

    assert run("promote", "4", "--reason", "a try") == (0, "version 4 is champion now; it was version 3\n", "")
    assert run("promote", "4")[1] == "version 4 is champion already\n"
    assert run("models", "rollback") == (0, "version 3 is champion again; version 4 was rolled back\n", "")
    status, out, _ = run("rollback", "--reason", "worse", "--json")
    assert (status, json.loads(out)) == (
        0, {"model_version": 2, "outcome": "rolled_back", "previous": 3, "reason": "version 3 rolled back: worse"},
    )  # fmt: skip
    assert run("rollback")[0] == 0
    status, _, complaint = run("rollback")
    assert (status, "To mend it: promote another version" in complaint) == (1, True)
    assert run("promote", "9")[0] == 1
    assert run("promote", "champion")[0] == 2
    for width in ("80", "120"):
        monkeypatch.setenv("COLUMNS", width)
        out = run("models")[1]
        assert max(map(len, out.splitlines())) <= int(width)
        assert "…" not in out
        for words in ("champion", "rolled back", "version 3 rolled back: worse", "a try"):
            assert words in out
    versions = json.loads(run("models", "--json")[1])
    assert [version["version"] for version in versions] == [1, 2, 3, 4]
    assert [event["event"] for event in versions[3]["events"]] == ["promoted"]
    assert versions[0]["aliases"] == ["champion"]


EVENTS = st.lists(st.tuples(st.sampled_from(["promoted", "rolled_back", "held", "registered"]), st.integers(1, 5)))


@given(EVENTS)
def test_the_line_ends_with_todays_champion(happenings):
    line = line_of_champions([{"event": event, "model_version": version} for event, version in happenings])
    changes = [version for event, version in happenings if event in ("promoted", "rolled_back")]
    assert line[-1:] == changes[-1:]
    assert all(one != other for one, other in itertools.pairwise(line))


@given(st.lists(st.one_of(st.integers(1, 5), st.none()), min_size=1))
def test_a_rollback_never_returns_to_what_was_rolled_back_since_it_was_last_promoted(decisions):
    """Play promotions (a version) and rollbacks (None) by the rule of the stage."""
    happened, bad = [], set()
    for decision in decisions:
        line = line_of_champions(happened)
        if decision is not None:
            happened.append({"event": "promoted", "model_version": decision})
            bad.discard(decision)
        elif target := next((version for version in reversed(line) if version != line[-1]), None):
            assert target not in bad - {target} or target in line
            bad.add(line[-1])
            happened.append({"event": "rolled_back", "model_version": target})
            assert line_of_champions(happened)[-1] == target
            assert line[-1] not in line_of_champions(happened) or line.count(line[-1]) > 1


def shadowing(services, n_nights: int):
    """The services under a policy with shadow scoring."""
    policy = services.policy
    services.__dict__["policy"] = replace(policy, promotion=replace(policy.promotion, shadow_nights=n_nights))
    return services


def night(day: date = DAY, *, run_id: str = "run", kind: str = "scheduled") -> Night:
    return Night(window_date=day, run_id=run_id, kind=kind, model="champion", force=False, allow_retrain=False)


@pytest.fixture
def challenged(promoted):
    """Version 3 is champion, version 4 its challenger for two nights."""
    promoted.registry.set_alias("challenger", 4)
    return shadowing(promoted, 2)


def test_a_challenger_scores_into_the_history_alone(challenged):
    deliver(challenged, "r1", "r2")
    deliver(challenged, "r3", name="b.jsonl")
    score_window(challenged, DAY)
    current = rows(challenged, "select * from sentiment.scored_reviews order by review_id")
    done = score_shadow(challenged, night())
    assert (done["outcome"], done["model_version"], done["n_objects"], done["n_scored"], done["n_agreed"]) == (
        "scored",
        4,
        2,
        3,
        3,
    )
    assert rows(challenged, "select * from sentiment.scored_reviews order by review_id") == current
    shadow = rows(
        challenged, "select review_id, model_version, run_id, retired_at = scored_at from sentiment.score_history order by 1"
    )
    assert shadow == [(f"r{n}", 4, "shadow__run", True) for n in (1, 2, 3)]
    same = """select count(*) from sentiment.score_history h join sentiment.scored_reviews s using (review_date, review_id)
              where h.p_positive = s.p_positive and h.object_id = s.object_id and h.row_number = s.row_number"""
    assert rows(challenged, same) == [(3,)]


def test_scoring_in_the_shadow_twice_equals_once(challenged):
    deliver(challenged, "r1")
    score_window(challenged, DAY)
    score_shadow(challenged, night())
    assert score_shadow(challenged, night())["n_scored"] == 0
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda n: score_shadow(challenged, night(run_id=f"again {n}")), range(3)))
    assert rows(challenged, "select count(*) from sentiment.score_history") == [(1,)]


def test_after_its_nights_a_challenger_scores_no_more(challenged):
    outcomes = []
    for number in range(3):
        day = DAY + timedelta(days=number)
        deliver(challenged, f"r{number}", day=day)
        score_window(challenged, day)
        outcomes.append(score_shadow(challenged, night(day))["outcome"])
    assert outcomes == ["scored", "scored", "none"]
    assert rows(challenged, "select count(*) from sentiment.score_history") == [(2,)]


@pytest.mark.parametrize("why", ["policy", "backfill", "champion", "alias"])
def test_there_is_nothing_to_do_in_the_shadow(challenged, why):
    services, kind = challenged, "scheduled"
    deliver(services, "r1")
    score_window(services, DAY)
    if why == "policy":
        shadowing(services, 0)
    elif why == "backfill":
        kind = "backfill"
    elif why == "champion":
        services.registry.set_alias("challenger", 3)
    else:
        with services.registry._mlflow("test") as client:
            client.delete_registered_model_alias(services.registry.name, "challenger")
    done = score_shadow(services, night(kind=kind))
    assert (done["outcome"], bool(done["reason"])) == ("none", True)
    assert rows(challenged, "select count(*) from sentiment.score_history") == [(0,)]


def test_while_mlflow_is_away_nobody_scores_in_the_shadow_of_what_the_cache_remembers(challenged):
    deliver(challenged, "r1")
    score_window(challenged, DAY)
    challenged.registry.open(challenged.registry.resolve("challenger"))
    away = replace(challenged, settings=replace(challenged.settings, mlflow_tracking_uri="http://127.0.0.1:9"))
    with pytest.raises(Transient, match="MLflow"):
        score_shadow(shadowing(away, 2), night())
    assert rows(challenged, "select count(*) from sentiment.score_history") == [(0,)]


def test_what_cannot_be_scored_in_the_shadow_is_raised_and_done_when_it_is_tried_again(challenged):
    deliver(challenged, "r1")
    score_window(challenged, DAY)
    deliver(challenged, "r2")  # what was scored is no longer there to be read
    with pytest.raises(ObjectChanged):
        score_shadow(challenged, night())
    assert rows(challenged, "select count(*) from sentiment.score_history") == [(0,)]
    assert score_window(challenged, DAY)["n_scored"] == 1
    assert score_shadow(challenged, night())["n_scored"] == 1


def test_the_code_is_named_by_its_commit():
    assert promotion.code_version().startswith("0.1.0")
