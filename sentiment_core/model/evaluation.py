"""What a model gets right.

Figures come out of probabilities and labels only. Which rows are measured is the business of `examples`; whether a
candidate has earned the champion's place that of `comparison` and `gates`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from sentiment_core.model.calibration import log_loss
from sentiment_core.model.examples import fold_labels

_BINS = 15


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
