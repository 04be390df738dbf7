"""Reviews nobody would have written: gibberish, and copies of one text.

They are told apart row by row, so that a tenth of garbage is not taken for another kind of review: what else is said of
a night is said of the plausible rows. A text is gibberish when its words are more surprising, for their number, than
those of real texts of any kind, or are mostly unknown; a copy when several others of some length lie at the same place
among the topics. Pure.
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
    copied_share: float

    @property
    def is_plausible(self) -> Bools:
        """The rows a person may have written."""
        return np.asarray(~(self.is_gibberish | self.is_copy))


def find_oddities(reference: Reference, rows: pa.Table, limits: Drift) -> Oddities:
    """Look for rows that nobody would have written; none where the lens has not seen them."""
    gibberish, copies = _gibberish(reference, rows, limits), _copies(rows, limits)
    known_gibberish, known_copies = _known_shares(reference, limits)
    return Oddities(
        is_gibberish=gibberish,
        is_copy=copies,
        gibberish_share=max(0.0, float(gibberish.mean()) - known_gibberish),
        copied_share=max(0.0, float(copies.mean()) - known_copies),
    )


@lru_cache(maxsize=4)
def _known_shares(reference: Reference, limits: Drift) -> tuple[float, float]:
    """Of the reference's rows, the shares that look like gibberish and like copies."""
    return float(_gibberish(reference, reference.rows, limits).mean()), float(_copies(reference.rows, limits).mean())


def _gibberish(reference: Reference, rows: pa.Table, limits: Drift) -> Bools:
    if not {"surprise", "strange_share"} <= set(reference.names) or not {"surprise", "strange_share"} <= set(rows.column_names):
        return np.zeros(len(rows), np.bool_)
    known, lengths = _surprises(reference.rows)
    mean = float(known.mean())
    # Texts differ, and the fewer words a text has the more its mean varies: variance = texts' + words' / n.
    design = np.column_stack([np.ones(len(known)), 1 / lengths])
    (texts, words), *_ = np.linalg.lstsq(design, (known - mean) ** 2, rcond=None)
    values, lengths = _surprises(rows)
    sigma = np.sqrt(np.maximum(texts, 1e-3) + np.maximum(words, 1e-3) / lengths)
    strange = np.nan_to_num(np.asarray(rows["strange_share"].to_numpy(zero_copy_only=False), np.float64))
    return np.asarray(((values - mean) / sigma > limits.gibberish_sigmas) | (strange > limits.gibberish_strange_share))


def _surprises(rows: pa.Table) -> tuple[F64, F64]:
    values = np.nan_to_num(np.asarray(rows["surprise"].to_numpy(zero_copy_only=False), np.float64))
    return values, np.maximum(np.asarray(rows["n_words"].to_numpy(zero_copy_only=False), np.float64), 1)


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
