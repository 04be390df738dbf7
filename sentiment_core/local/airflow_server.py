"""Airflow's four programs: one generated airflow.cfg, the metadata database brought up to date, connections and pool.

Airflow runs as programs and is talked to over REST; nothing of it is imported. `airflow standalone` is not used: it
leaves children behind. What a DAG does is not known here.
"""

import configparser
import io
import json
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sentiment_core.errors import Permanent, Transient
from sentiment_core.local import processes
from sentiment_core.local.airflow_api import AirflowApi
from sentiment_core.local.component import Component, probe_http
from sentiment_core.local.postgres import PostgresServer

PROGRAMS = {
    "api-server": (),
    # no log servers: they listen on all interfaces, and everything is on this machine or in S3
    "scheduler": ("--skip-serve-logs",),
    "dag-processor": (),
    "triggerer": ("--skip-serve-logs",),
}
PATIENCE_S = {
    "api-server": 8,
    "scheduler": 20,  # lets running tasks end; one that does not end in time is tried again after the next start
    "dag-processor": 5,
    "triggerer": 2,  # always waits ten seconds for a child that no longer listens; triggers are taken up again anyway
}
USERS = ("admin", "viewer")
POOL, POOL_SLOTS = "sentiment", 2


@dataclass(frozen=True, kw_only=True)
class AirflowSecrets:
    """Generated once and kept."""

    fernet_key: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    api_secret: str = field(repr=False)
    passwords: dict[str, str] = field(repr=False)
    """By user of the UI."""


@dataclass(frozen=True, kw_only=True)
class AirflowServer:
    """Airflow of this clone."""

    home: Path
    logs: Path
    port: int
    repository: Path
    postgres: PostgresServer
    database_url: str = field(repr=False)
    secrets: AirflowSecrets
    connections: tuple[dict[str, Any], ...] = field(repr=False)
    """As the REST API takes them; created when absent, never changed: an operator's edit stays."""
    task_variables: dict[str, str] = field(repr=False)
    """Environment of every task."""

    _migrating = threading.Lock()

    @property
    def url(self) -> str:
        """The UI."""
        return f"http://127.0.0.1:{self.port}"

    def api(self) -> AirflowApi:
        """A client that logs in as admin."""
        return AirflowApi(self.url, "admin", self.secrets.passwords["admin"])

    def components(self) -> list[Component]:
        """The programs as things to keep alive."""
        return [self._component(name) for name in PROGRAMS]

    def _component(self, name: str) -> Component:
        is_api = name == "api-server"
        return Component(
            name=name,
            command=[sys.executable, "-m", "airflow", name, *PROGRAMS[name]],
            directory=self.home / "run" / name,
            log=self.logs / f"{name}.log",
            variables=self._variables,
            configuration=self.configuration,
            port=self.port if is_api else None,
            url=self.url if is_api else None,
            requires=("postgres",),
            prepare=self.prepare,
            probe=self._probe_api if is_api else partial(self._probe_heartbeat, name),
            complete=self._create_connections if is_api else lambda: None,
            patience_s=PATIENCE_S[name],
        )

    @property
    def _variables(self) -> dict[str, str]:
        return {
            **self.task_variables,
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW_CONFIG": str(self.home / "airflow.cfg"),
            "PYTHONPATH": str(self.repository),  # DAG files import sentiment_core
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYTHONWARNINGS": "ignore::DeprecationWarning,ignore::FutureWarning",
        }

    @property
    def configuration(self) -> str:
        """airflow.cfg: only what differs from Airflow's defaults."""
        sections: dict[str, dict[str, object]] = {
            "core": {
                "dags_folder": self.repository / "dags",
                "plugins_folder": self.repository / "plugins",
                "load_examples": False,
                "executor": "LocalExecutor",
                "parallelism": 4,  # a laptop: each task is a process of 200 MB and more
                "fernet_key": self.secrets.fernet_key,
                "hostname_callable": "socket.gethostname",  # the default asks DNS, which a laptop may not have
                # else the tasks of a second clone would report to the first
                "execution_api_server_url": f"{self.url}/execution/",
                "auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
                "simple_auth_manager_users": ",".join(f"{user}:{user}" for user in USERS),
                "simple_auth_manager_passwords_file": self.home / "passwords.json",
            },
            "database": {"sql_alchemy_conn": self.database_url, "sql_alchemy_pool_size": 5},
            "api": {
                "host": "127.0.0.1",
                "port": self.port,
                "base_url": self.url,
                "workers": 1,
                "secret_key": self.secrets.api_secret,
                "instance_name": "Sentiment",
            },
            "api_auth": {"jwt_secret": self.secrets.jwt_secret},
            "scheduler": {
                # A killed scheduler's queued tasks are taken over, and tasks that died with it tried again, within about
                # a minute instead of five. A task beats every 5 s; under 60 s a busy machine would lose healthy ones.
                "scheduler_health_check_threshold": 20,
                "orphaned_tasks_check_interval": 20,
                "task_instance_heartbeat_timeout": 60,
                "task_queued_timeout": 180,
                "task_queued_timeout_check_interval": 30,
            },
            "workers": {"max_failed_heartbeats": 10},  # an api-server that restarts is no reason to end a task
            "dag_processor": {
                "refresh_interval": 10,  # a new file shows up in seconds
                "min_file_process_interval": 120,  # a changed one is parsed at once; an unchanged one need not be
                "parsing_processes": 1,
            },
            "logging": {
                "namespace_levels": "http.access=WARNING",  # else every look at our health is a line
                "base_log_folder": self.home / "logs",
                "remote_logging": True,
                "remote_base_log_folder": "s3://airflow-logs/tasks",
                "remote_log_conn_id": "reviews_s3",
            },
        }
        parser = configparser.ConfigParser(interpolation=None)
        for section, values in sections.items():
            # Airflow interpolates: a percent sign in a path or password has to be doubled
            parser[section] = {name: str(value).replace("%", "%%") for name, value in values.items()}
        text = io.StringIO()
        parser.write(text)
        return "# Written by `sentiment up` at every start; changes here are lost.\n" + text.getvalue()

    def prepare(self) -> None:
        """Write the configuration and bring the metadata database up to date; all four programs may ask for it at once."""
        with self._migrating:
            self.write_configuration()
            marker = self.home / "schema.json"
            if processes.read_json(marker) == self._schema():
                return
            processes.run(
                [sys.executable, "-m", "airflow", "db", "migrate"],
                directory=self.home / "run" / "migrate",
                variables=self._variables,
            )
            processes.write_private(marker, processes.to_json(self._schema()))

    def write_configuration(self) -> None:
        """airflow.cfg and the passwords, for our eyes only."""
        processes.write_private(self.home / "airflow.cfg", self.configuration)
        passwords = self.home / "passwords.json"
        wanted = json.dumps(self.secrets.passwords)
        if not passwords.exists() or passwords.read_text(encoding="utf-8") != wanted:
            processes.write_private(passwords, wanted)

    def _schema(self) -> dict[str, Any]:
        """What the metadata database was made by, as far as can be told without importing Airflow."""
        import psycopg2

        with self.postgres.session("airflow") as cursor:
            try:
                cursor.execute("select version_num from alembic_version")
                revisions = sorted(row[0] for row in cursor.fetchall())
            except psycopg2.errors.UndefinedTable:
                revisions = []
        return {"airflow": version("apache-airflow"), "revisions": revisions}

    def _probe_api(self, _: float) -> str | None:
        return probe_http(f"{self.url}/api/v2/monitor/health", timeout_s=5)

    def _probe_heartbeat(self, name: str, since: float) -> str | None:
        """None when this very program has reported to the metadata database within the last half minute."""
        key = name.replace("-", "_")
        try:
            health = AirflowApi(self.url).get("/api/v2/monitor/health")
        except (Transient, Permanent) as error:
            return f"unknown while the api-server is away ({error.found})"
        beat = health.get(key, {}).get(f"latest_{key}_heartbeat")
        if beat is None or datetime.fromisoformat(beat).timestamp() < since:
            return "no heartbeat yet"
        age_s = time.time() - datetime.fromisoformat(beat).timestamp()
        return None if age_s < 30 else f"last heartbeat {age_s:.0f} s ago"  # noqa: PLR2004  # beats come every 5 s

    def _create_connections(self) -> None:
        api = self.api()
        known = {item["connection_id"] for item in api.get("/api/v2/connections", limit=1000)["connections"]}
        for connection in self.connections:
            if connection["connection_id"] not in known:
                api.post("/api/v2/connections", connection)
        if POOL not in {item["name"] for item in api.get("/api/v2/pools", limit=1000)["pools"]}:
            api.post("/api/v2/pools", {"name": POOL, "slots": POOL_SLOTS, "description": "Tasks that score or train"})


def s3_connection(endpoint_url: str, access_key_id: str, secret_access_key: str) -> dict[str, Any]:
    """`reviews_s3`."""
    return {
        "connection_id": "reviews_s3",
        "conn_type": "aws",
        "description": "The bucket of reviews",
        "login": access_key_id,
        "password": secret_access_key,
        "extra": json.dumps(
            {"endpoint_url": endpoint_url, "region_name": "us-east-1", "config_kwargs": {"s3": {"addressing_style": "path"}}}
        ),
    }


def database_connection(url: str) -> dict[str, Any]:
    """`sentiment_db`."""
    parts = urlsplit(url)
    return {
        "connection_id": "sentiment_db",
        "conn_type": "postgres",
        "description": "The database of scores, as the owner of its schema",
        "host": parts.hostname,
        "port": parts.port,
        "login": parts.username,
        "password": parts.password,
        "schema": parts.path.lstrip("/"),
    }
