"""What every DAG of this repository owes its operator."""

import ast
from datetime import timedelta
from pathlib import Path

import pendulum
import pytest
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.timetables.base import TimeRestriction

DAGS = Path(__file__).resolve().parents[2] / "dags"
DAG_IDS = ("score_reviews", "retrain_model", "ingest_labels")
PARAMS = {
    "score_reviews": {"date", "model", "force", "allow_retrain"},
    "retrain_model": {"reason", "approval", "snapshot"},
    "ingest_labels": {"date"},
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


def test_a_retrain_has_no_schedule_unless_the_policy_says_so(dagbag):
    assert dagbag.dags["retrain_model"].schedule is None
