"""The texts that are measured: real reviews, and as many more as wanted, made by recombining their sentences.

A recombined review takes the number of sentences of one real review and draws each sentence from all of them, so that
lengths, markup and the frequencies of words stay those of real text and no word is new. It is written a part at a time
as Parquet (zstd), so that four million reviews never sit in memory, and reused. Where no real reviews are, synthetic
ones take their place and the tables say so. No models, no measuring.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.benchmarks.measuring import REPOSITORY, Tell

SEED = 20_261_120
PART_ROWS = 50_000  # about 65 MB of text, 25 MB as Parquet: the size of object that a night's export is cut into
BATCH_ROWS = 8_192
FORMAT = 1  # goes up when recombining changes, so that older parts are not taken for new ones

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True, kw_only=True)
class Originals:
    """The reviews that all others are made of, in a seeded order."""

    name: str
    texts: pa.LargeStringArray
    labels: list[str]
    product_ids: pa.StringArray
    digest: str

    @property
    def n_bytes(self) -> int:
        """Of text, UTF-8."""
        return byte_count(self.texts)

    def training(self) -> tuple[pa.LargeStringArray, list[str]]:
        """Four fifths of the reviews, to fit models on: a fifth of what is scored is new to them."""
        places = np.random.default_rng(SEED + 1).permutation(len(self.texts))[: len(self.texts) * 4 // 5]
        return self.texts.take(pa.array(places)), [self.labels[place] for place in places]


def originals() -> Originals:
    """IMDb's training half out of REVIEWS_DATA_DIR, else synthetic films."""
    path = Path(os.environ.get("REVIEWS_DATA_DIR", REPOSITORY.parent / "shared" / "data")) / "imdb_train.parquet"
    if path.is_file():
        table, name = pq.read_table(path, columns=["product_id", "text", "positive"]), "IMDb"
        labels = ["positive" if value else "negative" for value in table["positive"].to_pylist()]
    else:
        from sentiment_core.reviews.sample import generate

        table, name = generate(10_000, domain="films", seed=SEED), "synthetic films"
        labels = ["negative" if rating <= 2 else "positive" for rating in table["rating"].to_pylist()]
    order = np.random.default_rng(SEED).permutation(len(table))
    return Originals(
        name=name,
        texts=table["text"].cast(pa.large_string()).combine_chunks().take(pa.array(order)),
        labels=[labels[place] for place in order],
        product_ids=table["product_id"].cast(pa.string()).combine_chunks().take(pa.array(order)),
        digest=hashlib.sha256(f"{name}/{len(table)}/{pc.sum(pc.binary_length(table['text'])).as_py()}".encode()).hexdigest()[:12],
    )


def byte_count(texts: pa.Array) -> int:
    """Bytes of text, UTF-8."""
    return int(pc.sum(pc.binary_length(texts)).as_py() or 0)


class ScaledCorpus:
    """Recombined reviews as Parquet parts on disk, made when first asked for; a smaller number is a prefix of a larger."""

    def __init__(self, source: Originals, folder: Path) -> None:
        self._source = source
        self._folder = folder / f"corpus-{source.digest}-{FORMAT}"

    def parts(self, n: int, *, part_rows: int = PART_ROWS, tell: Tell = lambda _: None) -> list[Path]:
        """Files that hold `n` reviews together."""
        folder = self._folder / f"{part_rows}-rows"
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"part-{number:05d}.parquet" for number in range(-(-n // part_rows))]
        missing = [(number, path) for number, path in enumerate(paths) if not path.exists()]
        if missing:
            recombiner = _Recombiner(self._source)
            for number, path in missing:
                tell(f"writing text: part {number + 1} of {len(paths)}")
                _write(path, recombiner.batches(number, part_rows))
        return paths

    def check(self, *, tell: Tell = lambda _: None) -> dict[str, Any]:
        """How like the originals it is: distinct words and lengths of as many recombined reviews, and of ten times as many."""
        report = self._folder / "check.json"
        if not report.exists():
            n, rows = len(self._source.texts), 0
            words: set[str] = set()
            lengths: list[Any] = []
            at_same_size = 0
            for path in self.parts(n * 4, tell=tell):
                for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=["text"]):
                    tell(f"counting distinct words: {rows:,} reviews")
                    words |= distinct_words(batch.column(0))
                    lengths.append(pc.utf8_length(batch.column(0)).to_numpy(zero_copy_only=False))
                    rows += len(batch)
                    if not at_same_size and rows >= n:
                        at_same_size = len(words)
            kept = {"n": n, "n_scaled": rows, "words_at_n": at_same_size, "words_scaled": len(words)}
            kept["words_original"] = len(distinct_words(self._source.texts))
            kept["n_new_words"] = len(words - distinct_words(self._source.texts))
            for name, values in (
                ("original", pc.utf8_length(self._source.texts).to_numpy(zero_copy_only=False)),
                ("scaled", np.concatenate(lengths)),
            ):
                kept[f"chars_{name}"] = [round(float(value)) for value in np.quantile(values, (0.1, 0.5, 0.9))]
            report.write_text(json.dumps(kept), encoding="utf-8")
        return json.loads(report.read_text(encoding="utf-8"))


def distinct_words(texts: pa.Array) -> set[str]:
    """Lower-cased runs of a to z."""
    return {word for text in texts.to_pylist() for word in _WORD.findall(text.lower())}


class _Recombiner:
    """Draws reviews; a part depends on its number alone."""

    def __init__(self, source: Originals) -> None:
        split = [_SENTENCE_END.split(text) for text in source.texts.to_pylist()]
        self._sentences = pa.array([sentence for review in split for sentence in review], pa.large_string())
        self._lengths = np.array([len(review) for review in split])
        self._product_ids = source.product_ids

    def batches(self, part: int, rows: int) -> Iterator[pa.Table]:
        rng = np.random.default_rng((SEED, part, rows))
        for start in range(0, rows, BATCH_ROWS):
            yield self._batch(rng, part, start, min(BATCH_ROWS, rows - start))

    def _batch(self, rng: np.random.Generator, part: int, start: int, rows: int) -> pa.Table:
        like = rng.integers(len(self._lengths), size=rows)
        offsets = np.concatenate([[0], np.cumsum(self._lengths[like])])
        drawn = self._sentences.take(pa.array(rng.integers(len(self._sentences), size=offsets[-1])))
        texts = pc.binary_join(pa.LargeListArray.from_arrays(pa.array(offsets), drawn), pa.scalar(" ", pa.large_string()))
        numbers = pa.array(np.arange(start, start + rows)).cast(pa.string())
        return pa.table(
            {
                "review_id": pc.binary_join_element_wise(f"bench-{part:05d}", numbers, "-"),
                "product_id": self._product_ids.take(pa.array(like)),
                "text": texts,
            }
        )


def _write(path: Path, batches: Iterator[pa.Table]) -> None:
    unfinished = path.with_suffix(".new")
    first = next(batches)
    with pq.ParquetWriter(unfinished, first.schema, compression="zstd", compression_level=1) as writer:
        writer.write_table(first)
        for batch in batches:
            writer.write_table(batch)
    unfinished.rename(path)
