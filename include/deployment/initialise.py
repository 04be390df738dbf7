"""Prepares the servers of docker-compose.yaml before Airflow's components start; may run any number of times.

Brings the tables of Airflow and the schema of the reviews up to date, and creates what is absent: buckets, Airflow's
two connections, its pool, the password of its user. What an operator has changed in Airflow's UI stays.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
from botocore.exceptions import ClientError

from sentiment_core.local.airflow_server import POOL, POOL_SLOTS, database_connection, s3_connection
from sentiment_core.store.migrate import migrate

BUCKETS = ("reviews", "mlflow", "airflow-logs")


def main() -> None:
    """Prepare everything, in the order in which things need each other."""
    environment = os.environ
    say("Airflow's tables")
    airflow("db", "migrate")
    say("the schema of the reviews")
    for name in migrate(environment["SENTIMENT_DATABASE_URL"]):
        say(f"  applied {name}")
    say("buckets")
    make_buckets()
    say("connections, pool, password")
    make_connections()
    make_pool()
    write_password(Path(environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]), environment["AIRFLOW_ADMIN_PASSWORD"])


def say(text: str) -> None:
    """One line."""
    print(text, flush=True)


def airflow(*arguments: str, check: bool = True) -> bool:
    """Run Airflow's command line; True when it succeeded."""
    return subprocess.run([sys.executable, "-m", "airflow", *arguments], check=check).returncode == 0


def make_buckets() -> None:
    """Create the buckets that are absent; the address and the keys come out of AWS's usual variables."""
    client = boto3.client("s3")
    for bucket in BUCKETS:
        try:
            client.head_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                raise
            client.create_bucket(Bucket=bucket)


def make_connections() -> None:
    """Create the connections that are absent: `import` leaves those alone that are there."""
    connections = (
        s3_connection(os.environ["AWS_ENDPOINT_URL_S3"], os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]),
        database_connection(os.environ["SENTIMENT_DATABASE_URL"]),
    )
    by_id = {item["connection_id"]: {key: item[key] for key in item if key != "connection_id"} for item in connections}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:  # for our eyes only, and gone at the end
        json.dump(by_id, file)
        file.flush()
        airflow("connections", "import", file.name)


def make_pool() -> None:
    """Create the pool that bounds how many tasks score or train at the same moment."""
    if not airflow("pools", "get", POOL, check=False):
        airflow("pools", "set", POOL, str(POOL_SLOTS), "Tasks that score or train")


def write_password(path: Path, password: str) -> None:
    """The password of the user `admin`, readable by Airflow's user alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps({"admin": password}), encoding="utf-8")


if __name__ == "__main__":
    main()
