"""Small objects fetched ahead of their reader, several at a time: a request's time is spent waiting.

Large ones are opened when their turn comes and read as a stream, so that memory stays bounded. What the bytes mean is
not known here.
"""

import io
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

from sentiment_core.domain import ObjectVersion
from sentiment_core.reviews.bucket import Bucket

Opening = Callable[[], BinaryIO]


def open_ahead(
    bucket: Bucket, objects: Iterable[ObjectVersion], *, n_readers: int, max_bytes: int
) -> Generator[tuple[ObjectVersion, Opening]]:
    """Every object in order, with a function that opens it; raises what `Bucket.open` and reading raise.

    Args:
        bucket: where they lie.
        objects: in the order in which they are wanted.
        n_readers: objects fetched at a time, and so many are held at most.
        max_bytes: size up to which an object is fetched as a whole.
    """
    line: deque[tuple[ObjectVersion, Opening]] = deque()
    with ThreadPoolExecutor(n_readers, thread_name_prefix="read") as pool:
        try:
            for obj in objects:
                line.append((obj, _opening(bucket, pool, obj, is_small=obj.size <= max_bytes)))
                if len(line) == n_readers:
                    yield line.popleft()
            while line:
                yield line.popleft()
        finally:
            pool.shutdown(cancel_futures=True)


def _opening(bucket: Bucket, pool: ThreadPoolExecutor, obj: ObjectVersion, *, is_small: bool) -> Opening:
    if not is_small:
        return lambda: bucket.open(obj)
    fetched: Future[bytes] = pool.submit(_fetch, bucket, obj)
    return lambda: io.BytesIO(fetched.result())


def _fetch(bucket: Bucket, obj: ObjectVersion) -> bytes:
    with bucket.open(obj) as stream:
        return stream.read()
