"""A retrain on the policy's schedule, set as a person would set it: in the file, while everything runs."""

from urllib.parse import quote

import pytest

pytestmark = pytest.mark.stack


def read_again(machine):
    """Have Airflow read the DAG file now rather than within two minutes."""
    dag = machine.api.get("/api/v2/dags/retrain_model")
    machine.api._call("PUT", f"/api/v2/parseDagFile/{quote(dag['file_token'], safe='')}")


@pytest.fixture
def every_minute(machine, promoted):
    policy = machine.stack.repository / "include" / "policy.toml"
    delivered = policy.read_text(encoding="utf-8")
    edited = delivered.replace('schedule = ""', 'schedule = "* * * * *"')
    assert edited != delivered
    policy.write_text(edited, encoding="utf-8")
    read_again(machine)
    yield
    policy.write_text(delivered, encoding="utf-8")
    read_again(machine)


def test_the_policys_cron_sets_off_a_retrain_that_says_why_it_is_held(machine, every_minute):
    def ended():
        runs = machine.api.dag_runs("retrain_model", run_type="scheduled")
        return next((run for run in runs if run["state"] in ("success", "failed")), None)

    run = machine.until(ended, "the end of a scheduled retrain")
    assert run["state"] == "success"
    query = "select model_version, event, reason from sentiment.model_events where run_id = :run_id"
    [(version, event, reason)] = machine.rows(query, run_id=run["dag_run_id"])
    assert (version, event) == (2, "held")
    assert reason == "0 labels since version 2 was trained; 200 are needed to learn from (asked for: the policy's schedule)"
    assert machine.states("retrain_model", run["dag_run_id"])["train_candidate"] == "skipped"
