"""The classifier that is registered: weighted n-grams and a linear model, as one scikit-learn estimator.

Its fitted state is numpy arrays and plain scalars only, so that skops stores it without pickle and one name is all
that a loader has to trust. How texts become counts, and counts sums, is the business of `text`, how weights are learnt
that of `linear`, how sums become probabilities and labels that of `calibration`; nothing here knows of files, MLflow or
labels' meaning.
"""

import logging
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from sentiment_core.errors import Permanent
from sentiment_core.model.calibration import Calibration, decide
from sentiment_core.model.linear import Learner
from sentiment_core.model.terms import Terms, count_terms
from sentiment_core.text.dictionary import Vocabulary, compile_dictionary, holds_dictionary, open_dictionary, save_dictionary
from sentiment_core.text.features import as_texts, score
from sentiment_core.text.kernel import Dictionary
from sentiment_core.text.learning import on_all_cores
from sentiment_core.text.rules import TextRules
from sentiment_core.text.weighing import holds_values, values_in, weigh

# Texts that one core scores at a time where several work on one array.
_SLICE = 2_048
_BLOCKS = ("words", "characters")
_LEARNT = "learnt"
# Below this an array is not worth a file, which is a request more when a version is stored and when it is fetched.
_MAPPED_BYTES = 1 << 20
_RULES = tuple(field.name for field in fields(TextRules) if not field.name.startswith("char_"))
log = logging.getLogger(__name__)

Tables = tuple[Dictionary, npt.NDArray[np.float64]]


class SentimentClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Texts to probabilities of `classes_`.

    Texts come as a list, array, Series or Arrow column, or as a table or frame with a column `text`. The constructor's
    arguments are the text rules (`text.rules.TextRules`), the size of the dictionary, and the family with its parameters
    (`linear.Learner`); the defaults are a plain, sturdy model, `search` finds better ones. `selection` says which terms
    stay where there are more than `max_features` words or `max_chars` runs of characters (`char_min` to `char_max`; for
    short texts): the most frequent, or with `chi2` those that tell the classes apart (`terms.Terms.select`).

    `predict_proba` follows the calibration and `predict` the decision offsets that `adjust` was given; without it, the
    plain link and the likeliest class.

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
        selection: str = "frequent",
        weighting: str = "tfidf",
        classifier: str = "logistic",
        C: float = 10.0,  # noqa: N803  # scikit-learn's name for it
        class_weight: str | None = None,
        ratio_power: float = 1.0,
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
        self.selection = selection
        self.weighting = weighting
        self.classifier = classifier
        self.C = C
        self.class_weight = class_weight
        self.ratio_power = ratio_power
        self.random_state = random_state

    def fit(self, texts: Any, labels: Any, sample_weight: Any = None) -> Self:
        """Learn dictionary, scales and weights.

        Raises:
            ValueError: fewer than two classes, lengths that differ, no term in `min_df` texts, or an unknown family.
            TypeError: what are no texts.
        """
        column = as_texts(texts)
        labels = np.asarray(labels)
        if len(labels) != len(column):
            raise ValueError(f"expected one label a text, found {len(labels)} labels for {len(column)} texts")
        self._learner.check()
        return self.fit_terms(self.count(column), labels, sample_weight)

    def count(self, column: pa.LargeStringArray) -> Terms:
        """The terms that this estimator would learn from.

        Raises:
            ValueError: no term in `min_df` texts.
        """
        limits = (self.max_features, self.max_chars) if self.selection == "frequent" else (None, None)
        terms = count_terms(column, self.rules, min_df=self.min_df, limit=limits[0])
        if self.char_max:
            terms = terms.beside(count_terms(column, self.char_rules, min_df=self.min_df, limit=limits[1]))
        return terms

    def fit_terms(self, terms: Terms, labels: npt.NDArray[Any], sample_weight: Any = None) -> Self:
        """Learn scales and weights from texts whose terms are counted already, by this estimator's rules.

        Raises:
            ValueError: as `fit` does.
        """
        self._learner.check()
        self.__dict__.pop("_prepared", None)
        if self.selection == "chi2":
            terms = terms.select(labels, max_words=self.max_features, max_chars=self.max_chars)
        self.term_bytes_, self.term_offsets_ = terms.words.term_bytes, terms.words.term_offsets
        self.char_bytes_, self.char_offsets_ = terms.characters.term_bytes, terms.characters.term_offsets
        self.classes_ = np.unique(labels)
        learnt = self._learner.fit(terms.counts, labels, len(terms.words), sample_weight)
        self.scale_, self.coef_, self.intercept_ = learnt.scale, learnt.coef, learnt.intercept
        return self.adjust(Calibration.none(len(self.coef_)), np.zeros(len(self.classes_)))

    def adjust(self, calibration: Calibration, offsets: npt.NDArray[np.float64]) -> Self:
        """Give the fitted model a calibration for its probabilities, and offsets (one a class) for its decisions."""
        self.calibration_coef_, self.calibration_intercept_ = calibration.coef, calibration.intercept
        self.offsets_ = np.asarray(offsets, float)
        return self

    def predict_proba(self, texts: Any) -> npt.NDArray[np.float64]:
        """Probabilities, one row a text and one column a class in the order of `classes_`; over all cores."""
        column = as_texts(texts)
        check_is_fitted(self)
        self.prepare()
        slices = [column.slice(first, _SLICE) for first in range(0, max(len(column), 1), _SLICE)]
        return np.concatenate(on_all_cores(lambda part: self.examine(part)[0], slices))

    def predict(self, texts: Any) -> npt.NDArray[Any]:
        """The class of every text."""
        return np.asarray(self.classes_[self.decide(self.predict_proba(texts))])

    def decide(self, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
        """Which class (its place in `classes_`) such probabilities mean, the offsets considered."""
        return decide(probabilities, self.offsets_)

    def examine(self, texts: Any) -> tuple[npt.NDArray[np.float64], dict[str, npt.NDArray[Any]]]:
        """Probabilities and the texts' statistics out of one pass on one core; releases the GIL."""
        check_is_fitted(self)
        column = as_texts(texts, validate=False)
        words, *characters = self._tables()
        sums, statistics = score(column, words[0], words[1], is_binary=self._is_binary)
        for dictionary, weights in characters:
            sums += score(column, dictionary, weights, is_binary=self._is_binary)[0]
        return self.calibration.probabilities(sums + self.intercept_, self.link), statistics

    @property
    def calibration(self) -> Calibration:
        """What makes probabilities of scores."""
        return Calibration(self.calibration_coef_, self.calibration_intercept_)

    @property
    def link(self) -> str:
        """What makes them where the calibration is empty."""
        return self._learner.link(len(self.classes_))

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
            if not holds_values(dictionary):
                np.save(folder / name / "weights.npy", weights, allow_pickle=False)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray) and value.nbytes >= _MAPPED_BYTES:
                (folder / _LEARNT).mkdir(exist_ok=True)
                np.save(folder / _LEARNT / f"{name}.npy", value, allow_pickle=False)

    def open_prepared(self, folder: Path) -> Self:
        """Map what `save_prepared` kept; who calls has checked the folder's digest.

        What was learnt is mapped as well, in place of what this estimator holds of it: scoring does not look at it.

        Raises:
            Permanent: the files are not those of this model.
        """
        for path in sorted((folder / _LEARNT).glob("*.npy")):  # none where the model is small or of an earlier version
            setattr(self, path.stem, self._open_learnt(path))
        blocks = [(folder / name, *vocabulary) for name, vocabulary in zip(_BLOCKS, self._vocabularies(), strict=False)]
        if not all(holds_dictionary(block) for block, *_ in blocks):
            log.warning("%s was compiled by an earlier version, it is compiled now; models registered anew bring theirs", folder)
            return self.prepare()
        self._prepared = [self._open_block(*block) for block in blocks]
        return self

    def _open_learnt(self, path: Path) -> npt.NDArray[Any]:
        held = getattr(self, path.stem, None)
        # A plain array on mapped memory: NumPy's own kind for it would be stored as another type.
        mapped = np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
        if held is None or (mapped.shape, mapped.dtype) != (held.shape, held.dtype):
            raise Permanent(
                f"file {path}",
                expected="an array of the model" if held is None else f"shape {held.shape} of {held.dtype}",
                found=f"shape {mapped.shape} of {mapped.dtype}",
                remedy="register the model again",
            )
        return mapped

    def _open_block(self, folder: Path, vocabulary: Vocabulary, rules: TextRules) -> Tables:
        dictionary = open_dictionary(folder, vocabulary, rules)
        if holds_values(dictionary):
            weights, n_rows = values_in(dictionary), len(dictionary.terms) // 2
        else:
            weights, n_rows = np.load(folder / "weights.npy", mmap_mode="c", allow_pickle=False), len(vocabulary)
        if weights.shape != (n_rows, 2 * len(self.coef_)) or weights.dtype != np.float64:
            raise Permanent(
                f"weights in {folder}",
                expected=f"two for each of {len(vocabulary):,} terms and {len(self.coef_)} scores",
                found=f"shape {weights.shape} of {weights.dtype}",
                remedy="register the model again",
            )
        return dictionary, weights

    def _tables(self) -> list[Tables]:
        """For words, and for characters where there are any: the compiled dictionary, and what the kernel adds up."""
        if "_prepared" not in vars(self):
            scale = np.broadcast_to(self.scale_, self.coef_.shape)
            pairs = np.stack([scale**2, scale * self.coef_], axis=-1).transpose(1, 0, 2).reshape(self.coef_.shape[1], -1)
            weights = [np.ascontiguousarray(part) for part in np.split(pairs, [self._n_words])]
            self._prepared = [weigh(block[0], part) for block, part in zip(self._blocks(), weights, strict=False)]
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
        return self._learner.is_binary

    @property
    def _learner(self) -> Learner:
        return Learner(**{field.name: getattr(self, field.name) for field in fields(Learner)})

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_prepared", None)  # tables are rebuilt from the arrays, or kept as files beside them
        return state


def linear(model: Any) -> SentimentClassifier:
    """The model, where its terms and their weights can be told; raises Permanent for one of another family."""
    if type(model) is SentimentClassifier:  # one that inherits from it may score as it likes
        return model
    raise Permanent(
        "words behind a score",
        expected="a linear model, which adds up weights of terms",
        found=f"a {type(model).__name__}, which another package has brought",
        remedy="ask about a version of another family: `sentiment models` lists them",
    )
