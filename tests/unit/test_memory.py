"""Memory that is given back: which of Arrow's pools is taken, and that trimming harms nothing."""

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from sentiment_core import memory


@pytest.fixture(autouse=True)
def pool() -> Iterator[pa.MemoryPool]:
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    yield before
    pa.set_memory_pool(before)


@pytest.mark.skipif("jemalloc" not in pa.supported_memory_backends(), reason="this Arrow has no jemalloc")
def test_batches_are_returned_by_jemalloc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL", raising=False)
    memory.return_batches()
    memory.return_batches()
    assert pa.default_memory_pool().backend_name == "jemalloc"


def test_the_users_pool_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "system")
    memory.return_batches()
    assert pa.default_memory_pool().backend_name == "system"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's wheels are known to have jemalloc")
@pytest.mark.parametrize(("chosen", "taken"), [(None, "jemalloc"), ("system", "system")])
def test_arrow_itself_takes_it_where_the_package_comes_first(chosen: str | None, taken: str) -> None:
    code = "import sentiment_core, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    environment |= {"ARROW_DEFAULT_MEMORY_POOL": chosen} if chosen else {}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr) == (f"{taken}\n", "")


def test_trimming_leaves_what_is_in_use() -> None:
    kept = [np.full(n, n) for n in range(1, 2_000)]
    del kept[::2]
    memory.trim()
    assert all((array == len(array)).all() for array in kept)
