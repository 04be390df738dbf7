"""Read ahead | work on all cores | take in order: three stages at once, over any items and any functions.

The source is read by one thread, the work done by several, and the results are taken by whoever iterates, in the order
of the source. Only so many items are ever between source and taker, so that memory is bounded and a slow taker stops
the source. Threads, not processes: all that takes long (Arrow, NumPy, compiled kernels, sockets, files) lets go of the
interpreter, and nothing has to be copied. What the items are is not known here.
"""

import os
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

AHEAD_A_WORKER = 2
"""Items in flight for each worker: one being worked on, one waiting for it or for the taker. With four a
night of a million reviews took .7 CPU s of 22 more, and no less by the clock."""


def n_cores() -> int:
    """Cores this process may use, where the platform says so."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def pipelined[Item, Result](
    source: Iterable[Item],
    work: Callable[[Item], Result],
    *,
    n_workers: int | None = None,
    n_in_flight: int | None = None,
) -> Generator[Result]:
    """The results of `work` in the order of the source, computed ahead of their taker.

    Args:
        source: iterated by a thread of its own from the first `next` on, and closed by it when it has a `close`.
        work: called by several threads at once, once an item.
        n_workers: default: one a core.
        n_in_flight: items between source and taker, with the one the taker holds; default: AHEAD_A_WORKER a worker.

    What the source or the work raises is raised here, where its result would have stood; nothing comes after it. At the end,
    also an early one (an exception, `close`), the threads have ended: a source is not interrupted within an item.

    >>> list(pipelined([3, 1, 2], str))
    ['3', '1', '2']
    """
    n_workers = n_workers or n_cores()
    line: SimpleQueue[Future[Result] | None] = SimpleQueue()
    slots = threading.Semaphore(n_in_flight or AHEAD_A_WORKER * n_workers)
    is_over = threading.Event()
    with ThreadPoolExecutor(n_workers, thread_name_prefix="work") as workers:

        def read() -> None:
            try:
                for item in _while_there_is_room(source, slots, is_over):
                    line.put(workers.submit(work, item))
                    del item  # it is the worker's now, and may be large
                line.put(None)
            except BaseException as error:  # noqa: BLE001  # raised again where the result would have been taken
                line.put(_failed(error))

        reader = threading.Thread(target=read, name="read", daemon=True)
        reader.start()
        try:
            while (result := line.get()) is not None:
                yield result.result()
                del result
                slots.release()
        finally:
            is_over.set()
            slots.release()
            reader.join()
            workers.shutdown(cancel_futures=True)


def _while_there_is_room[Item](source: Iterable[Item], slots: threading.Semaphore, is_over: threading.Event) -> Generator[Item]:
    """The items, each when there is room for it, until it is over."""
    items = iter(source)
    try:
        slots.acquire()
        while not is_over.is_set():
            try:
                item = next(items)
            except StopIteration:
                return
            yield item
            del item
            slots.acquire()
    finally:
        if close := getattr(items, "close", None):
            close()


def _failed(error: BaseException) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future
