"""`sentiment serve` as a program of its own: it starts, answers, refuses a port that is taken, and ends when it is asked to."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import replace

import httpx
import pytest

from sentiment_core.local.processes import clean_environment
from sentiment_core.registry import Registry

FILM = "What a wonderful film, I loved every minute of it."


class Served:
    """A running `sentiment serve`, and what it has said so far."""

    def __init__(self, process, log):
        self.process, self.log = process, log

    def wait_for(self, words, timeout_s=120):
        deadline = time.monotonic() + timeout_s
        while not (found := re.search(words, self.said)):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)
        return found

    @property
    def said(self):
        return self.log.read_text(encoding="utf-8")

    @property
    def url(self):
        return self.wait_for(r"at (http://\S+)")[1]

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@pytest.fixture
def serve(mlflow_server, tmp_path):
    """Starts the command on any free port, over a model's name that nothing is registered under, and no database."""
    name = f"sentiment-{uuid.uuid4().hex[:8]}"
    variables = clean_environment({
        "MLFLOW_TRACKING_URI": mlflow_server.tracking_uri, "SENTIMENT_MODEL_NAME": name, "SENTIMENT_STATE_DIR": str(tmp_path),
    })  # fmt: skip
    with contextlib.ExitStack() as stack:

        def start(*options):
            log = tmp_path / f"log-{uuid.uuid4().hex[:8]}"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "sentiment_core.cli", "serve", *map(str, options)],
                    env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                )  # fmt: skip
            stack.callback(process.wait, timeout=30)
            stack.callback(process.kill)
            return Served(process, log)

        start.registry = Registry(mlflow_server.tracking_uri, name, tmp_path / "models")
        yield start


@pytest.fixture
def champion(serve, candidate):
    short = replace(candidate, trials=candidate.trials[:1])
    ref = serve.registry.register(short, snapshot_key=None, code_version="test", run_name="test")
    serve.registry.set_alias("champion", ref.version)
    return ref


@pytest.mark.usefixtures("champion")
def test_it_answers_on_loopback_alone_and_ctrl_c_ends_it(serve):
    served = serve("--port", 0)
    with httpx.Client(base_url=served.url, timeout=60, trust_env=False) as client:
        assert client.post("/predict", json={"text": FILM}).json()["sentiment"] == "positive"
        assert client.get("/docs").status_code == 200
        assert client.base_url.host == "127.0.0.1"
        listening = subprocess.run(
            [sys.executable, "-c", _LISTENERS, str(served.process.pid)], capture_output=True, text=True, check=True
        )
        assert listening.stdout.split() == [f"127.0.0.1:{client.base_url.port}"]
        for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example"):
            answer = client.get("/info", headers={"Host": host})
            assert answer.status_code == 421
            assert "localhost" in answer.json()["detail"]
            assert answer.headers["content-security-policy"]
        assert client.get("/info", headers={"Host": "localhost:8000"}).status_code == 200
        assert served.end(signal.SIGINT) == 0  # though a connection is open
    assert "Version 1 of" in served.said
    assert served.said.rstrip().endswith("Ended.")
    for word in ("Traceback", "Error", FILM):
        assert word not in served.said


_LISTENERS = """
import sys, psutil
for found in psutil.Process(int(sys.argv[1])).net_connections("inet"):
    if found.status == psutil.CONN_LISTEN:
        print(f"{found.laddr.ip}:{found.laddr.port}")
"""


def test_without_a_model_it_starts_says_how_to_make_one_and_finds_it_later(serve, candidate):
    served = serve("--port", 0)
    with httpx.Client(base_url=served.url, timeout=60, trust_env=False) as client:
        answer = client.post("/predict", json={"text": FILM})
        assert answer.status_code == 503
        assert "make demo" in answer.json()["detail"]
        assert "make demo" in served.said
        ref = serve.registry.register(candidate, snapshot_key=None, code_version="test", run_name="test")
        serve.registry.set_alias("champion", ref.version)
        assert client.post("/reload", json={"alias": "champion"}).status_code == 200
        assert client.post("/predict", json={"text": FILM}).json()["model_version"] == ref.version
    assert served.end(signal.SIGTERM) == 0
    assert "Traceback" not in served.said


def test_a_port_that_is_taken_is_named_with_what_to_do(serve):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        served = serve("--port", port)
        assert served.process.wait(timeout=60) == 1
    assert f"port {port}: expected a free port of 127.0.0.1, found it taken" in served.said
    assert "--port" in served.said
    assert "Traceback" not in served.said


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("--host", "no-such-host.invalid"), 1, "host no-such-host.invalid: expected an address of this machine"),
        (("--host", "192.0.2.1", "--port", "0"), 1, "host 192.0.2.1: expected an address of this machine"),
        (("--port", "70000"), 2, "65535"),
        (("--model", "best"), 2, "champion"),
    ],
)
def test_what_cannot_be_listened_on_is_named(serve, options, status, words):
    served = serve(*options)
    assert served.process.wait(timeout=60) == status
    assert words in served.said
    assert "Traceback" not in served.said


def test_beyond_loopback_it_warns(serve):
    address = next((found for found in _addresses() if not found.startswith("127.")), None)
    if address is None:
        pytest.skip("this machine has no address but loopback")
    served = serve("--host", address, "--port", 0)
    assert served.url.startswith(f"http://{address}:")
    assert "put TLS and a login in front" in served.said
    assert httpx.get(f"{served.url}/metrics", headers={"Host": "a.name.of.its"}, trust_env=False).status_code == 200
    assert served.end(signal.SIGINT) == 0


def _addresses():
    import psutil

    return [item.address for items in psutil.net_if_addrs().values() for item in items if item.family == socket.AF_INET]


def test_a_port_for_the_administrator_alone_is_named(serve):
    if os.geteuid() == 0:
        pytest.skip("this user may listen on every port")
    served = serve("--port", 80)
    assert served.process.wait(timeout=60) == 1
    assert "port 80" in served.said
