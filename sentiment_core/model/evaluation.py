"""What a model gets right, and whether a candidate has earned the champion's place.

Figures come out of probabilities and labels only; both models of a comparison are scored anew on the same held-out
rows. Which rows those are is the business of `examples`; what happens to the models afterwards that of the stages.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from sentiment_core.domain import Promotion
from sentiment_core.errors import Permanent
from sentiment_core.model.calibration import log_loss
from sentiment_core.model.examples import BINARY, fold_labels, prepare
from sentiment_core.policy import Policy, PromotionGates

_BINS = 15


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One condition of a promotion."""

    name: str
    figure: float
    limit: float
    is_passed: bool
    sentence: str


def evaluate(estimator: Any, texts: Any, labels: Sequence[str]) -> dict[str, Any]:
    """Figures of a model on labelled texts; see `figures`."""
    classes = estimator.classes_.tolist()
    probabilities = estimator.predict_proba(texts)
    predicted = estimator.classes_[estimator.decide(probabilities)] if hasattr(estimator, "decide") else None
    return figures(probabilities, fold_labels(labels, classes), classes, predicted=predicted)


def figures(
    probabilities: npt.NDArray[np.float64], labels: Sequence[str], classes: Sequence[str], *, predicted: Any = None
) -> dict[str, Any]:
    """n, accuracy, macro_f1, precision, recall and f1 by class, ece, log_loss, confusion (rows: true, columns: predicted).

    Labels are those that the model decided for (`predicted`), by default the likeliest; ece looks at the likeliest class
    whatever was decided. Plain JSON values. Without rows every figure but n is None. A class nobody has or predicts counts 0 in macro_f1.
    """
    if not len(labels):
        return {"n": 0, "accuracy": None, "macro_f1": None, "per_class": {}, "ece": None, "log_loss": None, "confusion": []}
    likeliest = probabilities.argmax(axis=1)
    predicted = np.asarray(classes)[likeliest] if predicted is None else np.asarray(predicted)
    places = np.array([list(classes).index(label) for label in labels])
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    return {
        "n": len(labels),
        "accuracy": float(accuracy_score(labels, predicted)),
        "macro_f1": float(f1.mean()),
        "per_class": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f), "n": int(n)}
            for name, p, r, f, n in zip(classes, precision, recall, f1, support, strict=True)
        },
        "ece": calibration_error(probabilities.max(axis=1), likeliest == places),
        "log_loss": log_loss(probabilities, places),
        "confusion": confusion_matrix(labels, predicted, labels=classes).tolist(),
    }


def calibration_error(confidence: npt.NDArray[np.float64], is_right: npt.NDArray[np.bool_]) -> float:
    """Top-label expected calibration error over 15 bins of equal mass, corrected for chance.

    A perfectly calibrated model has gaps too, of variance p(1 - p)/n a bin. That variance is taken from each squared
    gap (Ferro and Fricker 2012) and the root keeps its sign, so that chance cancels over the bins instead of adding up.

    >>> calibration_error(np.full(1000, 0.9), np.arange(1000) % 2 == 0).__round__(2)
    0.4
    """
    total = 0.0
    for places in np.array_split(np.argsort(confidence, kind="stable"), min(_BINS, len(confidence))):
        gap = confidence[places].mean() - is_right[places].mean()
        chance = (confidence[places] * (1 - confidence[places])).mean() / len(places)
        excess = gap**2 - chance
        total += len(places) * float(np.sign(excess) * np.sqrt(abs(excess)))
    return max(0.0, total / len(confidence))


def compare(champion: Any | None, candidate: Any, snapshot: pa.Table, policy: Policy) -> Promotion:
    """Score both models on the snapshot's held-out rows and say which gates pass.

    With a champion: better on fresh rows (one-sided exact McNemar test; McNemar 1947), and hardly worse on standing
    ones. Without: better than always saying the commonest class. Raises Permanent when no row is held out.
    """
    classes = candidate.classes_.tolist()
    if champion is not None and "neutral" not in champion.classes_:
        classes = list(BINARY)  # a two-class champion can only be compared on two classes
    test = prepare(snapshot, held_out_share=policy.promotion.held_out_share, classes=classes).test
    if not len(test):
        raise Permanent(
            "comparison", expected="held-out rows in the training set", found="none", remedy="add reviews of more products"
        )
    is_fresh = pc.equal(test["origin"], "fresh").to_numpy(zero_copy_only=False)
    labels = np.asarray(test["label"].to_pylist())
    ours = _Scores(candidate, test["text"], labels, classes)
    if champion is None:
        theirs, gates = None, [_beats_majority(ours, labels, policy.promotion)]
    else:
        theirs = _Scores(champion, test["text"], labels, classes)
        gates = _gates(ours, theirs, is_fresh, policy.promotion)
    passed = all(gate.is_passed for gate in gates)
    return Promotion(
        outcome="promoted" if passed else "held",
        reason=_reason(gates),
        metrics={
            "candidate": ours.by_origin(is_fresh),
            "champion": theirs.by_origin(is_fresh) if theirs else None,
            "gates": [asdict(gate) for gate in gates],
        },
    )


class _Scores:
    """What one model says about the rows of a comparison."""

    def __init__(self, estimator: Any, texts: pa.ChunkedArray, labels: npt.NDArray[np.str_], classes: Sequence[str]) -> None:
        own = estimator.classes_.tolist()
        raw = estimator.predict_proba(texts)
        # A finer model's classes are folded by adding up their probabilities.
        folded = fold_labels(own, classes)
        self.probabilities = np.column_stack([raw[:, [name == one for one in folded]].sum(axis=1) for name in classes])
        self.labels, self.classes = labels, classes
        self.is_right = np.asarray(classes)[self.probabilities.argmax(axis=1)] == labels

    def by_origin(self, is_fresh: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """Figures on all rows, the standing and the fresh ones."""
        rows = {"test": np.ones_like(is_fresh), "test_standing": ~is_fresh, "test_fresh": is_fresh}
        return {name: figures(self.probabilities[mask], self.labels[mask].tolist(), self.classes) for name, mask in rows.items()}


def _gates(ours: _Scores, theirs: _Scores, is_fresh: npt.NDArray[np.bool_], limits: PromotionGates) -> list[Gate]:
    n_fresh = int(is_fresh.sum())
    enough = Gate(
        name="fresh_rows",
        figure=n_fresh,
        limit=limits.min_fresh_rows,
        is_passed=n_fresh >= limits.min_fresh_rows,
        sentence=f"{n_fresh} fresh held-out reviews to compare on ({limits.min_fresh_rows} needed)",
    )
    return [enough, *_better_on_fresh(ours, theirs, is_fresh, limits), *_kept_on_standing(ours, theirs, ~is_fresh, limits)]


def _better_on_fresh(ours: _Scores, theirs: _Scores, rows: npt.NDArray[np.bool_], limits: PromotionGates) -> list[Gate]:
    if not rows.any():
        return []
    won = int((ours.is_right & ~theirs.is_right)[rows].sum())
    lost = int((theirs.is_right & ~ours.is_right)[rows].sum())
    p_value = float(binomtest(won, won + lost, 0.5, alternative="greater").pvalue) if won + lost else 1.0
    return [
        Gate(
            name="better_on_fresh",
            figure=p_value,
            limit=limits.alpha,
            is_passed=p_value <= limits.alpha,
            sentence=f"right on {_percent(ours.is_right[rows])} of the fresh reviews, the champion on "
            f"{_percent(theirs.is_right[rows])} ({won} won, {lost} lost, p = {p_value:.2g}, at most {limits.alpha:g} allowed)",
        )
    ]


def _kept_on_standing(ours: _Scores, theirs: _Scores, rows: npt.NDArray[np.bool_], limits: PromotionGates) -> list[Gate]:
    if not rows.any():
        return []
    loss = float(theirs.is_right[rows].mean() - ours.is_right[rows].mean())
    return [
        Gate(
            name="kept_on_standing",
            figure=loss,
            limit=limits.max_standing_loss,
            is_passed=loss <= limits.max_standing_loss,
            sentence=f"right on {_percent(ours.is_right[rows])} of {int(rows.sum()):,} standing reviews, the champion on "
            f"{_percent(theirs.is_right[rows])} (a loss of {100 * limits.max_standing_loss:g} points is allowed)",
        )
    ]


def _beats_majority(ours: _Scores, labels: npt.NDArray[np.str_], limits: PromotionGates) -> Gate:
    share = float(np.unique(labels, return_counts=True)[1].max() / len(labels))
    p_value = float(binomtest(int(ours.is_right.sum()), len(labels), share, alternative="greater").pvalue)
    return Gate(
        name="better_than_majority",
        figure=p_value,
        limit=limits.alpha,
        is_passed=p_value <= limits.alpha,
        sentence=f"the first model, right on {_percent(ours.is_right)} of {len(labels):,} held-out reviews, where always saying "
        f"the commonest class is on {100 * share:.1f} % (p = {p_value:.2g}, at most {limits.alpha:g} allowed)",
    )


def _reason(gates: list[Gate]) -> str:
    failed = [gate for gate in gates if not gate.is_passed]
    return "; ".join(gate.sentence for gate in failed or gates)


def _percent(is_right: npt.NDArray[np.bool_]) -> str:
    return f"{100 * is_right.mean():.1f} %"
