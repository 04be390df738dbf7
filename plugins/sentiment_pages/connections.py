"""PostgreSQL and S3 out of Airflow's connections `sentiment_db` and `reviews_s3`, as the api-server has them.

A connection is looked up for every page (environment, secrets backend, metadata database: as Airflow itself would),
so that one that is edited in the UI counts at once; engines are kept by their address. Unlike the wiring of the
DAGs: only reading, as `sentiment_reader`, and no MLflow.
"""

from functools import lru_cache
from typing import Any
from urllib.parse import quote

from sentiment_core.errors import Permanent

S3_CONNECTION = "reviews_s3"
DATABASE_CONNECTION = "sentiment_db"


def reading_engine() -> Any:
    """An engine whose sessions are those of `sentiment_reader`, and read-only whatever the login may do.

    Raises:
        Permanent: there is no connection `sentiment_db`.
    """
    found = _connection(DATABASE_CONNECTION)
    user, password = (quote(part or "", safe="") for part in (found.login, found.password))
    return _engine(f"postgresql+psycopg2://{user}:{password}@{found.host}:{found.port or 5432}/{found.schema}")


@lru_cache(maxsize=2)  # the address in use, and the one before an edit
def _engine(url: str) -> Any:
    from sentiment_core.store.engine import READER, connect

    return connect(url, role=READER).execution_options(postgresql_readonly=True)


def s3_client() -> Any:
    """A boto3 client as the amazon provider makes it.

    Raises:
        Permanent: there is no connection `reviews_s3`.
    """
    found = _connection(S3_CONNECTION)
    return _client(found.login, found.password, found.extra)


@lru_cache(maxsize=2)  # making one takes a tenth of a second and more
def _client(*_connection_as_it_is: str | None) -> Any:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.config import Config

    config = Config(
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=5,  # a person is waiting
        read_timeout=20,
        retries={"mode": "standard", "max_attempts": 2},
    )
    return S3Hook(aws_conn_id=S3_CONNECTION, config=config).get_conn()


def _connection(name: str) -> Any:
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return BaseHook.get_connection(name)
    except AirflowNotFoundException as error:
        raise Permanent(
            f"Airflow connection {name}", expected="its address and login", found="no such connection",
            remedy="add it under Admin, Connections (the README says how), or start the embedded stack with `make up`",
        ) from error  # fmt: skip
