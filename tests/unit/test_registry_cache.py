"""What a machine remembers of models, with several threads at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

from sentiment_core.domain import ModelRef
from sentiment_core.registry.cache import ModelCache


def test_threads_that_resolve_at_once_do_not_take_each_others_files_away(tmp_path):
    cache, together = ModelCache(tmp_path, "here"), threading.Barrier(8, timeout=30)

    def resolve(number: int) -> None:
        for round_ in range(40):
            together.wait()
            cache.remember("champion", ModelRef(name="sentiment", version=100 * number + round_, digest="0" * 64))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(resolve, range(8)))
    assert cache._known()
    assert [path.name for path in tmp_path.iterdir()] == [cache._known_file.name]
