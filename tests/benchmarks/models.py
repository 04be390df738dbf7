"""The models that are measured, each with its twin out of scikit-learn's own parts.

A model is fitted once by the product's own estimator, stored, and loaded by every contender. To measure another one,
add it to `MODELS`; if its rules or weights are none that `scikit_learn_twin`
knows, give it another twin.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sentiment_core.text.rules import HTML_TAG, WORD_OR_PUNCTUATION
from tests.benchmarks.corpus import Originals
from tests.benchmarks.measuring import REPOSITORY, BenchError

_CODE = (REPOSITORY / "sentiment_core" / "text", REPOSITORY / "sentiment_core" / "model")
_TAG = re.compile(HTML_TAG)
_TOKEN = re.compile(WORD_OR_PUNCTUATION)
# What the twin knows how to do out of scikit-learn's parts; a model that does more needs a twin of its own.
_TWIN_RULES = {"lower_case", "strip_html", "stem", "ngram_max"}


def scikit_learn_twin(estimator: Any) -> Any:
    """CountVectorizer, TfidfTransformer and LogisticRegression with the estimator's dictionary, scales and weights.

    Naive Bayes features are the same parts with presence for counts and idf x log-count ratio for idf, in two classes.
    """
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    if len(estimator.scale_) != 1:
        raise BenchError("the twin out of scikit-learn's parts knows one scale a term")
    weights = TfidfTransformer(sublinear_tf=True)
    weights.idf_ = np.asarray(estimator.scale_[0])
    regression = LogisticRegression()
    regression.coef_, regression.intercept_ = np.asarray(estimator.coef_), np.asarray(estimator.intercept_)
    regression.classes_ = estimator.classes_
    return Pipeline([("counts", counter(estimator)), ("weights", weights), ("regression", regression)])


def counter(estimator: Any, **how: Any) -> Any:
    """A CountVectorizer with the estimator's text rules, and its dictionary unless told how to learn one."""
    from sklearn.feature_extraction.text import CountVectorizer

    rules = estimator.get_params()
    if not rules["lower_case"] or (used := _other_rules(rules)):
        raise BenchError(f"the twin out of scikit-learn's parts does not know the rules {used or ['lower_case = false']}")
    vectoriser = CountVectorizer(
        ngram_range=(1, rules["ngram_max"]),
        token_pattern=WORD_OR_PUNCTUATION,
        preprocessor=_without_tags if rules["strip_html"] else None,
        tokenizer=_stems if rules["stem"] else None,
        binary=rules["weighting"] == "nbidf",
        **(how or {"vocabulary": {term: column for column, term in enumerate(estimator.vocabulary.terms)}}),
    )
    return vectoriser if how else vectoriser.fit([""])


def _other_rules(rules: dict[str, Any]) -> list[str]:
    from sentiment_core.text.rules import TextRules

    return [field.name for field in fields(TextRules) if field.name not in _TWIN_RULES and rules.get(field.name)]


def _without_tags(text: str) -> str:
    return _TAG.sub(" ", text).lower()


def tokens(text: str) -> list[str]:
    """Words and runs of punctuation in lower case."""
    return _TOKEN.findall(text.lower())


def _stems(text: str) -> list[str]:
    return [_stem(token) for token in _TOKEN.findall(text)]


@cache  # a generous twin: no word is stemmed twice
def _stem(token: str) -> str:
    return str(stemmer().stem(token, to_lowercase=False))


@lru_cache(maxsize=1)
def stemmer() -> Any:
    """Porter's, as NLTK extends it."""
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model to measure."""

    title: str
    parameters: dict[str, Any]
    """Of `SentimentClassifier`."""
    twin: Callable[[Any], Any] = scikit_learn_twin
    """The same model as a scikit-learn pipeline over texts."""

    def fit(self, source: Originals) -> Any:
        """The estimator, fitted on four fifths of the originals."""
        texts, labels = source.training()
        return self.estimator().fit(texts, labels)

    def estimator(self) -> Any:
        """Unfitted."""
        from sentiment_core.model.estimator import SentimentClassifier

        return SentimentClassifier(**self.parameters)


def store(estimator: Any, path: Path) -> None:
    """Write a fitted estimator."""
    import skops.io

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    skops.io.dump(estimator, unfinished)
    unfinished.rename(path)


def load(path: Path) -> Any:
    """Read a fitted estimator."""
    import skops.io

    from sentiment_core.registry.artefact import TRUSTED_TYPES

    return skops.io.load(path, trusted=list(TRUSTED_TYPES))


_PLAIN = {"stem": False, "strip_html": False, "ngram_max": 2}
MODELS = {
    "plain-1m": Model(title="TF-IDF 1-2-grams, no stemming", parameters={**_PLAIN, "min_df": 1, "max_features": 1_000_000}),
    "plain-100k": Model(title="TF-IDF 1-2-grams, no stemming", parameters={**_PLAIN, "min_df": 2, "max_features": 100_000}),
    "default": Model(title="TF-IDF 1-2-grams, tags dropped, stemmed", parameters={}),
    "naive-bayes": Model(
        title="naive Bayes features of 1-3-grams",
        parameters={**_PLAIN, "weighting": "nbidf", "ngram_max": 3, "max_features": 100_000},
    ),
}


def fitted_path(name: str, source: Originals, folder: Path) -> Path:
    """Where a fitted model lies; other code, other data or other parameters, another file."""
    digest = hashlib.sha256(f"{source.digest}/{json.dumps(MODELS[name].parameters)}".encode())
    for code in sorted(path for part in _CODE for path in part.rglob("*.py")):
        digest.update(code.read_bytes())
    return folder / "models" / f"{name}-{digest.hexdigest()[:16]}.skops"
