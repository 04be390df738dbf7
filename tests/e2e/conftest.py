"""One embedded stack for all tests here, with a champion that a person has promoted and a few nights that have run.

What takes long is done once, in fixtures, and as much of it at the same time as two cores bear; the tests look at it.
Every test has dates of its own, long enough ago that no scheduled run looks into their folders. The stack runs a clone
of the code, whose policy a test may edit as a person would.
"""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from sentiment_core.errors import Permanent, Transient
from sentiment_core.local.airflow_api import FINISHED, AirflowApi
from sentiment_core.local.processes import Identity, wait_until
from sentiment_core.local.stack import LocalStack
from sentiment_core.reviews.layout import incoming_prefix
from sentiment_core.reviews.sample import generate
from sentiment_core.settings import REPOSITORY, Settings
from sentiment_core.stages.services import Services
from sentiment_core.stages.training_sets import write_snapshot

FIRST_DATE = datetime.now(UTC).date() - timedelta(days=100)
COLUMNS = ["review_id", "product_id", "created_at", "text"]
RUN_S = 600
CARETAKER = """
import sys
from pathlib import Path
from sentiment_core.local.stack import LocalStack
sys.stdin.read()
LocalStack(Path(sys.argv[1]) / ".local", repository=Path(sys.argv[1])).down()
"""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A running stack and the ways in which a test delivers, triggers and looks."""

    stack: LocalStack
    services: Services
    api: AirflowApi
    delivered: dict[date, int] = field(default_factory=dict)
    """Distinct valid reviews of each day delivered."""

    def deliver(self, day: date, n: int = 400, *, domain: str = "films", copies: int = 1) -> int:
        """Reviews of a day, some of them twice and one without an id; gives how many distinct valid ones there are.

        Ids are the same every day: only the date tells reviews of two nights apart.
        """
        table = generate(n, domain=domain, seed=day.toordinal(), day=day).select(COLUMNS)
        ids = table["review_id"].to_pylist()
        parts = [table.set_column(0, "review_id", pa.array([f"{name}-{copy}" for name in ids])) for copy in range(copies)]
        sink = io.BytesIO()
        pq.write_table(pa.concat_tables(parts), sink)
        again = [{"review_id": f"{name}-0", "text": "Delivered again."} for name in ids[:5]]
        lines = [*again, {"review_id": None, "text": "Nobody's."}]
        self.services.bucket.put(f"{incoming_prefix(day)}a.parquet", sink.getvalue())
        self.services.bucket.put(f"{incoming_prefix(day)}shop/b.jsonl", "\n".join(map(json.dumps, lines)).encode())
        self.delivered[day] = n * copies
        return n * copies

    def deliver_night_before(self) -> date:
        """The day that a run takes which is told none: until 02:00 UTC a day after the schedule's; with reviews in it."""
        day = datetime.now(UTC).date() - timedelta(days=1)
        if day not in self.delivered:
            self.deliver(day)
        return day

    def start(self, dag_id: str, **request: Any) -> str:
        return str(self.api.trigger(dag_id, **request)["dag_run_id"])

    def end(self, dag_id: str, run_id: str) -> str:
        return self.api.wait(dag_id, run_id, timeout_s=RUN_S)

    def states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """State of each task of a run."""
        return {task["task_id"]: task["state"] for task in self.api.task_instances(dag_id, run_id)}

    def run_ids(self, dag_id: str, **selection: str) -> set[str]:
        return {run["dag_run_id"] for run in self.api.dag_runs(dag_id, **selection)}

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.services.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]

    def counts(self, *days: date) -> list[tuple[int, int, int]]:
        """Of each day: rows, distinct reviews among them, versions that scored them."""
        query = """select count(*), count(distinct review_id), count(distinct model_version)
                   from sentiment.scored_reviews where review_date = :day"""
        return [self.rows(query, day=day)[0] for day in days]

    def runs_of(self, day: date) -> list[str]:
        """Runs that have scored a day, as the machine has written down."""
        return [run_id for (run_id,) in self.rows("select run_id from sentiment.scoring_runs where window_date = :day", day=day)]

    def until(self, look: Callable[[], Any], what: str, *, timeout_s: float = 300) -> Any:
        """The first true value of `look`."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(Transient):  # a server that is away for a moment
                if value := look():
                    return value
            assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
            time.sleep(0.5)

    def backfill(self, first: date, last: date, **request: Any) -> None:
        """Start one over REST; an earlier one counts as running until Airflow's next look, every half minute."""

        def start() -> bool:
            try:
                self.api.backfill("score_reviews", first, last, max_active_runs=3, **request)
            except Permanent as error:
                if "already a running backfill" not in str(error):
                    raise
                return False
            return True

        self.until(start, "an end of the backfill before")

    def backfilled(self, *, after: set[str]) -> list[tuple[str, str]]:
        """Wait for the runs of the backfill that came into being after these; gives night and state of each, in order."""

        def ended() -> list[dict[str, Any]] | None:
            runs = [run for run in self.api.dag_runs("score_reviews", run_type="backfill") if run["dag_run_id"] not in after]
            return runs if all(run["state"] in FINISHED for run in runs) else None

        runs = self.until(ended, "the end of the backfill", timeout_s=RUN_S)
        return sorted((run["partition_key"], run["state"]) for run in runs)

    def verdicts(self, day: date) -> list[str]:
        query = "select verdict from sentiment.drift_checks where window_date = :day order by check_id"
        return [verdict for (verdict,) in self.rows(query, day=day)]


@pytest.fixture(scope="session")
def day() -> Callable[[int], date]:
    """The dates of these tests, by number."""
    return lambda number: FIRST_DATE + timedelta(days=number)


@pytest.fixture(scope="session")
def kill() -> Callable[[LocalStack, str], int]:
    """Kills a component without a warning, waits until it is gone, and gives the process id it had."""

    def act(stack: LocalStack, name: str) -> int:
        [pid] = [item.pid for item in stack.status() if item.component == name]
        assert pid is not None
        identity = Identity.of(pid)
        os.kill(pid, signal.SIGKILL)
        assert identity is None or wait_until(lambda: not identity.is_alive(), 10), f"{name} does not die"
        return pid

    return act


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, quick_policy: Path) -> Iterator[LocalStack]:
    """A running stack, of a clone in a folder with a space in its name."""
    clone = tmp_path_factory.mktemp("a clone")
    for name in ("dags", "include", "plugins", "sentiment_core"):
        shutil.copytree(REPOSITORY / name, clone / name)
    # One drifted night is enough here: that evidence takes several is told without a stack.
    text = quick_policy.read_text(encoding="utf-8")
    assert 'mode = "evidence"' in text
    (clone / "include" / "policy.toml").write_text(text.replace('mode = "evidence"', 'mode = "threshold"'), encoding="utf-8")
    stack = LocalStack(clone / ".local", repository=clone)
    with _stopped_at_the_latest_with_us(clone):
        try:
            for _ in stack.up(timeout_s=300):
                pass
            yield stack
        finally:
            stack.down()


@contextlib.contextmanager
def _stopped_at_the_latest_with_us(clone: Path) -> Iterator[None]:
    """A stack outlives who started it; here not even one who is killed and comes to no end of a fixture."""
    command = [sys.executable, "-c", CARETAKER, str(clone)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=REPOSITORY, start_new_session=True):
        yield


@pytest.fixture(scope="session")
def machine(stack: LocalStack) -> Iterator[Machine]:
    """The stack, with its DAGs unpaused as a person would."""
    services = Services(Settings.from_environment(stack.environment()))
    api = stack.airflow.api()
    for dag_id in ("score_reviews", "retrain_model", "ingest_labels", "maintain"):
        api.unpause(dag_id)
    yield Machine(stack=stack, services=services, api=api)
    services.engine.dispose()


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A retrain about which a person was asked."""

    run_id: str
    asked: dict[str, Any]
    """The required action, as Airflow shows it."""
    state: str


@pytest.fixture(scope="session")
def asking(machine: Machine, training_set: pa.Table) -> dict[str, str]:
    """Two retrains that ask for approval, the second waiting for the first: run ids by the answers they will get."""
    conf = {"snapshot": write_snapshot(machine.services, training_set), "approval": True}
    return {answer: machine.start("retrain_model", conf=conf | {"reason": f"to {answer}"}) for answer in ("Hold", "Promote")}


@pytest.fixture(scope="session")
def held(machine: Machine, asking: dict[str, str]) -> Decision:
    """The first retrain, answered `Hold`: version 1 exists, and there is no champion."""
    return _decide(machine, asking["Hold"], "Hold")


@pytest.fixture(scope="session")
def promoted(machine: Machine, asking: dict[str, str], by_version: "Night") -> Decision:
    """The second, answered `Promote`: version 2 is champion."""
    decision = _decide(machine, asking["Promote"], "Promote")
    assert decision.state == "success"
    return decision


def _decide(machine: Machine, run_id: str, answer: str) -> Decision:
    """Answer when asked, as often as asked, until the run ends."""
    seen: list[dict[str, Any]] = []
    task = f"/api/v2/dags/retrain_model/dagRuns/{quote(run_id)}/taskInstances/ask_for_approval/-1"

    def end() -> str | None:
        for asked in _required_actions(machine, run_id):
            seen.append(asked)
            machine.api.patch(f"{task}/hitlDetails", {"chosen_options": [answer], "params_input": {}})
        state = machine.api.dag_run("retrain_model", run_id)["state"]
        return state if state in FINISHED else None

    state = machine.until(end, f"the end of {run_id}", timeout_s=RUN_S)
    return Decision(run_id=run_id, asked=seen[0], state=state)


def _required_actions(machine: Machine, run_id: str) -> list[dict[str, Any]]:
    """What a person has had time to read: Airflow takes an answer within the same second for a crash, and asks again."""
    read_before = datetime.now(UTC) - timedelta(seconds=3)
    answer = machine.api.get(f"/api/v2/dags/retrain_model/dagRuns/{quote(run_id)}/hitlDetails", response_received="false")
    return [item for item in answer["hitl_details"] if datetime.fromisoformat(item["created_at"]) < read_before]


@dataclass(frozen=True, kw_only=True)
class Night:
    """A night that was delivered, and the run that was to score it."""

    date: date
    run_id: str
    n: int
    """Distinct valid reviews delivered."""
    state: str = ""
    tasks: dict[str, str] = field(default_factory=dict)
    """State of each task when the run had ended."""


@pytest.fixture(scope="session")
def by_version(machine: Machine, held: Decision, day: Callable[[int], date]) -> Night:
    """A night for which a version is asked, by its number; on its way."""
    assert held.state == "success"
    conf = {"date": str(day(2)), "model": "1"}
    return Night(date=day(2), n=machine.deliver(day(2)), run_id=machine.start("score_reviews", conf=conf))


@pytest.fixture(scope="session")
def scheduled(machine: Machine, promoted: Decision) -> Night:
    """The schedule's own run, found waiting for its folder; then reviews arrive there."""

    def waiting() -> str | None:
        run, *_ = machine.api.dag_runs("score_reviews", run_type="scheduled")  # at 02:00 UTC there is one more
        is_deferred = machine.states("score_reviews", run["dag_run_id"])["wait_for_folder"] == "deferred"
        return run if is_deferred else None

    run = machine.until(waiting, "the scheduled run waiting for its folder")
    day = date.fromisoformat(run["partition_key"])
    return Night(date=day, run_id=run["dag_run_id"], n=machine.deliver(day))


@pytest.fixture(scope="session")
def spoilt(machine: Machine, promoted: Decision, bad_folder: Any, day: Callable[[int], date]) -> Night:
    """A night whose folder holds all that can be bad; on its way."""
    for name, content in bad_folder.objects.items():
        machine.services.bucket.put(f"{incoming_prefix(day(12))}{name}", content)
    run_id = machine.start("score_reviews", partition_key=str(day(12)), conf={"allow_retrain": False})
    return Night(date=day(12), n=len(bad_folder.good_ids), run_id=run_id)


@pytest.fixture(scope="session")
def nights(machine: Machine, by_version: Night, scheduled: Night, spoilt: Night, day: Callable[[int], date]) -> dict[str, Night]:
    """Nights run at the same time: by partition key, by `date` and version, by neither; and one of another domain."""
    drifted = machine.deliver(day(10), 600, domain="electronics")
    before = machine.deliver_night_before()
    started = {
        "drifted": Night(date=day(10), n=drifted, run_id=machine.start("score_reviews", partition_key=str(day(10)))),
        "neither": Night(date=before, n=machine.delivered[before], run_id=machine.start("score_reviews")),
        "key": Night(date=day(1), n=machine.deliver(day(1)), run_id=machine.start("score_reviews", partition_key=str(day(1)))),
        "date": by_version,
    }
    return {name: _ended(machine, night) for name, night in started.items()}


def _ended(machine: Machine, night: Night) -> Night:
    state = machine.end("score_reviews", night.run_id)
    return replace(night, state=state, tasks=machine.states("score_reviews", night.run_id))
