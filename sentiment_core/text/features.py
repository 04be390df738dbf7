"""From texts to term counts, scores and statistics: the one code that training and scoring share.

A text is cut into words and runs of punctuation (both carry sentiment, and so do stop words), and counted as n-grams
against a vocabulary. The same pass gives the statistics of a text that drift checks compare. Everything here is a
pure function over Arrow strings, and releases the GIL while the kernel works. No labels, no files.
"""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp

from sentiment_core.text.characters import tables
from sentiment_core.text.dictionary import texts_of
from sentiment_core.text.kernel import (
    CHAR_MAX,
    CHAR_MIN,
    F64,
    I64,
    IS_BROKEN,
    IS_HARD,
    N_AHEAD,
    N_BLANKS,
    N_CHARS,
    N_LETTERS,
    N_TALLIES,
    N_UNKNOWN,
    N_UPPER,
    N_WORDS,
    NGRAM_MAX,
    Dictionary,
    Scratch,
    count_texts,
    score_texts,
    scratch,
)  # fmt: skip
from sentiment_core.text.learning import lowered, on_all_cores

# Rows at a time where counts are wanted: room for a count a byte is set aside.
_COUNTED_ROWS = 4_096
# A thread keeps memory for texts of up to this length; longer ones are rare, and theirs is given back.
_KEPT_BYTES = 1 << 20
_memory = threading.local()


@dataclass(frozen=True, eq=False)
class Analysis:
    """What one pass over texts gives."""

    counts: sp.csr_matrix
    """Texts by terms, int32."""
    statistics: dict[str, npt.NDArray[Any]]
    """By name in `schema.DRIFT_NUMERIC`, p_positive apart: one value a text."""


def as_texts(values: Any, *, validate: bool = True) -> pa.LargeStringArray:
    """Texts as one Arrow array: from a list, an array, a Series, an Arrow column, or the column `text` of a table.

    Who scores them need not `validate`: that the kernel does on its way.

    Raises:
        TypeError: for a single string, and for values that are no strings (null included).
        ValueError: for strings that are no valid Unicode (a lone surrogate, broken UTF-8).
    """
    if isinstance(values, str | bytes):
        raise TypeError("expected a sequence of texts, found a single string; put it into a list")
    if isinstance(values, pa.Table | pa.RecordBatch):
        values = values.column("text")
    elif hasattr(values, "columns"):
        values = values["text"]
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        values = _from_python(values)
    if isinstance(values, pa.ChunkedArray):
        values = in_one(values)
    if pa.types.is_null(values.type) or values.null_count:
        if len(values):
            raise TypeError("expected texts, found null among them")
        return pa.array([], pa.large_string())
    texts = values.cast(pa.large_string())
    if not validate:
        return texts
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ValueError(f"expected texts in valid UTF-8, found {error}") from error
    return texts


def in_one(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array; of one chunk it is that chunk, which combining would copy."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _from_python(values: Any) -> pa.Array:
    values = np.asarray(values, dtype=object)
    if values.shape[1:] == (1,):  # a frame of one column, as some callers of pyfunc models pass it
        values = values[:, 0]
    if values.ndim != 1:
        raise TypeError(f"expected one text a row, found an array of shape {values.shape}")
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"expected texts, found {value!r} of type {type(value).__name__}")
    try:
        return pa.array(values, pa.large_string())
    except UnicodeEncodeError as error:
        raise ValueError(f"expected texts in valid Unicode, found a lone surrogate: {error}") from error


def analyse(
    texts: pa.LargeStringArray, dictionary: Dictionary, n_columns: int, *, slot: str | None = None, is_sorted: bool = True
) -> Analysis:
    """Count the terms of every text, and measure it, over all cores; depends on nothing but the arguments.

    A `slot` of its own keeps a second dictionary of words from wiping what a thread remembers of the first. Who only sums
    over a text's terms may have them in the order the kernel met them in.
    """
    slices = [texts.slice(first, _COUNTED_ROWS) for first in range(0, max(len(texts), 1), _COUNTED_ROWS)]
    parts = on_all_cores(lambda part: _count(part, dictionary, n_columns, slot, is_sorted=is_sorted), slices)
    counts = sp.vstack([part.counts for part in parts], format="csr") if len(parts) > 1 else parts[0].counts
    return Analysis(counts, _joined([part.statistics for part in parts]))


def _count(texts: pa.LargeStringArray, dictionary: Dictionary, n_columns: int, slot: str | None, *, is_sorted: bool) -> Analysis:
    tallies = np.zeros((len(texts), N_TALLIES), np.int64)
    columns, counts, ends = _counted(texts, dictionary, tallies, slot)
    hard = tallies[:, IS_HARD] != 0
    statistics = tallies
    if hard.any():
        statistics = np.zeros_like(tallies)
        columns, counts, ends = _counted(lowered(texts, pa.array(hard)), dictionary, statistics, slot)
        statistics = _merged(tallies, statistics)
    matrix = sp.csr_matrix((counts, columns, np.concatenate([[0], ends])), shape=(len(texts), n_columns))
    if is_sorted:
        matrix.sort_indices()
    return Analysis(matrix, _statistics(statistics))


def _counted(texts: pa.LargeStringArray, dictionary: Dictionary, tallies: I64, slot: str | None) -> Any:
    if dictionary.sizes[N_AHEAD]:
        raise ValueError("expected a dictionary of columns to count terms with, found one that holds values")
    data, offsets = texts_of(texts)
    # A token takes a byte, and begins at most so many terms; pages that are not reached are never made.
    n_most = int(offsets[-1] - offsets[0] + len(texts)) * max(int(dictionary.sizes[NGRAM_MAX]), 3 * _n_lengths(dictionary))
    columns, counts = np.empty(n_most, np.int32), np.empty(n_most, np.int32)
    ends = np.zeros(len(texts), np.int64)
    count_texts(data, offsets, dictionary, tables(), _scratch(dictionary, offsets, slot), columns, counts, ends, tallies.ravel())
    n_terms = int(ends[-1]) if len(ends) else 0
    return columns[:n_terms].copy(), counts[:n_terms].copy(), ends


def score(
    texts: pa.LargeStringArray, dictionary: Dictionary, weights: F64, *, is_binary: bool
) -> tuple[F64, dict[str, npt.NDArray[Any]]]:
    """Weighted sums of every text, one a class, and its statistics; see `kernel.score_texts` for the weights.

    Raises:
        ValueError: for texts that are no valid UTF-8.
    """
    scores = np.empty((len(texts), weights.shape[1] // 2))
    tallies = np.zeros((len(texts), N_TALLIES), np.int64)
    _score(texts, dictionary, weights, is_binary, scores, tallies)
    if tallies[:, IS_BROKEN].any():
        raise ValueError(f"expected texts in valid UTF-8, found other bytes in text {int(tallies[:, IS_BROKEN].argmax())}")
    hard = np.flatnonzero(tallies[:, IS_HARD])
    if len(hard):
        rest = lowered(texts.take(pa.array(hard)), pa.array(np.ones(len(hard), np.bool_)))
        hard_scores, hard_tallies = np.empty((len(hard), scores.shape[1])), np.zeros((len(hard), N_TALLIES), np.int64)
        _score(rest, dictionary, weights, is_binary, hard_scores, hard_tallies)
        scores[hard] = hard_scores
        tallies[hard] = _merged(tallies[hard], hard_tallies)
    return scores, _statistics(tallies)


def _score(texts: Any, dictionary: Dictionary, weights: F64, is_binary: bool, scores: F64, tallies: I64) -> None:  # noqa: PLR0917
    data, offsets = texts_of(texts)
    if len(texts) and ((offsets[1:] < offsets[:-1]).any() or not 0 <= offsets[0] <= offsets[-1] <= len(data)):
        raise ValueError("expected texts in an Arrow array, found one whose texts lie outside its memory")
    score_texts(
        data, offsets, dictionary, tables(), _scratch(dictionary, offsets), weights.ravel(), is_binary, scores, tallies.ravel()
    )


def _scratch(dictionary: Dictionary, offsets: I64, slot: str | None = None) -> Scratch:
    """This thread's memory for a dictionary; its memo knows words of that one only."""
    longest = int(np.diff(offsets).max()) if len(offsets) > 1 else 0
    name = slot or ("characters" if _n_lengths(dictionary) else "words")
    known, size, memory = getattr(_memory, name, (None, -1, None))
    if memory is None or known is not dictionary or size < longest:
        size = 1 << max(14, longest.bit_length())
        memory = scratch(size, _n_lengths(dictionary))
        setattr(_memory, name, (dictionary, size, memory) if longest < _KEPT_BYTES else (None, -1, None))
    return memory


def _n_lengths(dictionary: Dictionary) -> int:
    least, most = int(dictionary.sizes[CHAR_MIN]), int(dictionary.sizes[CHAR_MAX])
    return most - least + 1 if most else 0


def _merged(first: I64, second: I64) -> I64:
    """Characters as the text came, words as it was read in lower case."""
    merged = first.copy()
    merged[:, [N_WORDS, N_UNKNOWN]] = second[:, [N_WORDS, N_UNKNOWN]]
    return merged


def _statistics(tallies: I64) -> dict[str, npt.NDArray[Any]]:
    n_chars, n_letters = tallies[:, N_CHARS], tallies[:, N_LETTERS]
    return {
        "n_chars": n_chars.astype(np.int32),
        "upper_share": _share(tallies[:, N_UPPER], n_letters),
        "non_letter_share": _share(n_chars - n_letters - tallies[:, N_BLANKS], n_chars),
        "n_words": tallies[:, N_WORDS].astype(np.int32),
        "unknown_share": _share(tallies[:, N_UNKNOWN], tallies[:, N_WORDS]),
    }


def _joined(parts: list[dict[str, npt.NDArray[Any]]]) -> dict[str, npt.NDArray[Any]]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _share(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    # Nothing of nothing is a share of zero, so that a text without words is an ordinary value.
    return np.asarray(part / np.maximum(whole, 1), dtype=np.float32)
