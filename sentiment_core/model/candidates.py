"""What may be tried: recipes for a model, and which of them suit which texts.

A recipe is a few plain values; a space says which values a kind of text allows, and which recipes are known to be good
and are tried first. Nothing is fitted here, and no search strategy is known.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentiment_core.families import Chooser, Family
from sentiment_core.model.calibration import LOGISTIC, SOFTMAX
from sentiment_core.model.linear import Learner
from sentiment_core.text.rules import TextRules

# Family: its classifiers, its weightings, and between what limits its C lies. Naive Bayes features take C = 30 on films and 1
# on short comments; a support vector machine's C is a hundredth of that.
FAMILIES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[float, float]]] = {
    "nb_logistic": (("logistic",), ("nbidf",), (0.3, 100)),
    "logistic": (("logistic",), ("tfidf", "presence"), (0.3, 100)),
    "svm": (("svm",), ("nbidf", "tfidf", "presence"), (0.01, 3)),
    "naive_bayes": (("naive_bayes", "complement"), ("presence", "tfidf"), (1, 100)),
}
NGRAM_MAX = 3
"""The longest n-grams that are tried."""
_CHARACTERS = (3, 5)
_RATIO_POWERS = (0.5, 0.75, 1.0)
MIN_DF = 2


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to make a model of labelled texts."""

    family: str
    classifier: str
    weighting: str
    C: float
    ngram_max: int
    has_characters: bool = False
    """Runs of three to five characters beside the words."""
    class_weight: str | None = None
    ratio_power: float = 1.0
    """Of naive Bayes features; see `linear.Learner`."""
    stem: bool = False
    mark_negation: bool = False
    mask_numbers: bool = False
    drop_stop_words: bool = False

    @property
    def rules(self) -> TextRules:
        """What happens to a text before its words are counted; with n-grams of every length."""
        names = ("stem", "mark_negation", "mask_numbers", "drop_stop_words")
        return TextRules(**{name: getattr(self, name) for name in names})

    def learner(self, seed: int | None) -> Learner:
        """What learns from counted terms."""
        return Learner(
            weighting=self.weighting,
            classifier=self.classifier,
            C=self.C,
            class_weight=self.class_weight,
            ratio_power=self.ratio_power,
            random_state=seed,
        )

    def link(self, n_classes: int) -> str:
        """What makes probabilities of its scores where nothing calibrates them."""
        return self.learner(None).link(n_classes)

    def parameters(self) -> dict[str, Any]:
        """The arguments of `SentimentClassifier`; the size of the dictionary is not among them."""
        values = asdict(self)
        least, most = _CHARACTERS if values.pop("has_characters") else (0, 0)
        del values["family"]
        return {**values, "char_min": least, "char_max": most, "min_df": MIN_DF}


@dataclass(frozen=True, kw_only=True)
class Brought:
    """A recipe of a family that another package brings (`families`)."""

    family: str
    values: Mapping[str, Any]

    def link(self, n_classes: int) -> str:
        """As `families.Fitted.scores` has it."""
        return LOGISTIC if n_classes == 2 else SOFTMAX  # noqa: PLR2004


CHARACTER_RULES = TextRules(stem=False, char_min=_CHARACTERS[0], char_max=_CHARACTERS[1])


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What of a training set decides about the space."""

    median_chars: float
    is_short: bool
    """Comments rather than reviews: runs of characters help, which hurt long texts."""
    is_uneven: bool
    """A class is much rarer than its share would be: weights and offsets may be wanted."""
    families: tuple[Family, ...] = ()
    """What is tried beside the linear ones."""

    @classmethod
    def of(
        cls,
        texts: pa.LargeStringArray,
        labels: npt.NDArray[Any],
        *,
        short_text_chars: int,
        even_share: float,
        families: tuple[Family, ...] = (),
    ) -> "Profile":
        """Look at texts and labels.

        Args:
            texts: what is learnt from.
            labels: one a text.
            short_text_chars: a median of fewer characters is short.
            even_share: classes are even when the rarest has at least this share of what an even split would give it.
            families: what other packages bring.
        """
        median = float(np.median(pc.utf8_length(texts).to_numpy(zero_copy_only=False)))
        counts = np.unique(labels, return_counts=True)[1]
        return cls(
            median_chars=median,
            is_short=median < short_text_chars,
            is_uneven=bool(counts.min() < even_share * counts.mean()),
            families=families,
        )

    def family(self, name: str) -> Family:
        """A family that another package brings, by its name."""
        return next(family for family in self.families if family.name == name)

    def known(self) -> list[Recipe | Brought]:
        """Recipes that did best on sets of this kind, one of each family and more of the best; tried first.

        Films: naive Bayes features of plain 1-3-grams. Comments: stems, marked negation, and characters; with few rows 2-grams.
        """
        brought = [Brought(family=family.name, values=values) for family in self.families for values in family.known()]
        return [*(_KNOWN_SHORT if self.is_short else _KNOWN_LONG), *brought]

    def recipe(self, chooser: Chooser) -> Recipe | Brought:
        """A recipe of the space, as it is chosen."""
        family = chooser.suggest_categorical("family", [*FAMILIES, *(brought.name for brought in self.families)])
        if family not in FAMILIES:
            return Brought(family=family, values=dict(self.family(family).choose(_Prefixed(chooser, family))))
        classifiers, weightings, (least, most) = FAMILIES[family]
        weighting = _one(chooser, f"weighting_{family}", weightings)
        return Recipe(
            family=family,
            classifier=_one(chooser, f"classifier_{family}", classifiers),
            weighting=weighting,
            ratio_power=_one(chooser, "ratio_power", _RATIO_POWERS) if weighting == "nbidf" else 1.0,
            C=chooser.suggest_float(f"C_{family}", least, most, log=True),
            ngram_max=_one(chooser, "ngram_max", tuple(range(1, NGRAM_MAX + 1))),
            has_characters=_one(chooser, "has_characters", (False, True)) if self.is_short else False,
            class_weight=_one(chooser, "class_weight", (None, "balanced")) if self.is_uneven else None,
            stem=_one(chooser, "stem", (False, True)),
            mark_negation=_one(chooser, "mark_negation", (False, True)),
            mask_numbers=_one(chooser, "mask_numbers", (False, True)),
            drop_stop_words=_one(chooser, "drop_stop_words", (False, True)),
        )

    def choices(self, recipe: Recipe | Brought) -> dict[str, Any]:
        """What a chooser has to answer for this recipe to come out of `recipe`."""
        recorder = _Recorder(recipe)
        self.recipe(recorder)
        return recorder.answers


class _Prefixed:
    """Keeps the names that a family's author chose apart from those of other families."""

    def __init__(self, chooser: Chooser, family: str) -> None:
        self._chooser, self._family = chooser, family

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._chooser.suggest_categorical(f"{self._family}.{name}", choices)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        return self._chooser.suggest_float(f"{self._family}.{name}", low, high, log=log)


class _Recorder:
    def __init__(self, recipe: Recipe | Brought) -> None:
        self.answers: dict[str, Any] = {}
        self._wanted = told(recipe)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        wanted = self._wanted[self._name(name)]
        self.answers[name] = wanted if wanted in choices else choices[0]
        return self.answers[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        del low, high, log
        self.answers[name] = self._wanted[self._name(name)]
        return float(self.answers[name])

    def _name(self, asked: str) -> str:
        """The parameter that is asked for; some names carry the family they are asked of."""
        own = asked.rpartition(".")[2]
        return own if own in self._wanted else own.partition("_")[0]


def told(recipe: Recipe | Brought) -> dict[str, Any]:
    """A recipe as parameters by name, its family among them."""
    return asdict(recipe) if isinstance(recipe, Recipe) else {**recipe.values, "family": recipe.family}


def _one(chooser: Chooser, name: str, choices: tuple[Any, ...]) -> Any:
    return choices[0] if len(choices) == 1 else chooser.suggest_categorical(name, list(choices))


_NB_LOGISTIC = Recipe(family="nb_logistic", classifier="logistic", weighting="nbidf", C=30, ngram_max=3, ratio_power=0.5)
_SVM = Recipe(family="svm", classifier="svm", weighting="nbidf", C=0.3, ngram_max=3, ratio_power=0.75)
_LOGISTIC = Recipe(family="logistic", classifier="logistic", weighting="tfidf", C=10, ngram_max=2, stem=True)
_NAIVE_BAYES = Recipe(family="naive_bayes", classifier="naive_bayes", weighting="presence", C=10, ngram_max=3)
_KNOWN_LONG = (_NB_LOGISTIC, _SVM, _LOGISTIC, _NAIVE_BAYES, replace(_NB_LOGISTIC, stem=True, ratio_power=1.0))
_SHORT: dict[str, Any] = {"ngram_max": 2, "stem": True, "mark_negation": True}
_KNOWN_SHORT = (
    replace(_NB_LOGISTIC, C=1, has_characters=True, **_SHORT),
    replace(_SVM, C=0.1, has_characters=True, **_SHORT),
    replace(_LOGISTIC, C=1, has_characters=True, class_weight="balanced", ngram_max=2),
    replace(_NAIVE_BAYES, **_SHORT),
    replace(_NB_LOGISTIC, C=3, has_characters=True, class_weight="balanced", stem=True, mark_negation=True),
)
