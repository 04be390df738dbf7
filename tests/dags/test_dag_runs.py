"""The DAGs run in-process (`dag.test()`) against the embedded PostgreSQL, S3 and MLflow."""

import json
import re
from datetime import date, timedelta

import pytest
from airflow.utils.state import DagRunState
from sqlalchemy import text

from sentiment_core.reviews.layout import incoming_prefix, labels_prefix
from sentiment_core.reviews.sample import generate
from sentiment_core.settings import REPOSITORY

DAY = date(2026, 11, 10)


def rows(services, query: str) -> list[tuple]:
    with services.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def deliver(services, table, day: date = DAY, *, name: str = "a.jsonl") -> None:
    columns = table.select(["review_id", "product_id", "text"]).to_pylist()
    services.bucket.put(incoming_prefix(day) + name, "".join(json.dumps(row) + "\n" for row in columns).encode())


@pytest.fixture
def run(read_dags, connected):
    """Run a DAG to its end and give its state and the state of each task."""

    def run_dag(dag_id: str, **conf):
        dag = read_dags().dags[dag_id]  # anew: a test run writes its params into the DAG
        for task in dag.tasks:
            task.retry_delay = timedelta(seconds=1)  # `dag.test()` waits for it
        dagrun = dag.test(run_conf=conf)
        return dagrun.state, {task.task_id: task.state for task in dagrun.get_task_instances()}

    return run_dag


@pytest.fixture
def retrains(monkeypatch):
    """Runs of retrain_model that were set off; the trigger itself is Airflow's."""
    from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

    seen = []
    monkeypatch.setattr(TriggerDagRunOperator, "execute", lambda self, context: seen.append((self.trigger_run_id, self.conf)))
    return seen


@pytest.fixture
def champion(connected, trained_model):
    return trained_model(connected)


def test_a_night_is_scored_checked_and_sets_nothing_off_when_it_is_quiet(run, connected, trained_model, retrains):
    trained_model(connected)
    deliver(connected, generate(900, domain="films", seed=7, day=DAY))
    state, tasks = run("score_reviews", date=str(DAY))
    assert state == DagRunState.SUCCESS, tasks
    assert tasks["record_failure"] == "skipped"
    assert tasks["set_off_retrain"] == "skipped"
    assert rows(connected, "select count(*), count(distinct review_id) from sentiment.scored_reviews") == [(900, 900)]
    [(verdict, n)] = rows(connected, "select verdict, n from sentiment.drift_checks")
    assert (verdict in ("quiet", "warn"), n) == (True, 900)
    assert retrains == []


def test_a_drifted_night_sets_off_one_retrain_and_its_rerun_none(run, quick_to_retrain, champion, retrains):
    deliver(quick_to_retrain, generate(900, domain="electronics", seed=7, day=DAY))
    state, tasks = run("score_reviews", date=str(DAY))
    assert (state, tasks["set_off_retrain"]) == (DagRunState.SUCCESS, "success")
    [(verdict, sentence)] = rows(quick_to_retrain, "select verdict, sentence from sentiment.drift_checks")
    assert verdict == "retrain"
    assert retrains == [(f"drift__{DAY}", {"reason": f"drift on {DAY}: {sentence}"})]
    assert rows(quick_to_retrain, "select window_date, retrain_run_id from sentiment.retrain_requests") == [
        (DAY, f"drift__{DAY}")
    ]
    state, tasks = run("score_reviews", date=str(DAY))
    assert (state, tasks["set_off_retrain"]) == (DagRunState.SUCCESS, "skipped")
    assert rows(quick_to_retrain, "select count(*) from sentiment.drift_checks where verdict = 'retrain'") == [(2,)]
    assert len(retrains) == 1


def test_the_next_night_sets_off_no_second_retrain_while_the_first_has_not_ended(run, quick_to_retrain, champion, retrains):
    for later in (0, 1):
        day = DAY + timedelta(days=later)
        deliver(quick_to_retrain, generate(900, domain="electronics", seed=7 + later, day=day), day=day)
        _, tasks = run("score_reviews", date=str(day))
        assert tasks["set_off_retrain"] == ("skipped" if later else "success")
    assert [run_id for run_id, _ in retrains] == [f"drift__{DAY}"]


def test_in_evidence_mode_one_night_is_a_warning_that_says_what_a_retrain_waits_for(run, connected, champion, retrains):
    deliver(connected, generate(900, domain="electronics", seed=7, day=DAY))
    state, tasks = run("score_reviews", date=str(DAY))
    assert (state, tasks["set_off_retrain"]) == (DagRunState.SUCCESS, "skipped")
    [(verdict, sentence)] = rows(connected, "select verdict, sentence from sentiment.drift_checks")
    assert verdict == "warn"
    assert "a retrain waits for another night like it" in sentence
    assert retrains == []


def test_the_trigger_hangs_on_evidentlys_own_metric(run, quick_to_retrain, champion, retrains, monkeypatch):
    """Break the metric that is registered with Evidently: the same drifted night sets nothing off."""
    from sentiment_core import reports

    def soothing(self, context, current_data, reference_data):
        return self.result({"surprise": 1.0, "labelled_fall": 1.0}.get(self.metric.name, 0.0))

    monkeypatch.setattr(reports.DriftStatisticCalculation, "calculate", soothing)
    deliver(quick_to_retrain, generate(900, domain="electronics", seed=7, day=DAY))
    state, tasks = run("score_reviews", date=str(DAY))
    assert (state, tasks["set_off_retrain"]) == (DagRunState.SUCCESS, "skipped")
    assert rows(quick_to_retrain, "select verdict from sentiment.drift_checks") == [("quiet",)]
    assert retrains == []


def test_drift_sets_nothing_off_where_the_run_may_not(run, quick_to_retrain, champion, retrains):
    deliver(quick_to_retrain, generate(900, domain="electronics", seed=7, day=DAY))
    _, tasks = run("score_reviews", date=str(DAY), allow_retrain=False)
    assert tasks["set_off_retrain"] == "skipped"
    assert retrains == []


def test_rows_of_a_version_that_is_no_longer_champion_set_nothing_off(run, quick_to_retrain, champion, trained_model, retrains):
    deliver(quick_to_retrain, generate(900, domain="electronics", seed=7, day=DAY))
    trained_model(quick_to_retrain)
    _, tasks = run("score_reviews", date=str(DAY), model=str(champion.version))
    assert rows(quick_to_retrain, "select verdict, model_version from sentiment.drift_checks") == [("retrain", champion.version)]
    assert tasks["set_off_retrain"] == "skipped"
    assert retrains == []


@pytest.fixture
def challenger(connected, trained_model, tmp_path, monkeypatch):
    """Version 2, which scores beside version 1 for two nights."""
    policy = connected.settings.policy_path.read_text(encoding="utf-8")
    changed = re.sub(r"^shadow_nights = 0", "shadow_nights = 2", policy, flags=re.MULTILINE)
    assert changed != policy
    (tmp_path / "policy.toml").write_text(changed, encoding="utf-8")
    monkeypatch.setenv("SENTIMENT_POLICY", str(tmp_path / "policy.toml"))
    champion, challenger = trained_model(connected), trained_model(connected)
    connected.registry.set_alias("champion", champion.version)
    connected.registry.set_alias("challenger", challenger.version)
    return challenger


def test_a_challenger_scores_the_night_in_its_shadow(run, connected, challenger, retrains):
    deliver(connected, generate(300, domain="films", seed=7, day=DAY))
    state, tasks = run("score_reviews", date=str(DAY))
    assert (state, tasks["score_shadow"], tasks["leave_shadow"]) == (DagRunState.SUCCESS, "success", "success")
    assert rows(connected, "select model_version, count(*) from sentiment.scored_reviews group by 1") == [(1, 300)]
    beside = rows(connected, "select distinct model_version, run_id like 'shadow__%' from sentiment.score_history")
    assert beside == [(challenger.version, True)]
    assert rows(connected, "select count(*) from sentiment.score_history") == [(300,)]


def test_a_challenger_that_fails_is_seen_and_the_night_goes_on(run, connected, challenger, retrains):
    with connected.registry._mlflow("test") as client:
        client.set_model_version_tag(connected.registry.name, str(challenger.version), "sentiment.digest", "0" * 64)
    deliver(connected, generate(300, domain="films", seed=7, day=DAY))
    state, tasks = run("score_reviews", date=str(DAY))
    assert (state, tasks["score_shadow"], tasks["record_failure"]) == (DagRunState.SUCCESS, "failed", "skipped")
    assert tasks["check_drift"] == "success"
    assert rows(connected, "select status, n_scored from sentiment.scoring_runs") == [("succeeded", 300)]
    assert rows(connected, "select count(*) from sentiment.score_history") == [(0,)]


def test_without_a_model_the_run_fails_at_once_and_says_so(run, connected):
    deliver(connected, generate(10, domain="films", seed=7, day=DAY))
    state, tasks = run("score_reviews", date=str(DAY))
    assert state == DagRunState.FAILED
    assert tasks["resolve_model"] == "failed"  # not up_for_retry: a retry gives the same answer


def test_an_empty_night_succeeds_and_is_too_few_to_judge(run, connected, trained_model):
    trained_model(connected)
    state, tasks = run("score_reviews", date=str(DAY))
    assert state == DagRunState.SUCCESS, tasks
    assert rows(connected, "select verdict, n from sentiment.drift_checks") == [("too_few", 0)]


def test_the_first_model_is_trained_from_a_snapshot_and_promoted(run, connected, training_set):
    from sentiment_core.stages.training_sets import write_snapshot

    key = write_snapshot(connected, training_set)
    state, tasks = run("retrain_model", reason="first model", snapshot=key)
    assert state == DagRunState.SUCCESS, tasks
    assert tasks["ask_for_approval"] == "skipped"
    events = rows(connected, "select model_version, event, snapshot from sentiment.model_events order by event_id")
    assert [event for _, event, _ in events] == ["registered", "promoted"]
    assert connected.registry.resolve("champion").version == events[0][0]


def test_a_retrain_without_new_labels_is_held_and_trains_nothing(run, connected, trained_model):
    champion = trained_model(connected)
    state, tasks = run("retrain_model", reason="drift")
    assert state == DagRunState.SUCCESS, tasks
    assert tasks["train_candidate"] == "skipped"
    [(version, reason)] = rows(connected, "select model_version, reason from sentiment.model_events where event = 'held'")
    assert version == champion.version
    assert reason.startswith("0 labels since version")


def test_labels_arrive_and_the_retrain_learns_from_them(run, connected, trained_model):
    trained_model(connected)
    table = generate(900, domain="electronics", seed=7, day=DAY)
    deliver(connected, table)
    run("score_reviews", date=str(DAY), allow_retrain=False)
    labels = [
        {"review_id": row["review_id"], "rating": row["rating"], "labelled_at": f"{DAY + timedelta(days=1)}T08:00:00Z"}
        for row in table.select(["review_id", "rating"]).to_pylist()
    ]
    content = "".join(json.dumps(row) + "\n" for row in labels).encode() + b'{"review_id": "unheard-of", "rating": 5}\n'
    connected.bucket.put(labels_prefix(DAY + timedelta(days=1)) + "labels.jsonl", content)
    state, tasks = run("ingest_labels", date=str(DAY + timedelta(days=1)))
    assert state == DagRunState.SUCCESS, tasks
    assert rows(connected, "select count(*) from sentiment.labels") == [(900,)]
    assert len(list(connected.bucket.list("quarantine/"))) == 1
    state, tasks = run("retrain_model", reason="labels have arrived")
    assert state == DagRunState.SUCCESS, tasks
    [(event, metrics)] = rows(
        connected,
        "select event, metrics from sentiment.model_events where event in ('promoted', 'held') order by event_id desc limit 1",
    )
    assert event == "promoted", metrics
    assert connected.registry.resolve("champion").version == 2
    assert rows(connected, "select model_version from sentiment.model_events where event = 'registered'") == [(2,)]


def test_a_night_of_maintenance_forgets_what_the_policy_says_and_tells_how_much(
    run, connected, trained_model, tmp_path, monkeypatch
):
    trained_model(connected)
    deliver(connected, generate(300, domain="films", seed=7, day=DAY))
    run("score_reviews", date=str(DAY), allow_retrain=False)
    assert rows(connected, "select count(text_excerpt) from sentiment.scored_reviews") == [(300,)]
    words = (REPOSITORY / "include" / "policy.toml").read_text(encoding="utf-8")
    assert words.count("text_excerpt = 120 ") == 1
    policy = tmp_path / "policy.toml"
    policy.write_text(words.replace("text_excerpt = 120 ", "text_excerpt = 0 "), encoding="utf-8")
    monkeypatch.setenv("SENTIMENT_POLICY", str(policy))
    state, tasks = run("maintain")
    assert state == DagRunState.SUCCESS, tasks
    assert set(tasks.values()) == {"success"}
    assert rows(connected, "select count(*), count(text_excerpt) from sentiment.scored_reviews") == [(300, 0)]
    [(run_id, n)] = rows(connected, "select run_id, n from sentiment.removals where what = 'excerpts'")
    assert n == 300
    assert run_id.startswith("manual__")


@pytest.mark.parametrize("forgotten", ["sentiment_db", "reviews_s3"])
def test_a_connection_that_airflow_cannot_tell_is_tried_again(run, connected, monkeypatch, forgotten):
    """While its database is away, Airflow says that a connection isn't defined."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    asked = []

    def forgetful(conn_id, get=BaseHook.get_connection):
        asked.append(conn_id)
        if conn_id == forgotten and asked.count(forgotten) == 1:
            raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")
        return get(conn_id)

    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(forgetful))
    state, tasks = run("ingest_labels", date=str(DAY))
    assert state == DagRunState.SUCCESS, tasks
    assert asked.count(forgotten) > 1
    assert asked.count("sentiment_db") == 3, "two tasks, one of them twice"
