"""Processes we own: starting them, knowing them again, ending them with everything they started.

A process is known by its id *and* the moment it was created, so that a recycled id is never taken for ours. What a
dead component left behind is found by its session and by its working directory, which is the component's alone.
Also here, because ownership needs them: private files written atomically, a lock between processes, free ports.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sentiment_core.errors import Permanent, Transient

LAUNCHER = Path(__file__).with_name("launch.py")
FOREIGN_PREFIXES = ("AIRFLOW", "_AIRFLOW", "MLFLOW", "_MLFLOW", "AWS_", "SENTIMENT_", "PG", "RCLONE", "GUNICORN", "UVICORN")
FOREIGN_NAMES = {
    "PYTHONDONTWRITEBYTECODE",  # imports take twice as long without byte code
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "WEB_CONCURRENCY",
    "SQLALCHEMY_SILENCE_UBER_WARNING",
}
CLOCK_SLACK_S = 2  # the kernel counts in ticks since boot, and the boot time moves when the clock is set
KEPT_NAMES = {"AWS_CA_BUNDLE"}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same id."""

    pid: int
    created: float
    """Seconds since the epoch as the kernel reports them."""

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """The identity of a running process; None when there is none."""
        try:
            return cls(pid=pid, created=psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def is_alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.created) < CLOCK_SLACK_S
            return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False


def clean_environment(extra: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment without what would configure our components from outside, plus `extra`."""
    kept = {
        name: value
        for name, value in environ.items()
        if name in KEPT_NAMES or not (name in FOREIGN_NAMES or name.startswith(FOREIGN_PREFIXES))
    }
    for name in ("NO_PROXY", "no_proxy"):  # loopback is never asked of a proxy
        kept[name] = ",".join(filter(None, (environ.get(name), "127.0.0.1,localhost")))
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


def spawn(
    command: Sequence[str],
    *,
    directory: Path,
    log: Path,
    variables: Mapping[str, str],
    user: tuple[int, int] | None = None,
    is_tethered: bool = False,
) -> "subprocess.Popen[bytes]":
    """Start a program as leader of a new session, output appended to `log`; `user` (uid, gid) only as root."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    launcher: list[str] = []
    if user is not None or is_tethered:
        launcher = [
            sys.executable,
            "-I",
            "-S",
            str(LAUNCHER),
            *(["--tethered"] if is_tethered else []),
            *_as(user, command, directory),
        ]
    with log.open("ab") as output:
        return subprocess.Popen(
            [*launcher, *command],
            cwd=directory,
            env=clean_environment(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def run(command: Sequence[str], *, directory: Path, variables: Mapping[str, str], user: tuple[int, int] | None = None) -> str:
    """Run a program to its end and give its output; raises Transient with the output when it fails."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), *_as(user, command, directory)] if user else []
    done = subprocess.run(
        [*launcher, *command],
        cwd=directory,
        env=clean_environment(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise Transient(
            f"program {Path(command[0]).name}",
            expected="exit status 0",
            found=f"{done.returncode}: {done.stdout.strip()[-2000:]}",
            remedy="see what it says",
        )
    return done.stdout


def _as(user: tuple[int, int] | None, command: Sequence[str], directory: Path) -> list[str]:
    if user is None:
        return []
    closed = [path for path in (Path(command[0]), directory, Path(sys.executable)) if not is_reachable(path, user)]
    if closed and sys.platform != "linux":
        raise Permanent(
            f"folder {closed[0]}",
            expected="a path that an ordinary user may enter (PostgreSQL refuses to run as root)",
            found="a folder closed to others on the way",
            remedy="run as an ordinary user, or put the clone where others may enter",
        )
    return ["--user", f"{user[0]}:{user[1]}", *(["--reach"] if closed else [])]


def is_reachable(path: Path, user: tuple[int, int]) -> bool:
    """Whether `user` (uid, gid) may enter every folder above `path`."""
    uid, gid = user
    for folder in (*path.absolute().parents, *path.resolve().parents):
        found = folder.stat()
        bit = 0o100 if found.st_uid == uid else 0o010 if found.st_gid == gid else 0o001
        if not found.st_mode & bit:
            return False
    return True


def members(leader: Identity, directories: Iterable[Path]) -> list[psutil.Process]:
    """What belongs to a component: the processes of its session and those that work in its directories."""
    places = [os.path.realpath(directory) for directory in directories]
    # The id of a session stays taken while anything is in it, though its leader is gone, but not over a reboot.
    has_booted_since = leader.created < psutil.boot_time()
    is_session_ours = leader.is_alive() or not (has_booted_since or psutil.pid_exists(leader.pid))
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        if (is_session_ours and _session(process.pid) == leader.pid) or _works_in(process, places):
            found.append(process)
    return found


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _works_in(process: psutil.Process, places: Sequence[str]) -> bool:
    try:
        return bool(places) and process.cwd() in places
    except psutil.Error:  # another user's process, or gone
        return False


def stop(
    leader: Identity, *, directories: Iterable[Path] = (), with_signal: signal.Signals = signal.SIGTERM, patience_s: float = 15
) -> None:
    """Ask the leader to end, then end all that is left of its session and directories, by force if need be."""
    if leader.is_alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(leader.pid, with_signal)
        wait_until(lambda: not leader.is_alive(), patience_s)
    directories = list(directories)
    for sign, patience in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 10.0)):
        left = members(leader, directories)
        if leader.is_alive():
            left.append(psutil.Process(leader.pid))
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(sign)
        psutil.wait_procs(left, timeout=patience)


def wait_until(condition: Callable[[], bool], timeout_s: float, *, every_s: float = 0.05) -> bool:
    """Poll until the condition holds or the deadline passes; says which."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every_s)
    return True


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner may read, all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def to_json(value: Any) -> str:
    """JSON as our state files have it."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when there is no such file or it is not JSON (a cut write of another program)."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


@contextlib.contextmanager
def locked(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock between processes; it is free again when the holder dies. `on_wait` is called once if it is taken."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if on_wait is not None:
                on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def is_port_free(port: int) -> bool:
    """Whether a server of ours could listen on the loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return not accepts(port)


def accepts(port: int) -> bool:
    """Whether anything answers on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A loopback port nobody listens on, below the range from which outgoing connections take theirs."""
    # A port of the ephemeral range could be taken by any outgoing connection between two starts.
    import random

    for port in random.SystemRandom().sample(range(15_000, 30_000), 200):
        if is_port_free(port):
            return port
    raise Permanent("loopback ports", expected="a free one between 15000 and 30000", found="none", remedy="stop some servers")
