"""The embedded PostgreSQL, S3 and MLflow of a run, with what nights need in them: text, models, fresh databases.

Also counts the servers' CPU time and what a night has left in its table. Which nights are run stands in `night_parts`.
"""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from sentiment_core.local.component import Component, running
from sentiment_core.local.mlflow_server import MlflowServer
from sentiment_core.local.postgres import PostgresServer
from sentiment_core.local.processes import free_port
from sentiment_core.local.s3 import S3Server
from sentiment_core.settings import Settings
from sentiment_core.stages.services import Services
from tests.benchmarks.measuring import REPOSITORY, BenchError, Tell, tree_cpu

OWNER, READER, BUCKET = "sentiment_owner", "sentiment_reader", "reviews"
# The table of those who write with pandas: the same columns and indexes as the product's.
PEER_TABLE = "peer_reviews"


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Running servers."""

    folder: Path
    postgres: PostgresServer
    s3: S3Server
    mlflow: MlflowServer
    pids: dict[str, int] = field(default_factory=dict)

    def settings(self, database_url: str, model_name: str) -> dict[str, str]:
        """What `Settings` takes, as plain values."""
        return {
            "database_url": database_url,
            "bucket": BUCKET,
            "s3_endpoint_url": self.s3.endpoint_url,
            "s3_access_key_id": self.s3.access_key_id,
            "s3_secret_access_key": self.s3.secret_access_key,
            "mlflow_tracking_uri": self.mlflow.tracking_uri,
            "model_name": model_name,
            "state_dir": str(self.folder / "cache"),
        }

    def cpu(self) -> dict[str, float]:
        """CPU seconds of each server so far."""
        return {name: tree_cpu(pid) for name, pid in self.pids.items()}

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """A fresh database with the schema and the peers' table; gone afterwards."""
        from sentiment_core.store.engine import connect
        from sentiment_core.store.migrate import migrate

        name = f"bench_{secrets.token_hex(4)}"
        self.postgres.ensure_database(name, owner=OWNER, lets_in=[READER])
        url = self.postgres.url(name, user=OWNER)
        migrate(url)
        engine = connect(url, role=None)
        with engine.begin() as connection:
            connection.execute(text(f"create table sentiment.{PEER_TABLE} (like sentiment.scored_reviews including all)"))
        engine.dispose()
        try:
            yield url
        finally:
            with self.postgres.session() as cursor:
                cursor.execute(f'drop database "{name}" with (force)')

    def check(self, database_url: str, relation: str, n: int) -> None:
        """Raise BenchError unless every review stands in the relation exactly once."""
        from sentiment_core.store.engine import connect

        engine = connect(database_url, role=None)
        with engine.connect() as connection:
            query = f"select count(*), count(distinct (review_date, review_id)) from sentiment.{relation}"
            found = tuple(connection.execute(text(query)).one())
        engine.dispose()
        if found != (n, n):
            raise BenchError(f"{relation} has {found[0]:,} rows and {found[1]:,} identities after a night of {n:,} reviews")

    def deliver(self, day: date, parts: list[Path], tell: Tell) -> None:
        """Put text into the folder of a night."""
        from sentiment_core.reviews.layout import incoming_prefix

        bucket = self._services("unused").bucket
        for number, path in enumerate(parts, 1):
            tell(f"delivering to S3: {number} of {len(parts)}")
            with path.open("rb") as stream:
                bucket.put(incoming_prefix(day) + path.name, stream)

    def register(self, name: str, estimator: Any, reference_texts: Any) -> None:
        """Make an estimator the champion of a registered model."""
        from sentiment_core.model.training import Candidate

        lens, reference = _reference(estimator, reference_texts)
        candidate = Candidate(estimator=estimator, metrics={}, reference=reference, lens=lens, params=estimator.get_params())
        registry = self._services(name).registry
        ref = registry.register(candidate, snapshot_key=None, code_version="bench", run_name="bench", description="bench")
        registry.set_alias("champion", ref.version)

    def _services(self, model_name: str) -> Services:
        return Services(Settings(**self.settings(self.postgres.url(), model_name)))


@contextlib.contextmanager
def started(folder: Path, tell: Tell) -> Iterator[Servers]:
    """The servers for the time of a block, durable as in use."""
    password = secrets.token_hex(16)
    folder.mkdir(parents=True, exist_ok=True)
    postgres = PostgresServer(directory=folder / "postgres", log=folder / "postgres.log", port=free_port(), password=password)
    s3 = S3Server(
        directory=folder / "s3", log=folder / "s3.log", port=free_port(), buckets=("mlflow", BUCKET),
        access_key_id=secrets.token_hex(12), secret_access_key=secrets.token_hex(24),
    )  # fmt: skip
    mlflow = MlflowServer(
        directory=folder / "mlflow",
        log=folder / "mlflow.log",
        port=free_port(),
        s3=s3,
        database_url=postgres.url("mlflow", user=OWNER),
    )
    servers = Servers(folder=folder, postgres=postgres, s3=s3, mlflow=mlflow)
    with contextlib.ExitStack() as stack:
        _start(stack, servers, "PostgreSQL", postgres.component(), tell)
        postgres.ensure_group("sentiment_writer")
        postgres.ensure_login(READER, password)
        postgres.ensure_login(OWNER, password, member_of=("sentiment_writer", READER))
        postgres.ensure_database("mlflow", owner=OWNER)
        _start(stack, servers, "S3 server", s3.component(), tell)
        _start(stack, servers, "MLflow", mlflow.component(), tell)
        yield servers


def _start(stack: contextlib.ExitStack, servers: Servers, name: str, component: Component, tell: Tell) -> None:
    tell(f"starting {name}")
    before = {child.pid for child in psutil.Process().children()}
    stack.enter_context(running(component, timeout_s=120))
    [servers.pids[name]] = {child.pid for child in psutil.Process().children()} - before


def _reference(estimator: Any, texts: Any) -> Any:
    """The lens that a registered model carries for drift checks, and the reference."""
    import pyarrow as pa

    from sentiment_core import schema
    from sentiment_core.drift.reference import Reference
    from sentiment_core.model.reference import make_lens
    from sentiment_core.policy import read_policy
    from sentiment_core.text.features import as_texts

    limits = read_policy(REPOSITORY / "include" / "policy.toml").drift
    lens = make_lens(as_texts(texts), limits, seed=0)
    probabilities, statistics = estimator.examine(texts)
    labels = estimator.classes_[probabilities.argmax(axis=1)]
    columns = {
        **statistics,
        **lens.examine(as_texts(texts)),
        "p_positive": probabilities[:, estimator.classes_.tolist().index("positive")],
        "label": labels,
        "confidence": probabilities.max(axis=1),
        "known_confidence": probabilities.max(axis=1),
        "true_label": labels,
        "product_id": pa.nulls(len(texts), pa.string()),
    }
    rows = pa.table({name: columns[name] for name in schema.REFERENCE.names}).cast(schema.REFERENCE)
    return lens, Reference.of(rows, limits)
