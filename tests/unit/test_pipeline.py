"""Reading ahead changes when things happen and nothing else."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment_core.pipeline import AHEAD_A_WORKER, pipelined

SECONDS = 10


class Trouble(Exception):
    """Raised by a stage of a test."""


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def wait_for(condition) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(), max_size=40), st.integers(1, 4), st.integers(1, 9))
def test_order_and_count_are_kept(items, n_workers, n_in_flight):
    assert list(pipelined(items, lambda item: (item,), n_workers=n_workers, n_in_flight=n_in_flight)) == [
        (item,) for item in items
    ]


def test_a_slow_item_does_not_let_others_pass():
    is_second_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert is_second_done.wait(SECONDS)
        else:
            is_second_done.set()
        return item

    assert list(pipelined(range(5), work, n_workers=2)) == [0, 1, 2, 3, 4]


def test_the_workers_work_at_once():
    meeting = threading.Barrier(3)
    assert list(pipelined(range(6), lambda _: meeting.wait(SECONDS) >= 0, n_workers=3)) == [True] * 6


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3), st.integers(1, 7))
def test_a_slow_taker_stops_the_source(n_workers, n_in_flight):
    n_read = 0

    def source() -> Iterator[int]:
        nonlocal n_read
        while True:
            n_read += 1
            yield n_read

    with closing(pipelined(source(), lambda item: item, n_workers=n_workers, n_in_flight=n_in_flight)) as results:
        for n_taken, _ in zip(range(20), results, strict=False):
            wait_for(lambda expected=n_taken + n_in_flight: n_read == expected)
        assert n_read == 19 + n_in_flight


def test_by_default_a_few_items_a_worker_are_in_flight():
    n_read = 0

    def source() -> Iterator[int]:
        nonlocal n_read
        while True:
            n_read += 1
            yield n_read

    with closing(pipelined(source(), lambda item: item, n_workers=3)) as results:
        next(results)
        wait_for(lambda: n_read == 3 * AHEAD_A_WORKER)


def test_trouble_in_the_source_comes_after_what_was_read_before_it():
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise Trouble("in the source") from KeyError("its cause")

    results = pipelined(source(), lambda item: item)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(Trouble, match="in the source") as caught:
        next(results)
    assert isinstance(caught.value.__cause__, KeyError)
    assert list(results) == []


def test_trouble_in_the_work_ends_everything_where_its_result_would_have_been():
    def work(item: int) -> int:
        if item == 2:
            raise Trouble(f"with {item}")
        return item

    is_closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            is_closed.set()

    results = pipelined(source(), work, n_workers=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(Trouble, match="with 2"):
        next(results)
    assert is_closed.is_set()


def test_trouble_of_the_taker_ends_the_source_in_its_own_thread():
    ended_by: list[str] = []

    def source() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            ended_by.append(threading.current_thread().name)

    def take() -> None:
        with closing(pipelined(source(), lambda item: item)) as results:
            next(results)
            raise Trouble("of the taker")

    with pytest.raises(Trouble, match="of the taker"):
        take()
    assert ended_by == ["read"]


def test_what_is_never_taken_is_never_read():
    def source() -> Iterator[int]:
        raise Trouble("read")
        yield

    pipelined(source(), lambda item: item).close()


def test_an_interrupt_ends_it_with_all_its_threads():
    program = (
        "import itertools, signal, threading\n"
        "from sentiment_core.pipeline import pipelined\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in what a shell has started in the background
        "try:\n"
        "    for n in pipelined(itertools.count(), lambda item: item):\n"
        "        print(n, flush=True) if n == 100 else None\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', threading.active_count())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "100\n"
    process.send_signal(signal.SIGINT)
    try:
        assert process.communicate(timeout=SECONDS)[0] == "interrupted 1\n"
    finally:
        process.kill()
