"""MLflow's database is killed: the last known good model scores, the run says so, and no other files are taken for it."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sentiment_core.domain import ModelRef
from sentiment_core.errors import Transient
from sentiment_core.local.component import running
from sentiment_core.local.mlflow_server import MlflowServer
from sentiment_core.local.postgres import PostgresServer
from sentiment_core.local.processes import free_port
from sentiment_core.settings import Settings
from sentiment_core.stages.night import score_window
from sentiment_core.stages.services import Services
from tests.faults.place import DAY, OWNER, Place, Server, Servers


@pytest.fixture(scope="module")
def its_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgresServer, Server]]:
    """A PostgreSQL that is MLflow's alone."""
    folder = tmp_path_factory.mktemp("mlflow-database")
    postgres = PostgresServer(directory=folder / "postgres", log=folder / "log", port=free_port(), password="only-for-tests")
    server = Server(postgres.component())
    server.start()
    postgres.ensure_login(OWNER, postgres.password)
    postgres.ensure_database("mlflow", owner=OWNER)
    yield postgres, server
    server.kill()


@pytest.fixture(scope="module")
def mlflow(servers: Servers, its_database: tuple[PostgresServer, Server], tmp_path_factory) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("mlflow")
    made = MlflowServer(
        directory=folder / "mlflow", log=folder / "log", port=free_port(), s3=servers.s3, bucket="any",
        database_url=its_database[0].url("mlflow", user=OWNER),
    )  # fmt: skip
    with running(made.component(), timeout_s=180):
        yield made


@pytest.fixture
def services(place: Place, mlflow: MlflowServer, candidate, tmp_path: Path) -> Iterator[Services]:
    """A night's services, with a champion."""
    settings = {**place.order().settings, "mlflow_tracking_uri": mlflow.tracking_uri, "state_dir": tmp_path / "cache"}
    made = Services(Settings(**settings, model_name=place.bucket.name))
    short = replace(candidate, trials=candidate.trials[:1])
    ref = made.registry.register(short, snapshot_key=None, code_version="test", run_name="test", description="test")
    made.registry.set_alias("champion", ref.version)
    yield made
    made.engine.dispose()


def stamped(place: Place, ref: ModelRef, n: int) -> None:
    """Every review delivered is there, once, with the stamp of this version."""
    found = place.rows("select review_id, model_version from sentiment.scored_reviews order by 1")
    assert found == sorted((f"r{number}", ref.version) for number in range(n))


def test_mlflows_database_killed(place, services, its_database, figures):
    champion = services.registry.resolve("champion")
    place.deliver("a.jsonl", 50)
    assert score_window(services, DAY)["status"] == "succeeded"
    its_database[1].kill()
    try:
        place.deliver("b.jsonl", 50, first=50)
        figures.begin()
        outcome = score_window(services, DAY)
        assert (outcome["status"], outcome["model_version"], outcome["n_scored"]) == ("degraded", champion.version, 50)
        stamped(place, champion, 100)
    finally:
        its_database[1].start()
    statuses = place.rows("select status from sentiment.scoring_runs order by started_at")
    assert statuses == [("succeeded",), ("degraded",)]
    figures.add({"n": 100, "lost": 0, "doubled": 0, "wrong": 0}, "nobody has to: the last known good model scores")
    place.deliver("c.jsonl", 50, first=100)
    assert score_window(services, DAY)["status"] == "succeeded"
    stamped(place, champion, 150)


def test_mlflows_database_killed_and_the_kept_model_tampered_with(place, services, its_database, figures):
    champion = services.registry.resolve("champion")
    place.deliver("a.jsonl", 50)
    score_window(services, DAY)
    folder = services.settings.state_dir / "models" / champion.digest
    shutil.copy(next(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size), folder / "planted")
    its_database[1].kill()
    try:
        place.deliver("b.jsonl", 50, first=50)
        with pytest.raises(Transient, match="MLflow"):
            score_window(services, DAY)
        stamped(place, champion, 50)
    finally:
        its_database[1].start()
    figures.begin()
    assert score_window(services, DAY)["status"] == "succeeded"
    stamped(place, champion, 100)
    figures.add({"n": 100, "lost": 0, "doubled": 0, "wrong": 0}, "the task's next try, when MLflow is back")
