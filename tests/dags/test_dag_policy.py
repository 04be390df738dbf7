"""What every DAG of this repository owes its operator."""

import ast
from datetime import timedelta
from pathlib import Path

import pendulum
import pytest
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import coerce_to_core_timetable, encode_timetable
from airflow.timetables.base import TimeRestriction

DAGS = Path(__file__).resolve().parents[2] / "dags"
DAG_IDS = ("score_reviews", "retrain_model", "ingest_labels", "maintain")
PARAMS = {
    "score_reviews": {"date", "model", "force", "allow_retrain"},
    "retrain_model": {"reason", "approval", "snapshot"},
    "ingest_labels": {"date"},
    "maintain": set(),
}
HEAVY = {"mlflow", "evidently", "pandas", "numba", "sklearn", "pyarrow", "sqlalchemy"}


def test_the_dags_of_the_contract_are_there_and_no_others(dagbag):
    assert set(dagbag.dags) == set(DAG_IDS)


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_a_dag_says_what_it_is_whose_it_is_and_how_long_it_may_take(dagbag, dag_id):
    dag = dagbag.dags[dag_id]
    assert len(dag.doc_md) > 200
    assert dag.tags
    assert dag.catchup is False
    assert 1 <= dag.max_active_runs <= 4
    assert dag.dagrun_timeout
    assert set(dag.params) == PARAMS[dag_id]
    assert all(dag.params.get_param(name).description for name in dag.params)


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_every_task_retries_with_backoff_and_has_an_owner(dagbag, dag_id):
    for task in dagbag.dags[dag_id].tasks:
        assert task.retries == 5, task.task_id
        assert task.retry_exponential_backoff, task.task_id
        assert task.owner == "sentiment", task.task_id
        waits_for_the_world = task.task_id in ("wait_for_folder", "ask_for_approval")
        assert waits_for_the_world or task.execution_timeout > timedelta(0), task.task_id


def test_the_heavy_tasks_share_a_pool(dagbag):
    assert dagbag.dags["score_reviews"].get_task("score_objects").pool == "sentiment"
    assert dagbag.dags["retrain_model"].get_task("train_candidate").pool == "sentiment"


def test_nothing_waits_for_a_challenger_and_its_death_does_not_fail_the_night(dagbag):
    dag = dagbag.dags["score_reviews"]
    shadow = dag.get_task("score_shadow")
    assert shadow.upstream_task_ids == {"publish_dates"}
    assert shadow.downstream_task_ids == {"leave_shadow"}
    last = dag.get_task("leave_shadow")
    assert (last.trigger_rule, last.downstream_task_ids) == ("all_done", set())
    assert shadow.priority_weight < dag.get_task("score_objects").priority_weight


def test_drift_sets_off_a_dag_that_exists(dagbag):
    assert dagbag.dags["score_reviews"].get_task("set_off_retrain").trigger_dag_id in dagbag.dags


@pytest.mark.parametrize("path", sorted(DAGS.glob("*.py")), ids=lambda path: path.name)
def test_a_dag_file_imports_nothing_heavy_and_holds_no_loop_or_sql(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        assert not {str(name).split(".")[0] for name in names} & HEAVY
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While)]


@pytest.mark.parametrize(("dag_id", "hour"), [("score_reviews", 2), ("ingest_labels", 1)])
def test_the_schedule_fires_at_its_hour_in_utc_for_the_day_before(dagbag, dag_id, hour):
    timetable = coerce_to_core_timetable(dagbag.dags[dag_id].timetable)
    restriction = TimeRestriction(earliest=pendulum.datetime(2026, 11, 20, 12), latest=None, catchup=True)
    info = timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=restriction)
    assert info.run_after == pendulum.datetime(2026, 11, 21, hour)
    assert info.partition_key == "2026-11-20"


def test_maintenance_runs_when_the_night_is_done_without_anybodys_doing(dagbag):
    dag = dagbag.dags["maintain"]
    timetable = coerce_to_core_timetable(dag.timetable)
    restriction = TimeRestriction(earliest=pendulum.datetime(2026, 11, 20, 12), latest=None, catchup=True)
    assert timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=restriction).run_after == pendulum.datetime(
        2026, 11, 21, 4
    )
    assert dag.is_paused_upon_creation is False
    assert dag.max_active_runs == 1


# What Airflow's form sends for 5 to 7 November (UTC-8, UTC, UTC+1, UTC+13, UTC-10), and what programs send.
RANGES = {
    "Los Angeles": ("2026-11-05T08:00:00", "2026-11-08T07:59:59.999"),
    "Greenwich": ("2026-11-05T00:00:00", "2026-11-07T23:59:59.999"),
    "Berlin": ("2026-11-04T23:00:00", "2026-11-07T22:59:59.999"),
    "Auckland": ("2026-11-04T11:00:00", "2026-11-07T10:59:59.999"),
    "Honolulu": ("2026-11-05T10:00:00", "2026-11-08T09:59:59.999"),
    "across a change of clocks": ("2026-11-05T07:00:00", "2026-11-08T07:59:59.999"),
    "bare dates": ("2026-11-05T00:00:00", "2026-11-07T00:00:00"),
    "an offset": ("2026-11-05T00:00:00+01:00", "2026-11-07T23:59:59+01:00"),
}


@pytest.mark.parametrize("dag_id", ["score_reviews", "ingest_labels"])
@pytest.mark.parametrize("place", RANGES)
def test_a_backfill_means_the_dates_that_were_typed_wherever_that_was(dagbag, dag_id, place):
    timetable = decode_timetable(encode_timetable(dagbag.dags[dag_id].timetable))
    earliest, latest = map(pendulum.parse, RANGES[place])
    infos = list(timetable.iter_partition_dagrun_infos(earliest=earliest, latest=latest))
    assert [info.partition_key for info in infos] == ["2026-11-05", "2026-11-06", "2026-11-07"]
    assert [timetable.resolve_partition_date(info.partition_key) for info in infos] == [info.partition_date for info in infos]


def test_a_retrain_has_no_schedule_unless_the_policy_says_so(dagbag):
    assert dagbag.dags["retrain_model"].schedule is None


def test_a_retrain_takes_the_schedule_that_the_policy_says(read_dags, tmp_path, monkeypatch):
    text = (DAGS.parent / "include" / "policy.toml").read_text(encoding="utf-8")
    assert 'schedule = "" ' in text
    policy = tmp_path / "policy.toml"
    policy.write_text(text.replace('schedule = "" ', 'schedule = "0 3 * * 0" ', 1), encoding="utf-8")
    monkeypatch.setenv("SENTIMENT_POLICY", str(policy))
    assert read_dags().dags["retrain_model"].schedule == "0 3 * * 0"
