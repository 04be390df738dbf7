"""Servers of a module's own, a place of a test's own, and the table of what the faults did (FAULTS_TABLE names its file)."""

import os
import platform
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sentiment_core.local.postgres import PostgresServer
from sentiment_core.local.processes import free_port
from sentiment_core.local.s3 import S3Server
from tests.faults.place import Place, Server, Servers

FIGURES: list[tuple[str, ...]] = []
IS_FULL = bool(os.environ.get("FAULTS_FULL"))


def make_servers(folder: Path) -> Servers:
    postgres = PostgresServer(
        directory=folder / "postgres", log=folder / "postgres.log", port=free_port(), password="only-for-tests"
    )
    s3 = S3Server(
        directory=folder / "s3", log=folder / "s3.log", port=free_port(), buckets=("any",),
        access_key_id="only-for-tests-key-id", secret_access_key="only-for-tests-secret-access-key",
    )  # fmt: skip
    return Servers(postgres, s3, Server(postgres.component()), Server(s3.component()))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A durable PostgreSQL and an S3 server, to be killed."""
    made = make_servers(tmp_path_factory.mktemp("servers"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def place(servers: Servers, tmp_path: Path) -> Iterator[Place]:
    with Place.at(servers, tmp_path) as made:
        yield made


class Figures:
    """What a test writes into the table."""

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._began = time.monotonic()
        self.seconds = 0.0

    def begin(self) -> None:
        """From here on the time counts."""
        self._began = time.monotonic()

    def add(self, counts: dict[str, int], recovery: str) -> None:
        self.seconds = time.monotonic() - self._began
        names = ("n", "lost", "doubled", "wrong")
        FIGURES.append((self._fault, *(f"{counts[name]:,}" for name in names), recovery, f"{self.seconds:.1f}"))


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    name = request.node.name.removeprefix("test_").replace("_", " ")
    return Figures(name.replace("[", ": ").replace("]", ""))


@pytest.fixture(scope="session")
def is_full() -> bool:
    """Whether the long ones run too, and at full size (FAULTS_FULL=1)."""
    return IS_FULL


def pytest_sessionfinish(exitstatus: int) -> None:
    """Write the table of a run in which everything held."""
    if (path := os.environ.get("FAULTS_TABLE")) and FIGURES and exitstatus == 0:
        head = ("fault", "reviews", "lost", "doubled", "wrongly stamped", "who recovers", "s")
        lines = ["| " + " | ".join(row) + " |" for row in (head, ("---", *["---:"] * 4, "---", "---:"), *FIGURES)]
        made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.platform()}, {os.cpu_count()} cores"
        size = "full sizes" if IS_FULL else "short outages, small sizes"
        intro = [
            "# Faults", "",
            "Written by `make faults`: every fault of `tests/faults`, with the servers and workers really killed, and what was",
            "lost, doubled or wrongly stamped after it. `s` is the time from the fault, or from the servers' being back, to all",
            "rows being right; where no time is to be lost, what the whole took.", "",
            f"{made}; {size}.", "",
        ]  # fmt: skip
        Path(path).write_text("\n".join([*intro, *lines, ""]), encoding="utf-8")
