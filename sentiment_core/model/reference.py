"""What drift checks compare nights with: a lens, and rows that neither it nor the model has learnt from.

Products are dealt into folds. The reviews of one fold make the lens; every other fold is scored by a model that was
fitted without it, and the rows that training holds out by the model itself. So nothing in a reference has been seen
before: that is how a night's reviews will look. Models of four fifths of the rows are a little less sure of themselves
than the model of all; by how much is measured on the held-out rows, which both score, and taken out. Files are the
business of `registry`, comparing that of `drift`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import brentq
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from sentiment_core import schema
from sentiment_core.families import Estimator
from sentiment_core.model.examples import FRESH_ORIGINS
from sentiment_core.model.folds import make_folds
from sentiment_core.model.linear import inverse_document_frequency
from sentiment_core.model.terms import Terms, count_terms
from sentiment_core.policy import Drift
from sentiment_core.text.features import as_texts
from sentiment_core.text.lens import RULES, Lens, weigh

F64 = npt.NDArray[np.float64]
Refit = Callable[[pa.LargeStringArray, npt.NDArray[Any], F64], Estimator]
_FOLDS = 5
_LENS_FOLDS = 1
# A training set of fewer rows is not divided again: models of four fifths of it would be other models.
_LEAST_ROWS = 1_000
# More rows say nothing more of chance, and every fold costs a fit.
_MOST_ROWS = 30_000
# Held-out rows below which nothing is said about how sure models are of themselves.
_LEAST_HELD_OUT = 200
# A topic is learnt from so many rows at least; a word of the lens stands in so many texts, which one product does not reach.
_ROWS_A_TOPIC, _WORD_TEXTS = 20, 5
# An unknown word is taken to be as frequent as one of so many that were never seen.
_UNSEEN_WORDS = 10_000


def make_lens(texts: pa.LargeStringArray, limits: Drift, *, seed: int) -> Lens:
    """The lens of reviews; the fewer there are, the fewer topics.

    Raises:
        ValueError: no word stands in two texts.
    """
    terms = _count(texts, limits.lens_words)
    counts = terms.counts
    idf = inverse_document_frequency(counts).astype(np.float32)
    n_topics = max(1, min(limits.topics, counts.shape[0] // _ROWS_A_TOPIC, counts.shape[1] - 1))
    with threadpool_limits(1):  # sums of several threads differ in the last digit
        topics = randomized_svd(weigh(counts, idf), n_topics, random_state=seed)[2].T
    total = np.asarray(counts.sum(axis=0), np.float64).ravel()
    once = max(float((total == total.min()).sum()), 1.0)
    frequencies = np.append(total, once / _UNSEEN_WORDS) / (total.sum() + once)
    return Lens(
        term_bytes=terms.words.term_bytes,
        term_offsets=terms.words.term_offsets,
        idf=idf,
        topics=np.ascontiguousarray(topics, np.float32),
        surprise=(-np.log(frequencies)).astype(np.float32),
    )


def _count(texts: pa.LargeStringArray, n_words: int) -> Terms:
    for least in (_WORD_TEXTS, 2):
        try:
            return count_terms(texts, RULES, min_df=least, limit=n_words)
        except ValueError:
            if least == 2:  # noqa: PLR2004  # a word of one text is none that texts share
                raise
    raise AssertionError


def make_reference(
    estimator: Estimator, refit: Refit, train: pa.Table, test: pa.Table, *, weights: F64, limits: Drift, seed: int
) -> tuple[Lens, pa.Table]:
    """A lens, and the rows of a reference (columns of `schema.REFERENCE`).

    Where enough of the rows were labelled since the champion was trained, the reference is made of those alone: tomorrow's
    reviews are like them, in what they are about and in how many are about what.

    Args:
        estimator: the fitted and adjusted model.
        refit: fits another like it to texts, labels and weights.
        train: the rows it was fitted to.
        test: the rows held out.
        weights: of the training rows.
        limits: section [drift] of the policy.
        seed: same rows and seed, same reference.
    """
    tested = _columns(estimator, test, estimator.examine(test["text"]))
    if len(train) < _LEAST_ROWS:
        lens = make_lens(as_texts(train["text"]), limits, seed=seed)
        return lens, _finish(lens, tested, test["text"], test["origin"], limits)
    chosen = np.linspace(0, len(train) - 1, min(len(train), _MOST_ROWS)).astype(np.int64)
    rows, weights = train.take(pa.array(chosen)), weights[chosen]
    labels = np.asarray(rows["label"].to_pylist())
    folds = make_folds(rows["text"].to_pylist(), rows["product_id"].to_pylist(), labels.tolist(), n_folds=_FOLDS, seed=seed)
    lens = make_lens(as_texts(rows["text"].filter(pa.array(folds < _LENS_FOLDS))), limits, seed=seed)
    parts, texts, origins = [tested], [test["text"]], [test["origin"]]
    for fold in range(_LENS_FOLDS, _FOLDS):
        inside, outside = pa.array(folds == fold), np.flatnonzero(folds != fold)
        unseen = rows.filter(inside)
        if not len(unseen):
            continue
        model = refit(as_texts(rows["text"].take(pa.array(outside))), labels[outside], weights[outside])
        probabilities, statistics = model.examine(unseen["text"])
        power = _sharpness(model, estimator, test)
        # Of what a model of all rows is surer, about half is deserved: with none of it accuracies were estimated .005 too
        # low (three divisions of films: .0054, .0030, -.0025), with all of it up to .008 too high.
        known = sharpen(probabilities, power**0.5)
        parts.append(_columns(estimator, unseen, (sharpen(probabilities, power), statistics), known=known))
        texts.append(unseen["text"])
        origins.append(unseen["origin"])
    joined = pa.concat_tables(parts)
    return lens, _finish(lens, joined, _concatenated(texts), _concatenated(origins), limits)


def sharpen(probabilities: F64, power: float) -> F64:
    """Probabilities to a power, adding up to one again: above 1 surer of themselves.

    >>> sharpen(np.array([[0.2, 0.8]]), 2.0).round(3).tolist()
    [[0.059, 0.941]]
    """
    raised = probabilities**power
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _sharpness(model: Estimator, whole: Estimator, test: pa.Table) -> float:
    """The power that makes a fold's model as sure of itself on held-out rows as the whole model is."""
    if len(test) < _LEAST_HELD_OUT:
        return 1.0
    own, wanted = model.examine(test["text"])[0], float(whole.examine(test["text"])[0].max(axis=1).mean())

    def gap(power: float) -> float:
        return float(sharpen(own, power).max(axis=1).mean()) - wanted

    least, most = 0.5, 2.0
    return float(brentq(gap, least, most, xtol=1e-4)) if gap(least) < 0 < gap(most) else 1.0


def _columns(estimator: Estimator, rows: pa.Table, examined: tuple[F64, dict[str, Any]], *, known: F64 | None = None) -> pa.Table:
    """The columns of a reference apart from those of the lens; `known`: what its labels are held against."""
    probabilities, statistics = examined
    known = probabilities if known is None else known
    classes = estimator.classes_.tolist()
    chosen = estimator.decide(probabilities)
    columns = {
        **statistics,
        "p_positive": probabilities[:, classes.index("positive")],
        "label": [classes[place] for place in chosen],
        "confidence": probabilities[np.arange(len(chosen)), chosen],
        "known_confidence": known[np.arange(len(chosen)), chosen],
        "true_label": rows["label"],
        "product_id": rows["product_id"],
    }
    wanted = pa.schema([field for field in schema.REFERENCE if field.name not in schema.LENS_COLUMNS])
    return pa.table({name: columns[name] for name in wanted.names}).cast(wanted)


def _finish(lens: Lens, rows: pa.Table, texts: Any, origins: Any, limits: Drift) -> pa.Table:
    is_fresh = pc.is_in(origins, pa.array(FRESH_ORIGINS))
    if (pc.sum(is_fresh).as_py() or 0) >= limits.min_reference:
        rows, texts = rows.filter(is_fresh), texts.filter(is_fresh)
    for name, values in lens.examine(as_texts(texts)).items():
        rows = rows.append_column(name, values)
    return rows.select(schema.REFERENCE.names).cast(schema.REFERENCE)


def _concatenated(columns: list[Any]) -> pa.ChunkedArray:
    return pa.chunked_array([chunk for column in columns for chunk in pa.chunked_array(column).chunks])
