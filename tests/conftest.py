"""Real servers for tests: each started once a session on a free port, gone at its end."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sentiment_core.local.component import running
from sentiment_core.local.postgres import PostgresServer
from sentiment_core.local.processes import free_port
from sentiment_core.local.s3 import S3Server

REPOSITORY = Path(__file__).resolve().parent.parent
OWNER, READER = "sentiment_owner", "sentiment_reader"
PASSWORD = "only-for-tests"


@pytest.fixture(scope="session", autouse=True)
def _own_surroundings() -> None:
    """No setting of the person who runs the tests, and no stack of this clone, reaches a test."""
    for name in list(os.environ):
        if name.startswith(("SENTIMENT_", "MLFLOW_", "AIRFLOW__", "AWS_")) and name != "AWS_CA_BUNDLE":
            del os.environ[name]


@pytest.fixture(scope="session")
def server_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sentiment-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(server_dir: Path) -> Iterator[PostgresServer]:
    """PostgreSQL 18 with the product's logins."""
    server = PostgresServer(
        directory=server_dir / "postgres",
        log=server_dir / "postgres.log",
        port=free_port(),
        password=PASSWORD,
        is_durable=False,
    )
    with running(server.component()):
        server.ensure_group("sentiment_writer")
        server.ensure_login(OWNER, PASSWORD, member_of="sentiment_writer")
        server.ensure_login(READER, PASSWORD)
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> str:
    """Name of a database with the current schema, to be cloned."""
    from sentiment_core.store.migrate import migrate

    postgres_server.ensure_database("migrated", owner=OWNER)
    migrate(postgres_server.url("migrated", user=OWNER))
    return "migrated"


def _fresh_database(server: PostgresServer, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    server.ensure_database(name, owner=OWNER, lets_in=[READER], template=template)
    yield server.url(name, user=OWNER)
    with server.session() as cursor:
        cursor.execute(f'drop database "{name}" with (force)')


@pytest.fixture
def database_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """A fresh database with the schema, as its owner."""
    yield from _fresh_database(postgres_server, migrated_template)


@pytest.fixture
def reader_url(database_url: str) -> str:
    """The same database as `database_url`, as the analysts' login."""
    return database_url.replace(f"{OWNER}:", f"{READER}:")


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A fresh database without the schema, as its owner."""
    yield from _fresh_database(postgres_server, "template0")


@pytest.fixture(scope="session")
def s3_server(server_dir: Path) -> Iterator[S3Server]:
    server = S3Server(
        directory=server_dir / "s3",
        log=server_dir / "s3.log",
        port=free_port(),
        access_key_id="only-for-tests-key-id",
        secret_access_key="only-for-tests-secret-access-key",
        buckets=("mlflow",),
    )
    with running(server.component()):
        yield server


@pytest.fixture(scope="session")
def s3_client(s3_server: S3Server) -> Any:
    return s3_server.client()


@pytest.fixture
def bucket_name(s3_client: Any) -> str:
    """A fresh bucket."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3_client.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def reviews_data_dir() -> Path:
    """Folder of real reviews, REVIEWS_DATA_DIR."""
    folder = Path(os.environ.get("REVIEWS_DATA_DIR", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real reviews at {folder}; set REVIEWS_DATA_DIR to run this")
    return folder
