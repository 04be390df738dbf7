"""`make soak`: histories without end, on servers of their own, until Ctrl-C or the time is up; says how many there were.

Ends with 1 at the first history after which the relations are not the model's, with the shortest such history found.
"""

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.reporting import with_reporter
from hypothesis.stateful import run_state_machine_as_test

from sentiment_core.local.component import running
from sentiment_core.local.postgres import PostgresServer
from sentiment_core.local.processes import free_port
from sentiment_core.local.s3 import S3Server
from sentiment_core.settings import Settings
from sentiment_core.store.migrate import migrate
from tests.histories.machine import Histories
from tests.histories.place import Place

PASSWORD = "only-for-histories"  # of servers that live as long as this process, on loopback
OWNER, BUCKET = "sentiment_owner", "histories"
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


class Over(BaseException):
    """The time is up, or somebody has said stop."""


class Soak(Histories):
    """The machine of this process."""


def main() -> int:
    """Run histories in portions, each with another seed."""
    options = _options()
    began = time.monotonic()
    for number in STOPS:
        signal.signal(number, _stop)
    if options.seconds:
        signal.setitimer(signal.ITIMER_REAL, options.seconds)
    logging.disable(logging.WARNING)  # objects that cannot be read are part of it
    status = 0
    try:
        # Hypothesis tells of a history that is cut off; of a wrong one the exception tells.
        with with_reporter(lambda _: None), _place() as Soak.place:
            while True:
                _portion(options)
                print(_count(began), flush=True)
    except Over:
        status = int(Soak.wrong is not None)  # it was looking for a shorter history
    except Exception as error:  # noqa: BLE001  # whatever it is, it is told and ends the soak
        status = int(not Soak.is_stopped)
        Soak.wrong = "\n".join([str(error), *getattr(error, "__notes__", ())])
    if status:
        print(Soak.wrong, file=sys.stderr)
    print(_count(began) + ("; the last one is wrong" if status else "; every one as the model says"))
    return status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seconds", type=float, help="end after so long; default: never")
    parser.add_argument("--portion", type=int, default=100, help="histories between two lines of progress")
    parser.add_argument("--steps", type=int, default=30, help="steps of a history at most")
    parser.add_argument(
        "--as-found", action="store_true", help="tell a wrong history as it was, without looking for a shorter one"
    )
    return parser.parse_args()


def _stop(*_: Any) -> None:
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)  # the servers are ended in peace
    Soak.is_stopped = True
    raise Over


def _count(began: float) -> str:
    elapsed = time.monotonic() - began
    return f"{Soak.n_histories:,} histories, {Soak.n_steps:,} steps, {Soak.n_cuts:,} cut short, in {elapsed:,.0f} s"


def _portion(options: argparse.Namespace) -> None:
    run_state_machine_as_test(
        Soak,
        settings=settings(
            max_examples=options.portion, stateful_step_count=options.steps, deadline=None, database=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate] + [Phase.shrink] * (not options.as_found),
        ),
    )  # fmt: skip


@contextmanager
def _place() -> Iterator[Place]:
    for name in [name for name in os.environ if name.startswith(("SENTIMENT_", "MLFLOW_", "AWS_"))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="histories-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        postgres = PostgresServer(
            directory=folder / "postgres", log=folder / "postgres.log", port=free_port(), password=PASSWORD, is_durable=False
        )
        s3 = S3Server(
            directory=folder / "s3", log=folder / "s3.log", port=free_port(), buckets=(BUCKET,),
            access_key_id="only-for-histories-id", secret_access_key="only-for-histories-secret",
        )  # fmt: skip
        with running(postgres.component()), running(s3.component()):
            postgres.ensure_group("sentiment_writer")
            postgres.ensure_login("sentiment_reader", PASSWORD)
            postgres.ensure_login(OWNER, PASSWORD, member_of=("sentiment_writer", "sentiment_reader"))
            postgres.ensure_database("histories", owner=OWNER, lets_in=["sentiment_reader"])
            url = postgres.url("histories", user=OWNER)
            migrate(url)
            place = Place.at(
                Settings(
                    database_url=url, bucket=BUCKET, s3_endpoint_url=s3.endpoint_url, s3_access_key_id=s3.access_key_id,
                    s3_secret_access_key=s3.secret_access_key, mlflow_tracking_uri="http://127.0.0.1:9",
                    state_dir=folder / "cache",
                )
            )  # fmt: skip
            try:
                yield place
            finally:
                place.close()


if __name__ == "__main__":
    sys.exit(main())
