"""From a snapshot to a candidate: fit, measure, and keep what drift checks need.

One honest recipe; a search over recipes replaces the one call to `SentimentClassifier`. Registration and promotion
happen elsewhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiment_core import schema
from sentiment_core.errors import Permanent
from sentiment_core.model.estimator import SentimentClassifier
from sentiment_core.model.evaluation import evaluate, figures
from sentiment_core.model.examples import BINARY, Examples, prepare
from sentiment_core.policy import Policy

# Fewer than this of a class, and accuracy on the held-out rows says nothing (its standard error exceeds ten points).
MIN_TRAIN_ROWS_PER_CLASS = 20
MIN_TEST_ROWS_PER_CLASS = 5
# Enough to see the gap between training and test accuracy to half a point; all rows would double the time of a training.
_TRAIN_ROWS_MEASURED = 5_000


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A fitted model with its figures, not registered yet."""

    estimator: SentimentClassifier
    metrics: dict[str, Any]
    """`data` (rows, duplicates, conflicts), `train`, `test`, `test_fresh` where there are fresh rows: see `figures`."""
    reference: pa.Table
    """Columns of `schema.REFERENCE`: the held-out rows as drift checks will see reviews, and what people said of them."""
    params: dict[str, Any]
    """How it was trained: the estimator's parameters, and those of the policy that mattered."""
    trials: tuple[Any, ...] = ()
    """What was tried on the way, in order."""
    curves: dict[str, Any] = field(default_factory=dict)
    """Of the held-out rows: classes, confusion, reliability, precision_recall."""


def train(
    snapshot: pa.Table,
    *,
    policy: Policy,
    seed: int = 0,
    classes: Sequence[str] = BINARY,
    progress: Callable[[str], None] | None = None,
) -> Candidate:
    """Fit on the rows that are not held out, measure on those that are.

    Args:
        snapshot: columns of `schema.SNAPSHOT`.
        policy: share held out, weight of fresh rows.
        seed: same snapshot and seed, same model.
        classes: two classes, neutral counting as positive, or all three.
        progress: told in a few words what is being done.

    Raises:
        Permanent: when the snapshot cannot train a model: columns missing, too few rows of a class, all texts equal.
    """
    tell = progress or (lambda _: None)
    examples = prepare(snapshot, held_out_share=policy.promotion.held_out_share, classes=classes)
    _check(examples, classes)
    tell(f"fitting on {len(examples.train):,} reviews, {len(examples.test):,} held out")
    estimator = _fit(examples.train, policy.retrain.fresh_weight, seed)
    tell("measuring on the held-out reviews")
    probabilities, statistics = estimator.examine(examples.test["text"])
    return Candidate(
        estimator=estimator,
        metrics=_metrics(estimator, examples, probabilities),
        reference=_reference(estimator, examples.test, probabilities, statistics),
        params={
            **estimator.get_params(),
            "classes": ",".join(classes),
            "held_out_share": policy.promotion.held_out_share,
            "fresh_weight": policy.retrain.fresh_weight,
        },
    )


def _fit(rows: pa.Table, fresh_weight: float, seed: int) -> SentimentClassifier:
    is_fresh = pc.equal(rows["origin"], "fresh").to_numpy(zero_copy_only=False)
    try:
        return SentimentClassifier(random_state=seed).fit(
            rows["text"], rows["label"].to_pylist(), sample_weight=np.where(is_fresh, fresh_weight, 1.0)
        )
    except ValueError as error:
        raise Permanent(
            "texts of the training set",
            expected="words that several reviews share",
            found=str(error),
            remedy="add reviews, or check that the text column is the right one",
        ) from error


def _metrics(estimator: SentimentClassifier, examples: Examples, probabilities: Any) -> dict[str, Any]:
    classes = estimator.classes_.tolist()
    seen = _sample(examples.train)
    labels = np.asarray(examples.test["label"].to_pylist())
    is_fresh = pc.equal(examples.test["origin"], "fresh").to_numpy(zero_copy_only=False)
    metrics = {
        "data": {
            "n_rows": examples.n_rows,
            "n_duplicates": examples.n_duplicates,
            "n_conflicts": examples.n_conflicts,
            "n_train": len(examples.train),
            "n_test": len(examples.test),
        },
        "train": evaluate(estimator, seen["text"], seen["label"].to_pylist()),
        "test": figures(probabilities, labels.tolist(), classes),
    }
    if is_fresh.any():
        metrics["test_fresh"] = figures(probabilities[is_fresh], labels[is_fresh].tolist(), classes)
    return metrics


def _sample(rows: pa.Table) -> pa.Table:
    return rows.take(np.linspace(0, len(rows) - 1, min(len(rows), _TRAIN_ROWS_MEASURED)).astype(np.int64))


def _reference(estimator: SentimentClassifier, rows: pa.Table, probabilities: Any, statistics: dict[str, Any]) -> pa.Table:
    classes = estimator.classes_.tolist()
    columns = {
        **statistics,
        "p_positive": probabilities[:, classes.index("positive")],
        "label": [classes[place] for place in probabilities.argmax(axis=1)],
        "true_label": rows["label"],
        "product_id": rows["product_id"],
    }
    return pa.table({name: columns[name] for name in schema.REFERENCE.names}).cast(schema.REFERENCE)


def _check(examples: Examples, classes: Sequence[str]) -> None:
    for name, rows, least in (
        ("training", examples.train, MIN_TRAIN_ROWS_PER_CLASS),
        ("held-out", examples.test, MIN_TEST_ROWS_PER_CLASS),
    ):
        labels = rows["label"].to_pylist()
        for label in classes:
            if labels.count(label) < least:
                raise Permanent(
                    f"{name} rows of the training set",
                    expected=f"at least {least} distinct {label} reviews",
                    found=f"{labels.count(label)} (of {len(labels)} {name} rows; {examples.n_rows} rows in all, "
                    f"{examples.n_duplicates} duplicates and {examples.n_conflicts} with contradicting labels left out)",
                    remedy="add labelled reviews of more products",
                )
