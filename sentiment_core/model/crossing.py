"""A candidate on fresh rows that it was fitted to: scored by models that its recipe makes without their products.

Labels of a new domain are few, and every one held out is missing in training. Cross-fitting (Stone 1974; the name is
Chernozhukov et al.'s, 2018) lets all of them say whether the recipe is better: a fold's rows are scored by a model of all
other rows, a little poorer than the candidate, which learnt from them too. No champion, no verdict.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.base import clone

from sentiment_core.model.calibration import Calibration
from sentiment_core.model.estimator import SentimentClassifier
from sentiment_core.model.examples import FRESH_ORIGINS
from sentiment_core.model.folds import groups_of, make_folds
from sentiment_core.model.terms import Terms
from sentiment_core.text.features import as_texts

F64 = npt.NDArray[np.float64]


def cross_fit(
    candidate: SentimentClassifier, train: pa.Table, *, weights: F64, n_folds: int
) -> tuple[npt.NDArray[np.int64], F64]:
    """Places of the fresh rows among those that the candidate was fitted to, and their probabilities, rows by classes.

    A row of a fold's products, whatever its origin, is learnt from by none that scores the fold. Fewer fresh
    rows than folds, or a fold whose other rows are of one class, give no rows.

    Args:
        candidate: the fitted and adjusted model.
        train: rows that it was fitted to, with the columns of `schema.SNAPSHOT`.
        weights: of the rows, as they were learnt.
        n_folds: how many parts; 0 gives no rows.
    """
    places = np.flatnonzero(pc.is_in(train["origin"], pa.array(FRESH_ORIGINS)).to_numpy(zero_copy_only=False))
    found = np.zeros((len(places), len(candidate.classes_)))
    if not n_folds or len(places) < n_folds:
        return places[:0], found[:0]
    texts, labels = as_texts(train["text"]), np.asarray(train["label"].to_pylist())
    groups = groups_of(train["text"].to_pylist(), train["product_id"].to_pylist())
    fresh = train.take(pa.array(places))
    folds = make_folds(
        fresh["text"].to_pylist(), fresh["product_id"].to_pylist(), labels[places].tolist(), n_folds=n_folds, seed=0
    )
    counted = candidate.count(texts)
    for fold in set(folds.tolist()):
        inside = places[folds == fold]
        outside = np.flatnonzero(~np.isin(groups, groups[inside]))
        if set(labels[outside]) != set(candidate.classes_):
            return places[:0], found[:0]
        rows = Terms(counted.counts[outside], counted.words, counted.characters)
        model = clone(candidate).fit_terms(rows, labels[outside], weights[outside])
        model.adjust(Calibration(candidate.calibration_coef_, candidate.calibration_intercept_), candidate.offsets_)
        found[folds == fold] = model.predict_proba(texts.take(pa.array(inside)))
    return places, found
