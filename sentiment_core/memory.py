"""What a process that scores for hours keeps of memory it no longer needs: as little as its allocators can be told to.

Two allocators hold memory back. Arrow's default pool, mimalloc, keeps what one thread takes and another gives back, as
every batch on its way from reader to worker to taker is; jemalloc returns it. And glibc keeps the heap at the height
that loading a model took it to. Both are asked here, and where they are not there nothing is. What the memory holds is
not known here.
"""

import ctypes
import os

import pyarrow as pa

_POOL_VARIABLE, _POOL = "ARROW_DEFAULT_MEMORY_POOL", "jemalloc"
# Freed pages are kept for so long: in Arrow's own second a night frees some 40 MB, in a fiftieth of one it asks for them again.
_DECAY_MS = 100


def return_batches() -> None:
    """From now on let Arrow give memory back that is taken and freed by different threads; a choice of the user's stays.

    What Arrow does of its own accord follows only where the package was imported before it, see `sentiment_core`.
    """
    if os.environ.get(_POOL_VARIABLE, _POOL) != _POOL:
        return
    try:
        pool = pa.jemalloc_memory_pool()
    except NotImplementedError:  # Windows, and Arrow built without it
        return
    if pa.default_memory_pool().backend_name != pool.backend_name:
        pa.set_memory_pool(pool)
    pa.jemalloc_set_decay_ms(_DECAY_MS)


def trim() -> None:
    """Give back what has been freed so far; worth its milliseconds after something large was loaded."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if malloc_trim:
        malloc_trim(0)
