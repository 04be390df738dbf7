"""What the embedded stack tells Airflow and MLflow, held against what they understand."""

import configparser
import importlib.util
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from sentiment_core import local
from sentiment_core.errors import Permanent, Transient
from sentiment_core.local import mlflow_server
from sentiment_core.local.airflow_api import AirflowApi, local_api
from sentiment_core.local.airflow_server import database_connection
from sentiment_core.local.processes import free_port
from sentiment_core.local.stack import LocalStack


@pytest.fixture
def stack(tmp_path: Path) -> LocalStack:
    return LocalStack(tmp_path / "100% odd" / ".local", repository=tmp_path / "100% odd")


def test_every_option_of_the_written_configuration_is_one_of_airflows(stack: LocalStack) -> None:
    spec = importlib.util.find_spec("airflow")
    assert spec is not None
    assert spec.submodule_search_locations
    known = yaml.safe_load((Path(spec.submodule_search_locations[0]) / "config_templates" / "config.yml").read_text())
    written = configparser.ConfigParser(interpolation=None)
    written.read_string(stack.airflow.configuration)
    for section in written.sections():
        for option in written[section]:
            assert option in known[section]["options"], f"[{section}] {option}"


def test_a_percent_sign_in_a_path_survives(stack: LocalStack) -> None:
    read_as_airflow_does = configparser.ConfigParser()
    read_as_airflow_does.read_string(stack.airflow.configuration)
    assert read_as_airflow_does["core"]["dags_folder"] == str(stack.repository / "dags")


def test_tasks_get_addresses_but_no_credentials_of_the_bucket_or_the_owner(stack: LocalStack) -> None:
    variables = stack.airflow.task_variables
    assert variables.keys() == {"SENTIMENT_READER_URL", "SENTIMENT_STATE_DIR", "MLFLOW_TRACKING_URI"}
    assert stack.owner_url not in variables.values()


def test_the_variables_of_mlflows_server_are_mlflows_own() -> None:
    from mlflow.server import constants

    assert constants.BACKEND_STORE_URI_ENV_VAR == mlflow_server.STORE_VARIABLE
    assert constants.ARTIFACTS_DESTINATION_ENV_VAR == mlflow_server.DESTINATION_VARIABLE
    assert constants.ARTIFACT_ROOT_ENV_VAR == mlflow_server.ROOT_VARIABLE
    assert constants.SERVE_ARTIFACTS_ENV_VAR == mlflow_server.SERVE_VARIABLE


def test_the_database_connection_is_the_owners_address() -> None:
    connection = database_connection("postgresql+psycopg2://owner:secret@127.0.0.1:5433/reviews")
    assert {name: connection[name] for name in ("host", "port", "login", "password", "schema")} == {
        "host": "127.0.0.1",
        "port": 5433,
        "login": "owner",
        "password": "secret",
        "schema": "reviews",
    }


def test_the_environment_of_a_stack_that_never_ran_is_empty_and_a_broken_one_is_named(tmp_path: Path) -> None:
    assert local.environment(tmp_path) == {}
    (tmp_path / "environment.json").write_text("{")
    with pytest.raises(Permanent, match=r"environment\.json"):
        local.environment(tmp_path)


def test_without_a_stack_there_is_no_airflow_to_talk_to(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="make up"):
        local_api(tmp_path)


def test_an_airflow_that_is_away_is_worth_another_try() -> None:
    with pytest.raises(Transient, match="refused"):
        AirflowApi(f"http://127.0.0.1:{free_port()}").get("/api/v2/version")


class _Answers(BaseHTTPRequestHandler):
    """Answers the way a server in trouble, or one that refuses, would."""

    def do_GET(self) -> None:
        status = int(self.path.rsplit("/", 1)[1])
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps({"detail": "so it is"}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("status", "family"), [(500, Transient), (503, Transient), (404, Permanent), (403, Permanent)])
def test_a_servers_trouble_is_transient_and_its_refusal_permanent(status: int, family: type[Exception]) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(family, match=f"{status}.*so it is"):
            AirflowApi(f"http://127.0.0.1:{server.server_port}").get(f"/{status}")
    finally:
        server.shutdown()
        server.server_close()
