"""Keeps the components of one stack alive until told to stop.

One keeper thread a component: wait for what it requires, prepare, start, wait until it is well, complete, watch, and
start again with growing pauses when it dies. A supervisor that finds components of a dead predecessor takes them over.
`python -m sentiment_core.local.supervisor STATE_DIR` is started detached by `stack`; SIGTERM stops everything.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from sentiment_core.errors import Permanent
from sentiment_core.local.component import Component
from sentiment_core.local.processes import Identity
from sentiment_core.local.state import Ledger, StateDir

log = logging.getLogger("supervisor")
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0  # after this long a death counts as the first again
WATCH_EVERY_S = 0.5
PROBE_EVERY_S = 5.0
LOG_LIMIT_BYTES = 20_000_000
PARTS = ("thing", "expected", "found", "remedy")  # of an error of ours


class Keeper(threading.Thread):
    """Keeps one component alive."""

    def __init__(self, component: Component, supervisor: "Supervisor") -> None:
        super().__init__(name=component.name, daemon=True)
        self.component = component
        self.is_well = threading.Event()
        self._supervisor = supervisor
        self._ledger = supervisor.ledger
        self._stopping = supervisor.stopping
        self._process: subprocess.Popen[bytes] | None = None
        self._identity: Identity | None = None

    def run(self) -> None:
        """Start and start again until the supervisor stops."""
        pause_s = FIRST_PAUSE_S
        n_restarts = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._live()
                problem: Exception | str = "ended"
            except Exception as error:  # a component that cannot be prepared is tried again
                problem = error
                log.exception("%s", self.component.name)
            self.is_well.clear()
            if self._stopping.is_set():
                return
            self._clear()
            if time.monotonic() - began > STEADY_S:
                pause_s = FIRST_PAUSE_S
            n_restarts += 1
            log.warning("%s: %s; starting it again in %.0f s", self.component.name, problem, pause_s)
            self._ledger.record(self.component.name, n_restarts=n_restarts)
            self._tell_problem(problem)
            self._stopping.wait(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _live(self) -> None:
        """One life of the program, from start to death."""
        self._identity = self._adopt()
        if self._identity is None:
            self._await_required()
            self._tell("preparing")
            self.component.prepare()
            if self._stopping.is_set():
                return
            self._start()
        self._await_well()
        if self._is_over():
            return
        self._complete()
        if self._is_over():
            return
        self.is_well.set()
        self._tell("healthy")
        log.info("%s is healthy", self.component.name)
        self._watch()

    def _adopt(self) -> Identity | None:
        """The running program of a dead predecessor, when it was started from the same description."""
        identity = self._ledger.identity(self.component.name)
        if self._process is not None or identity is None:
            return None
        if self._ledger.known(self.component.name).get("fingerprint") == self.component.fingerprint:
            log.info("%s: taken over, pid %d", self.component.name, identity.pid)
            return identity
        log.info("%s: its description has changed; starting it anew", self.component.name)
        return None

    def _await_required(self) -> None:
        for name in self.component.requires:
            self._tell("waiting", f"for {name}")
            while not self._stopping.is_set() and not self._supervisor.keepers[name].is_well.wait(0.1):
                pass

    def _start(self) -> None:
        self._clear()
        self._process = self.component.start()
        self._identity = Identity.of(self._process.pid)
        if self._identity is None:
            return
        self._ledger.record(
            self.component.name,
            **vars(self._identity),
            fingerprint=self.component.fingerprint,
            port=self.component.port,
            started_at=time.time(),
        )

    def _clear(self) -> None:
        """End what is left of the last life."""
        identity = self._ledger.last_identity(self.component.name)
        if identity is not None:
            self.component.stop(identity)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)

    def _is_over(self) -> bool:
        if self._stopping.is_set():
            return True
        if self._process is not None and self._process.poll() is not None:
            return True
        return self._identity is None or not self._identity.is_alive()

    def _await_well(self) -> None:
        while not self._is_over():
            missing = self._probe()
            if missing is None:
                return
            self._tell("starting", missing)
            self._stopping.wait(0.25)

    def _complete(self) -> None:
        """Do what follows a start, again and again until it succeeds: the program itself is well and goes on."""
        pause_s = FIRST_PAUSE_S
        while not self._is_over():
            try:
                self.component.complete()
            except Exception as error:  # whatever it is, it is told, and a person may mend it meanwhile
                log.exception("%s", self.component.name)
                self._tell_problem(error)
                self._stopping.wait(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            else:
                return

    def _watch(self) -> None:
        next_probe = time.monotonic() + PROBE_EVERY_S
        while not self._is_over():
            self._stopping.wait(WATCH_EVERY_S)
            if time.monotonic() < next_probe or self._is_over():
                continue
            missing = self._probe()
            _rotate(self.component.log)
            self._tell("healthy" if missing is None else "unhealthy", missing or "")
            next_probe = time.monotonic() + PROBE_EVERY_S

    def _probe(self) -> str | None:
        return self.component.probe(self._identity.created if self._identity else 0)

    def _tell(self, phase: str, detail: str = "") -> None:
        self._ledger.record(self.component.name, phase=phase, detail=detail, problem=None)

    def _tell_problem(self, problem: Exception | str) -> None:
        """A permanent error is told with all its parts: waiting will not help whoever waits."""
        parts = {name: vars(problem)[name] for name in PARTS} if isinstance(problem, Permanent) else None
        phase = "failed" if parts else "restarting"
        self._ledger.record(self.component.name, phase=phase, detail=str(problem), problem=parts)

    def stop(self) -> None:
        """End the program; the thread has seen `stopping` by then."""
        self.join(timeout=30)
        identity = self._ledger.last_identity(self.component.name)
        self._tell("stopping")
        if identity is not None:
            self.component.stop(identity)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)
        self._ledger.record(self.component.name, pid=None, created=None, phase="stopped", detail="")
        log.info("%s has stopped", self.component.name)


class Supervisor:
    """All components of a stack."""

    def __init__(self, components: list[Component], ledger: Ledger) -> None:
        self.ledger = ledger
        self.stopping = threading.Event()
        self.keepers = {component.name: Keeper(component, self) for component in components}

    def run(self) -> None:
        """Keep everything alive until `stopping` is set, then stop it in reverse order."""
        for keeper in self.keepers.values():
            keeper.start()
        while not self.stopping.wait(1):
            pass
        for wave in reversed(waves([keeper.component for keeper in self.keepers.values()])):
            threads = [threading.Thread(target=self.keepers[component.name].stop) for component in wave]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()


def waves(components: list[Component]) -> list[list[Component]]:
    """Components in the order in which they may start: each wave requires only earlier ones."""
    left, done, order = list(components), set[str](), list[list[Component]]()
    while left:
        wave = [component for component in left if done.issuperset(component.requires)]
        if not wave:
            raise ValueError(f"components that wait for each other: {[component.name for component in left]}")
        order.append(wave)
        done.update(component.name for component in wave)
        left = [component for component in left if component.name not in done]
    return order


def _rotate(path: Path) -> None:
    """Keep a log within bounds while its program writes to it: it appends, so it goes on at the new end."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_LIMIT_BYTES:
            shutil.copyfile(path, path.with_suffix(".log.1"))
            os.truncate(path, 0)


def main(state_dir: Path) -> int:
    """Run the supervisor of a stack; at once over when another one lives."""
    from sentiment_core.local.stack import LocalStack

    os.umask(0o077)
    directory = StateDir(state_dir)
    directory.create()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    with directory.supervisor_lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return 0
        identity = Identity.of(os.getpid())
        if identity is not None:
            directory.write_supervisor(identity)
        supervisor = Supervisor(LocalStack(state_dir).components(), Ledger(directory))
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, lambda *_: supervisor.stopping.set())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        log.info("supervisor starts, pid %d", os.getpid())
        supervisor.run()
        log.info("supervisor ends")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
