"""A file in, the same rows with their scores out: no S3, no PostgreSQL, nothing kept.

Every row of the input is a row of the output, in order; one that cannot be scored says why in the column `error`.
"""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiment_core import memory
from sentiment_core.errors import Permanent
from sentiment_core.pipeline import pipelined
from sentiment_core.stages.services import Services

if TYPE_CHECKING:
    from sentiment_core.reviews.sheets import Sheet
    from sentiment_core.reviews.written import Writer


@dataclass(kw_only=True)
class Progress:
    """How far a file has come."""

    n_rows: int = 0
    n_errors: int = 0
    text_bytes: int = 0
    n_read: int = 0
    """Bytes taken from the input so far; of Parquet rows, as its bytes are not read in order."""
    total: int | None = None
    """What n_read will be at the end, where that is known."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """Where the rows come from."""

    stream: BinaryIO
    name: str
    suffix: str
    """One of .parquet, .jsonl and .csv, with .gz where it is known to be packed."""


def score_stream(
    services: Services, model: Any, source: Input, writer: "Writer", *, on_progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Score the rows of a stream and write them; returns what was done.

    Args:
        services: for the limits of a text.
        model: as the registry opens it.
        source: the rows.
        writer: takes the scored rows in order.
        on_progress: told after every batch.
    """
    memory.return_batches()
    started, progress = time.monotonic(), Progress()
    with closing(pipelined(_read(services, source, progress), lambda sheet: _score(model, sheet))) as scored:
        for table, text_bytes in scored:
            writer.write(table)
            progress.n_rows += len(table)
            progress.n_errors += len(table) - table["error"].null_count
            progress.text_bytes += text_bytes
            if on_progress:
                on_progress(progress)
    seconds = time.monotonic() - started
    return {
        "rows": progress.n_rows,
        "n_scored": progress.n_rows - progress.n_errors,
        "n_errors": progress.n_errors,
        "model_version": model.ref.version,
        "seconds": round(seconds, 3),
        "reviews_per_second": round(progress.n_rows / seconds, 1) if seconds else 0.0,
    }


def _key(source: Input, suffix: str) -> str:
    """What the rows are read as: the name, whose ending says the format."""
    return source.name if source.name.endswith(suffix) else f"{source.name}{suffix}"


def _read(services: Services, source: Input, progress: Progress) -> Iterator["Sheet"]:
    from sentiment_core.reviews.sheets import open_packed, read_sheets

    with _translated(source.name):
        if source.suffix == ".parquet" and source.stream.seekable():
            for sheet in read_sheets(source.stream, _key(source, source.suffix), services.policy.reading):
                progress.total = progress.total or _n_rows(source.stream)
                progress.n_read += len(sheet.texts)
                yield sheet
            return
        if source.stream.seekable():
            progress.total = source.stream.seek(0, io.SEEK_END)
            source.stream.seek(0)
        counted = cast("BinaryIO", io.BufferedReader(_Counted(source.stream, progress), 1 << 20))
        stream, suffix = open_packed(counted, source.suffix.removesuffix(".gz"))
        yield from read_sheets(stream, _key(source, suffix), services.policy.reading)


def _n_rows(stream: BinaryIO) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(stream).num_rows)


class _Counted(io.RawIOBase):
    """A stream that tells how much of it has been read."""

    def __init__(self, stream: BinaryIO, progress: Progress) -> None:
        self._stream, self._progress = stream, progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(len(buffer))
        buffer[: len(block)] = block
        self._progress.n_read += len(block)
        return len(block)


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Permanent(name, expected="a readable file", found=str(error), remedy="check the file and its rights") from error


def _score(model: Any, sheet: "Sheet") -> tuple[pa.Table, int]:
    """The output's rows, and how many bytes of text they came from."""
    from sentiment_core.scoring import score_texts

    is_good = sheet.errors.is_null()
    is_clean = sheet.errors.null_count == len(sheet.errors)
    texts = sheet.texts if is_clean else sheet.texts.filter(is_good)
    scores = score_texts(model.estimator, texts)
    n_rows = len(sheet.texts)
    if not is_clean:
        places = np.full(n_rows, -1)
        places[is_good.to_numpy(zero_copy_only=False)] = np.arange(len(texts))
        scores = scores.take(pa.array(places, mask=places < 0))
    versions = pa.array(np.full(n_rows, model.ref.version, np.int32))
    columns = {**sheet.columns, **dict(zip(scores.column_names, scores.columns, strict=True))}
    return pa.table({**columns, "model_version": versions, "error": sheet.errors}), pc.sum(pc.binary_length(texts)).as_py() or 0
