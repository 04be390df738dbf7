"""Real servers for tests: each started once a session on a free port, gone at its end."""

import contextlib
import csv
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from sentiment_core.domain import ModelRef
from sentiment_core.local.component import running
from sentiment_core.local.mlflow_server import MlflowServer
from sentiment_core.local.postgres import PostgresServer
from sentiment_core.local.processes import free_port
from sentiment_core.local.s3 import S3Server
from sentiment_core.settings import Settings
from sentiment_core.stages.services import Services

pytest_plugins = ["tests.workers"]
REPOSITORY = Path(__file__).resolve().parent.parent
OWNER, READER = "sentiment_owner", "sentiment_reader"
PASSWORD = "only-for-tests"
# An example that takes long on a busy machine is no failure; Hypothesis knows that only of machines that call themselves CI.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def _own_surroundings() -> None:
    """No setting of the person who runs the tests, and no stack of this clone, reaches a test."""
    for name in list(os.environ):
        if name.startswith(("SENTIMENT_", "MLFLOW_", "AIRFLOW__", "AWS_")) and name != "AWS_CA_BUNDLE":
            del os.environ[name]
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1,localhost")))


@pytest.fixture(scope="session")
def server_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sentiment-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(server_dir: Path) -> Iterator[PostgresServer]:
    """PostgreSQL 18 with the product's logins."""
    server = PostgresServer(
        directory=server_dir / "postgres",
        log=server_dir / "postgres.log",
        port=free_port(),
        password=PASSWORD,
        is_durable=False,
    )
    with running(server.component()):
        server.ensure_group("sentiment_writer")
        server.ensure_login(READER, PASSWORD)
        server.ensure_login(OWNER, PASSWORD, member_of=("sentiment_writer", READER))
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> str:
    """Name of a database with the current schema, to be cloned."""
    from sentiment_core.store.migrate import migrate

    postgres_server.ensure_database("migrated", owner=OWNER)
    migrate(postgres_server.url("migrated", user=OWNER))
    return "migrated"


def _fresh_database(server: PostgresServer, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    server.ensure_database(name, owner=OWNER, lets_in=[READER], template=template)
    with server.session() as cursor:  # rights on a database are not cloned with it; the migrations have granted this one
        cursor.execute(f'grant temporary on database "{name}" to sentiment_writer')
    yield server.url(name, user=OWNER)
    with server.session() as cursor:
        cursor.execute(f'drop database "{name}" with (force)')


@pytest.fixture
def database_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """A fresh database with the schema, as its owner."""
    from sentiment_core.store.migrate import migrate

    for url in _fresh_database(postgres_server, migrated_template):
        migrate(url)  # a clone has the schema of its template, not the rights on the database
        yield url


@pytest.fixture
def reader_url(database_url: str) -> str:
    """The same database as `database_url`, as the analysts' login."""
    return database_url.replace(f"{OWNER}:", f"{READER}:")


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A fresh database without the schema, as its owner."""
    yield from _fresh_database(postgres_server, "template0")


@pytest.fixture(scope="session")
def s3_server(server_dir: Path) -> Iterator[S3Server]:
    server = S3Server(
        directory=server_dir / "s3",
        log=server_dir / "s3.log",
        port=free_port(),
        access_key_id="only-for-tests-key-id",
        secret_access_key="only-for-tests-secret-access-key",
        buckets=("mlflow",),
    )
    with running(server.component()):
        yield server


@pytest.fixture(scope="session")
def s3_client(s3_server: S3Server) -> Any:
    return s3_server.client()


@pytest.fixture
def bucket_name(s3_client: Any) -> str:
    """A fresh bucket."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3_client.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def reviews_data_dir() -> Path:
    """Folder of real reviews, REVIEWS_DATA_DIR."""
    folder = Path(os.environ.get("REVIEWS_DATA_DIR", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real reviews at {folder}; set REVIEWS_DATA_DIR to run this")
    return folder


@pytest.fixture(scope="session")
def mlflow_server(server_dir: Path, postgres_server: PostgresServer, s3_server: S3Server) -> Iterator[MlflowServer]:
    """MLflow on the embedded PostgreSQL, its artefacts in the embedded S3 and handed out by the server itself."""
    postgres_server.ensure_database("mlflow", owner=OWNER)
    server = MlflowServer(
        directory=server_dir / "mlflow",
        log=server_dir / "mlflow.log",
        port=free_port(),
        database_url=postgres_server.url("mlflow", user=OWNER),
        s3=s3_server,
    )
    with running(server.component(), timeout_s=120):
        yield server


@pytest.fixture
def services(
    database_url: str, bucket_name: str, s3_server: S3Server, mlflow_server: MlflowServer, tmp_path: Path
) -> Iterator[Services]:
    """A database, a bucket and a registered model's name of this test's own."""
    services = Services(
        Settings(
            database_url=database_url,
            bucket=bucket_name,
            s3_endpoint_url=s3_server.endpoint_url,
            s3_access_key_id=s3_server.access_key_id,
            s3_secret_access_key=s3_server.secret_access_key,
            mlflow_tracking_uri=mlflow_server.tracking_uri,
            model_name=f"sentiment-{uuid.uuid4().hex[:8]}",
            state_dir=tmp_path / "cache",
        )
    )
    yield services
    services.engine.dispose()


@pytest.fixture(scope="session")
def training_set() -> Any:
    """A small training set of synthetic film reviews (schema.SNAPSHOT)."""
    import pyarrow as pa

    from sentiment_core import schema
    from sentiment_core.reviews.sample import generate

    reviews = generate(3000, domain="films", seed=3).to_pylist()
    labels = {1: "negative", 2: "negative", 3: "neutral", 4: "positive", 5: "positive"}
    rows = [
        {**dict.fromkeys(schema.SNAPSHOT.names), **{name: row[name] for name in ("review_id", "product_id", "source", "text")},
         "label": labels[row["rating"]], "origin": "standing"}
        for row in reviews
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schema.SNAPSHOT)


@pytest.fixture(scope="session")
def quick_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The policy's file but for the search: two recipes are tried, where what is tested is not which one is found."""
    policy = (REPOSITORY / "include" / "policy.toml").read_text(encoding="utf-8")
    hurried, n = re.subn(r"^trials = \d+ ", "trials = 2 ", policy, flags=re.MULTILINE)
    assert n == 1
    path = tmp_path_factory.mktemp("policy") / "policy.toml"
    path.write_text(hurried, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def candidate(training_set: Any, quick_policy: Path) -> Any:
    """A model trained on it, once."""
    from sentiment_core.model.training import train
    from sentiment_core.policy import read_policy

    return train(training_set, policy=read_policy(quick_policy))


@pytest.fixture
def trained_model(training_set: Any, candidate: Any) -> Callable[[Services], ModelRef]:
    """Registers the model with the given services and makes it champion; every call gives the next version."""

    def register(services: Services) -> ModelRef:
        from sentiment_core.stages.training_sets import write_snapshot

        key = write_snapshot(services, training_set)
        # Without what was tried and without pictures: each recipe costs the server a run, each picture half a second,
        # and no test of these looks at them.
        short = replace(candidate, trials=(), curves={})
        ref = services.registry.register(short, snapshot_key=key, code_version="test", run_name="test", description="test")
        services.registry.set_alias("champion", ref.version)
        return ref

    return register


@pytest.fixture(scope="session")
def contents() -> Callable[[str, list[dict[str, Any]]], bytes]:
    """Bytes of a file of rows: parquet, jsonl or csv, with .gz behind it where it is to be compressed."""

    def write(form: str, rows: list[dict[str, Any]]) -> bytes:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if form == "parquet":
            sink = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(rows), sink)
            return sink.getvalue()
        if form.startswith("jsonl"):
            data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        else:
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
            data = text.getvalue().encode()
        return gzip.compress(data) if form.endswith(".gz") else data

    return write


@dataclass(frozen=True, kw_only=True)
class BadFolder:
    """What goes wrong in a night's folder, beside what does not."""

    objects: dict[str, bytes]
    """Content by name."""
    good_ids: set[str]
    """Reviews that have to be scored."""
    unreadable: dict[str, str]
    """Objects of which nothing can be scored, by name: what their reason has to say."""
    rejected: dict[tuple[str, int], str]
    """Rows that cannot be scored, by name of the object and row number: what their reason has to say."""


@pytest.fixture(scope="session")
def bad_folder() -> BadFolder:
    """A good file, four that cannot be read, and in each format one with good rows and bad ones."""
    good = [(f"good-{number}", f"a wonderful film with a moving story number {number}") for number in range(1000)]
    rows = {
        "rows.jsonl": [
            (("j0", "fine enough"), None),
            ((None, "nobody's"), "review_id"),
            (("j2", "a nul \x00 character"), "NUL"),
            (b'{"review_id": "j3", "text": "a nul \x00 byte"}', "JSON"),
            (b'{"review_id": "j4", "text": "broken \xff\xfe"}', "UTF-8"),
            (("j5", "x" * 10_000_000), "10,000,000"),
            (b'{"review_id": "j6", "text": ', "JSON"),
            (("j7", "   "), "text"),
            (b'{"review_id": "j8", "text": "old", "created_at": "1999-01-01T00:00:00Z"}', "created_at"),
            (b'{"review_id": "j9", "text": "nine of five", "rating": 9}', "rating"),
            (("j10", "fine again"), None),
        ],
        "rows.csv": [
            (b"c0,fine enough", None),
            (b",nobody's", "review_id"),
            (b"c2,a nul \x00 byte", "NUL"),
            (b"c3,broken \xff\xfe", "UTF-8"),
            (b"c4," + b"x" * 10_000_000, "10,000,000"),
            (b"c5,fine again", None),
            (b"c6,one,too many", "columns"),
        ],
        "rows.parquet": [
            (("p0", b"fine enough"), None),
            ((None, b"nobody's"), "review_id"),
            (("p2", b"a nul \x00 byte"), "NUL"),
            (("p3", b"broken \xff\xfe"), "UTF-8"),
            (("p4", b"x" * 10_000_000), "10,000,000"),
            (("p5", b"fine again"), None),
        ],
    }
    return BadFolder(
        objects={
            "good.parquet": _parquet(good),
            "truncated.parquet": _parquet(good)[:-200],
            "empty.jsonl": b"",
            "no-text.csv": b"review_id,body\n1,fine\n",
            "half.jsonl.gz": gzip.compress(_jsonl(good))[:-50],
            "rows.jsonl": _jsonl(row for row, _ in rows["rows.jsonl"]),
            "rows.csv": b"\n".join([b"review_id,text", *(row for row, _ in rows["rows.csv"])]),
            "rows.parquet": _parquet(row for row, _ in rows["rows.parquet"]),
        },
        good_ids={review_id for review_id, _ in good} | {"j0", "j10", "c0", "c5", "p0", "p5"},
        unreadable={"truncated.parquet": "Parquet", "empty.jsonl": "empty", "no-text.csv": "text", "half.jsonl.gz": "gzip"},
        rejected={
            (name, number): words for name, found in rows.items() for number, (_, words) in enumerate(found) if words is not None
        },
    )


def _jsonl(rows: Iterable[tuple[str | None, str] | bytes]) -> bytes:
    lines = (
        row if isinstance(row, bytes) else json.dumps(dict(zip(("review_id", "text"), row, strict=True))).encode() for row in rows
    )
    return b"\n".join(lines)


def _parquet(rows: Iterable[tuple[str | None, str | bytes]]) -> bytes:
    """Texts as they are given: Parquet keeps bytes that are no UTF-8 in a column of strings."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids, texts = zip(*rows, strict=True)
    raw = pa.array([words if isinstance(words, bytes) else words.encode() for words in texts], pa.binary())
    sink = io.BytesIO()
    pq.write_table(
        pa.table({"review_id": pa.array(ids), "text": pa.StringArray.from_buffers(len(raw), *raw.buffers()[1:])}), sink
    )
    return sink.getvalue()


class Browser:
    """A tab of a headless Chromium, driven over its DevTools protocol. Waits are polls with a deadline."""

    def __init__(self, socket):
        self._socket = socket
        self._count = 0
        self.events = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method, **parameters):
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == self._count:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def open(self, url):
        self.events.clear()
        self("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def ask(self, expression):
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['result'].get('description')}"
        return answer["result"].get("value")

    def wait(self, expression, timeout_s=40):
        deadline = time.monotonic() + timeout_s
        # an element comes back as true: by value it would be an empty object, or a chain without end
        found = f"(() => {{ try {{ const it = {expression}; return it?.nodeType ? true : it }} catch {{ return null }} }})()"
        while not (value := self.ask(found)):
            assert time.monotonic() < deadline, f"not true in {timeout_s} s: {expression}; at {self.ask('location.href')}"
            time.sleep(0.1)
        return value

    def type(self, selector, text):
        self.wait(f"document.querySelector({selector!r})")
        self.ask(f"document.querySelector({selector!r}).focus()")
        self("Input.insertText", text=text)

    def click(self, selector):
        self.wait(f"document.querySelector({selector!r})")
        self.ask(f"document.querySelector({selector!r}).click()")

    def log_in(self, user, password):
        """Fill in Airflow's own login form, on which the tab stands."""
        self.wait("location.pathname === '/auth/login'")
        self.type("input[name=username]", user)
        self.type("input[name=password]", password)
        self.click("button[type=submit], form button")

    def complaints(self):
        """What the console says: refused styles, scripts and frames, failed requests, exceptions."""
        entries = [event["params"]["entry"]["text"] for event in self.events if event["method"] == "Log.entryAdded"]
        return entries + [event["params"] for event in self.events if event["method"] == "Runtime.exceptionThrown"]


@pytest.fixture(scope="session")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests."""
    from websockets.sync.client import connect

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine; `apt-get install chromium` to run this")
    folder = tmp_path_factory.mktemp("chromium")
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--remote-debugging-port=0",
        "--lang=en-US",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([chromium, *options, f"--user-data-dir={folder}", "about:blank"], stdout=log, stderr=log)
        try:
            with connect(_tab_of(folder, process), max_size=None) as socket:
                yield Browser(socket)
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=20)


def _tab_of(profile: Path, process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError, StopIteration):
            port = (profile / "DevToolsActivePort").read_text(encoding="ascii").split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                return str(next(item["webSocketDebuggerUrl"] for item in json.load(answer) if item["type"] == "page"))
        assert process.poll() is None
        assert time.monotonic() < deadline, "Chromium did not start"
        time.sleep(0.1)


@pytest.fixture
def browser(tab: Browser) -> Browser:
    """The tab, logged in nowhere."""
    tab.open("data:text/html,empty")
    tab("Network.clearBrowserCookies")
    tab("Emulation.clearDeviceMetricsOverride")
    tab("Emulation.setTimezoneOverride", timezoneId="")
    return tab
