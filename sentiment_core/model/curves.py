"""What a model's figures look like as curves: plain numbers, for whoever draws them.

Nothing is drawn here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, precision_recall_curve

_BINS = 15
_POINTS = 50


def curves(
    probabilities: npt.NDArray[np.float64], chosen: npt.NDArray[np.int8], labels: Sequence[str], classes: Sequence[str]
) -> dict[str, Any]:
    """Classes, confusion, reliability and precision-recall points of scored rows.

    Args:
        probabilities: rows by classes.
        chosen: the place of the class that was decided for.
        labels: what people said.
        classes: in the order of the columns.

    Returns:
        `classes`; `confusion`, rows true and columns predicted; `reliability`, a bin each (15 of equal mass) with the mean
        confidence of the likeliest class, how often it was right, and n; `precision_recall` by class, points with
        recall (rising), precision and the threshold of the probability.
    """
    truth = np.array([list(classes).index(label) for label in labels], np.int64)
    return {
        "classes": list(classes),
        "confusion": confusion_matrix(truth, chosen, labels=range(len(classes))).tolist(),
        "reliability": _reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth),
        "precision_recall": {name: _points(truth == place, probabilities[:, place]) for place, name in enumerate(classes)},
    }


def _reliability(confidence: npt.NDArray[np.float64], is_right: npt.NDArray[np.bool_]) -> list[dict[str, float]]:
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(_BINS, len(confidence)))
    return [
        {"confidence": float(confidence[rows].mean()), "accuracy": float(is_right[rows].mean()), "n": len(rows)} for rows in parts
    ]


def _points(is_class: npt.NDArray[np.bool_], probability: npt.NDArray[np.float64]) -> list[dict[str, float]]:
    if not is_class.any():
        return []
    precision, recall, thresholds = precision_recall_curve(is_class, probability)
    places = np.unique(np.linspace(0, len(thresholds) - 1, min(len(thresholds), _POINTS)).astype(np.int64))[::-1]
    return [{"recall": float(recall[k]), "precision": float(precision[k]), "threshold": float(thresholds[k])} for k in places]
