"""Processes, files and ports of the embedded stack."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from sentiment_core.local import processes
from sentiment_core.local.processes import Identity
from sentiment_core.local.state import Ledger, StateDir

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
# A leader whose child is in a process group of its own and sleeps on when the leader is killed.
PARENT_CODE = (
    "import subprocess, sys, time\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], process_group=0)\n"
    "print('ready', flush=True)\ntime.sleep(600)"
)
PARENT = [sys.executable, "-c", PARENT_CODE]


def _identity(process: "subprocess.Popen[bytes]") -> Identity:
    identity = Identity.of(process.pid)
    assert identity is not None
    return identity


def test_a_process_is_known_by_its_birth_too(tmp_path: Path) -> None:
    process = processes.spawn(SLEEPER, directory=tmp_path / "a", log=tmp_path / "log", variables={})
    identity = _identity(process)
    assert identity.is_alive()
    assert not Identity(pid=identity.pid, created=identity.created - 3600).is_alive()
    process.kill()
    assert processes.wait_until(lambda: not identity.is_alive(), 10), "a zombie counts as dead"
    process.wait()
    assert not identity.is_alive()


def test_stopping_ends_what_a_killed_leader_has_left(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = processes.spawn(PARENT, directory=tmp_path / "a", log=log, variables={})
    identity = _identity(process)
    assert processes.wait_until(lambda: "ready" in log.read_text(), 20)
    [child] = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    assert child.is_running()
    processes.stop(identity, directories=[tmp_path / "a"])
    assert processes.wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 10)


def test_after_a_reboot_a_session_of_the_same_id_is_a_strangers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = processes.spawn(PARENT, directory=tmp_path / "stranger", log=log, variables={})
    assert processes.wait_until(lambda: "ready" in log.read_text(), 20)
    [child] = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    processes.stop(Identity(pid=process.pid, created=psutil.boot_time() - 60), directories=[tmp_path / "ours"])
    assert child.status() != psutil.STATUS_ZOMBIE
    child.kill()


def test_stopping_leaves_a_stranger_with_the_same_id_alone(tmp_path: Path) -> None:
    stranger = processes.spawn(SLEEPER, directory=tmp_path / "stranger", log=tmp_path / "log", variables={})
    ours = Identity(pid=stranger.pid, created=_identity(stranger).created - 3600)
    processes.stop(ours, directories=[tmp_path / "ours"])
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_stubborn_process_is_ended_by_force(tmp_path: Path) -> None:
    log = tmp_path / "log"
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
    process = processes.spawn([sys.executable, "-c", stubborn], directory=tmp_path / "a", log=log, variables={})
    identity = _identity(process)
    assert processes.wait_until(lambda: "ready" in log.read_text(), 20)
    processes.stop(identity, patience_s=0.2)
    assert not identity.is_alive()
    process.wait(10)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
@pytest.mark.parametrize("inherited", ["SIG_DFL", "SIG_IGN"])  # the latter in what a shell has started in the background
def test_a_tethered_process_dies_with_its_parent(tmp_path: Path, inherited: str) -> None:
    code = (
        "import sys, pathlib, signal, time\n"
        f"signal.signal(signal.SIGINT, signal.{inherited})\n"
        "from sentiment_core.local import processes\n"
        f"p = processes.spawn({SLEEPER!r}, directory=pathlib.Path({str(tmp_path / 'a')!r}), log=pathlib.Path({str(tmp_path / 'log')!r}),"
        " variables={}, is_tethered=True)\n"
        "deadline = time.monotonic() + 20\n"
        "import psutil\n"
        "while 'launch.py' in ' '.join(psutil.Process(p.pid).cmdline()) and time.monotonic() < deadline: time.sleep(.05)\n"
        "print(p.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert processes.wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 10)


def test_foreign_settings_do_not_reach_a_component() -> None:
    environ = {
        "PATH": "/bin",
        "AIRFLOW__CORE__DAGS_FOLDER": "/elsewhere",
        "AWS_PROFILE": "work",
        "AWS_CA_BUNDLE": "/ca.pem",
        "MLFLOW_TRACKING_URI": "http://elsewhere",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PGHOST": "elsewhere",
        "NO_PROXY": "intranet",
    }
    kept = processes.clean_environment({"MLFLOW_TRACKING_URI": "http://here"}, environ)
    assert kept["MLFLOW_TRACKING_URI"] == "http://here"
    assert kept["NO_PROXY"] == "intranet,127.0.0.1,localhost"
    assert kept.keys() >= {"PATH", "AWS_CA_BUNDLE"}
    assert not kept.keys() & {"AIRFLOW__CORE__DAGS_FOLDER", "AWS_PROFILE", "PYTHONDONTWRITEBYTECODE", "PGHOST"}


def test_a_private_file_is_whole_or_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "secrets.json"
    processes.write_private(path, "first")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def full(_: int) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        processes.write_private(path, "second")
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_lock_is_waited_for_and_freed_by_death(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import pathlib, sys, time\nfrom sentiment_core.local.processes import locked\n"
        f"with locked(pathlib.Path({str(path)!r})):\n    print('held', flush=True)\n    time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    waited, got = threading.Event(), threading.Event()

    def take() -> None:
        with processes.locked(path, on_wait=waited.set):
            got.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert waited.wait(10)
    assert not got.is_set()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert got.wait(10)
    thread.join()


def test_a_folder_closed_to_others_is_seen_as_such(tmp_path: Path) -> None:
    user = (65534, 65534)
    (tmp_path / "open" / "closed" / "inner").mkdir(parents=True)
    for folder in (tmp_path / "open", tmp_path / "open" / "closed"):
        folder.chmod(0o755)
    top_is_open = processes.is_reachable(tmp_path / "open", user)
    (tmp_path / "open" / "closed").chmod(0o700)
    assert not processes.is_reachable(tmp_path / "open" / "closed" / "inner", user)
    assert processes.is_reachable(Path("/"), user)
    assert processes.is_reachable(tmp_path / "open" / "closed", user) is top_is_open


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root on Linux gives itself up and keeps a capability"
)
def test_root_becomes_nobody_who_can_still_reach_a_closed_folder_but_nothing_more(tmp_path: Path) -> None:
    program = tmp_path / "closed" / "program"
    program.parent.mkdir(mode=0o700)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    code = (
        "import os, pathlib\n"
        f"print(os.getuid(), os.access({str(program)!r}, os.X_OK), len(pathlib.Path({str(program)!r}).read_text()))\n"
        "caps = dict(line.split(':\\t') for line in pathlib.Path('/proc/self/status').read_text().splitlines() if 'Cap' in line)\n"
        "print(caps['CapEff'], caps['CapPrm'])\n"
        "try:\n    os.setuid(0)\nexcept PermissionError:\n    print('not root again')\n"
    )
    said = processes.run([sys.executable, "-c", code], directory=tmp_path / "closed", variables={}, user=(65534, 65534))
    assert said.splitlines() == ["65534 True 10", "0000000000000002 0000000000000002", "not root again"]


def test_ports_are_remembered_and_given_up_only_to_strangers(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    first = state.ports()
    assert len(set(first.values())) == len(first) == 4
    assert state.ports() == first
    import socket

    with socket.create_server(("127.0.0.1", first["s3"])):
        assert state.ports(kept=["s3"]) == first, "our own server may hold its port"
        second = state.ports()
    assert {name for name in first if first[name] != second[name]} == {"s3"}
    assert StateDir(tmp_path).ports() == second


def test_secrets_are_made_once_and_are_long(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    secrets = state.secrets()
    assert state.secrets() == secrets
    assert all(len(secret) >= 32 for secret in secrets.values())
    assert len(set(secrets.values())) == len(secrets)
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600


def test_the_ledger_tells_a_later_reader_what_is_ours(tmp_path: Path) -> None:
    own = Identity.of(os.getpid())
    assert own is not None
    Ledger(StateDir(tmp_path)).record("s3", **vars(own), phase="healthy")
    later = Ledger(StateDir(tmp_path))
    assert later.identity("s3") == own
    later.record("s3", created=own.created - 3600)
    assert later.identity("s3") is None
    assert later.known("s3")["phase"] == "healthy"
    assert later.known("postgres") == {}
