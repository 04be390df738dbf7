"""Where faults happen: a PostgreSQL and an S3 server that are really killed, wires before them, workers, and the truth.

The truth is kept beside the machine, from what was delivered; `Place.check` counts what differs from it.
"""

import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Engine, text

from sentiment_core.local.component import Component
from sentiment_core.local.postgres import PostgresServer
from sentiment_core.local.s3 import S3Server
from sentiment_core.reviews.bucket import Bucket
from sentiment_core.reviews.layout import folder_date_of, incoming_prefix
from sentiment_core.stages.window import Night
from sentiment_core.store.engine import connect
from tests.faults.wire import Wire
from tests.faults.worker import Order, label_of, main, work

DAY = date(2026, 11, 10)
OWNER = "sentiment_owner"
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.faults.worker", "sentiment_core.scoring", "sentiment_core.reviews.read", "boto3"])


@dataclass
class Server:
    """A component that is started, killed and started again."""

    component: Component
    _process: "subprocess.Popen[bytes] | None" = None

    def start(self, timeout_s: float = 60) -> None:
        self.component.prepare()
        deadline = time.monotonic() + timeout_s
        while True:
            self._process = self.component.start(is_tethered=True)
            while (missing := self.component.probe(0)) is not None and self._process.poll() is None:
                assert time.monotonic() < deadline, missing
                time.sleep(0.05)
            if self._process.poll() is None:
                return
            # What its killed predecessor left (memory, sockets) is not gone yet.
            assert time.monotonic() < deadline, self.component.log.read_text(errors="replace")[-2000:]
            time.sleep(0.1)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """As the kernel does it: no goodbye, the whole family."""
        if self._process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            leader = psutil.Process(self._process.pid)
            for process in (leader, *leader.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.wait(timeout=20)


@dataclass
class Servers:
    """The two servers, and how to make a database of them."""

    postgres: PostgresServer
    s3: S3Server
    postgres_server: Server
    s3_server: Server

    def start(self) -> None:
        from sentiment_core.store.migrate import migrate

        self.postgres_server.start()
        self.s3_server.start()
        self.postgres.ensure_group("sentiment_writer")
        self.postgres.ensure_login("sentiment_reader", self.postgres.password)
        self.postgres.ensure_login(OWNER, self.postgres.password, member_of=("sentiment_writer", "sentiment_reader"))
        self.postgres.ensure_database("template", owner=OWNER)
        migrate(self.postgres.url("template", user=OWNER))

    def stop(self) -> None:
        self.postgres_server.kill()
        self.s3_server.kill()


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker in a process of its own."""

    process: Any
    outcome: Path

    def kill(self) -> None:
        self.process.kill()
        self.process.join(20)
        assert self.process.exitcode == -signal.SIGKILL, self.process.exitcode

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def end(self, timeout_s: float = 120) -> int:
        self.process.join(timeout_s)
        assert self.process.exitcode is not None, "the worker has not ended"
        return int(self.process.exitcode)

    @property
    def said(self) -> dict[str, Any]:
        return json.loads(self.outcome.read_text(encoding="utf-8"))

    @property
    def log(self) -> str:
        return Path(f"{self.outcome}.log").read_text(encoding="utf-8")


@dataclass
class Place:
    """A database and a bucket of one test's own, reached over wires, and what has been delivered to them."""

    servers: Servers
    folder: Path
    database: str
    bucket: Bucket
    engine: Engine
    to_postgres: Wire
    to_s3: Wire
    _workers: list[Worker] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    @contextlib.contextmanager
    def at(cls, servers: Servers, folder: Path) -> Iterator["Place"]:
        from sentiment_core.store.migrate import migrate

        name = f"faults_{uuid.uuid4().hex[:10]}"
        servers.postgres.ensure_database(name, owner=OWNER, template="template")
        url = servers.postgres.url(name, user=OWNER)
        migrate(url)
        client = servers.s3.client()
        client.create_bucket(Bucket=name.replace("_", "-"))
        place = cls(
            servers, folder, name, Bucket(client, name.replace("_", "-")), connect(url, role=None),
            Wire(servers.postgres.port), Wire(servers.s3.port),
        )  # fmt: skip
        try:
            yield place
        finally:
            for worker in place._workers:
                worker.process.kill()
            place.to_postgres.close()
            place.to_s3.close()
            place.engine.dispose()

    def order(self, **what: Any) -> Order:
        """A night over the wires."""
        url = self.servers.postgres.url(self.database, user=OWNER)
        settings = {
            "database_url": url.replace(f":{self.servers.postgres.port}/", f":{self.to_postgres.port}/"),
            "bucket": self.bucket.name,
            "s3_endpoint_url": f"http://127.0.0.1:{self.to_s3.port}",
            "s3_access_key_id": self.servers.s3.access_key_id,
            "s3_secret_access_key": self.servers.s3.secret_access_key,
            "mlflow_tracking_uri": "http://127.0.0.1:9",
            "state_dir": str(self.folder),
        }
        return Order(**{"settings": settings, "day": DAY, **what})

    def night(self, **what: Any) -> Night:
        values = {
            "window_date": DAY,
            "run_id": "run",
            "kind": "manual",
            "model": "champion",
            "force": False,
            "allow_retrain": False,
        }
        return Night(**{**values, **what})

    def start(self, **what: Any) -> Worker:
        """A night in a process of its own."""
        outcome = self.folder / f"outcome-{next(self._numbers)}.json"
        process = _forks.Process(target=main, args=(self.order(**what), str(outcome)), daemon=True)
        process.start()
        worker = Worker(process=process, outcome=outcome)
        self._workers.append(worker)
        return worker

    def work(self, **what: Any) -> dict[str, Any]:
        """A night, here and now."""
        return work(self.order(**what))

    def deliver(self, name: str, n_rows: int, *, first: int = 0, words: str = "", day: date = DAY, bad: str = "") -> None:
        """An object of reviews r<first>… of the day; `words` tell one delivery from another, `bad` stands at its end."""
        rows = "".join(
            json.dumps({"review_id": f"r{number}", "text": f"{words} {name} {number}"}) + "\n"
            for number in range(first, first + n_rows)
        )
        self.bucket.put(incoming_prefix(day) + name, (rows + bad).encode())

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]

    def truth(self) -> dict[tuple[date, str], str]:
        """By identity the text that has to be the current one, out of what lies in the bucket and can be read."""
        expected: dict[tuple[date, str], str] = {}
        objects = [obj for obj in self.bucket.list("incoming/") if "/never" not in obj.key]
        for obj in sorted(objects, key=lambda obj: (obj.last_modified, obj.key)):
            for line in self.bucket.get(obj.key).splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    row = json.loads(line)
                    if "text" in row:
                        expected[folder_date_of(obj.key), row["review_id"]] = row["text"]
        return expected

    def check(self) -> dict[str, int]:
        """Count what is lost, doubled and wrongly stamped, and see that nothing is left half done."""
        expected = self.truth()
        query = """select s.review_date, s.review_id, s.text_excerpt, s.label, s.model_version, o.status,
                       (select max(r.model_version) from sentiment.scoring_runs r where r.run_id = s.run_id)
                   from sentiment.scored_reviews s left join sentiment.source_objects o using (object_id)"""
        found = self.rows(query)
        identities = {row[:2] for row in found}
        wrong = [
            row for row in found
            if row[2] != expected.get(row[:2]) or row[3] != label_of(row[2], row[4]) or row[4] != row[6] or row[5] != "scored"
        ]  # fmt: skip
        counts = {
            "n": len(expected), "lost": len(expected.keys() - identities), "doubled": len(found) - len(identities),
            "foreign": len(identities - expected.keys()), "wrong": len(wrong),
        }  # fmt: skip
        left = self.rows(
            """select (select count(*) from sentiment.staged_reviews), (select count(*) from sentiment.object_leases),
                   (select count(*) from sentiment.object_dates where not is_published),
                   (select count(*) from sentiment.source_objects where status = 'staged')"""
        )
        assert left == [(0, 0, 0, 0)], f"staged rows, leases, unpublished dates, staged objects: {left}"
        assert counts == {**dict.fromkeys(counts, 0), "n": len(expected)}, (counts, wrong[:3])
        return counts
