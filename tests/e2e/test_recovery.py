"""A backfill outlives the death of everything that runs it."""

import os
import signal

import pytest

pytestmark = pytest.mark.stack


def kill(stack, name):
    [pid] = [item.pid for item in stack.status() if item.component == name]
    os.kill(pid, signal.SIGKILL)


def test_a_backfill_ends_right_though_supervisor_database_and_scheduler_were_killed(machine, decisions, day):
    assert decisions["Promote"].state == "success"
    asked = [day(30), day(31), day(32)]
    expected = [machine.deliver(item, 1000, copies=30) for item in asked]
    started = machine.api.backfill("score_reviews", asked[0], asked[-1], max_active_runs=3)

    def scoring():
        runs = machine.api.dag_runs("score_reviews", run_type="backfill", state="running")
        tasks = [task for run in runs for task in machine.api.task_instances("score_reviews", run["dag_run_id"])]
        return [task for task in tasks if (task["task_id"], task["state"]) == ("score_objects", "running")]

    machine.until(scoring, "a task that scores")
    for name in ("supervisor", "postgres", "scheduler"):
        kill(machine.stack, name)
    for _ in machine.stack.up(timeout_s=120):
        pass
    machine.api.wait_backfill(started["id"], timeout_s=300)
    runs = {run["partition_key"]: run["state"] for run in machine.api.dag_runs("score_reviews", run_type="backfill")}
    assert [runs[str(item)] for item in asked] == ["success"] * 3
    assert machine.counts(*asked) == [(n, n, 1) for n in expected]
