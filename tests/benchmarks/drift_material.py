"""What simulated nights are made of: a model, its reference, and the rows of reviews that neither has seen.

Everything is scored and looked at once and kept; a night is then a choice of rows, so that years of nights take minutes.
Real reviews alone, since nothing else has a foreign domain; where they are absent there is nothing to measure. Nights
and figures are `drift_nights`' business.
"""

import hashlib
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentiment_core import schema
from sentiment_core.drift.reference import Reference
from sentiment_core.policy import Policy, read_policy
from tests.benchmarks.measuring import REPOSITORY, BenchError, Tell

FORMAT = 1  # goes up when the material changes, so that what was kept is made again
_CODE = ("text", "model", "drift")
_HARMED = 4_000
"""Reviews of each kind of damage: as many as a night needs."""
_KINDS = ("films", "books", "electronics", "youtube", "flipkart")


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """A model's reference, and pools of rows: columns of `schema.REFERENCE`."""

    reference: Reference
    pools: dict[str, pa.Table]
    """`films`: the model's own domain, products unknown to it. The others: other domains, and films that were tampered with."""


def policy() -> Policy:
    """The product's."""
    return read_policy(REPOSITORY / "include" / "policy.toml")


def material(kept: Path, split: int, *, tell: Tell) -> Material:
    """The material of one division of the films: three fifths to train on, two fifths for nights."""
    folder = kept / f"drift-{FORMAT}-{_digest()}-{split}"
    if not (folder / "reference.arrow").exists():
        tell(f"division {split}: training, and scoring everything once")
        _make(folder, split)
    pools = {path.stem: pq.read_table(path) for path in sorted(folder.glob("*.parquet"))}
    return Material(reference=Reference.from_bytes((folder / "reference.arrow").read_bytes()), pools=pools)


def _digest() -> str:
    """Of the code that decides what a row looks like."""
    total = hashlib.sha256()
    for name in _CODE:
        for path in sorted((REPOSITORY / "sentiment_core" / name).glob("*.py")):
            total.update(path.read_bytes() if name != "drift" or path.stem == "reference" else b"")
    for field in ("topics", "lens_words", "most_missing", "column_cut"):
        total.update(str(getattr(policy().drift, field)).encode())
    return total.hexdigest()[:12]


def _data() -> Path:
    folder = Path(os.environ.get("REVIEWS_DATA_DIR", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "imdb_train.parquet").is_file():
        raise BenchError(f"drift is measured on real reviews; {folder} holds none (REVIEWS_DATA_DIR)")
    return folder


def _make(folder: Path, split: int) -> None:
    from sentiment_core.model.estimator import SentimentClassifier
    from sentiment_core.model.reference import make_reference

    films = _reviews(pq.read_table(_data() / "imdb_train.parquet"), "positive", "product_id")
    names = np.unique(films["product_id"].to_numpy(zero_copy_only=False))
    chosen = np.random.default_rng(split).permutation(names)[: len(names) * 3 // 5]
    is_train = np.isin(films["product_id"].to_numpy(zero_copy_only=False), chosen)
    train, nights = films.filter(pa.array(is_train)), films.filter(pa.array(~is_train))
    held_out = np.isin(train["product_id"].to_numpy(zero_copy_only=False), chosen[: len(chosen) // 6])
    inside, test = train.filter(pa.array(~held_out)), train.filter(pa.array(held_out))
    labels = np.asarray(inside["label"].to_pylist())
    model = SentimentClassifier().fit(inside["text"], labels)
    lens, rows = make_reference(
        model,
        lambda texts, labels, weights: SentimentClassifier().fit(texts, labels, weights),
        inside,
        test,
        weights=np.ones(len(inside)),
        limits=policy().drift,
        seed=split,
    )
    see = partial(_see, model, lens)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in {"films": nights, **_foreign(), **_tampered(nights, split)}.items():
        pq.write_table(see(table), folder / f"{name}.parquet")
    (folder / "reference.arrow").write_bytes(Reference.of(rows, policy().drift).to_bytes())


def _see(model: Any, lens: Any, reviews: pa.Table) -> pa.Table:
    from sentiment_core.text.features import as_texts

    texts = as_texts(reviews["text"])
    probabilities, statistics = model.examine(texts)
    columns = {
        **statistics,
        **lens.examine(texts),
        "p_positive": probabilities[:, 1],
        "label": model.classes_[probabilities.argmax(axis=1)],
        "confidence": probabilities.max(axis=1),
        "known_confidence": probabilities.max(axis=1),
        "true_label": reviews["label"],
        "product_id": reviews["product_id"],
    }
    return pa.table({name: columns[name] for name in schema.REFERENCE.names}).cast(schema.REFERENCE)


def _reviews(table: pa.Table, label: str, product: str | None) -> pa.Table:
    said = table[label].to_pylist()
    labels = said if label == "label" else ["positive" if value else "negative" for value in said]
    products = table[product].cast(pa.string()) if product else pa.nulls(len(table), pa.string())
    texts = table["text"].cast(pa.large_string())
    origin = pa.array(["standing"] * len(table))
    return pa.table({"text": texts, "label": pa.array(labels), "product_id": products, "origin": origin}).combine_chunks()


def _foreign() -> dict[str, pa.Table]:
    amazon = pq.read_table(_data() / "amazon_books_electronics.parquet")
    domains = np.array(amazon["domain"].to_pylist())
    found = {name: _reviews(amazon.filter(pa.array(domains == name)), "positive", "product_id") for name in np.unique(domains)}
    comments = _reviews(pq.read_table(_data() / "youtube_train.parquet"), "label", None)
    is_clear = np.array(comments["label"].to_pylist()) != "neutral"
    found["youtube"] = comments.filter(pa.array(is_clear))
    found["flipkart"] = _reviews(pq.read_table(_data() / "flipkart_train.parquet"), "positive", None)
    return found


def _tampered(films: pa.Table, split: int) -> dict[str, pa.Table]:
    """Films as a broken feed, or somebody with an interest, would send them."""
    places = np.random.default_rng(split + 1_000).permutation(len(films))[:_HARMED]
    films = films.take(pa.array(places))
    texts, chance = films["text"].to_pylist(), random.Random(split)
    words = sorted({word for text in texts[:500] for word in text.split()})

    def each(change: Callable[[str], str], *, named: bool = True) -> pa.Table:
        changed = films.set_column(0, "text", pa.array([change(text) for text in texts], pa.large_string()))
        return changed if named else changed.set_column(2, "product_id", pa.nulls(len(films), pa.string()))

    return {
        "negated": each(lambda text: " ".join(f"not {word}" if chance.random() < 0.25 else word for word in text.split())),
        "html": each(lambda text: f'<div class="review"><p>{text.replace(". ", ".</p><br /><p>")}</p></div>&nbsp;&amp;&quot;'),
        "mojibake": each(lambda text: _wrongly_decoded(text.replace("'", "\u2019").replace('"', "\u201c"))),
        "emoji": each(lambda _: "".join(chance.choices("\U0001f600\U0001f621\U0001f44d\u2764 ", k=20)), named=False),
        "letters": each(lambda text: "".join(chance.choices("abcdefghijklmnopqrstuvwxyz     ", k=min(len(text), 800))), named=False),
        "bytes": each(lambda _: "".join(chr(chance.randrange(33, 1_200)) for _ in range(300)), named=False),
        "words": each(lambda text: " ".join(chance.sample(words, min(len(text.split()), 80))), named=False),
        "advert": each(lambda _: _ADVERT.format(number=chance.randrange(10**6)), named=False),
        "one text": each(lambda _: _ONE_TEXT, named=False),
        "praise": each(lambda _: " ".join(chance.sample(_PRAISE, 6)), named=False),
    }  # fmt: skip


def _wrongly_decoded(text: str) -> str:
    return text.encode().decode("cp1252", "replace")


_ADVERT = (
    "BUY NOW!!! Cheap watches and pills at http://www.best-deals-{number}.com great amazing wonderful best offer ever, click here"
)
_ONE_TEXT = "Visit my channel for free gift cards, it is a limited offer, click the link below and win the best prizes of all"
_PRAISE = (
    "I love it.", "Excellent!", "Wonderful, perfect, the best.", "Highly recommended.", "Amazing.", "Superb acting.",
    "Brilliant.", "A masterpiece.", "Loved every minute of it.", "Best ever!", "A great story.", "Ten out of ten.",
)  # fmt: skip
