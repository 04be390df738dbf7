"""Candidate and champion on the same held-out reviews, both scored anew: which gates the candidate passes.

Here are the choice of the reviews and the scoring; what is asked of the figures stands in `gates`, what follows from
the answer in the stages.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentiment_core.domain import Promotion
from sentiment_core.errors import Permanent
from sentiment_core.model import gates
from sentiment_core.model.crossing import cross_fit
from sentiment_core.model.estimator import SentimentClassifier
from sentiment_core.model.evaluation import calibration_error, figures
from sentiment_core.model.examples import (
    BINARY,
    FRESH_ORIGINS,
    fold_labels,
    held_out_share,
    learning_weights,
    normalise,
    prepare,
)
from sentiment_core.model.gates import Examination, Gate
from sentiment_core.model.slices import compare_slices
from sentiment_core.policy import Policy, PromotionGates

# Enough rows that a call's overhead does not show, few enough that a slow family is found out within a minute.
_TIMED_ROWS = 4_096
_TIMED_RUNS = 3
Probabilities = npt.NDArray[np.float64]


def compare(
    champion: Any | None,
    candidate: Any,
    snapshot: pa.Table,
    policy: Policy,
    *,
    champion_snapshot: pa.Table | None = None,
    examine: Callable[[Any], Iterable[Examination]] | None = None,
    n_bytes: int | None = None,
) -> Promotion:
    """Score both models on reviews that neither has learnt from and say which gates pass.

    With a champion: better on fresh reviews (those that the candidate learnt from by cross-fitting), hardly worse on standing ones and on every part of them. Without: better
    than always saying the commonest class. In either case: no class given up, calibrated, of good behaviour, quick and
    small enough.

    Args:
        champion: estimator of today's champion; None where there is none.
        candidate: estimator to be judged.
        snapshot: what the candidate was trained from.
        policy: the limits.
        champion_snapshot: what the champion was trained from; its held-out rows are the standing test set, and what it
            does not hold is fresh. None: as the column origin says.
        examine: the behavioural tests.
        n_bytes: size of the candidate's files; None is not judged.

    Raises:
        Permanent: no row is held out.
    """
    classes = _common_classes(candidate, champion)
    rows = _rows(snapshot, champion_snapshot, policy.promotion, classes)
    if not len(rows):
        raise Permanent(
            "comparison", expected="held-out rows in the training set", found="none", remedy="add reviews of more products"
        )
    is_fresh = _is_fresh(rows)
    labels = np.asarray(rows["label"].to_pylist())
    ours = _Scores.of(candidate, rows, classes)
    theirs = _Scores.of(champion, rows, classes) if champion is not None else None
    limits = policy.promotion
    found = [
        *(
            _against_champion(ours, theirs, rows, _learnt(candidate, champion, snapshot, champion_snapshot, policy), limits)
            if theirs
            else [gates.better_than_majority(ours.is_right, labels, limits)]
        ),
        *gates.class_floors(ours.predicted, labels, classes, limits),
        gates.calibration(ours.calibration_error(), len(rows), limits),
        *gates.behaviour(examine(candidate) if examine else (), limits.behaviour),
        gates.speed(reviews_per_second(candidate, rows["text"]), len(rows), limits),
        *([gates.size(n_bytes, limits)] if n_bytes is not None else []),
    ]
    return Promotion(
        outcome="promoted" if all(gate.is_passed for gate in found) else "held",
        reason=gates.reason(found),
        metrics={
            "candidate": ours.by_origin(is_fresh),
            "champion": theirs.by_origin(is_fresh) if theirs else None,
            "gates": [asdict(gate) for gate in found],
        },
    )


def reviews_per_second(estimator: Any, texts: pa.ChunkedArray) -> float:
    """How quickly texts are scored on this machine; the best of three runs, because others may be at work beside them."""
    sample = texts.slice(0, _TIMED_ROWS)
    seconds = []
    for _ in range(_TIMED_RUNS):
        started = time.perf_counter()
        estimator.predict_proba(sample)
        seconds.append(time.perf_counter() - started)
    return len(sample) / max(min(seconds), 1e-9)


def _common_classes(candidate: Any, champion: Any | None) -> list[str]:
    """A model of two classes and one of three can only be compared on two."""
    both = [model.classes_.tolist() for model in (candidate, champion) if model is not None]
    return list(BINARY) if any("neutral" not in classes for classes in both) else both[0]


def _rows(snapshot: pa.Table, champion_snapshot: pa.Table | None, limits: PromotionGates, classes: Sequence[str]) -> pa.Table:
    """Held-out rows of both training sets, each text once, without what either model was fitted to.

    A text that the sets label differently is not asked: it would be wrong for one of them whatever a model says.
    """
    own = prepare(snapshot, held_out_share=held_out_share(snapshot, limits), classes=classes)
    if champion_snapshot is None:
        return own.test
    theirs = prepare(champion_snapshot, held_out_share=held_out_share(champion_snapshot, limits), classes=classes)
    rows = pa.concat_tables([theirs.test, own.test]).combine_chunks()
    texts, labels = [normalise(text) for text in rows["text"].to_pylist()], rows["label"].to_pylist()
    known = set(map(normalise, champion_snapshot["text"].to_pylist()))
    taken = {normalise(text) for part in (own.train, theirs.train) for text in part["text"].to_pylist()}
    taken |= _contradicted(zip(texts, labels, strict=True))
    kept = [place for text, place in {text: place for place, text in enumerate(texts)}.items() if text not in taken]
    rows = rows.take(pa.array(kept, pa.int64()))
    origins = ["standing" if texts[place] in known else "fresh" for place in kept]
    return rows.set_column(rows.schema.get_field_index("origin"), "origin", pa.array(origins, pa.string()))


def _contradicted(labelled: Iterable[tuple[str, str]]) -> set[str]:
    said: dict[str, str] = {}
    return {text for text, label in labelled if said.setdefault(text, label) != label}


def _is_fresh(rows: pa.Table) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.is_in(rows["origin"], pa.array(FRESH_ORIGINS)).to_numpy(zero_copy_only=False))


class _Part(NamedTuple):
    """What one model says about some of them."""

    is_right: npt.NDArray[np.bool_]
    error: npt.NDArray[np.float64]

    def beside(self, other: "_Part") -> "_Part":
        return _Part(np.concatenate([self.is_right, other.is_right]), np.concatenate([self.error, other.error]))


class _Scores:
    """What one model says about the rows of a comparison."""

    def __init__(self, estimator: Any, raw: Probabilities, predicted: Any, rows: pa.Table, classes: Sequence[str]) -> None:
        # A finer model's classes are folded by adding up their probabilities.
        folded = fold_labels(estimator.classes_.tolist(), classes)
        self.probabilities = np.column_stack([raw[:, [name == one for one in folded]].sum(axis=1) for name in classes])
        self.predicted = np.asarray(fold_labels(predicted.tolist(), classes))
        self.labels, self.classes = np.asarray(rows["label"].to_pylist()), classes
        self.is_right: npt.NDArray[np.bool_] = self.predicted == self.labels
        truth = np.column_stack([self.labels == name for name in classes])
        self.error: npt.NDArray[np.float64] = ((self.probabilities - truth) ** 2).mean(axis=1)
        """Squared error of the probabilities, the mean over classes."""

    @classmethod
    def of(cls, estimator: Any, rows: pa.Table, classes: Sequence[str]) -> "_Scores":
        return cls(estimator, estimator.predict_proba(rows["text"]), estimator.predict(rows["text"]), rows, classes)

    def all(self) -> _Part:
        return _Part(self.is_right, self.error)

    def only(self, chosen: npt.NDArray[np.bool_]) -> _Part:
        return _Part(self.is_right[chosen], self.error[chosen])

    def calibration_error(self) -> float:
        likeliest = np.asarray(self.classes)[self.probabilities.argmax(axis=1)]
        return calibration_error(self.probabilities.max(axis=1), likeliest == self.labels)

    def by_origin(self, is_fresh: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """Figures on all rows, the standing and the fresh ones."""
        rows = {"test": np.ones_like(is_fresh), "test_standing": ~is_fresh, "test_fresh": is_fresh}
        return {
            name: figures(self.probabilities[mask], self.labels[mask].tolist(), self.classes, predicted=self.predicted[mask])
            for name, mask in rows.items()
        }


def _learnt(
    candidate: Any, champion: Any, snapshot: pa.Table, champion_snapshot: pa.Table | None, policy: Policy
) -> tuple[_Part, _Part] | None:
    """Candidate and champion on the fresh rows that the candidate learnt from and the champion's set does not hold."""
    if type(candidate) is not SentimentClassifier:
        return None  # what a family of another package learns from other rows, only its package knows
    classes, limits = _common_classes(candidate, champion), policy.promotion
    train = prepare(snapshot, held_out_share=held_out_share(snapshot, limits), classes=candidate.classes_.tolist()).train
    weights = learning_weights(train, policy.retrain.fresh_weight)
    places, raw = cross_fit(candidate, train, weights=weights, n_folds=limits.fresh_folds)
    rows = train.take(pa.array(places))
    if champion_snapshot is not None:
        known = set(map(normalise, champion_snapshot["text"].to_pylist()))
        is_new = np.array([normalise(text) not in known for text in rows["text"].to_pylist()], np.bool_)
        rows, raw = rows.filter(pa.array(is_new)), raw[is_new]
    if not len(rows):
        return None
    labels = pa.array(fold_labels(rows["label"].to_pylist(), classes), pa.string())
    rows = rows.set_column(rows.schema.get_field_index("label"), "label", labels)
    ours = _Scores(candidate, raw, candidate.classes_[candidate.decide(raw)], rows, classes)
    return ours.all(), _Scores.of(champion, rows, classes).all()


def _against_champion(
    ours: _Scores, theirs: _Scores, rows: pa.Table, learnt: tuple[_Part, _Part] | None, limits: PromotionGates
) -> Iterable[Gate]:
    is_fresh = _is_fresh(rows)
    yield gates.fresh_labels(int(is_fresh.sum()), limits)
    if is_fresh.any():
        pair = ours.only(is_fresh), theirs.only(is_fresh)
        if learnt:
            pair = pair[0].beside(learnt[0]), pair[1].beside(learnt[1])
        yield gates.better_on_fresh(*pair, limits, n_learnt=len(learnt[0].error) if learnt else 0)
    yield gates.kept_on_standing(ours.is_right[~is_fresh], theirs.is_right[~is_fresh], limits)
    parts = compare_slices(rows, ours.labels, theirs.predicted, ours.predicted, min_rows=limits.min_slice_rows)
    yield gates.kept_on_slices(parts, limits)
