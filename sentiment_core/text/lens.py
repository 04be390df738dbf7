"""A lens: what drift checks see in a text besides its score, the same for reviews of the reference and of every night.

Words and their frequencies come from some of a model's training reviews, directions of topics too (latent semantic
analysis: Deerwester et al. 1990); which reviews those are is the business of `model.reference`. Only rows that may enter
a drift sample are looked at, in the pass that scores them. No drift, no model, no labels.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from sentiment_core import schema
from sentiment_core.text.dictionary import Vocabulary, compile_dictionary
from sentiment_core.text.features import analyse
from sentiment_core.text.kernel import Dictionary
from sentiment_core.text.rules import NEGATIONS, TextRules

F32 = npt.NDArray[np.float32]
# Words as they stand: stemming would hide a change of style, pairs of words would say little more at twice the time.
RULES = TextRules(strip_html=True, lower_case=True, stem=False, ngram_max=1)
_ENDS = (".", "!", "?")
_MAX_CHARS = 20_000  # the longest real review seen has 14,000; of longer texts the beginning says enough


@dataclass(frozen=True, kw_only=True, eq=False)
class Lens:
    """Words, and what is known of each."""

    term_bytes: npt.NDArray[np.uint8]
    term_offsets: npt.NDArray[np.int64]
    idf: F32
    topics: F32
    """A row a word: directions of topics."""
    surprise: F32
    """Of every word, and last of one that is not known: minus the log of its frequency."""

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words."""
        return Vocabulary(self.term_bytes, self.term_offsets)

    def examine(self, texts: pa.LargeStringArray) -> dict[str, pa.Array]:
        """Of every text the columns of `schema.LENS_COLUMNS`; depends on the text alone."""
        analysis = analyse(_beginnings(texts), self._dictionary, len(self.vocabulary), slot="lens", is_sorted=False)
        counts = analysis.counts
        known, surprise, negations, ends = (counts @ self._of_words).T
        n_words = analysis.statistics["n_words"]
        unknown = np.rint(analysis.statistics["unknown_share"].astype(np.float64) * n_words)
        total = np.maximum(known + unknown, 1)
        columns = {
            "surprise": (surprise + unknown * float(self.surprise[-1])) / total,
            "strange_share": unknown / total,
            "distinct_share": (np.diff(counts.indptr) + unknown) / total,
            "negation_share": negations / total,
            "n_sentences": ends,
        }
        found = {field.name: pa.array(columns[field.name]).cast(field.arrow) for field in schema.LENS_NUMERIC}
        return {**found, schema.TOPICS.name: self._places(counts)}

    def _places(self, counts: sp.csr_matrix) -> pa.ListArray:
        places = (weigh(counts, self.idf) @ self.topics).astype(np.float32)
        offsets = np.arange(0, places.size + 1, self.topics.shape[1], dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(places.ravel()))

    def save(self, folder: Path) -> None:
        """Write the arrays as files."""
        folder.mkdir(parents=True)
        for field in fields(self):
            np.save(folder / f"{field.name}.npy", getattr(self, field.name), allow_pickle=False)

    @classmethod
    def open(cls, folder: Path) -> "Lens":
        """Map what `save` wrote; who calls has checked the folder's digest."""
        return cls(
            **{field.name: np.load(folder / f"{field.name}.npy", mmap_mode="r", allow_pickle=False) for field in fields(cls)}
        )

    @cached_property
    def _dictionary(self) -> Dictionary:
        return compile_dictionary(Vocabulary(np.asarray(self.term_bytes), np.asarray(self.term_offsets)), RULES)

    @cached_property
    def _of_words(self) -> npt.NDArray[np.float64]:
        """A row a word: what it adds to the number of known words, to surprise, to negations and to sentences."""
        is_negation = [word.replace("'", "") in NEGATIONS for word in self.vocabulary.terms]
        is_end = [word in _ENDS for word in self.vocabulary.terms]
        return np.column_stack([np.ones(len(is_end)), self.surprise[:-1], is_negation, is_end]).astype(np.float64)


def _beginnings(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    return texts if longest <= _MAX_CHARS else pc.utf8_slice_codeunits(texts, 0, _MAX_CHARS)


def weigh(counts: sp.csr_matrix, idf: F32) -> sp.csr_matrix:
    """Rows of length one: 1 + log of the count times idf."""
    values = (1 + np.log(counts.data)) * idf[counts.indices]
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    lengths = np.sqrt(np.bincount(rows, values**2, minlength=counts.shape[0]))
    values /= np.where(lengths > 0, lengths, 1)[rows]
    return sp.csr_matrix((values.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)
