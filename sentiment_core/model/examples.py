"""From a snapshot to training and held-out rows: deduplicated, split by product, the same way for ever.

Training and comparison both take their rows from here, so no model is ever measured on what it was fitted to. Which
rows are held out depends on the product (or on the text where no product is known) and on nothing else: the standing
test set does not change from version to version, and "unknown word" in a reference means what it will mean tomorrow.
No fitting and no scoring.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentiment_core import schema
from sentiment_core.domain import LABELS
from sentiment_core.errors import Permanent
from sentiment_core.policy import PromotionGates

BINARY = ("negative", "positive")
FRESH_ORIGINS = ("fresh", "familiar", "latest")
"""Of rows labelled since the champion was trained: see `schema.SNAPSHOT_FIELDS`."""
_NEEDED = ("product_id", "source", "text", "label", "origin")


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Labelled rows (columns of `schema.SNAPSHOT`) apart, labels folded to the classes asked for."""

    train: pa.Table
    test: pa.Table
    n_rows: int
    """Rows of the snapshot."""
    n_duplicates: int
    """Rows left out because the same text stands there with the same label."""
    n_conflicts: int
    """Rows left out because the same text stands there with different labels."""


def fold_labels(labels: Iterable[str], classes: Sequence[str]) -> list[str]:
    """Labels of a model with these classes: neutral counts as positive where there is no class for it.

    >>> fold_labels(["negative", "neutral"], BINARY)
    ['negative', 'positive']
    """
    return ["positive" if label == "neutral" and "neutral" not in classes else label for label in labels]


def held_out_share(snapshot: pa.Table, limits: PromotionGates) -> float:
    """The share of products to hold out of a training set: its own or the policy's, and no more than measuring takes.

    >>> from types import SimpleNamespace
    >>> limits = SimpleNamespace(held_out_share=0.25, max_held_out_rows=2_500)
    >>> [held_out_share(pa.table({"text": ["good"] * n}), limits) for n in (1_000, 25_000)]
    [0.25, 0.1]
    """
    noted = (snapshot.schema.metadata or {}).get(schema.HELD_OUT_NOTE)
    share = float(noted) if noted else limits.held_out_share
    return min(share, limits.max_held_out_rows / max(len(snapshot), 1))


def prepare(snapshot: pa.Table, *, held_out_share: float, classes: Sequence[str] = BINARY) -> Examples:
    """Deduplicate and split.

    Rows count as the same when their texts differ in case and blanks only; the standing one is kept. The latest fresh
    rows are held out whatever their product. Raises Permanent for missing columns, null or unknown labels, and an empty
    snapshot.
    """
    _check(snapshot)
    labels = fold_labels(snapshot["label"].to_pylist(), classes)
    texts = [normalise(text) for text in snapshot["text"].to_pylist()]
    kept, n_conflicts = _distinct(texts, labels, snapshot["origin"].to_pylist())
    held_out = np.array([
        origin == "latest" or is_held_out(product, text, held_out_share)
        for product, text, origin in zip(snapshot["product_id"].to_pylist(), texts, snapshot["origin"].to_pylist(), strict=True)
    ])  # fmt: skip
    folded = snapshot.set_column(snapshot.schema.get_field_index("label"), "label", pa.array(labels, pa.string()))
    return Examples(
        train=folded.filter(pa.array(kept & ~held_out)),
        test=folded.filter(pa.array(kept & held_out)),
        n_rows=len(snapshot),
        n_duplicates=len(snapshot) - int(kept.sum()) - n_conflicts,
        n_conflicts=n_conflicts,
    )


def is_held_out(product_id: str | None, normal_text: str, share: float) -> bool:
    """Whether a row belongs to the test set: a hash of its product, else of its text, falls below the share.

    >>> is_held_out("B0001", "", 0.0), is_held_out("B0001", "", 1.0)
    (False, True)
    """
    key = f"text:{normal_text}" if product_id is None else f"product:{product_id}"
    place = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) / 2**64
    return place < share


def learning_weights(rows: pa.Table, fresh_weight: float) -> npt.NDArray[np.float64]:
    """What every row counts in training: fresh ones of a foreign domain more than others."""
    is_foreign = pc.equal(rows["origin"], "fresh").to_numpy(zero_copy_only=False)
    return np.where(is_foreign, fresh_weight, 1.0)


def normalise(text: str) -> str:
    """A text without what does not make it another one: case, and how much blank stands where.

    >>> normalise("Good  film ")
    'good film'
    """
    return " ".join(text.lower().split())


def _distinct(texts: list[str], labels: list[str], origins: list[str]) -> tuple[npt.NDArray[np.bool_], int]:
    """Which rows to keep, and how many were dropped because people disagree about them."""
    said: dict[str, set[str]] = {}
    for text, label in zip(texts, labels, strict=True):
        said.setdefault(text, set()).add(label)
    kept = np.zeros(len(texts), dtype=bool)
    seen: set[str] = set()
    for place in sorted(range(len(texts)), key=lambda row: origins[row] != "standing"):
        if texts[place] not in seen and len(said[texts[place]]) == 1:
            seen.add(texts[place])
            kept[place] = True
    times = Counter(texts)
    return kept, sum(times[text] for text, found in said.items() if len(found) > 1)


def _check(snapshot: pa.Table) -> None:
    missing = [name for name in _NEEDED if name not in snapshot.column_names]
    if missing:
        raise Permanent(
            "training set",
            expected="the columns " + ", ".join(_NEEDED),
            found="no column " + ", ".join(missing),
            remedy="write it with the columns of a snapshot",
        )
    if not len(snapshot):
        raise Permanent("training set", expected="labelled reviews", found="no rows", remedy="collect labels first")
    for name in ("text", "label", "origin"):
        if snapshot[name].null_count:
            raise Permanent(
                f"column {name} of the training set",
                expected="a value in every row",
                found=f"{snapshot[name].null_count} nulls",
                remedy="leave those rows out",
            )
    unknown = sorted(set(pc.unique(snapshot["label"]).to_pylist()) - set(LABELS))
    if unknown:
        raise Permanent(
            "labels of the training set", expected=", ".join(LABELS), found=repr(unknown[0]), remedy="correct the labels"
        )
