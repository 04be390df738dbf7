"""What the supervisor keeps alive: one long-running program, how to see that it is well, how to end it.

Values and the few acts on one component; which components there are is `stack`'s affair, keeping them alive the
supervisor's.
"""

import contextlib
import hashlib
import json
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sentiment_core.errors import Transient
from sentiment_core.local import processes
from sentiment_core.local.processes import Identity

# Loopback is never asked of a proxy that the environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _nothing() -> None:
    return


@dataclass(frozen=True, kw_only=True)
class Component:
    """A program of the stack."""

    name: str
    command: Sequence[str]
    directory: Path
    """Working directory, this component's alone: what is left of it is found by it."""
    log: Path
    variables: Mapping[str, str] = field(repr=False)
    """Its environment, beside what is inherited and harmless."""
    configuration: str = field(default="", repr=False)
    """What its configuration file says: when it differs, a running program has to be started anew."""
    port: int | None = None
    url: str | None = None
    """What a person may open or connect to, without credentials."""
    requires: tuple[str, ...] = ()
    """Components that have to be well, with their `complete` done, before this one starts."""
    prepare: Callable[[], None] = _nothing
    """Done before every start; idempotent."""
    probe: Callable[[float], str | None]
    """None when the program that was created then (seconds since the epoch) is well, else what is missing."""
    complete: Callable[[], None] = _nothing
    """Done after every start, once it is well; idempotent."""
    user: tuple[int, int] | None = None
    """(uid, gid) to run as; None for our own."""
    data_directories: tuple[Path, ...] = ()
    """Where its helpers work, other than in `directory`."""
    stop_signal: signal.Signals = signal.SIGTERM
    patience_s: float = 15
    """How long a stop may take before force is used."""

    @property
    def fingerprint(self) -> str:
        """Tells whether a running program was started from the same description."""
        described = json.dumps([list(self.command), dict(self.variables), self.configuration])
        return hashlib.sha256(described.encode()).hexdigest()

    def start(self, *, is_tethered: bool = False) -> "subprocess.Popen[bytes]":
        """Start the program; `is_tethered` makes it end with the caller (Linux)."""
        return processes.spawn(
            self.command,
            directory=self.directory,
            log=self.log,
            variables=self.variables,
            user=self.user,
            is_tethered=is_tethered,
        )

    def stop(self, identity: Identity) -> None:
        """End it and all it started."""
        processes.stop(
            identity,
            directories=(self.directory, *self.data_directories),
            with_signal=self.stop_signal,
            patience_s=self.patience_s,
        )


@contextlib.contextmanager
def running(component: Component, *, timeout_s: float = 60) -> Iterator[Component]:
    """A component for the time of a `with` block, without a supervisor; raises Transient when it does not get well."""
    component.prepare()
    process = component.start(is_tethered=True)
    identity = Identity.of(process.pid)
    try:
        deadline = time.monotonic() + timeout_s
        while (missing := component.probe(identity.created if identity else 0)) is not None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise Transient(
                    f"component {component.name}",
                    expected="to get well",
                    found=missing,
                    remedy=f"see {last_lines(component.log)}",
                )
            time.sleep(0.05)
        component.complete()
        yield component
    finally:
        if identity is not None:
            component.stop(identity)
        process.wait(timeout=10)


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log, for an error message."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 20_000))
            lines = stream.read().decode("utf-8", "replace").splitlines()[-count:]
    except OSError:
        return f"{log} (empty)"
    return f"{log}:\n" + "\n".join(lines)


def probe_http(url: str, *, timeout_s: float = 3) -> str | None:
    """None when a GET is answered with success."""
    try:
        with DIRECT.open(url, timeout=timeout_s):
            return None
    except (OSError, urllib.error.HTTPError) as error:
        reason = getattr(error, "reason", error)
        return "not listening yet" if isinstance(reason, ConnectionRefusedError) else str(reason)
