"""Families of models that other packages bring: embeddings, transformers, whatever learns labels of texts.

A package names them under the entry point `sentiment.families`; the search tries them beside the linear ones, the
registry trusts their types, and the policy's gates (speed above all) decide whether one may become champion. What a
family has to offer stands here; no family does.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentiment_core.errors import Permanent

GROUP = "sentiment.families"


class Chooser(Protocol):
    """Who chooses among values; a trial of a search."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...  # noqa: D102
    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float: ...  # noqa: D102


class Estimator(Protocol):
    """A fitted model: what the product asks of one, of whatever family.

    It is a scikit-learn estimator, and its state is numpy arrays and plain values, so that skops stores it.
    """

    classes_: npt.NDArray[Any]

    def get_params(self) -> dict[str, Any]:
        """How it was made."""

    def adjust(self, calibration: Any, offsets: npt.NDArray[np.float64]) -> Self:
        """Take the calibration of those scores and the offsets of decisions (`model.calibration`)."""

    def predict_proba(self, texts: Any) -> npt.NDArray[np.float64]:
        """Probabilities, calibrated; texts by classes."""

    def decide(self, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
        """The place of the class that such probabilities mean."""

    def predict(self, texts: Any) -> npt.NDArray[Any]:
        """The class of every text."""

    def examine(self, texts: Any) -> tuple[npt.NDArray[np.float64], dict[str, npt.NDArray[Any]]]:
        """Probabilities, and the texts' statistics as `text.features.score` gives them."""

    def prepare(self) -> Self:
        """Build what scoring needs."""

    def save_prepared(self, folder: Path) -> None:
        """Keep what `prepare` builds in a new folder; nothing, where building is quick."""

    def open_prepared(self, folder: Path) -> Self:
        """Take what was kept there."""


class Fitted(Estimator, Protocol):
    """A model that a family has fitted, not calibrated yet."""

    def scores(self, texts: Any) -> npt.NDArray[np.float64]:
        """Texts by scores, before calibration: log-odds of the second of two classes, else one a class for a softmax."""


class Family(Protocol):
    """A kind of model, and what a search may try of it."""

    @property
    def name(self) -> str:
        """One word, of no other family."""

    @property
    def trusted_types(self) -> Sequence[str]:
        """Full names of the classes its stored models consist of, beside numpy's."""

    def known(self) -> Sequence[Mapping[str, Any]]:
        """Parameters that are tried first."""

    def choose(self, chooser: Chooser) -> Mapping[str, Any]:
        """Parameters out of its space: numbers, words and switches."""

    def fit(
        self, parameters: Mapping[str, Any], texts: pa.LargeStringArray, labels: npt.NDArray[Any], weights: Any, *, seed: int
    ) -> Fitted:
        """A model of labelled texts; the same for the same seed."""


def installed_families() -> tuple[Family, ...]:
    """What the installed packages bring, by name.

    Raises:
        Permanent: one cannot be imported, or two have the same name.
    """
    found: dict[str, Family] = {}
    for entry in entry_points(group=GROUP):
        try:
            family: Family = entry.load()()
        except Exception as error:  # whatever another package's import raises
            raise Permanent(
                f"family {entry.name} of models",
                expected=f"a class at {entry.value}, made without arguments",
                found=f"{type(error).__name__}: {error}",
                remedy="mend or uninstall the package that brings it",
            ) from error
        if family.name in found:
            raise Permanent(
                f"family {family.name} of models",
                expected="one package that brings it",
                found=f"a second one, at {entry.value}",
                remedy="uninstall one of them",
            )
        found[family.name] = family
    return tuple(found[name] for name in sorted(found))
