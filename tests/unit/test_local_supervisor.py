"""The supervisor, with small real programs instead of servers."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sentiment_core.errors import Permanent
from sentiment_core.local import supervisor as supervising
from sentiment_core.local.component import Component
from sentiment_core.local.processes import wait_until
from sentiment_core.local.state import Ledger, StateDir
from sentiment_core.local.supervisor import Supervisor, waves

PROGRAM = "import time; print('ready', flush=True); time.sleep(600)"


@pytest.fixture
def component(tmp_path: Path) -> Callable[..., Component]:
    def make(name: str, **changes: object) -> Component:
        log = tmp_path / f"{name}.log"
        made = Component(
            name=name,
            command=[sys.executable, "-c", PROGRAM],
            directory=tmp_path / name,
            log=log,
            variables={},
            probe=lambda _: None if log.exists() and "ready" in log.read_text() else "silent",
        )
        return replace(made, **changes)  # type: ignore[arg-type]

    return make


@contextmanager
def supervised(state: StateDir, *components: Component) -> Iterator[Supervisor]:
    running = Supervisor(list(components), Ledger(state))
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        yield running
    finally:
        running.stopping.set()
        thread.join(60)
        assert not thread.is_alive()


def test_a_component_that_dies_is_started_again(tmp_path: Path, component: Callable[..., Component]) -> None:
    state = StateDir(tmp_path / "state")
    with supervised(state, component("one")) as running:
        assert running.keepers["one"].is_well.wait(20)
        first = Ledger(state).identity("one")
        assert first is not None
        os.kill(first.pid, 9)
        assert wait_until(lambda: Ledger(state).identity("one") not in (None, first), 20)
        assert wait_until(lambda: Ledger(state).known("one")["phase"] == "healthy", 20)
        assert Ledger(state).known("one")["n_restarts"] == 1
        second = Ledger(state).identity("one")
    assert second is not None
    assert not second.is_alive()
    assert Ledger(state).known("one")["phase"] == "stopped"


def test_a_component_waits_for_what_it_requires(tmp_path: Path, component: Callable[..., Component]) -> None:
    state = StateDir(tmp_path / "state")
    done: list[str] = []
    lower = component("lower", complete=lambda: done.append("lower"))
    upper = component("upper", requires=("lower",), prepare=lambda: done.append("upper"))
    with supervised(state, upper, lower) as running:
        assert running.keepers["upper"].is_well.wait(20)
    assert done == ["lower", "upper"]


def test_a_failing_preparation_is_told_and_tried_again(
    tmp_path: Path, component: Callable[..., Component], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "FIRST_PAUSE_S", 0.05)
    state = StateDir(tmp_path / "state")
    problems = ["the disk is full", "the disk is still full"]
    seen: list[str] = []

    def prepare() -> None:
        if problems:
            raise OSError(problems.pop(0))

    def look() -> bool:
        seen.append(str(Ledger(state).known("one").get("detail")))
        return Ledger(state).known("one").get("phase") == "healthy"

    with supervised(state, component("one", prepare=prepare)):
        assert wait_until(look, 20, every_s=0.005)
    assert "the disk is full" in seen
    assert Ledger(state).known("one")["n_restarts"] == 2


def test_a_permanent_problem_is_told_in_full_and_the_program_goes_on(
    tmp_path: Path, component: Callable[..., Component], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "FIRST_PAUSE_S", 0.05)
    state = StateDir(tmp_path / "state")
    parts = {"thing": "schema", "expected": "version 3", "found": "version 4", "remedy": "update this code"}
    is_mended = threading.Event()

    def complete() -> None:
        if not is_mended.is_set():
            raise Permanent(**parts)

    with supervised(state, component("one", complete=complete)) as running:
        assert wait_until(lambda: Ledger(state).known("one").get("problem") == parts, 20)
        first = Ledger(state).identity("one")
        assert not running.keepers["one"].is_well.is_set()
        is_mended.set()
        assert running.keepers["one"].is_well.wait(20)
        assert Ledger(state).identity("one") == first
        assert wait_until(lambda: Ledger(state).known("one")["problem"] is None, 20)


def test_a_successor_takes_over_what_runs_as_described_and_renews_the_rest(
    tmp_path: Path, component: Callable[..., Component]
) -> None:
    state = StateDir(tmp_path / "state")
    ledger = Ledger(state)
    same, other = component("same"), component("other")
    started = {}
    for item in (same, other):  # as a supervisor that was killed has left them
        process = item.start()
        started[item.name] = process
        from sentiment_core.local.processes import Identity

        identity = Identity.of(process.pid)
        assert identity is not None
        ledger.record(item.name, **vars(identity), fingerprint=item.fingerprint)
    reaper = [threading.Thread(target=process.wait) for process in started.values()]
    for thread in reaper:
        thread.start()
    changed = replace(other, variables={"NEW": "1"})
    with supervised(state, same, changed):
        assert wait_until(lambda: all(Ledger(state).known(name).get("phase") == "healthy" for name in ("same", "other")), 30)
        assert Ledger(state).known("same")["pid"] == started["same"].pid
        assert Ledger(state).known("other")["pid"] != started["other"].pid
    for thread in reaper:
        thread.join(10)
        assert not thread.is_alive()


def test_a_log_is_cut_while_its_program_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "LOG_LIMIT_BYTES", 10)
    log = tmp_path / "one.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"a long first line\n")
        supervising._rotate(log)
        writer.write(b"second\n")
    assert log.read_text() == "second\n"
    assert (tmp_path / "one.log.1").read_text() == "a long first line\n"


def test_components_start_in_waves(component: Callable[..., Component]) -> None:
    items = [component("c", requires=("b",)), component("a"), component("b", requires=("a",)), component("d", requires=("a",))]
    assert [[item.name for item in wave] for wave in waves(items)] == [["a"], ["b", "d"], ["c"]]
    with pytest.raises(ValueError, match="wait for each other"):
        waves([component("x", requires=("y",)), component("y", requires=("x",))])
