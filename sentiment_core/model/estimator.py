"""The classifier that is registered: weighted n-grams and a logistic regression, as one scikit-learn estimator.

Its fitted state is numpy arrays and plain scalars only, so that skops stores it without pickle and one name is all
that a loader has to trust. How texts become counts, and counts sums, is the business of `text`; nothing here knows of
files, MLflow or labels' meaning.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from sentiment_core.errors import Permanent
from sentiment_core.text.dictionary import Vocabulary, compile_dictionary, open_dictionary, save_dictionary
from sentiment_core.text.features import analyse, as_texts, score
from sentiment_core.text.kernel import Dictionary
from sentiment_core.text.learning import learn_vocabulary, on_all_cores
from sentiment_core.text.rules import TextRules

# Texts that one core scores at a time where several work on one array.
_SLICE = 2_048
_WEIGHTINGS = ("tfidf", "nbidf")
_BINARY_CLASSES = 2
_BLOCKS = ("words", "characters")
_RULES = tuple(field.name for field in fields(TextRules) if not field.name.startswith("char_"))
Tables = tuple[Dictionary, npt.NDArray[np.float64]]


class SentimentClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Texts to probabilities of `classes_`.

    Texts come as a list, array, Series or Arrow column, or as a table or frame with a column `text`. The constructor's
    arguments are the text rules (`text.rules.TextRules`), the size of the dictionary, how terms are weighted and the
    strength of the regression. Defaults were picked on held-out products of four sets of real reviews: stemming gained
    .003 to .007 of accuracy on each, negation marking gained on one and lost on another, and C = 10 lay within .002 of
    the best.

    Weightings: `tfidf`, 1 + log of the count times idf; `nbidf`, presence times idf times the smoothed log-count ratio
    of a class against the others (naive Bayes features; Wang and Manning 2012), one regression a class where there are
    more than two. Rows have length one, those of words and those of runs of characters (`char_min` to `char_max`; for short
    texts) each for itself.

    >>> model = SentimentClassifier(min_df=1).fit(["good film", "bad film"], ["positive", "negative"])
    >>> model.predict(["a good one"]).tolist()
    ['positive']
    """

    def __init__(
        self,
        *,
        strip_html: bool = True,
        lower_case: bool = True,
        mask_urls: bool = False,
        mask_emails: bool = False,
        split_emoji: bool = False,
        mask_numbers: bool = False,
        mark_negation: bool = False,
        drop_stop_words: bool = False,
        stem: bool = True,
        ngram_max: int = 2,
        min_df: int = 2,
        max_features: int = 200_000,
        char_min: int = 0,
        char_max: int = 0,
        max_chars: int = 200_000,
        weighting: str = "tfidf",
        C: float = 10.0,  # noqa: N803  # scikit-learn's name for it
        random_state: int | None = 0,
    ) -> None:
        self.strip_html = strip_html
        self.lower_case = lower_case
        self.mask_urls = mask_urls
        self.mask_emails = mask_emails
        self.split_emoji = split_emoji
        self.mask_numbers = mask_numbers
        self.mark_negation = mark_negation
        self.drop_stop_words = drop_stop_words
        self.stem = stem
        self.ngram_max = ngram_max
        self.min_df = min_df
        self.max_features = max_features
        self.char_min = char_min
        self.char_max = char_max
        self.max_chars = max_chars
        self.weighting = weighting
        self.C = C
        self.random_state = random_state

    def fit(self, texts: Any, labels: Any, sample_weight: Any = None) -> Self:
        """Learn dictionary, scales and weights.

        Raises:
            ValueError: fewer than two classes, lengths that differ, no term in `min_df` texts, or an unknown weighting.
            TypeError: what are no texts.
        """
        column = as_texts(texts)
        labels = np.asarray(labels)
        if len(labels) != len(column):
            raise ValueError(f"expected one label a text, found {len(labels)} labels for {len(column)} texts")
        if self.weighting not in _WEIGHTINGS:
            raise ValueError(f"expected weighting to be one of {', '.join(_WEIGHTINGS)}, found {self.weighting!r}")
        self._forget()
        words = learn_vocabulary(column, self.rules, min_df=self.min_df, max_features=self.max_features)
        self.term_bytes_, self.term_offsets_ = words.term_bytes, words.term_offsets
        characters = Vocabulary.of([])
        if self.char_max:
            characters = learn_vocabulary(column, self.char_rules, min_df=self.min_df, max_features=self.max_chars)
        self.char_bytes_, self.char_offsets_ = characters.term_bytes, characters.term_offsets
        counts = sp.hstack([analyse(column, *block).counts for block in self._blocks()], format="csr")
        self.classes_ = np.unique(labels)
        if self.weighting == "tfidf":
            self._fit_tfidf(counts, labels, sample_weight)
        else:
            self._fit_nbidf(counts, labels, sample_weight)
        return self

    def _fit_tfidf(self, counts: sp.csr_matrix, labels: npt.NDArray[Any], sample_weight: Any) -> None:
        self.scale_ = _idf(counts)[np.newaxis]
        regression = self._regression().fit(self._weigh(counts, 0), labels, sample_weight=sample_weight)
        self.coef_, self.intercept_ = regression.coef_, regression.intercept_

    def _fit_nbidf(self, counts: sp.csr_matrix, labels: npt.NDArray[Any], sample_weight: Any) -> None:
        # For two classes one regression of the second against the first, as scikit-learn has it.
        targets = self.classes_[1:] if len(self.classes_) == _BINARY_CLASSES else self.classes_
        weights = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, float)
        idf = _idf(counts)
        self.scale_ = np.stack([idf * _log_count_ratio(counts, labels == target, weights) for target in targets])
        regressions = [
            self._regression().fit(self._weigh(counts, place), labels == target, sample_weight=sample_weight)
            for place, target in enumerate(targets)
        ]
        self.coef_ = np.concatenate([regression.coef_ for regression in regressions])
        self.intercept_ = np.concatenate([regression.intercept_ for regression in regressions])

    def _regression(self) -> LogisticRegression:
        return LogisticRegression(C=self.C, max_iter=300, random_state=self.random_state)

    def _weigh(self, counts: sp.csr_matrix, place: int) -> sp.csr_matrix:
        """Rows of length one, as the regression of a class sees them; equals scikit-learn's TfidfTransformer for tfidf."""
        blocks = [counts[:, : self._n_words], counts[:, self._n_words :]] if self.char_max else [counts]
        scales = np.split(self.scale_[place], [self._n_words])
        return sp.hstack([self._weigh_block(block, scale) for block, scale in zip(blocks, scales, strict=False)], format="csr")

    def _weigh_block(self, counts: sp.csr_matrix, scale: npt.NDArray[np.float64]) -> sp.csr_matrix:
        values = (np.ones(len(counts.data)) if self._is_binary else 1 + np.log(counts.data)) * scale[counts.indices]
        n_terms = np.diff(counts.indptr)
        squares = np.bincount(np.repeat(np.arange(counts.shape[0]), n_terms), values**2, minlength=counts.shape[0])
        values /= np.repeat(np.sqrt(np.where(squares > 0, squares, 1)), n_terms)
        return sp.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)

    def predict_proba(self, texts: Any) -> npt.NDArray[np.float64]:
        """Probabilities, one row a text and one column a class in the order of `classes_`; over all cores."""
        column = as_texts(texts)
        check_is_fitted(self)
        self.prepare()
        slices = [column.slice(first, _SLICE) for first in range(0, max(len(column), 1), _SLICE)]
        return np.concatenate(on_all_cores(lambda part: self.examine(part)[0], slices))

    def predict(self, texts: Any) -> npt.NDArray[Any]:
        """The likeliest class of every text."""
        return np.asarray(self.classes_[self.predict_proba(texts).argmax(axis=1)])

    def examine(self, texts: Any) -> tuple[npt.NDArray[np.float64], dict[str, npt.NDArray[Any]]]:
        """Probabilities and the texts' statistics out of one pass on one core; releases the GIL."""
        check_is_fitted(self)
        column = as_texts(texts)
        words, *characters = self._tables()
        sums, statistics = score(column, words[0], words[1], is_binary=self._is_binary)
        for dictionary, weights in characters:
            sums += score(column, dictionary, weights, is_binary=self._is_binary)[0]
        return self._probabilities(sums + self.intercept_), statistics

    @property
    def vocabulary(self) -> Vocabulary:
        """The terms of words."""
        return Vocabulary(self.term_bytes_, self.term_offsets_)

    @property
    def characters(self) -> Vocabulary:
        """The terms of characters; none where `char_max` is 0."""
        return Vocabulary(self.char_bytes_, self.char_offsets_)

    @property
    def rules(self) -> TextRules:
        """What happens to a text before its words are counted."""
        return TextRules(**{name: getattr(self, name) for name in _RULES})

    @property
    def char_rules(self) -> TextRules:
        """The same before its characters are counted."""
        return TextRules(
            strip_html=self.strip_html, lower_case=self.lower_case, stem=False, char_min=self.char_min, char_max=self.char_max
        )

    @property
    def is_prepared(self) -> bool:
        """Whether the first text is scored as quickly as the next."""
        return "_prepared" in vars(self)

    def prepare(self) -> Self:
        """Build what scoring needs, if that has not been done."""
        self._tables()
        return self

    def save_prepared(self, folder: Path) -> None:
        """Keep what `prepare` builds as files that can be mapped into memory."""
        for name, (dictionary, weights) in zip(_BLOCKS, self._tables(), strict=False):
            save_dictionary(dictionary, folder / name)
            np.save(folder / name / "weights.npy", weights, allow_pickle=False)

    def open_prepared(self, folder: Path) -> Self:
        """Map what `save_prepared` kept; who calls has checked the folder's digest.

        Raises:
            Permanent: the files are not those of this model.
        """
        self._prepared = [
            self._open_block(folder / name, vocabulary, rules)
            for name, (vocabulary, rules) in zip(_BLOCKS, self._vocabularies(), strict=False)
        ]
        return self

    def _open_block(self, folder: Path, vocabulary: Vocabulary, rules: TextRules) -> Tables:
        weights = np.load(folder / "weights.npy", mmap_mode="c", allow_pickle=False)
        if weights.shape != (len(vocabulary), 2 * len(self.coef_)) or weights.dtype != np.float64:
            raise Permanent(
                f"weights in {folder}",
                expected=f"two for each of {len(vocabulary):,} terms and {len(self.coef_)} scores",
                found=f"shape {weights.shape} of {weights.dtype}",
                remedy="register the model again",
            )
        return open_dictionary(folder, vocabulary, rules), weights

    def _tables(self) -> list[Tables]:
        """For words, and for characters where there are any: the compiled dictionary, and what the kernel adds up."""
        if "_prepared" not in vars(self):
            scale = np.broadcast_to(self.scale_, self.coef_.shape)
            pairs = np.stack([scale**2, scale * self.coef_], axis=-1).transpose(1, 0, 2).reshape(self.coef_.shape[1], -1)
            weights = [np.ascontiguousarray(part) for part in np.split(pairs, [self._n_words])]
            self._prepared = [(block[0], part) for block, part in zip(self._blocks(), weights, strict=False)]
        return self._prepared

    def _blocks(self) -> list[tuple[Dictionary, int]]:
        return [(compile_dictionary(vocabulary, rules), len(vocabulary)) for vocabulary, rules in self._vocabularies()]

    def _vocabularies(self) -> list[tuple[Vocabulary, TextRules]]:
        words = (self.vocabulary, self.rules)
        return [words, (self.characters, self.char_rules)] if self.char_max else [words]

    @property
    def _n_words(self) -> int:
        return len(self.term_offsets_) - 1

    @property
    def _is_binary(self) -> bool:
        return self.weighting == "nbidf"

    def _probabilities(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if len(self.classes_) == _BINARY_CLASSES:  # the regression keeps one row of weights for two classes
            positive = expit(scores[:, 0])
            return np.column_stack([1 - positive, positive])
        if self.weighting == "nbidf":
            each = expit(scores)
            return np.asarray(each / each.sum(axis=1, keepdims=True))
        return np.asarray(softmax(scores, axis=1))

    def _forget(self) -> None:
        self.__dict__.pop("_prepared", None)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_prepared", None)  # tables are rebuilt from the arrays, or kept as files beside them
        return state


def _idf(counts: sp.csr_matrix) -> npt.NDArray[np.float64]:
    """scikit-learn's smooth_idf."""
    document_frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    return np.asarray(np.log((1 + counts.shape[0]) / (1 + document_frequency)) + 1)


def _log_count_ratio(
    counts: sp.csr_matrix, is_target: npt.NDArray[np.bool_], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Log of (1 + texts of the class that hold a term) over the same of the others, each as a share of its sum."""
    presence = sp.csr_matrix((np.ones(len(counts.data)), counts.indices, counts.indptr), shape=counts.shape)
    inside, outside = (1 + presence.T @ (weights * chosen) for chosen in (is_target, ~is_target))
    return np.asarray(np.log(inside / inside.sum()) - np.log(outside / outside.sum()))
