"""What the DAGs have in common: services out of Airflow's connections, errors into Airflow's outcomes, defaults.

The only place where Airflow's connections and our settings meet. No thresholds, no SQL, no loops over data.
Everything heavy is imported inside functions, because this file is imported whenever a DAG is parsed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from sentiment_core.errors import Transient
from sentiment_core.policy import Policy, read_policy
from sentiment_core.settings import REPOSITORY, Settings

if TYPE_CHECKING:
    from sentiment_core.stages.services import Services
    from sentiment_core.stages.window import Night

S3_CONNECTION = "reviews_s3"
DATABASE_CONNECTION = "sentiment_db"
POOL = "sentiment"  # bounds how many tasks score or train at the same moment, over all runs
START = datetime(2026, 1, 1)  # noqa: DTZ001 (Airflow takes it as UTC; a backfill may reach further back)

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "sentiment",
    # Only what may heal is tried again (see `outcomes`): about ten minutes in all, longer than a database restart.
    "retries": 5,
    "retry_delay": timedelta(seconds=15),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
    "execution_timeout": timedelta(minutes=30),
}


def policy() -> Policy:
    """The policy file, for what has to be known when a DAG is parsed: schedules and waiting times."""
    return read_policy(_policy_path())


def _policy_path() -> Path:
    return Path(os.environ.get("SENTIMENT_POLICY") or REPOSITORY / "include" / "policy.toml")


@contextmanager
def outcomes() -> Iterator[None]:
    """Let Airflow retry what is transient and fail at once on anything else."""
    try:
        yield
    except Transient:
        raise
    except Exception as error:
        raise AirflowFailException(str(error)) from error


@contextmanager
def stage() -> Iterator["Services"]:
    """The services of a task, with errors translated.

    What fails before there are services is Airflow's own affair and is tried again: while its database is away it
    says of a connection that it "isn't defined".
    """
    made = services()
    with outcomes():
        yield made


def services() -> "Services":
    """Services over the connections `reviews_s3` and `sentiment_db`, and MLFLOW_TRACKING_URI."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from airflow.sdk import BaseHook
    from botocore.config import Config

    from sentiment_core.stages.services import Services

    database = BaseHook.get_connection(DATABASE_CONNECTION)
    # Path-style addresses and checksums only where an operation demands them: what every S3 server understands.
    config = Config(
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=64,
        retries={"mode": "standard", "max_attempts": 4},
    )
    hook = S3Hook(aws_conn_id=S3_CONNECTION, config=config)
    if not hook.conn_config:  # the hook would go on with whatever credentials this machine has, to whatever bucket
        raise AirflowNotFoundException(f"The conn_id `{S3_CONNECTION}` isn't defined")
    environment = {name: value for name, value in os.environ.items() if name.startswith(("SENTIMENT_", "MLFLOW_"))}
    environment["SENTIMENT_DATABASE_URL"] = (
        f"postgresql+psycopg2://{quote(database.login or '', safe='')}:{quote(database.password or '', safe='')}"
        f"@{database.host}:{database.port or 5432}/{database.schema}"
    )
    environment.setdefault("SENTIMENT_BUCKET", hook.service_config.get("bucket_name", "reviews"))
    client = hook.get_conn()
    with outcomes():
        return Services(Settings.from_environment(environment), s3_client=client)


def night() -> "Night":
    """The night of the current run, whoever set it off."""
    from sentiment_core.stages.window import plan_night

    context = get_current_context()
    run = context["dag_run"]
    return plan_night(
        partition_key=run.partition_key,
        params=dict(context["params"]),
        run_after=run.run_after,
        run_id=run.run_id,
        run_type=str(getattr(run.run_type, "value", run.run_type)),
    )


def retrain_reason() -> str:
    """Why the current retrain was asked for: what its param says, or that it was time."""
    context = get_current_context()
    run_type = context["dag_run"].run_type
    is_scheduled = str(getattr(run_type, "value", run_type)) == "scheduled"
    return "the policy's schedule" if is_scheduled else str(context["params"]["reason"])


class NightFolderSensor(S3KeySensor):
    """Waits, deferred, for the first object of a night's folder.

    Only a scheduled run waits: a backfill or a run by hand takes the folder as it is. A folder that stays empty is
    an empty night, not a failure.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            bucket_key="incoming/",  # rendered for the night in execute
            aws_conn_id=S3_CONNECTION,
            wildcard_match=True,
            deferrable=True,
            soft_fail=True,
            poke_interval=60,
            **kwargs,
        )

    def execute(self, context: Any) -> None:
        """Look once; when the folder is empty and the run is a scheduled one, wait for it."""
        from sentiment_core.reviews.layout import incoming_prefix

        self.bucket_name = services().settings.bucket
        with outcomes():
            current = night()
            self.bucket_key = f"{incoming_prefix(current.window_date)}*"
        if current.kind == "scheduled":
            super().execute(context)
