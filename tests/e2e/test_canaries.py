"""The secrets of a running stack, and texts of reviews, looked for wherever they have no business to be.

Every secret is drawn at random when the stack is made, so that each is its own canary; a review's canary is delivered
with it. Looked through are the logs of all components, the tasks' logs, Airflow's metadata, MLflow's database and files,
the reviews' database, drift reports, pages and command lines, after nights, retrains and failures have gone by.
"""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import date

import httpx
import psutil
import psycopg2
import pytest

from sentiment_core.local.airflow_api import AirflowApi
from sentiment_core.local.processes import wait_until
from sentiment_core.reviews.layout import incoming_prefix

pytestmark = pytest.mark.stack
TEXT = "Kanarienvogel"
# A word that stands in the text beyond what the excerpt keeps.
TAIL = "Zaunkoenigslied"


class CommandLines(threading.Thread):
    """Every command line that shows itself while this runs, of processes that live for a moment too."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self.is_done = threading.Event()

    def run(self) -> None:
        while not self.is_done.wait(0.05):
            for process in psutil.process_iter(["cmdline"]):
                self.seen.add(" ".join(process.info["cmdline"] or ()))


@pytest.fixture(scope="module")
def command_lines() -> Iterator[CommandLines]:
    watch = CommandLines()
    watch.start()
    yield watch
    watch.is_done.set()


@pytest.fixture(scope="module")
def canary_night(machine, promoted, command_lines, day: Callable[[int], date]) -> date:
    """A night whose reviews carry canaries, one of them rejected; and a run that fails."""
    night = day(40)
    filler = "a wonderful film with a moving story and a long tail of words " * 4
    lines = [json.dumps({"review_id": f"c{n}", "text": f"{TEXT} {filler} {TAIL} {n}"}) for n in range(300)]
    lines.append(json.dumps({"review_id": "bad", "text": f"{TEXT} {TAIL}", "rating": 9}))
    machine.services.bucket.put(f"{incoming_prefix(night)}a.jsonl", "\n".join(lines).encode())
    assert machine.end("score_reviews", machine.start("score_reviews", conf={"date": str(night)})) == "success"
    failing = machine.start("score_reviews", conf={"date": str(night), "model": "999"})
    assert machine.end("score_reviews", failing) == "failed"
    return night


@pytest.fixture(scope="module")
def secrets(stack) -> dict[str, str]:
    """All that the stack has drawn, but for the id of the S3 key: it is a name, which Airflow shows as a login."""
    return {name: value for name, value in stack.directory.secrets().items() if name != "s3_access_key_id"}


def told(content: bytes | str, secrets: dict[str, str]) -> set[str]:
    """Names of the secrets that stand in something."""
    content = content if isinstance(content, bytes) else content.encode()
    return {name for name, value in secrets.items() if value.encode() in content}


def tables_of(stack, database: str) -> Iterator[tuple[str, bytes]]:
    """Every table of a database as text; what is stored packed or encrypted stays so."""
    with stack.postgres.session(database) as cursor:
        cursor.execute("""select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
                          where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema')""")
        for (table,) in cursor.fetchall():
            cursor.execute(f"select string_agg(t::text, E'\\n') from {table} t")
            yield table, (cursor.fetchone()[0] or "").encode()


def objects_of(stack, bucket: str) -> Iterator[tuple[str, bytes]]:
    for path in (stack.directory.path / "s3" / "data" / bucket).rglob("*"):
        if path.is_file():
            yield str(path.relative_to(stack.directory.path)), path.read_bytes()


def test_no_log_of_a_component_tells_a_secret(stack, canary_night, secrets):
    logs = {path.name: path.read_bytes() for path in (stack.directory.path / "logs").rglob("*") if path.is_file()}
    assert {"postgres.log", "s3.log", "mlflow.log", "scheduler.log", "api-server.log", "supervisor.log"} <= logs.keys()
    assert {name: found for name, content in logs.items() if (found := told(content, secrets))} == {}
    assert [name for name, content in logs.items() if TEXT.encode() in content or TAIL.encode() in content] == []


def test_no_log_of_a_task_tells_a_secret_or_a_text(stack, canary_night, secrets):
    def logs() -> dict[str, bytes]:
        return dict(objects_of(stack, "airflow-logs"))

    # The log of a task is sent when the task has ended; the failed one is what is waited for.
    assert wait_until(lambda: any("version 999" in content.decode() for content in logs().values()), 60, every_s=0.5)
    assert len(logs()) > 10
    assert {name: found for name, content in logs().items() if (found := told(content, secrets))} == {}
    assert [name for name, content in logs().items() if TEXT.encode() in content or TAIL.encode() in content] == []


@pytest.mark.parametrize("database", ["airflow", "mlflow", "reviews"])
def test_no_table_tells_a_secret(stack, canary_night, secrets, database):
    tables = dict(tables_of(stack, database))
    assert any("xcom" in table for table in tables) == (database == "airflow")
    assert sum(map(len, tables.values())) > 10_000
    # The path of the file with the users' passwords is no password; users' names are known to all.
    assert {table: found for table, content in tables.items() if (found := told(content, secrets))} == {}


@pytest.mark.parametrize("database", ["airflow", "mlflow"])
def test_no_text_of_a_review_goes_into_airflows_tables_or_mlflows(stack, canary_night, database):
    holding = [table for table, content in tables_of(stack, database) if TEXT.encode() in content or TAIL.encode() in content]
    assert holding == []


def test_postgres_keeps_of_a_text_what_the_policy_allows(stack, machine, canary_night):
    holding = {table for table, content in tables_of(stack, "reviews") if TAIL.encode() in content}
    assert holding == set()
    [(longest,)] = machine.rows("select max(char_length(text_excerpt)) from sentiment.scored_reviews")
    assert longest == machine.services.policy.storage.text_excerpt


def test_no_file_of_mlflow_tells_a_secret_or_a_text(stack, canary_night, secrets):
    files = dict(objects_of(stack, "mlflow"))
    assert any(name.endswith("model.skops") for name in files)
    assert {name: found for name, content in files.items() if (found := told(content, secrets))} == {}
    assert [name for name, content in files.items() if TEXT.encode() in content] == []


def test_drift_reports_and_pages_tell_neither(stack, machine, canary_night, secrets):
    reports = {name: content for name, content in objects_of(stack, "reviews") if "/reports/" in name}
    assert any(str(canary_night) in name for name in reports)
    with httpx.Client(base_url=machine.api.base_url, timeout=60) as viewer:
        password = stack.airflow.secrets.passwords["viewer"]
        viewer.cookies.set("_token", AirflowApi(machine.api.base_url, "viewer", password).token())
        for path in ("/sentiment/", "/sentiment/models", "/sentiment/nothing"):
            reports[path] = viewer.get(path).content
    assert {name: found for name, content in reports.items() if (found := told(content, secrets))} == {}
    assert [name for name, content in reports.items() if TEXT.encode() in content] == []


def test_maintenance_has_run_without_anybodys_doing(machine, canary_night):
    machine.until(
        lambda: {run["state"] for run in machine.api.dag_runs("maintain", run_type="scheduled")} == {"success"}, "its runs"
    )


def test_rejected_rows_lie_in_quarantine_and_nowhere_else(stack, canary_night):
    holding = {name.split("/")[3] for name, content in objects_of(stack, "reviews") if TAIL.encode() in content}
    assert holding == {"incoming", "quarantine"}


def test_no_command_line_told_a_secret(canary_night, command_lines, secrets):
    command_lines.is_done.set()
    command_lines.join()  # a set that grows cannot be walked
    assert len(command_lines.seen) > 20
    assert any("scheduler" in line for line in command_lines.seen)
    assert {line[:60] for line in command_lines.seen if told(line, secrets)} == set()


def test_the_analyst_and_airflow_and_mlflow_do_not_see_one_anothers_databases(stack, secrets):
    for user, name in (
        ("sentiment_reader", "reader"),
        ("sentiment_owner", "owner"),
        ("mlflow", "mlflow"),
        ("airflow", "airflow"),
    ):
        for database in {"airflow", "mlflow", "reviews"} - {user, "reviews" if user.startswith("sentiment") else user}:
            with pytest.raises(psycopg2.OperationalError, match="permission denied"):
                psycopg2.connect(
                    host="127.0.0.1", port=stack.postgres.port, user=user, password=secrets[f"{name}_password"], dbname=database
                )


def test_every_login_of_the_stack_is_scram(stack):
    with stack.postgres.session() as cursor:
        cursor.execute("select rolname from pg_authid where rolcanlogin and rolpassword not like 'SCRAM-SHA-256$%'")
        assert cursor.fetchall() == []
        cursor.execute("select distinct auth_method from pg_hba_file_rules")
        assert cursor.fetchall() == [("scram-sha-256",)]
