"""MLflow's tracking server and UI over the embedded PostgreSQL and S3.

Artefacts go through the server, so that a client needs its address and no credentials of the store.
"""

import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from sentiment_core.local import processes
from sentiment_core.local.component import Component, probe_http
from sentiment_core.local.s3 import S3Server

# `mlflow server` is a parent that only starts uvicorn with these variables; without it the server is up four seconds
# sooner and 300 MB smaller. A test compares the names with MLflow's own.
STORE_VARIABLE = "_MLFLOW_SERVER_FILE_STORE"
DESTINATION_VARIABLE = "_MLFLOW_SERVER_ARTIFACT_DESTINATION"
ROOT_VARIABLE = "_MLFLOW_SERVER_ARTIFACT_ROOT"
SERVE_VARIABLE = "_MLFLOW_SERVER_SERVE_ARTIFACTS"
# `mlflow db upgrade URL`, without the address: it holds a password, and a command line is for everybody to read.
_UPGRADE = (
    f"import os, sys; sys.argv = ['mlflow', 'db', 'upgrade', os.environ['{STORE_VARIABLE}']]; from mlflow.cli import cli; cli()"
)


@dataclass(frozen=True, kw_only=True)
class MlflowServer:
    """A server of our own, and what it stands on."""

    directory: Path
    log: Path
    port: int
    database_url: str = field(repr=False)
    s3: S3Server
    bucket: str = "mlflow"

    @property
    def tracking_uri(self) -> str:
        """What clients call the tracking URI."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def variables(self) -> dict[str, str]:
        """Its configuration, complete."""
        return {
            STORE_VARIABLE: self.database_url,
            DESTINATION_VARIABLE: f"s3://{self.bucket}",
            ROOT_VARIABLE: "mlflow-artifacts:/",
            SERVE_VARIABLE: "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a quarter of the memory; runs nothing we use
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "AWS_ENDPOINT_URL_S3": self.s3.endpoint_url,
            "MLFLOW_S3_ENDPOINT_URL": self.s3.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.s3.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_access_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "WHEN_REQUIRED",
        }

    def component(self) -> Component:
        """The server as something to keep alive."""
        return Component(
            name="mlflow",
            command=[
                *(sys.executable, "-m", "uvicorn"),
                *("--host", "127.0.0.1", "--port", str(self.port), "--workers", "1", "--log-level", "warning"),
                "mlflow.server.fastapi_app:app",
            ],
            directory=self.directory,
            log=self.log,
            variables=self.variables,
            port=self.port,
            url=self.tracking_uri,
            requires=("postgres", "s3"),
            prepare=self.prepare,
            probe=lambda _: self.probe(),
            patience_s=8,
        )

    def prepare(self) -> None:
        """Bring the tables of an older MLflow up to date; a new database is filled by the server itself."""
        marker = self.directory / "schema.json"
        current = {"mlflow": version("mlflow")}
        known = processes.read_json(marker)
        if known and known != current:
            processes.run(
                [sys.executable, "-c", _UPGRADE],
                directory=self.directory,
                variables=self.variables,
            )
        processes.write_private(marker, processes.to_json(current))

    def probe(self) -> str | None:
        """None when it answers out of its database."""
        return probe_http(f"{self.tracking_uri}/api/2.0/mlflow/registered-models/search?max_results=1", timeout_s=10)
