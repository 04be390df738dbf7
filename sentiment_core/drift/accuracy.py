"""Accuracy without labels: what the model's own probabilities say about a night.

Confidence-based performance estimation (CBPE, NannyML's documentation): on the reference, whose labels are known and
which the model was not trained on, learn how often a confidence is right; average that over the night. It sees what
the model doubts and is blind to confident mistakes.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.isotonic import IsotonicRegression

Floats = npt.NDArray[np.float64]


def estimate_accuracy(reference: pa.Table, current: pa.Table) -> float | None:
    """The expected share of right labels, in [0, 1]; None where it cannot be had (no rows, no confidence)."""
    known, asked = _confidence(reference), _confidence(current)
    is_usable = np.isfinite(known)
    asked = asked[np.isfinite(asked)]
    if not is_usable.any() or not len(asked):
        return None
    rightness = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    rightness.fit(known[is_usable], _is_right(reference)[is_usable])
    return float(rightness.predict(asked).mean())


def reference_accuracy(reference: pa.Table) -> float:
    """The share of the reference's rows that the model got right."""
    return float(_is_right(reference).mean())


def _is_right(reference: pa.Table) -> Floats:
    return np.asarray(reference["label"].to_numpy() == reference["true_label"].to_numpy(), np.float64)


def _confidence(table: pa.Table) -> Floats:
    """The probability of the label: its own column where there is one, else from p_positive, which two classes share."""
    if "confidence" in table.column_names:
        return np.asarray(table["confidence"].to_numpy(), np.float64)
    p_positive = np.asarray(table["p_positive"].to_numpy(), np.float64)
    confidence: Floats = np.maximum(p_positive, 1 - p_positive)
    return confidence
