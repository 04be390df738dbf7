"""The embedded stack itself: looked at, killed in parts, healed by itself, one beside another, and gone.

The last test here stops the stack, so that it runs no longer than what needs it.
"""

import contextlib
import json
import re
import stat
import subprocess
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg2
import pytest
from typer.testing import CliRunner, Result

import sentiment_core.local
import sentiment_core.local.stack
from sentiment_core import cli
from sentiment_core.errors import Permanent, SentimentError, Transient
from sentiment_core.local import environment
from sentiment_core.local.airflow_api import AirflowApi, local_api
from sentiment_core.local.component import DIRECT
from sentiment_core.local.doctor import Finding, examine
from sentiment_core.local.processes import wait_until
from sentiment_core.local.stack import NAMES, ComponentStatus, LocalStack
from sentiment_core.settings import Settings

pytestmark = pytest.mark.stack
HEAL_S = 300
Kill = Callable[[LocalStack, str], int]


def _by_name(stack: LocalStack) -> dict[str, ComponentStatus]:
    return {item.component: item for item in stack.status()}


def _when_well(stack: LocalStack) -> dict[str, ComponentStatus]:
    """The same, once nothing is starting any more."""
    seen: list[dict[str, ComponentStatus]] = []

    def is_well() -> bool:
        seen.append(_by_name(stack))
        return all(item.healthy for item in seen[-1].values())

    assert wait_until(is_well, HEAL_S, every_s=0.3)
    return seen[-1]


@pytest.fixture(autouse=True)
def _well(stack: LocalStack) -> None:
    """What an earlier test has killed may have taken others along, which notice only later."""
    _when_well(stack)


def _left_behind(stack: LocalStack) -> list[str]:
    """Processes that work below the stack's folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(stack.directory.path):
                found.append(" ".join(process.cmdline()))
    return found


def test_everything_is_up_and_status_says_where(stack: LocalStack) -> None:
    found = stack.status()
    assert [item.component for item in found] == list(NAMES)
    assert all(item.healthy and item.pid for item in found)
    addresses = stack.addresses()
    with DIRECT.open(f"{addresses['airflow_url']}/api/v2/version") as answer:
        assert json.load(answer)["version"].startswith("3.3.")
    with DIRECT.open(f"{addresses['mlflow_tracking_uri']}/health") as answer:
        assert answer.status == 200
    assert stack.postgres.password not in json.dumps(addresses)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """A command of `sentiment`, on a stack given or on one that never ran."""

    def run(*words: str, on: LocalStack | None = None) -> Result:
        state_dir = on.directory.path if on else tmp_path / "never ran"
        monkeypatch.setattr(sentiment_core.local.stack, "LocalStack", lambda: LocalStack(state_dir))
        monkeypatch.setattr(sentiment_core.local, "environment", lambda: environment(state_dir))
        return CliRunner().invoke(cli.app, list(words))

    return run


def test_the_commands_tell_of_a_running_stack(stack: LocalStack, command: Callable[..., Result]) -> None:
    table = command("status", on=stack)
    assert table.exit_code == 0
    for item in stack.status():
        assert re.search(rf"^{item.component} +{item.pid} +({item.port}|-) +yes", table.output, re.MULTILINE)
    assert "passwords.json" in table.output
    answer = json.loads(command("status", "--json", on=stack).output)
    assert answer.keys() == {"components", "airflow_url", "mlflow_tracking_uri", "s3_endpoint_url", "database_url"}
    assert {item["component"] for item in answer["components"]} == set(NAMES)
    assert command("up", on=stack).output.startswith("The stack is up.\nAirflow   http://127.0.0.1:")
    advice = command("doctor", on=stack)
    assert advice.exit_code == 0
    assert "off" not in advice.output.split()


def test_the_commands_tell_what_to_do_where_nothing_runs(command: Callable[..., Result]) -> None:
    table = command("status")
    assert table.exit_code == 1
    assert "start it with `make up`" in table.output
    assert json.loads(command("status", "--json").output)["airflow_url"] is None
    assert command("down").output == "Nothing was running.\n"
    advice = command("doctor")
    assert advice.exit_code == 1
    assert "make up" in str(advice.exception or advice.output)


def test_up_again_finds_everything_in_place(stack: LocalStack) -> None:
    before = {item.component: item.pid for item in stack.status()}
    assert [{item.component: item.pid for item in found} for found in stack.up()] == [before]


def test_the_settings_of_commands_lead_to_the_stack(stack: LocalStack) -> None:
    settings = Settings.from_environment(environment(stack.directory.path))
    with psycopg2.connect(settings.database_url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("select current_user from sentiment.scored_reviews union all select current_user")
        assert set(cursor.fetchall()) == {("sentiment_owner",)}
        cursor.execute("set role sentiment_writer")
    assert settings.reader_url is not None
    with psycopg2.connect(settings.reader_url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("select count(*) from sentiment.scored_reviews")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("delete from sentiment.scored_reviews")


def test_airflow_wants_a_login_and_knows_connections_pool_and_dags(stack: LocalStack) -> None:
    api = local_api(stack.directory.path)
    with pytest.raises(SentimentError, match="401"):
        AirflowApi(api.base_url).get("/api/v2/connections")
    with pytest.raises(SentimentError, match="401"):
        AirflowApi(api.base_url, "admin", "admin").get("/api/v2/connections")
    assert {item["connection_id"] for item in api.get("/api/v2/connections")["connections"]} == {"reviews_s3", "sentiment_db"}
    [pool] = [item for item in api.get("/api/v2/pools")["pools"] if item["name"] == "sentiment"]
    assert pool["slots"] == 2
    assert wait_until(lambda: len(api.get("/api/v2/dags")["dags"]) == 4, 60, every_s=0.5)
    assert api.import_errors() == []


def test_killed_components_come_back_by_themselves_and_an_operators_edit_stays(stack: LocalStack, kill: Kill) -> None:
    api = local_api(stack.directory.path)
    api.patch(
        "/api/v2/connections/sentiment_db?update_mask=description",
        {"connection_id": "sentiment_db", "conn_type": "postgres", "description": "mine"},
    )
    killed = {name: kill(stack, name) for name in ("api-server", "scheduler", "mlflow", "s3")}

    def is_well() -> bool:
        found = _by_name(stack)
        are_new = all(found[name].pid not in (None, pid) for name, pid in killed.items())
        return are_new and all(item.healthy for item in found.values())

    assert wait_until(is_well, HEAL_S, every_s=0.3)
    assert api.get("/api/v2/connections/sentiment_db")["description"] == "mine"


def test_secrets_are_for_the_owner_alone(stack: LocalStack) -> None:
    assert stat.S_IMODE(stack.directory.path.stat().st_mode) == 0o700
    for name in ("secrets.json", "environment.json", "airflow/airflow.cfg", "airflow/passwords.json"):
        assert stat.S_IMODE((stack.directory.path / name).stat().st_mode) == 0o600, name
    secrets = set(stack.directory.secrets().values())
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines for secret in secrets if secret in line], "a command line is for everybody to read"


def test_nothing_listens_beyond_loopback(stack: LocalStack) -> None:
    ours = {item.pid for item in stack.status()}
    for pid in list(ours):
        ours.update(child.pid for child in psutil.Process(pid or 0).children(recursive=True))
    listening = [item for item in psutil.net_connections("inet") if item.status == psutil.CONN_LISTEN and item.pid in ours]
    assert {item.laddr.ip for item in listening} == {"127.0.0.1"}
    assert {item.laddr.port for item in listening} >= set(
        stack.directory.ports(kept=("postgres", "s3", "mlflow", "api-server")).values()
    )


def test_the_doctor_finds_nothing_off(stack: LocalStack) -> None:
    findings: list[Finding] = []

    def nothing_is_off() -> bool:
        findings[:] = examine(stack, Settings.from_environment(environment(stack.directory.path)))
        return all(finding.is_ok for finding in findings)

    # A machine that is busy with other tests answers late now and then.
    assert wait_until(nothing_is_off, 60, every_s=1), [finding for finding in findings if not finding.is_ok]
    assert {"PostgreSQL", "S3", "Airflow", "DAG files", "MLflow and its models"} <= {finding.thing for finding in findings}


def test_the_doctor_says_how_to_mend_what_is_off(stack: LocalStack) -> None:
    api = local_api(stack.directory.path)
    lost = api.get("/api/v2/connections/reviews_s3")
    settings = Settings.from_environment({**environment(stack.directory.path), "SENTIMENT_BUCKET": "no-such-bucket"})
    api._call("DELETE", "/api/v2/connections/reviews_s3")
    try:
        off = {finding.thing: finding for finding in examine(stack, settings) if not finding.is_ok}
    finally:
        stack.airflow._create_connections()
    assert off.keys() == {"S3", "Airflow's connections"}
    assert "reviews_s3" in off["Airflow's connections"].found
    assert all(finding.remedy for finding in off.values())
    assert api.get("/api/v2/connections/reviews_s3")["extra"] == lost["extra"]


def test_up_heals_though_the_supervisor_it_found_dies_meanwhile(stack: LocalStack, kill: Kill) -> None:
    kill(stack, "postgres")
    looks = stack.up(timeout_s=HEAL_S)
    assert not all(item.healthy for item in next(looks))
    kill(stack, "supervisor")
    for found in looks:
        last = found
    assert all(item.healthy for item in last)


def test_a_run_goes_through_and_its_log_lies_in_s3(stack: LocalStack) -> None:
    api = local_api(stack.directory.path)
    api.unpause("ingest_labels")
    run_id = api.trigger("ingest_labels", conf={"date": "2026-11-01"}, run_id="by-hand")["dag_run_id"]
    seen: list[str] = []
    assert api.wait("ingest_labels", run_id, timeout_s=180, on_tick=lambda run: seen.append(run["state"])) == "success"
    assert seen[-1] == "success"
    assert {item["task_id"]: item["state"] for item in api.task_instances("ingest_labels", run_id)} == {
        "preflight": "success",
        "ingest": "success",
    }
    assert api.xcom("ingest_labels", run_id, "ingest")["n_labels"] == 0
    assert "preflight" in api.task_log("ingest_labels", run_id, "preflight")
    prefix = f"tasks/dag_id=ingest_labels/run_id={run_id}/"

    def n_logs() -> int:
        return len(stack.s3.client().list_objects_v2(Bucket="airflow-logs", Prefix=prefix).get("Contents", []))

    assert wait_until(lambda: n_logs() == 2, 30, every_s=0.5)


def test_what_does_not_end_in_time_or_does_not_exist_is_said(stack: LocalStack) -> None:
    api = local_api(stack.directory.path)
    api.patch("/api/v2/dags/retrain_model", {"is_paused": True})
    with pytest.raises(Permanent, match="no_such_dag"):
        api.unpause("no_such_dag", timeout_s=0.1)
    api.trigger("retrain_model", run_id="paused-for-good", conf={"reason": "test"})
    with pytest.raises(Transient, match="state queued"):
        api.wait("retrain_model", "paused-for-good", timeout_s=0.5)


@pytest.fixture
def sentiment_up() -> Callable[[Path], "subprocess.Popen[str]"]:
    def start(state_dir: Path) -> "subprocess.Popen[str]":
        code = f"import pathlib\nfrom sentiment_core.local.stack import LocalStack\nfor _ in LocalStack(pathlib.Path({str(state_dir)!r})).up(): pass"
        return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)

    return start


def test_a_second_stack_beside_the_first_shares_nothing_and_keeps_its_data(
    stack: LocalStack, tmp_path: Path, sentiment_up: Callable[[Path], "subprocess.Popen[str]"], kill: Kill
) -> None:
    first = _by_name(stack)
    second = LocalStack(tmp_path / ".local")
    try:
        both = [sentiment_up(second.directory.path) for _ in range(2)]  # two at once: both succeed, one stack
        assert [(process.communicate(timeout=400)[1], process.returncode) for process in both] == [("", 0)] * 2
        assert not set(second.directory.ports(kept=NAMES).values()) & set(stack.directory.ports(kept=NAMES).values())
        assert not set(second.directory.secrets().values()) & set(stack.directory.secrets().values())
        second.s3.client().put_object(Bucket="reviews", Key="kept", Body=b"words")
        assert set(second.down()) == set(NAMES) - {"supervisor"}
        assert _left_behind(second) == []
        assert _when_well(stack) == first
        ports = second.directory.ports()
        again = LocalStack(tmp_path / ".local")
        assert all(item.healthy for item in list(again.up(timeout_s=300))[-1])
        assert again.directory.ports(kept=NAMES) == ports
        assert again.s3.client().get_object(Bucket="reviews", Key="kept")["Body"].read() == b"words"
        kill(again, "supervisor")
    finally:
        second.down()  # without its supervisor
    assert _left_behind(second) == []
    assert not any(item.pid for item in second.status())
    assert _when_well(stack) == first
    with pytest.raises(urllib.error.URLError):
        DIRECT.open(f"{second.addresses()['airflow_url']}/api/v2/version")


def test_down_leaves_nothing_behind(stack: LocalStack) -> None:
    assert set(stack.down()) == set(NAMES) - {"supervisor"}
    assert _left_behind(stack) == []
    assert not any(item.pid for item in stack.status())
