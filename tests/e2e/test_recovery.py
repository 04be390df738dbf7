"""A backfill outlives the death of everything that runs it."""

import os
import signal
from datetime import UTC, datetime

import pytest

from sentiment_core.local.processes import Identity, wait_until

pytestmark = pytest.mark.stack


def kill(stack, name):
    [pid] = [item.pid for item in stack.status() if item.component == name]
    identity = Identity.of(pid)
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not identity.is_alive(), 10), f"{name} does not die"


def test_a_backfill_ends_right_though_supervisor_database_and_scheduler_were_killed(machine, promoted, day):
    asked = [day(30), day(31)]
    expected = [machine.deliver(item, 1000, copies=10) for item in asked]
    before = machine.run_ids("score_reviews")
    machine.backfill(asked[0], asked[-1])

    def scoring():
        runs = machine.run_ids("score_reviews") - before
        tasks = [task for run_id in runs for task in machine.api.task_instances("score_reviews", run_id)]
        return [task for task in tasks if task["task_id"] == "score_objects" and task["start_date"]]

    machine.until(scoring, "a task that scores")
    killed_at = datetime.now(UTC)
    for name in ("supervisor", "postgres", "scheduler"):
        kill(machine.stack, name)
    for _ in machine.stack.up(timeout_s=120):
        pass
    assert machine.backfilled(after=before) == [(str(item), "success") for item in asked]
    assert machine.counts(*asked) == [(n, n, 1) for n in expected]
    assert all(datetime.fromisoformat(task["start_date"]) > killed_at for task in scoring()), "nothing was interrupted"
