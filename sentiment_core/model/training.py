"""From a snapshot to a candidate: search, fit, measure, and keep what drift checks need.

The recipe is looked for on the training rows alone, by cross-validation; held-out rows are only measured. How the search
goes is the business of `search`; registration and promotion happen elsewhere.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.base import clone

from sentiment_core.drift.reference import Reference
from sentiment_core.errors import Permanent
from sentiment_core.families import Estimator, Family
from sentiment_core.model.candidates import Brought
from sentiment_core.model.comparison import reviews_per_second
from sentiment_core.model.curves import curves
from sentiment_core.model.estimator import SentimentClassifier
from sentiment_core.model.evaluation import evaluate, figures
from sentiment_core.model.examples import BINARY, FRESH_ORIGINS, Examples, held_out_share, learning_weights, prepare
from sentiment_core.model.folds import make_folds
from sentiment_core.model.reference import Refit, make_reference
from sentiment_core.model.search import Found, Rows, search
from sentiment_core.model.terms import POOL
from sentiment_core.policy import Policy
from sentiment_core.text.features import as_texts
from sentiment_core.text.lens import Lens
from sentiment_core.trials import Trial

# Fewer than this of a class, and accuracy on the held-out rows says nothing (its standard error exceeds ten points).
MIN_TRAIN_ROWS_PER_CLASS = 20
MIN_TEST_ROWS_PER_CLASS = 5
# Enough to see the gap between training and test accuracy to half a point; all rows would double the time of a training.
_TRAIN_ROWS_MEASURED = 5_000


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A fitted model with its figures, not registered yet."""

    estimator: Estimator
    metrics: dict[str, Any]
    """`data` (rows, duplicates, conflicts), `train`, `test`, `test_fresh` where there are fresh rows: see `figures`."""
    reference: Reference
    """Rows it has not seen as drift checks will see reviews, and what people said of them."""
    params: dict[str, Any]
    """How it was trained: the estimator's parameters, and those of the policy that mattered."""
    lens: Lens | None = None
    """What drift checks see of a text; None: its nights cannot be compared by their topics."""
    trials: tuple[Trial, ...] = ()
    """What was tried on the way, in order."""
    curves: dict[str, Any] = field(default_factory=dict)
    """Of the held-out rows: see `curves.curves`."""
    seconds: float = 0.0
    """How long it took to find the recipe and to fit it."""
    reviews_per_second: float = 0.0
    """How quickly it scores on this machine, on all cores."""
    study: str = ""
    """Name of the search whose trials are kept in the database."""


def train(
    snapshot: pa.Table,
    *,
    policy: Policy,
    seed: int = 0,
    classes: Sequence[str] = BINARY,
    progress: Callable[[str], None] | None = None,
    storage: str | None = None,
    families: tuple[Family, ...] = (),
) -> Candidate:
    """Find a recipe and fit it on the rows that are not held out, measure on those that are.

    Args:
        snapshot: columns of `schema.SNAPSHOT`.
        policy: share held out, weight of fresh rows, how a recipe is looked for.
        seed: same snapshot and seed, same model.
        classes: two classes, neutral counting as positive, or all three.
        progress: told in a few words what is being done.
        storage: SQLAlchemy URL of a database that keeps the search's trials, so that a killed search goes on; None keeps
            them in memory.
        families: what other packages bring, tried beside the linear ones.

    Raises:
        Permanent: when the snapshot cannot train a model: columns missing, too few rows of a class, all texts equal.
    """
    tell = progress or (lambda _: None)
    examples = prepare(snapshot, held_out_share=held_out_share(snapshot, policy.promotion), classes=classes)
    _check(examples, classes)
    started = time.monotonic()
    tell(f"looking for a recipe on {len(examples.train):,} reviews, {len(examples.test):,} held out")
    try:
        estimator, found = _find(examples.train, policy, seed, storage, tell, families=families)
    except ValueError as error:
        raise Permanent(
            "texts of the training set",
            expected="words that several reviews share",
            found=str(error),
            remedy="add reviews, or check that the text column is the right one",
        ) from error
    seconds = time.monotonic() - started
    tell("measuring on the held-out reviews")
    probabilities = estimator.examine(examples.test["text"])[0]
    tell("making the reference for drift checks")
    weights = learning_weights(examples.train, policy.retrain.fresh_weight)
    lens, rows = make_reference(
        estimator, _refit(estimator, found, seed), examples.train, examples.test, weights=weights, limits=policy.drift, seed=seed
    )
    return Candidate(
        estimator=estimator,
        metrics={**_metrics(estimator, examples, probabilities), "cross_validation": _cross_validation(found)},
        reference=Reference.of(rows, policy.drift),
        lens=lens,
        params={
            **estimator.get_params(),
            "classes": ",".join(classes),
            "held_out_share": held_out_share(snapshot, policy.promotion),
            "fresh_weight": policy.retrain.fresh_weight,
            "family": found.recipe.family,
            "seed": seed,
        },
        trials=found.trials,
        curves=curves(
            probabilities, estimator.decide(probabilities), examples.test["label"].to_pylist(), estimator.classes_.tolist()
        ),
        seconds=seconds,
        reviews_per_second=reviews_per_second(estimator, examples.test["text"]),
        study=found.study,
    )


def _find(
    train: pa.Table,
    policy: Policy,
    seed: int,
    storage: str | None,
    tell: Callable[[str], None],
    *,
    families: tuple[Family, ...],
) -> tuple[Estimator, Found]:
    """The best recipe's model of the training rows, calibrated and with its decisions out of fold."""
    labels, weights = np.asarray(train["label"].to_pylist()), learning_weights(train, policy.retrain.fresh_weight)
    chosen = _sample(len(train), policy.search.max_rows)
    part = train.take(chosen)
    rows = Rows(
        texts=as_texts(part["text"]),
        labels=labels[chosen],
        weights=weights[chosen],
        sources=part["source"].to_pylist(),
        folds=make_folds(
            part["text"].to_pylist(),
            part["product_id"].to_pylist(),
            labels[chosen].tolist(),
            n_folds=policy.search.folds,
            seed=seed,
        ),
    )
    found, bank = search(rows, policy.search, seed=seed, storage=storage, tell=tell, families=families)
    tell(f"fitting {found.recipe.family} on {len(train):,} reviews")
    if isinstance(found.recipe, Brought):
        brought = found.profile.family(found.recipe.family)
        fitted = brought.fit(found.recipe.values, as_texts(train["text"]), labels, weights, seed=seed)
        return fitted.adjust(found.examined.calibration, found.examined.offsets), found
    n_terms = found.n_terms or POOL
    estimator = SentimentClassifier(
        **found.recipe.parameters(), selection="chi2", max_features=n_terms, max_chars=n_terms, random_state=seed
    )
    if len(part) == len(train):
        estimator.fit_terms(bank.terms(found.recipe), labels, weights)
    else:
        estimator.fit(train["text"], labels, weights)
    return estimator.adjust(found.examined.calibration, found.examined.offsets), found


def _refit(estimator: Estimator, found: Found, seed: int) -> Refit:
    """What fits the same recipe to other rows."""

    def refit(texts: pa.LargeStringArray, labels: npt.NDArray[Any], weights: npt.NDArray[np.float64]) -> Estimator:
        if isinstance(found.recipe, Brought):
            family = found.profile.family(found.recipe.family)
            fitted: Any = family.fit(found.recipe.values, texts, labels, weights, seed=seed)
        else:
            fitted = clone(estimator).fit(texts, labels, weights)
        adjusted: Estimator = fitted.adjust(found.examined.calibration, found.examined.offsets)
        return adjusted

    return refit


def _cross_validation(found: Found) -> dict[str, Any]:
    """What the search says of the winner: n_trials, score, folds' means, and the score by size of the dictionary."""
    means = {name: float(np.mean([fold[name] for fold in found.examined.folds])) for name in found.examined.folds[0]}
    sizes = {f"{size}_terms": score for size, score in found.ladder.items()}
    return {"n_trials": len(found.trials), "score": found.examined.score, **means, "by_dictionary": sizes}


def _metrics(estimator: Estimator, examples: Examples, probabilities: Any) -> dict[str, Any]:
    classes = estimator.classes_.tolist()
    seen = examples.train.take(_sample(len(examples.train), _TRAIN_ROWS_MEASURED))
    labels = np.asarray(examples.test["label"].to_pylist())
    predicted = estimator.classes_[estimator.decide(probabilities)]
    is_fresh = pc.is_in(examples.test["origin"], pa.array(FRESH_ORIGINS)).to_numpy(zero_copy_only=False)
    metrics = {
        "data": {
            "n_rows": examples.n_rows,
            "n_duplicates": examples.n_duplicates,
            "n_conflicts": examples.n_conflicts,
            "n_train": len(examples.train),
            "n_test": len(examples.test),
        },
        "train": evaluate(estimator, seen["text"], seen["label"].to_pylist()),
        "test": figures(probabilities, labels.tolist(), classes, predicted=predicted),
    }
    if is_fresh.any():
        metrics["test_fresh"] = figures(
            probabilities[is_fresh], labels[is_fresh].tolist(), classes, predicted=predicted[is_fresh]
        )
    return metrics


def _sample(n: int, n_most: int) -> npt.NDArray[np.int64]:
    """Places of so many rows at most, evenly spread."""
    return np.linspace(0, n - 1, min(n, n_most)).astype(np.int64)


def _check(examples: Examples, classes: Sequence[str]) -> None:
    left_out = (
        f"{examples.n_rows} rows in all, {examples.n_duplicates} duplicates and {examples.n_conflicts} with contradicting labels "
        "left out"
    )
    labels = [*examples.train["label"].to_pylist(), *examples.test["label"].to_pylist()]
    if len(labels) <= 1:
        raise Permanent(
            "texts of the training set",
            expected="reviews that differ",
            found=f"{len(labels)} distinct ones with one label each ({left_out})",
            remedy="check that the text column is the right one, and label reviews that people agree about",
        )
    if len(set(labels)) == 1:
        others = [name for name in classes if name not in labels]
        raise Permanent(
            "labels of the training set",
            expected="reviews of " + ", ".join(classes),
            found=f"{labels[0]} ones alone ({left_out})",
            remedy=f"add reviews labelled {' and '.join(others)}, or check that the label column is the right one",
        )
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
                    found=f"{labels.count(label)} (of {len(labels)} {name} rows; {left_out})",
                    remedy=f"add reviews labelled {label}, of more products where products are named",
                )
