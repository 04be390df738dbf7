"""The stack as a whole: which components it has, starting, stopping and looking at it.

Composition only: each server knows itself, the supervisor keeps them alive, `state` remembers.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sentiment_core.errors import Permanent, Transient
from sentiment_core.local import processes
from sentiment_core.local.airflow_server import AirflowSecrets, AirflowServer, database_connection, s3_connection
from sentiment_core.local.component import Component, last_lines
from sentiment_core.local.mlflow_server import MlflowServer
from sentiment_core.local.postgres import PostgresServer
from sentiment_core.local.s3 import S3Server
from sentiment_core.local.state import Ledger, StateDir
from sentiment_core.local.supervisor import waves
from sentiment_core.settings import LOCAL_DIR, REPOSITORY

OWNER, WRITER, READER = "sentiment_owner", "sentiment_writer", "sentiment_reader"
BUCKETS = ("reviews", "mlflow", "airflow-logs")
NAMES = ("supervisor", "postgres", "s3", "mlflow", "api-server", "scheduler", "dag-processor", "triggerer")
UP_DEADLINE_S = 600.0
GIVE_UP_RESTARTS = 4  # a component that died this often while starting will not come up by waiting


@dataclass(frozen=True, kw_only=True)
class ComponentStatus:
    """What a person wants to know of a component."""

    component: str
    pid: int | None
    port: int | None
    healthy: bool
    url: str | None
    detail: str
    """What it does or lacks, when it is not healthy."""
    n_restarts: int


class LocalStack:
    """The embedded stack whose state lies in one folder."""

    def __init__(self, state_dir: Path = LOCAL_DIR, *, repository: Path = REPOSITORY) -> None:
        self.directory = StateDir(state_dir.absolute())
        self.repository = repository

    # what it consists of

    @cached_property
    def _ports(self) -> dict[str, int]:
        ledger = Ledger(self.directory)
        return self.directory.ports(kept=[name for name in ("postgres", "s3", "mlflow", "api-server") if ledger.identity(name)])

    @cached_property
    def _secrets(self) -> dict[str, str]:
        return self.directory.secrets()

    @cached_property
    def postgres(self) -> PostgresServer:
        """The server with the databases airflow, mlflow and reviews."""
        return PostgresServer(
            directory=self.directory.path / "postgres",
            log=self.directory.log("postgres"),
            port=self._ports["postgres"],
            password=self._secrets["postgres_password"],
        )

    @cached_property
    def s3(self) -> S3Server:
        """The server with the buckets."""
        return S3Server(
            directory=self.directory.path / "s3",
            log=self.directory.log("s3"),
            port=self._ports["s3"],
            access_key_id=self._secrets["s3_access_key_id"],
            secret_access_key=self._secrets["s3_secret_access_key"],
            buckets=BUCKETS,
        )

    @cached_property
    def mlflow(self) -> MlflowServer:
        """The tracking server."""
        return MlflowServer(
            directory=self.directory.path / "mlflow",
            log=self.directory.log("mlflow"),
            port=self._ports["mlflow"],
            database_url=self.postgres.url("mlflow", user="mlflow", password=self._secrets["mlflow_password"]),
            s3=self.s3,
        )

    @cached_property
    def airflow(self) -> AirflowServer:
        """The four programs."""
        secrets = self._secrets
        environment = self.environment()
        return AirflowServer(
            home=self.directory.path / "airflow",
            logs=self.directory.path / "logs",
            port=self._ports["api-server"],
            repository=self.repository,
            postgres=self.postgres,
            database_url=self.postgres.url("airflow", user="airflow", password=secrets["airflow_password"]),
            secrets=AirflowSecrets(
                fernet_key=secrets["airflow_fernet_key"],
                jwt_secret=secrets["airflow_jwt_secret"],
                api_secret=secrets["airflow_api_secret"],
                passwords={"admin": secrets["ui_admin_password"], "viewer": secrets["ui_viewer_password"]},
            ),
            connections=(
                s3_connection(self.s3.endpoint_url, self.s3.access_key_id, self.s3.secret_access_key),
                database_connection(self.owner_url),
            ),
            # the database and the bucket come to a task through Airflow's connections
            task_variables={
                name: environment[name] for name in ("SENTIMENT_READER_URL", "SENTIMENT_STATE_DIR", "MLFLOW_TRACKING_URI")
            },
        )

    @property
    def owner_url(self) -> str:
        """The reviews database as the owner of its schema."""
        return self.postgres.url("reviews", user=OWNER, password=self._secrets["owner_password"])

    def environment(self) -> dict[str, str]:
        """The variables of `settings` that lead here."""
        return {
            "SENTIMENT_DATABASE_URL": self.owner_url,
            "SENTIMENT_READER_URL": self.postgres.url("reviews", user=READER, password=self._secrets["reader_password"]),
            "SENTIMENT_STATE_DIR": str(self.directory.path / "cache"),
            "MLFLOW_TRACKING_URI": self.mlflow.tracking_uri,
            "AWS_ENDPOINT_URL_S3": self.s3.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.s3.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_access_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def components(self) -> list[Component]:
        """Everything the supervisor keeps alive; writes the files by which others find it."""
        self.directory.create()
        processes.write_private(self.directory.path / "environment.json", processes.to_json(self.environment()))
        self.airflow.write_configuration()
        postgres = replace(self.postgres.component(), complete=self.prepare_databases)
        return [postgres, self.s3.component(), self.mlflow.component(), *self.airflow.components()]

    def prepare_databases(self) -> None:
        """Logins, databases and the schema; idempotent."""
        from sentiment_core.store.migrate import migrate

        secrets = self._secrets
        self.postgres.ensure_login(WRITER, secrets["writer_password"])
        self.postgres.ensure_login(READER, secrets["reader_password"])
        self.postgres.ensure_login(OWNER, secrets["owner_password"], member_of=(WRITER, READER))
        for name in ("airflow", "mlflow"):
            self.postgres.ensure_login(name, secrets[f"{name}_password"])
            self.postgres.ensure_database(name, owner=name)
        self.postgres.ensure_database("reviews", owner=OWNER, lets_in=(WRITER, READER))
        migrate(self.owner_url)

    # starting and stopping

    def up(
        self, *, on_wait: Callable[[str], None] = lambda _: None, timeout_s: float = UP_DEADLINE_S
    ) -> Iterator[list[ComponentStatus]]:
        """Start what does not run and yield the state of everything until all is well.

        Raises Transient at the deadline and Permanent when a component keeps dying. Running it twice at once is fine.
        """
        self.directory.create()
        supervisor = self._supervise(on_wait)
        deadline = time.monotonic() + timeout_s
        while True:
            found = self.status()
            yield found
            if all(item.healthy for item in found):
                return
            if self.directory.supervisor() is None and supervisor is not None:
                # The one that was there was dying when we looked: a process that is killed takes a moment to go.
                self._supervise(on_wait)
                supervisor = None
            self._check_progress(found, is_late=time.monotonic() > deadline)
            time.sleep(0.2)

    def _supervise(self, on_wait: Callable[[str], None]) -> processes.Identity | None:
        """See that a supervisor runs; gives the one that ran before, None when a new one was started."""
        with processes.locked(
            self.directory.up_lock, on_wait=lambda: on_wait("another `up` or `down` of this stack is at work; waiting")
        ):
            before = self.directory.supervisor()
            self._ensure_supervisor()
            return before if before == self.directory.supervisor() else None

    def _ensure_supervisor(self) -> None:
        ledger = Ledger(self.directory)
        supervisor = self.directory.supervisor()
        if supervisor is not None:
            if not any(ledger.known(name).get("problem") for name in NAMES):
                return
            # What failed may have been mended in our own code, which the old one has loaded; the new one takes over the rest.
            processes.stop(supervisor, with_signal=signal.SIGKILL)
        for name in NAMES:
            ledger.record(name, phase="waiting", detail="for the supervisor", problem=None, n_restarts=0)
        process = processes.spawn(
            [sys.executable, "-m", "sentiment_core.local.supervisor", str(self.directory.path)],
            directory=self.directory.path / "state",
            log=self.directory.log("supervisor"),
            variables={"PYTHONPATH": str(self.repository)},
        )
        if not processes.wait_until(lambda: self.directory.supervisor() is not None or process.poll() is not None, 60):
            raise Transient(
                "the supervisor",
                expected="to start within a minute",
                found="nothing",
                remedy=last_lines(self.directory.log("supervisor")),
            )

    def _check_progress(self, found: list[ComponentStatus], *, is_late: bool) -> None:
        if self.directory.supervisor() is None:
            raise Permanent(
                "the supervisor",
                expected="to keep running",
                found="it has ended",
                remedy=f"see {last_lines(self.directory.log('supervisor'))}",
            )
        ledger = Ledger(self.directory)
        for item in found:
            problem = ledger.known(item.component).get("problem")
            if problem:
                raise Permanent(problem.pop("thing"), **problem)
            if not item.healthy and (is_late or item.n_restarts >= GIVE_UP_RESTARTS):
                family = Transient if is_late else Permanent
                raise family(
                    f"component {item.component}",
                    expected="to get well",
                    found=item.detail or "no sign of life",
                    remedy=f"see {last_lines(self.directory.log(item.component))}",
                )

    def down(self, *, on_wait: Callable[[str], None] = lambda _: None) -> list[str]:
        """Stop everything this stack started, and only that; gives the names of what ran."""
        if not self.directory.path.exists():
            return []
        self.directory.create()
        with processes.locked(
            self.directory.up_lock, on_wait=lambda: on_wait("another `up` or `down` of this stack is at work; waiting")
        ):
            ledger = Ledger(self.directory)
            ran = [name for name in NAMES if ledger.identity(name)]
            supervisor = self.directory.supervisor()
            if supervisor is not None:
                with suppress(ProcessLookupError):
                    os.kill(supervisor.pid, signal.SIGTERM)
                if not processes.wait_until(lambda: not supervisor.is_alive(), 120):
                    processes.stop(supervisor, with_signal=signal.SIGKILL)
            self._sweep(ledger.reload())
        return ran

    def _sweep(self, ledger: Ledger) -> None:
        """Stop what a dead supervisor has left."""

        def end(component: Component) -> None:
            identity = ledger.last_identity(component.name)
            if identity is not None:
                component.stop(identity)
            ledger.record(component.name, pid=None, created=None, phase="stopped", detail="")

        for wave in reversed(waves(self.components())):
            with ThreadPoolExecutor() as pool:
                list(pool.map(end, wave))

    # looking

    def status(self) -> list[ComponentStatus]:
        """Every component, as the supervisor last saw it and the kernel sees it now."""
        ledger = Ledger(self.directory)
        ports = processes.read_json(self.directory.path / "ports.json")
        return [self._status(name, ledger, ports) for name in NAMES]

    def _status(self, name: str, ledger: Ledger, ports: dict[str, Any]) -> ComponentStatus:
        known = ledger.known(name)
        identity = self.directory.supervisor() if name == "supervisor" else ledger.identity(name)
        phase = str(known.get("phase", "stopped"))
        is_watched = self.directory.supervisor() is not None
        healthy = identity is not None and (name == "supervisor" or (phase == "healthy" and is_watched))
        detail = " ".join(filter(None, (phase, known.get("detail"))))
        if identity is None and phase in ("healthy", "unhealthy"):
            detail = "it has died"
        elif identity is not None and not is_watched:
            detail = "runs, but nobody watches it: the supervisor has died"
        port = ports.get(name)
        scheme = "postgresql" if name == "postgres" else "http"
        return ComponentStatus(
            component=name,
            pid=identity.pid if identity else None,
            port=port,
            healthy=healthy,
            url=f"{scheme}://127.0.0.1:{port}" if port else None,
            detail="" if healthy else detail,
            n_restarts=int(known.get("n_restarts") or 0),
        )

    def addresses(self) -> dict[str, str | None]:
        """Where to go, without passwords; all None before the first `up`."""
        ports = processes.read_json(self.directory.path / "ports.json")
        forms = {
            "airflow_url": ("api-server", "http://127.0.0.1:{}"),
            "mlflow_tracking_uri": ("mlflow", "http://127.0.0.1:{}"),
            "s3_endpoint_url": ("s3", "http://127.0.0.1:{}"),
            "database_url": ("postgres", "postgresql://" + READER + "@127.0.0.1:{}/reviews"),
        }
        return {name: form.format(ports[port]) if port in ports else None for name, (port, form) in forms.items()}
