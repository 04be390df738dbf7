"""What is raced on texts in memory: the product's estimator, scikit-learn and MLflow, the usual pipeline, the limit.

Each function prepares one contender from a spec (contender, model_path, model, n, answers) and gives back what a turn
does. It runs in a process of its own (`worker`); how turns are measured and compared stands elsewhere.
"""

import re
import time
from collections.abc import Callable, Sized
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tests.benchmarks import corpus, models
from tests.benchmarks.measuring import REPOSITORY

# A turn shorter than this would measure the clock; it is repeated.
_LEAST_TURN_S = 0.5
_MAX_REPEATS = 200
_WARM_UP_REVIEWS = 200
_HASHES = 2**20
_SHARED_ROWS = 1_024  # small enough that two threads end together

Spec = dict[str, Any]
Go = Callable[..., dict[str, Any]]


def prepare(spec: Spec) -> Go:
    """The contender that the spec names, warmed up."""
    if spec["contender"].startswith("fit "):
        return _fit(spec)
    kind, texts = spec["contender"].split(", ")[0], corpus.originals().texts.slice(0, spec["n"])
    if kind in LEARNERS:
        return _learn(spec, texts, LEARNERS[kind])
    return _score(spec, texts, SCORERS[kind](spec))


def _fit(spec: Spec) -> Go:
    def go() -> dict[str, Any]:
        source = corpus.originals()
        estimator = models.MODELS[spec["model"]].fit(source)
        models.store(estimator, Path(spec["model_path"]))
        return {"n": len(source.texts), "n_bytes": source.n_bytes}

    return go


def _score(spec: Spec, texts: pa.LargeStringArray, score: Callable[[Any], Any]) -> Go:
    """Repeats a turn until it can be timed; the first one's answers are kept for comparison."""
    began = time.perf_counter()
    score(texts.slice(0, _WARM_UP_REVIEWS))
    began = time.perf_counter()
    score(texts.slice(0, _WARM_UP_REVIEWS))
    expected_s = (time.perf_counter() - began) * len(texts) / min(len(texts), _WARM_UP_REVIEWS)
    repeats = int(min(_MAX_REPEATS, max(1, np.ceil(_LEAST_TURN_S / max(expected_s, 1e-6)))))
    answers = Path(spec["answers"])

    def go() -> dict[str, Any]:
        for _ in range(repeats):
            found = score(texts)
        if isinstance(found, np.ndarray) and not answers.exists():
            np.save(answers, found)
        return {"n": len(texts), "n_bytes": corpus.byte_count(texts), "repeats": repeats}

    return go


def _ours(spec: Spec) -> Callable[[Any], npt.NDArray[np.float64]]:
    """A batch at a time, as a night scores; `examine` keeps to one core, so threads are ours to give."""
    from sentiment_core.policy import read_policy

    n_threads = spec.get("threads", 1)
    estimator, pool = models.load(Path(spec["model_path"])).prepare(), ThreadPoolExecutor(n_threads)
    night_rows = read_policy(REPOSITORY / "include" / "policy.toml").reading.batch_rows
    rows = night_rows if n_threads == 1 else _SHARED_ROWS

    def score(texts: Any) -> npt.NDArray[np.float64]:
        batches = [texts.slice(at, rows) for at in range(0, len(texts), rows)]
        return np.concatenate(list(pool.map(lambda batch: estimator.examine(batch)[0], batches)))

    return score


def _twin(spec: Spec) -> Any:
    return models.MODELS[spec["model"]].twin(models.load(Path(spec["model_path"])))


def _scikit_learn(spec: Spec) -> Callable[[Any], npt.NDArray[np.float64]]:
    twin = _twin(spec)
    return lambda texts: twin.predict_proba(_python_strings(texts))


def _pyfunc(spec: Spec) -> Callable[[Any], npt.NDArray[np.float64]]:
    """The twin as MLflow serves it: saved, loaded as pyfunc, asked with a DataFrame."""
    import tempfile

    import mlflow.pyfunc
    import mlflow.sklearn
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    pipeline = make_pipeline(FunctionTransformer(_text_column), _twin(spec))
    with tempfile.TemporaryDirectory(prefix="sentiment-bench-") as folder:
        mlflow.sklearn.save_model(
            pipeline, f"{folder}/model", serialization_format="cloudpickle", pyfunc_predict_fn="predict_proba",
            signature=ModelSignature(inputs=Schema([ColSpec("string", "text")])), pip_requirements=["scikit-learn"],
        )  # fmt: skip
        loaded = mlflow.pyfunc.load_model(f"{folder}/model")
    return lambda texts: np.asarray(loaded.predict(pd.DataFrame({"text": _python_strings(texts)})))


def _text_column(frame: Any) -> Any:
    return frame["text"]


def _hashing(spec: Spec) -> Callable[[Any], npt.NDArray[np.float64]]:
    from scipy.special import expit
    from sklearn.feature_extraction.text import HashingVectorizer

    vectoriser = HashingVectorizer(ngram_range=(1, 2), n_features=_HASHES, token_pattern=models.WORD_OR_PUNCTUATION)
    weights = np.random.default_rng(corpus.SEED).normal(size=_HASHES)
    return lambda texts: expit(vectoriser.transform(_python_strings(texts)) @ weights)


def _clean_stem(_spec: Spec) -> Callable[[Any], npt.NDArray[np.float64]]:
    pipeline = clean_stem_pipeline()
    return lambda texts: pipeline.predict_proba([clean_and_stem(text) for text in _python_strings(texts)])


def clean_stem_pipeline() -> Any:
    """TF-IDF and a logistic regression over cleaned and stemmed reviews, fitted on enough of them to be of usual size."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts, labels = corpus.originals().training()
    cleaned = [clean_and_stem(text) for text in _python_strings(texts.slice(0, 2_000))]
    return make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(cleaned, labels[:2_000])


def clean_and_stem(text: str) -> str:
    """Cleaning as the well-known examples do it: tags and all but letters out, lower case, stop words out, Porter's stems."""
    words = re.sub(r"[^a-zA-Z]", " ", re.sub(r"<.*?>", " ", text)).lower().split()
    stemmer, stop_words = models.stemmer(), _stop_words()
    return " ".join(stemmer.stem(word) for word in words if word not in stop_words)


def _stop_words() -> frozenset[str]:
    # NLTK's own list has to be downloaded. scikit-learn's is longer, which leaves this contender less to stem.
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return ENGLISH_STOP_WORDS


def _limit(_spec: Spec) -> Callable[[Any], Any]:
    from tests.benchmarks.limit import Texts

    prepared: dict[int, Texts] = {}
    return lambda texts: prepared.setdefault(len(texts), Texts(texts)).walk()


def _python_strings(texts: pa.Array) -> list[str]:
    return texts.to_pylist()


def _learn(spec: Spec, texts: pa.LargeStringArray, learn: Callable[[Any, Any], tuple[Sized, Any]]) -> Go:
    estimator = models.MODELS[spec["model"]].estimator()
    learn(estimator, texts.slice(0, _WARM_UP_REVIEWS))

    def go() -> dict[str, Any]:
        terms, counts = learn(estimator, texts)
        result = {"n_terms": len(terms), "n_occurrences": int(counts.sum())}
        return {"n": len(texts), "n_bytes": corpus.byte_count(texts), "result": result}

    return go


def _our_features(estimator: Any, texts: Any) -> tuple[Sized, Any]:
    """What the estimator does in `fit` before the regression."""
    from sentiment_core.text.dictionary import compile_dictionary
    from sentiment_core.text.features import analyse
    from sentiment_core.text.learning import learn_vocabulary

    vocabulary = learn_vocabulary(texts, estimator.rules, min_df=estimator.min_df, max_features=estimator.max_features)
    return vocabulary, analyse(texts, compile_dictionary(vocabulary, estimator.rules), len(vocabulary)).counts


def _count_vectorizer(estimator: Any, texts: Any) -> tuple[Sized, Any]:
    vectoriser = models.counter(estimator, min_df=estimator.min_df, max_features=estimator.max_features)
    counts = vectoriser.fit_transform(_python_strings(texts))
    return vectoriser.vocabulary_, counts


SCORERS: dict[str, Callable[[Spec], Callable[[Any], Any]]] = {
    "ours": _ours,
    "scikit-learn predict_proba": _scikit_learn,
    "mlflow.pyfunc predict": _pyfunc,
    "HashingVectorizer(1,2) + dot": _hashing,
    "clean + stem + scikit-learn": _clean_stem,
    "limit: tokenise and hash": _limit,
}
LEARNERS: dict[str, Callable[[Any, Any], tuple[Sized, Any]]] = {
    "our vectoriser": _our_features,
    "CountVectorizer": _count_vectorizer,
}
