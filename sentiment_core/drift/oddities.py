"""Reviews nobody would have written: gibberish, and copies of one text.

They are told apart row by row, so that a tenth of garbage is not taken for another kind of review: what else is said of
a night is said of the plausible rows. A text is gibberish when its words are more surprising, for their number, than
those of real texts of any kind, or are mostly unknown, or none; a copy when several others of some length lie at the same place
among the topics. A model of few or short texts takes much of another domain for gibberish, too. What is gibberish for
certain is a salad: known words, surprising, and hardly one of them twice. Pure.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentiment_core.drift.reference import F64, Reference, has_topics, topics_of
from sentiment_core.policy import Drift

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Oddities:
    """Which rows are what, and the shares of the night beyond what the reference has."""

    is_gibberish: Bools
    is_copy: Bools
    gibberish_share: float
    salad_share: float
    """The part of gibberish that is known words, in an order that nobody writes."""
    copied_share: float

    @property
    def is_plausible(self) -> Bools:
        """The rows a person may have written."""
        return np.asarray(~(self.is_gibberish | self.is_copy))


def find_oddities(reference: Reference, rows: pa.Table, limits: Drift) -> Oddities:
    """Look for rows that nobody would have written; none where the lens has not seen them."""
    found = _look(reference, rows, limits)
    gibberish, salad, copied = (
        max(0.0, float(kind.mean()) - known) for kind, known in zip(found, _known_shares(reference, limits), strict=True)
    )
    return Oddities(
        is_gibberish=found[0], is_copy=found[2], gibberish_share=gibberish, salad_share=salad, copied_share=copied
    )  # fmt: skip


@lru_cache(maxsize=4)
def _known_shares(reference: Reference, limits: Drift) -> tuple[float, ...]:
    """Of the reference's rows, the share of each kind."""
    return tuple(float(kind.mean()) for kind in _look(reference, reference.rows, limits))


def _look(reference: Reference, rows: pa.Table, limits: Drift) -> tuple[Bools, Bools, Bools]:
    """Gibberish, what of it is known words in no order, and copies."""
    nothing = np.zeros(len(rows), np.bool_)
    if not {"surprise", "strange_share"} <= set(reference.names) or not {"surprise", "strange_share"} <= set(rows.column_names):
        return nothing, nothing, _copies(rows, limits)
    is_surprising = _is_surprising(reference.rows, rows, limits)
    # Dots and emoji alone are no words: nothing is surprising about them, and nothing can be learnt from them.
    is_strange = np.asarray((_values(rows, "strange_share") > limits.gibberish_strange_share) | (_values(rows, "n_words") < 1))
    is_varied = nothing
    if "distinct_share" in reference.names and "distinct_share" in rows.column_names:
        is_varied = _is_varied(reference.rows, rows, limits)
    return is_surprising | is_strange, is_surprising & ~is_strange & is_varied, _copies(rows, limits)


def _is_surprising(known: pa.Table, rows: pa.Table, limits: Drift) -> Bools:
    """Texts whose words are rarer, for their number, than those of real texts."""
    values, lengths = _values(known, "surprise"), _lengths(known)
    mean = float(values.mean())
    # Texts differ, and the fewer words a text has the more its mean varies: variance = texts' + words' / n.
    design = np.column_stack([np.ones(len(values)), 1 / lengths])
    (texts, words), *_ = np.linalg.lstsq(design, (values - mean) ** 2, rcond=None)
    sigma = np.sqrt(np.maximum(texts, 1e-3) + np.maximum(words, 1e-3) / _lengths(rows))
    return np.asarray((_values(rows, "surprise") - mean) / sigma > limits.gibberish_sigmas)


def _is_varied(known: pa.Table, rows: pa.Table, limits: Drift) -> Bools:
    """Texts that repeat their words, for their number, less than real texts do: of any language or domain those repeat the small ones."""
    values, design = _values(known, "distinct_share"), _of_length(known)
    weights, *_ = np.linalg.lstsq(design, values, rcond=None)
    sigma = max(float(np.std(values - design @ weights)), 1e-3)
    return np.asarray(_values(rows, "distinct_share") - _of_length(rows) @ weights > limits.salad_sigmas * sigma)


def _of_length(rows: pa.Table) -> F64:
    size = np.log(_lengths(rows))
    return np.column_stack([np.ones(len(size)), size, size**2])


def _lengths(rows: pa.Table) -> F64:
    return np.maximum(_values(rows, "n_words"), 1)


def _values(rows: pa.Table, name: str) -> F64:
    return np.nan_to_num(np.asarray(rows[name].to_numpy(zero_copy_only=False), np.float64))


def _copies(rows: pa.Table, limits: Drift) -> Bools:
    """The rows that several others equal: some are compared with each other, and with all where some of those are the same."""
    found = np.zeros(len(rows), np.bool_)
    if not has_topics(rows):
        return found
    long = np.flatnonzero(np.asarray(rows["n_words"].to_numpy(zero_copy_only=False)) >= limits.copy_words)
    if len(long) <= limits.copy_times:
        return found
    places = topics_of(rows)[long].astype(np.float32)
    places /= np.maximum(np.linalg.norm(places, axis=1, keepdims=True), np.float32(1e-9))
    searched = places[np.linspace(0, len(long) - 1, min(len(long), limits.copies_searched)).astype(np.int64)]
    if (_n_same(searched, searched, limits) > limits.copy_times + 1).any():
        found[long] = _n_same(places, searched, limits) > limits.copy_times
    return found


def _n_same(places: npt.NDArray[np.float32], searched: npt.NDArray[np.float32], limits: Drift) -> npt.NDArray[np.int64]:
    parts = np.array_split(places, -(-len(places) // 500))
    return np.concatenate([np.count_nonzero(part @ searched.T > limits.copy_likeness, axis=1) for part in parts])
