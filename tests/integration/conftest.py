"""Airflow's api-server as it is delivered, with the plugin, for tests of the pages; the API by itself; a gate before MLflow."""

import contextlib
import http.client
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from sqlalchemy import text

from sentiment_core.local.airflow_api import AirflowApi
from sentiment_core.local.airflow_server import AirflowSecrets, AirflowServer, database_connection, s3_connection
from sentiment_core.local.component import running
from sentiment_core.local.mlflow_server import MlflowServer
from sentiment_core.local.postgres import PostgresServer
from sentiment_core.local.processes import free_port
from sentiment_core.local.s3 import S3Server
from sentiment_core.registry import Registry
from sentiment_core.store.engine import connect
from sentiment_core.store.migrate import migrate

REPOSITORY = Path(__file__).resolve().parents[2]
PASSWORDS = {"admin": "only-for-tests-admin", "viewer": "only-for-tests-viewer"}
REPORTS_BUCKET = "pages"
API_MODEL = "sentiment-pages"


def make_database(server: PostgresServer, name: str) -> str:
    """A database with the current schema; gives its address as the schema's owner, who may become the reader."""
    owner = "sentiment_owner"
    server.ensure_group("sentiment_writer")
    server.ensure_group("sentiment_reader")
    server.ensure_login(owner, server.password, member_of=("sentiment_writer", "sentiment_reader"))
    server.ensure_database(name, owner=owner)
    url = server.url(name, user=owner)
    migrate(url)
    return url


@dataclass(frozen=True, kw_only=True)
class Pages:
    """An api-server with the plugin, and the database and bucket behind its pages."""

    base_url: str
    database_url: str = field(repr=False)
    api: AirflowApi
    s3: Any
    make_database: Callable[[PostgresServer, str], str]
    registry: Registry
    """Whose champion answers under /sentiment/api; on this machine's side, with a cache of its own."""

    def visitor(self, user: str | None = None) -> httpx.Client:
        """A browser's worth of HTTP client that follows no redirects; logged in where a user is named."""
        client = httpx.Client(base_url=self.base_url, timeout=60)
        if user:
            client.cookies.set("_token", AirflowApi(self.base_url, user, PASSWORDS[user]).token())
        return client

    def point_database_to(self, url: str) -> None:
        """Edit the connection as a person would in the UI."""
        self.api.patch("/api/v2/connections/sentiment_db", database_connection(url))

    def execute(self, statement: str, **values: Any) -> None:
        with connect(self.database_url, role=None).begin() as connection:
            connection.execute(text(statement), values)

    def add_check(self, check_id: int, *, window_date: date, verdict: str = "quiet", **values: Any) -> None:
        """A run, a check of its date, and no reviews."""
        columns = {
            "label": {"statistic": "jensenshannon", "score": 0.31, "threshold": 0.15, "p_value": 0.001, "is_drifted": True}
        }
        row = {
            "n": 1000, "p_value": 0.4, "effect": 0.05, "estimated_accuracy": 0.91, "labelled_accuracy": None,
            "columns": json.dumps(columns), "sentence": "None of 7 columns moved past its limit.",
            "report_url": f"s3://{REPORTS_BUCKET}/reports/date={window_date}/check-{check_id}.html",
            "model_version": 1, "run_id": "test", "checked_at": datetime.now(UTC),
        } | values  # fmt: skip
        row |= {"check_id": check_id, "window_date": window_date, "verdict": verdict}
        self.execute(
            f"insert into sentiment.drift_checks ({', '.join(row)}) values ({', '.join(f':{name}' for name in row)})", **row
        )

    def add_reviews(self, window_date: date, *, n_positive: int, n_negative: int, model_version: int = 1) -> None:
        """Scored reviews of a date, and the run that scored them."""
        self.execute("select sentiment.ensure_leaf(:day)", day=window_date)
        self.execute(
            """insert into sentiment.scored_reviews (review_date, review_id, label, p_negative, p_positive, confidence,
                   model_name, model_version, scored_at, run_id, object_id)
               select :day, 'r' || i, case when i <= :n_positive then 'positive' else 'negative' end, 0.1, 0.9, 0.9,
                   'sentiment', :version, now(), 'test', 1 from generate_series(1, :n) i""",
            day=window_date, n_positive=n_positive, n=n_positive + n_negative, version=model_version,
        )  # fmt: skip
        self.execute(
            """insert into sentiment.scoring_runs values (:day, 'test', :version, 1, :n, 3, now(), now(), 'succeeded')""",
            day=window_date, version=model_version, n=n_positive + n_negative,
        )  # fmt: skip

    def add_event(self, model_version: int, event: str, reason: str = "a reason", **metrics: Any) -> None:
        """Something that happened to a model version, after all that is there."""
        self.execute(
            """insert into sentiment.model_events (model_version, event, reason, metrics, snapshot, code_version, run_id)
               values (:version, :event, :reason, cast(:metrics as jsonb), 'snapshots/ab.parquet', '0.1.0+abc', 'manual__1')
               on conflict do nothing""",
            version=model_version, event=event, reason=reason, metrics=json.dumps(metrics),
        )  # fmt: skip

    def clear(self) -> None:
        for relation in ("scored_reviews", "drift_checks", "scoring_runs", "model_events"):
            self.execute(f"delete from sentiment.{relation}")


@pytest.fixture(scope="session")
def airflow_pages(
    postgres_server: PostgresServer, s3_server: S3Server, mlflow_server: MlflowServer, s3_client: Any, server_dir: Path
) -> Iterator[Pages]:
    """Airflow's api-server alone, over the embedded PostgreSQL and S3, with its connections in the metadata database."""
    s3_client.create_bucket(Bucket=REPORTS_BUCKET)
    database_url = make_database(postgres_server, "pages")
    postgres_server.ensure_database("airflow", owner="sentiment_owner")
    server = AirflowServer(
        home=server_dir / "airflow",
        logs=server_dir,
        port=free_port(),
        repository=REPOSITORY,
        postgres=postgres_server,
        database_url=postgres_server.url("airflow", user="sentiment_owner"),
        secrets=AirflowSecrets(
            fernet_key="b25seS1mb3ItdGVzdHMtb25seS1mb3ItdGVzdHMtISE=",
            jwt_secret="only-for-tests" * 5,
            api_secret="only-for-tests" * 5,
            passwords=PASSWORDS,
        ),
        connections=(
            database_connection(database_url),
            s3_connection(s3_server.endpoint_url, s3_server.access_key_id, s3_server.secret_access_key),
        ),
        task_variables={
            "MLFLOW_TRACKING_URI": mlflow_server.tracking_uri,
            "SENTIMENT_MODEL_NAME": API_MODEL,
            "SENTIMENT_STATE_DIR": str(server_dir / "api"),
        },
    )
    component = next(item for item in server.components() if item.name == "api-server")
    with running(component, timeout_s=180):
        yield Pages(
            base_url=server.url, database_url=database_url, api=server.api(), s3=s3_client, make_database=make_database,
            registry=Registry(mlflow_server.tracking_uri, API_MODEL, server_dir / "cache"),
        )  # fmt: skip


@pytest.fixture
def pages(airflow_pages: Pages) -> Pages:
    """The pages over an empty database."""
    airflow_pages.clear()
    return airflow_pages


class Gate:
    """A proxy before MLflow that may ask for a password, and may go away."""

    def __init__(self, target, password=None):
        gate, self.password = self, password
        self.target = urlsplit(target).netloc

        class Handler(http.server.BaseHTTPRequestHandler):
            def _pass_on(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if gate.password and self.headers.get("Authorization") != f"Basic {gate.password}":
                    return self._answer(401, {"Content-Type": "text/plain"}, b"who are you?")
                connection = http.client.HTTPConnection(gate.target, timeout=30)
                kept = {name: value for name, value in self.headers.items() if name not in ("Host", "Accept-Encoding")}
                connection.request(self.command, self.path, body, kept)
                answer = connection.getresponse()
                return self._answer(answer.status, {"Content-Type": answer.getheader("Content-Type", "")}, answer.read())

            def _answer(self, status, headers, content):
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def make_gate(mlflow_server):
    """Proxies before MLflow, gone at the end."""
    gates = []

    def make(password=None):
        gates.append(Gate(mlflow_server.tracking_uri, password))
        return gates[-1]

    yield make
    for gate in gates:
        gate.close()


@pytest.fixture
def gate(make_gate):
    """A proxy before MLflow that lets everybody through, and may be closed."""
    return make_gate()


@pytest.fixture
def serving():
    """Serves an application on a free port, from a thread; gives a client that speaks real HTTP to it."""
    with contextlib.ExitStack() as stack:

        def serve(app):
            server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=5))
            thread = threading.Thread(target=server.run, daemon=True)
            thread.start()
            deadline = time.monotonic() + 30
            while not server.started:
                assert thread.is_alive()
                assert time.monotonic() < deadline
                time.sleep(0.01)

            def stop():
                server.should_exit = True
                thread.join(timeout=20)
                assert not thread.is_alive()

            stack.callback(stop)
            port = server.servers[0].sockets[0].getsockname()[1]
            return stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False))

        yield serve


@pytest.fixture
def point_commands(monkeypatch):
    """Let the settings that commands read for themselves point to a test's servers."""

    def point(services, **more):
        found = services.settings
        environment = {
            "SENTIMENT_DATABASE_URL": found.database_url,
            "SENTIMENT_BUCKET": found.bucket,
            "SENTIMENT_MODEL_NAME": found.model_name,
            "SENTIMENT_STATE_DIR": str(found.state_dir),
            "MLFLOW_TRACKING_URI": found.mlflow_tracking_uri,
            "AWS_ENDPOINT_URL_S3": found.s3_endpoint_url,
            "AWS_ACCESS_KEY_ID": found.s3_access_key_id,
            "AWS_SECRET_ACCESS_KEY": found.s3_secret_access_key,
        }
        for name, value in {**environment, **more}.items():
            monkeypatch.setenv(name, str(value))

    return point
