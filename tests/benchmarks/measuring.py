"""What a measurement is, and how contenders are raced: each in a process of its own, in turns, round after round.

A contender is prepared once (imports, models, warm-up) and then told to go. Between its turns it sleeps, so its
neighbours have the machine; taking turns lets the machine's moods fall on all alike. CPU time is user + system of the
process and its children; peak memory is the process's own high-water mark. What the contenders do stands elsewhere.
"""

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
# One core each unless a contender asks for more: libraries that start threads of their own would blur "per core".
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ARROW_NUM_THREADS"), "1")
MEGABYTE = 1e6

Tell = Callable[[str], None]


class BenchError(RuntimeError):
    """A contender died, could not be set up, or gave a wrong result."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One go of a contender."""

    n: int
    """Reviews."""
    n_bytes: int
    """Of text, UTF-8."""
    cpu_s: float
    wall_s: float
    peak_bytes: int
    """High-water mark of the process's memory so far."""
    result: Any = None
    """What it found, where that is small."""

    @property
    def cpu_per_byte(self) -> float:
        """CPU seconds a byte of text: what is compared, as contenders may be given different numbers of reviews."""
        return self.cpu_s / self.n_bytes

    @property
    def wall_per_byte(self) -> float:
        """Wall seconds a byte of text."""
        return self.wall_s / self.n_bytes


@dataclass(frozen=True)
class Race:
    """All turns of all contenders, round by round."""

    turns: Mapping[str, list[Turn]] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.turns

    def typical(self, name: str) -> Turn:
        """The turn of median CPU time."""
        ranked = sorted(self.turns[name], key=lambda turn: turn.cpu_s)
        return ranked[(len(ranked) - 1) // 2]

    def ratio(self, slow: str, quick: str, measure: str = "cpu_per_byte") -> float:
        """How many times less `quick` needs than `slow`: the median of the rounds' ratios."""
        pairs = zip(self.turns[slow], self.turns[quick], strict=True)
        return statistics.median(getattr(one, measure) / getattr(other, measure) for one, other in pairs)


class Contender:
    """A process that prepares itself once and then goes whenever it is told."""

    def __init__(self, command: list[str], spec: dict[str, Any], log: Path, variables: Mapping[str, str] = ONE_THREAD) -> None:
        self.name = spec["contender"]
        self._log = log
        self._is_ready = False
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=REPOSITORY, text=True,
                env={**os.environ, **variables},
            )  # fmt: skip
        self._say(spec)

    def wait_until_ready(self) -> None:
        """Blocks until it is prepared."""
        if not self._is_ready:
            self._hear()
            self._is_ready = True

    def go(self, **orders: Any) -> Turn:
        """One turn."""
        self._say(orders)
        return Turn(**self._hear())

    def stop(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=20)
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _say(self, message: dict[str, Any]) -> None:
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            self._died()

    def _hear(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            self._died()
        return json.loads(line)

    def _died(self) -> None:
        self._process.wait()
        tail = "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:])
        raise BenchError(f"{self.name} ended with status {self._process.returncode}; the end of {self._log}:\n{tail}")


def worker(spec: dict[str, Any], workspace: Path, *, variables: Mapping[str, str] = ONE_THREAD) -> Contender:
    """A contender out of `contenders` or `nights`, started with this Python."""
    command = [sys.executable, "-m", "tests.benchmarks.worker"]
    return Contender(command, spec, workspace / "logs" / f"{spec['contender']}.log", variables)


@contextlib.contextmanager
def at_the_start(contenders: list[Contender], tell: Tell) -> Iterator[list[Contender]]:
    """Contenders that are prepared side by side, and ended at the end of the block."""
    try:
        for contender in contenders:
            tell(f"preparing {contender.name}")
            contender.wait_until_ready()
        yield contenders
    finally:
        for contender in contenders:
            contender.stop()


def race(contenders: list[Contender], rounds: int, tell: Tell) -> Race:
    """Every contender once a round, in turns."""
    turns: dict[str, list[Turn]] = {contender.name: [] for contender in contenders}
    with at_the_start(contenders, tell):
        for number in range(rounds):
            for contender in contenders:
                tell(f"round {number + 1} of {rounds}: {contender.name}")
                turns[contender.name].append(contender.go())
    return Race(turns)


def own_cpu() -> float:
    """User + system seconds of this process and of the children it has waited for."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def own_peak() -> int:
    """High-water mark of this process's memory in bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:  # not Linux: macOS counts in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def tree_cpu(pid: int) -> float:
    """User + system seconds of a process, of all its descendants, and of those that have ended and were waited for.

    One that ends while the others are looked at would be missed: then all are looked at again.
    """
    root = psutil.Process(pid)
    while True:
        total, ended = 0.0, _of_ended(root.cpu_times())
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                spent = process.cpu_times()
                total += spent.user + spent.system + _of_ended(spent)
        if _of_ended(root.cpu_times()) == ended:
            return total


def _of_ended(spent: Any) -> float:
    return float(getattr(spent, "children_user", 0.0) + getattr(spent, "children_system", 0.0))


class Stopwatch:
    """Wall and CPU time of a `with` block."""

    def __enter__(self) -> Self:
        self._wall, self._cpu = time.perf_counter(), own_cpu()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s, self.cpu_s = time.perf_counter() - self._wall, own_cpu() - self._cpu
