"""A batch of reviews and a model: the same reviews with their scores.

Order and number of rows stay; a review's score depends on its text alone, never on the batch it came in. One pass
gives probabilities and the statistics that drift checks compare. No reading, no writing, no choice of the model.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentiment_core import schema
from sentiment_core.domain import ModelRef, ReviewBatch, ScoredBatch
from sentiment_core.text.features import as_texts

_CARRIED = tuple(name for name in schema.SCORED_BATCH.names if name in schema.REVIEW_BATCH.names)


def score(estimator: Any, ref: ModelRef, batch: ReviewBatch, *, text_excerpt: int) -> ScoredBatch:
    """Score a batch.

    Args:
        estimator: a fitted `SentimentClassifier`.
        ref: the version it is; stamped on the batch.
        batch: validated reviews.
        text_excerpt: characters of the text to keep; 0 keeps none (null).
    """
    texts = as_texts(batch.table["text"])
    probabilities, statistics = estimator.examine(texts)
    columns = {
        **{name: batch.table[name] for name in _CARRIED},
        **_scores(probabilities, estimator.classes_.tolist()),
        **statistics,
        "text_excerpt": excerpts(texts, text_excerpt),
    }
    table = pa.table({name: columns[name] for name in schema.SCORED_BATCH.names}).cast(schema.SCORED_BATCH)
    return ScoredBatch(table=table, model=ref)


def score_texts(estimator: Any, texts: pa.LargeStringArray) -> pa.Table:
    """The scores of texts alone: label, one p_ column for each class of the model, confidence."""
    classes = estimator.classes_.tolist()
    columns = _scores(estimator.examine(texts)[0], classes)
    names = ["label", *(name for name in ("p_negative", "p_neutral", "p_positive") if name[2:] in classes), "confidence"]
    return pa.table({name: columns[name] for name in names})


def excerpts(texts: pa.LargeStringArray, n_chars: int) -> pa.Array:
    """The first characters of every text, never half of one; nulls for 0.

    >>> excerpts(pa.array(["naïve", "no"], pa.large_string()), 3).to_pylist()
    ['naï', 'no']
    """
    if n_chars == 0:
        return pa.nulls(len(texts), pa.string())
    return pc.utf8_slice_codeunits(texts, start=0, stop=n_chars).cast(pa.string())


def _scores(probabilities: npt.NDArray[np.float64], classes: list[str]) -> dict[str, Any]:
    # One class after the other: NumPy takes ten times as long for the maximum of short rows.
    confidence, likeliest = probabilities[:, 0].copy(), np.zeros(len(probabilities), np.int8)
    for place in range(1, len(classes)):
        is_likelier = probabilities[:, place] > confidence
        np.copyto(confidence, probabilities[:, place], where=is_likelier)
        likeliest[is_likelier] = place
    return {
        "p_neutral": pa.nulls(len(probabilities), pa.float64()),
        **{f"p_{name}": probabilities[:, place] for place, name in enumerate(classes)},
        "label": pa.array(classes, pa.string()).take(pa.array(likeliest)),
        "confidence": confidence,
    }
