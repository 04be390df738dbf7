"""A batch of reviews and a model: the same reviews with their scores.

Order and number of rows stay; a review's score depends on its text alone, never on the batch it came in. One pass
gives probabilities and the statistics that drift checks compare; the label is the model's decision, and the confidence
the probability of that label. No reading, no writing, no choice of the model.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentiment_core import schema
from sentiment_core.domain import ModelRef, ReviewBatch, ScoredBatch
from sentiment_core.text.features import in_one

_CARRIED = tuple(name for name in schema.SCORED_BATCH.names if name in schema.REVIEW_BATCH.names)


def score(estimator: Any, ref: ModelRef, batch: ReviewBatch, *, text_excerpt: int, with_texts: bool = False) -> ScoredBatch:
    """Score a batch.

    Args:
        estimator: a fitted `SentimentClassifier`.
        ref: the version it is; stamped on the batch.
        batch: validated reviews.
        text_excerpt: characters of the text to keep; 0 keeps none (null).
        with_texts: leave the texts with the batch, for a drift sample.
    """
    texts = in_one(batch.table["text"])
    probabilities, statistics = estimator.examine(texts)
    columns = {
        **{name: batch.table[name] for name in _CARRIED},
        **_scores(probabilities, estimator.decide(probabilities), estimator.classes_.tolist()),
        **statistics,
        "text_excerpt": excerpts(texts, text_excerpt),
    }
    table = pa.table({name: columns[name] for name in schema.SCORED_BATCH.names}).cast(schema.SCORED_BATCH)
    return ScoredBatch(table=table, model=ref, texts=texts if with_texts else None)


def score_texts(estimator: Any, texts: pa.LargeStringArray) -> pa.Table:
    """The scores of texts alone: label, one p_ column for each class of the model, confidence."""
    classes = estimator.classes_.tolist()
    probabilities = estimator.examine(texts)[0]
    columns = _scores(probabilities, estimator.decide(probabilities), classes)
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


def _scores(probabilities: npt.NDArray[np.float64], chosen: npt.NDArray[np.int8], classes: list[str]) -> dict[str, Any]:
    confidence = probabilities[:, 0].copy()
    for place in range(1, len(classes)):
        np.copyto(confidence, probabilities[:, place], where=chosen == place)
    return {
        "p_neutral": pa.nulls(len(probabilities), pa.float64()),
        **{f"p_{name}": probabilities[:, place] for place, name in enumerate(classes)},
        "label": pa.array(classes, pa.string()).take(pa.array(chosen)),
        "confidence": confidence,
    }
