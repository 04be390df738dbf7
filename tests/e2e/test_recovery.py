"""What has been promised outlives the death of everything that works on it."""

import contextlib
import itertools
import json
import re
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from sentiment_core.local.processes import wait_until
from sentiment_core.reviews.layout import incoming_prefix
from sentiment_core.store.engine import statement

pytestmark = pytest.mark.stack
RELATIONS = """select relname from pg_class where relnamespace = 'sentiment'::regnamespace and relkind in ('r', 'p')
               and not relispartition"""


@contextlib.contextmanager
def holding(machine, *keys):
    """Keep every run from staging these objects, for as long as PostgreSQL lives."""
    with machine.services.engine.connect() as connection:
        for key in keys:
            place = {"bucket": machine.services.settings.bucket, "key": key}
            connection.execute(statement("ledger.lock_key"), place)
        yield
        connection.invalidate()  # what was at its other end has been killed


def test_a_backfill_ends_right_though_supervisor_database_and_scheduler_were_killed(machine, promoted, day, kill):
    """Of the first night one object is staged and the next one waits; of the second night the first one waits."""
    asked = [day(30), day(31)]
    expected = [machine.deliver(item) for item in asked]
    before = machine.run_ids("score_reviews")
    n_waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    n_staged = "select count(*) from sentiment.source_objects where window_date = any(:days) and status = 'staged'"

    def scoring():
        runs = machine.run_ids("score_reviews", run_type="backfill") - before
        tasks = [task for run_id in runs for task in machine.api.task_instances("score_reviews", run_id)]
        return {task["dag_run_id"]: task for task in tasks if task["task_id"] == "score_objects"}

    def is_in_the_middle():
        return machine.rows(n_waiting) == [(2,)] and machine.rows(n_staged, days=asked) == [(1,)]

    with holding(machine, f"{incoming_prefix(asked[0])}shop/b.jsonl", f"{incoming_prefix(asked[1])}a.parquet"):
        machine.backfill(asked[0], asked[-1])
        machine.until(is_in_the_middle, "two tasks in the middle of their night")
        interrupted = scoring()
        assert [task["state"] for task in interrupted.values()] == ["running"] * 2
        pids = {item.component: item.pid for item in machine.stack.status()}
        killed_at = datetime.now(UTC)
        for name in ("supervisor", "postgres", "scheduler"):
            kill(machine.stack, name)
    for found in machine.stack.up(timeout_s=300):
        last = {item.component: item.pid for item in found}
    assert {name for name, pid in pids.items() if last[name] == pid} >= {"s3", "mlflow"}, "what runs well is taken over"
    assert machine.backfilled(after=before) == [(str(item), "success") for item in asked]
    assert machine.counts(*asked) == [(n, n, 1) for n in expected]
    ran_again = scoring()
    assert ran_again.keys() == interrupted.keys()
    assert all(datetime.fromisoformat(task["start_date"]) > killed_at for task in ran_again.values())
    query = "select count(*) from sentiment.scored_reviews where review_date = :day and scored_at < :killed_at"
    kept = [machine.rows(query, day=item, killed_at=killed_at) for item in asked]
    n_again = 5  # reviews of the first object that the second delivers once more
    assert kept == [[(expected[0] - n_again,)], [(0,)]], "what was done is not done twice, what was not is done"


def processes_of(stack):
    """All that works below the stack's folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(stack.directory.path):
                found.append(process)
    return found


def cut_power(stack):
    """Kill every process of the stack at the same moment, so that none can clean up, or tell another."""
    assert {item.pid for item in stack.status()} <= {process.pid for process in processes_of(stack)}

    def is_dark():
        left = processes_of(stack)
        for sign in (signal.SIGSTOP, signal.SIGKILL):
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(sign)
        return not left

    assert wait_until(is_dark, 30)


def give_ids_to(stack, pid):
    """Let every process id that the stack remembers be somebody else's, as it may be after a reboot."""
    for name in ("components.json", "supervisor.json"):
        path = stack.directory.path / "state" / name
        content, n = re.subn(r'"pid": \d+', f'"pid": {pid}', path.read_text(encoding="utf-8"))
        assert n
        path.write_text(content, encoding="utf-8")
    path = stack.postgres.data / "postmaster.pid"
    _, *rest = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([str(pid), *rest, ""]), encoding="utf-8")


def everything(machine):
    """How many rows each relation has, which objects each bucket holds, which versions and runs there are."""
    s3 = machine.stack.s3.client()
    pages = itertools.chain.from_iterable(
        s3.get_paginator("list_objects_v2").paginate(Bucket=bucket) for bucket in ("reviews", "mlflow")
    )
    return {
        **{name: machine.rows(f"select count(*) from sentiment.{name}") for (name,) in machine.rows(RELATIONS)},
        "objects": {(item["Key"], item["ETag"]) for page in pages for item in page.get("Contents", ())},
        "versions": [json.dumps(version, sort_keys=True, default=str) for version in machine.services.registry.versions()],
        "champion": machine.services.registry.resolve("champion"),
        "runs": machine.run_ids("score_reviews") | machine.run_ids("retrain_model"),
    }


@pytest.fixture
def stranger():
    """A process that is none of the stack's."""
    process = subprocess.Popen(["sleep", "600"], cwd="/", start_new_session=True)
    yield process
    process.kill()
    process.wait(timeout=10)


def test_after_a_reboot_all_data_is_there_and_no_stranger_is_taken_for_a_component(machine, promoted, stranger):
    machine.until(
        lambda: not machine.api.get("/api/v2/dags/~/dagRuns/~/taskInstances", state=["running", "queued"])["task_instances"],
        "a moment of rest",
    )
    before = everything(machine)
    cut_power(machine.stack)
    give_ids_to(machine.stack, stranger.pid)
    assert not any(item.healthy or item.pid for item in machine.stack.status())
    for found in machine.stack.up(timeout_s=300):
        last = found
    assert all(item.healthy and item.pid != stranger.pid for item in last)
    assert everything(machine) == before
    assert stranger.poll() is None
    assert psutil.Process(stranger.pid).status() == psutil.STATUS_SLEEPING
