"""Tables of terms that hold the terms' values, for models with one score.

What the kernel adds up of a term are two numbers. They lie in an array by columns, and the table of terms says which column:
a line of memory for each, and with a million terms few of them are in a cache. Here the numbers take the place of the
column: an entry is the two of them, 16 bytes, and what has to be compared of a key's hash, its tag, stands in their lowest
bits, half in each. A million terms take .92 of the time to score (three races of processes in turn: .91, .94, .95).

The numbers are moved by less than a part in 2^36 (in 2^42 with pairs of a million terms), a probability by less than 1e-10.
Where tags are too long for that, where there are several scores, and where all fits the second cache anyway, the table stays
as it is.
"""

import numpy as np

from sentiment_core.text.dictionary import aligned
from sentiment_core.text.kernel import (
    BUCKET_BITS,
    COLUMN_BITS,
    DISPLACEMENT_BITS,
    F64,
    I64,
    KEY_BITS,
    N_AHEAD,
    N_UNIGRAMS,
    U64,
    Dictionary,
    tag_bits,
)
from sentiment_core.text.machine import compiled, lowest_bit, match4

LEAST_TERMS = 1 << 18
"""With 100,000 and 200,000 terms nothing is gained (1.02 and 1.01 of the time)."""
_VALUES, _ENTRIES = 2, 4  # of a term, of a bucket
_MAX_TAG_BITS = 16
_MAX_BUCKET_BITS = 24  # 1 GB
# The least number that has no leading zeros, which processors count with slowly; its last bits are a tag's.
_LEAST = np.uint64(1 << 52)
_SIGN = np.uint64(1 << 63)


def weigh(dictionary: Dictionary, weights: F64) -> tuple[Dictionary, F64]:
    """The dictionary with the values in its table, and the table as values, one row a place; or both as they are.

    Args:
        dictionary: of columns.
        weights: columns by two values for each score, as `kernel.score_texts` wants them.
    """
    n_terms = int(np.count_nonzero(dictionary.terms))
    if weights.shape[1] != _VALUES or n_terms < max(LEAST_TERMS, 1):
        return dictionary, weights
    sizes, square = dictionary.sizes.copy(), dictionary.square.copy()
    n_unigrams = int(sizes[N_UNIGRAMS])
    pairs = np.flatnonzero(square)
    pairs = pairs[np.argsort(square[pairs])]  # the most frequent together, as training orders columns
    ahead = np.concatenate([weights[:n_unigrams], weights[square[pairs] - 1]])
    square[pairs] = n_unigrams + 1 + np.arange(len(pairs))
    sizes[N_AHEAD] = n_ahead = _ENTRIES * (len(ahead) // _ENTRIES + 1)
    # Up to 80 of 100 entries are taken, as in the table of columns.
    for bucket_bits in range(max(1, int(n_terms / 3.2).bit_length()), min(_MAX_BUCKET_BITS, int(sizes[KEY_BITS])) + 1):
        sizes[BUCKET_BITS] = bucket_bits
        if int(tag_bits(np.uint64(sizes[KEY_BITS] - bucket_bits))) > _MAX_TAG_BITS:
            continue
        terms = aligned(_VALUES * (n_ahead + (_ENTRIES << bucket_bits)))
        terms[: ahead.size] = np.ascontiguousarray(ahead).view(np.uint64).ravel()
        if _enter_values(dictionary.terms, dictionary.sizes, np.ascontiguousarray(weights).view(np.uint64).ravel(), sizes, terms):
            weighed = dictionary._replace(terms=terms, square=square, sizes=sizes)
            return weighed, values_in(weighed)
    return dictionary, weights


def holds_values(dictionary: Dictionary) -> bool:
    """Whether the table holds values."""
    return bool(dictionary.sizes[N_AHEAD])


def values_in(dictionary: Dictionary) -> F64:
    """A table that holds values as such: places by two."""
    return dictionary.terms.view(np.float64).reshape(-1, _VALUES)


@compiled
def _enter_values(columns: U64, old: I64, weights: U64, sizes: I64, terms: U64) -> bool:  # pragma: no cover
    """Move the entries of a table of columns to one of values; False where one would lie too far from its bucket."""
    one = np.uint64(1)
    old_shift, column_bits = np.uint64(old[KEY_BITS] - old[BUCKET_BITS]), np.uint64(old[COLUMN_BITS])
    shift = np.uint64(sizes[KEY_BITS] - sizes[BUCKET_BITS])
    displacement_bits = np.uint64(DISPLACEMENT_BITS)
    half = tag_bits(shift)
    first, n_old = 2 * sizes[N_AHEAD], len(columns) >> 3
    last = (one << np.uint64(sizes[BUCKET_BITS])) - one
    for k in range(len(columns)):
        if columns[k] == 0:
            continue
        column, rest = np.int64(columns[k] & ((one << column_bits) - one)) - 1, columns[k] >> column_bits
        displacement = np.int64(rest & ((one << displacement_bits) - one))
        home = ((k >> 3) - displacement) & (n_old - 1)
        h = (np.uint64(home) << old_shift) | (rest >> displacement_bits)
        bucket, tag = h >> shift, ((h & ((one << shift) - one)) << displacement_bits) + one
        farthest = tag + (one << displacement_bits) - one
        _, empty = match4(terms, first + np.int64(bucket << np.uint64(3)), half, tag)
        while empty == 0:
            if tag == farthest:
                return False
            bucket, tag = (bucket + one) & last, tag + one
            _, empty = match4(terms, first + np.int64(bucket << np.uint64(3)), half, tag)
        at = first + np.int64(bucket << np.uint64(3)) + lowest_bit(empty)
        terms[at] = _tagged(weights[2 * column], tag & ((one << half) - one), half)
        terms[at + 1] = _tagged(weights[2 * column + 1], tag >> half, half)
    return True


@compiled(is_inlined=True)
def _tagged(value: U64, tag: U64, n_bits: U64) -> U64:  # pragma: no cover
    """The nearest number whose lowest bits are the tag."""
    one = np.uint64(1)
    size = value & ~_SIGN
    if size < _LEAST + (one << n_bits):
        return (value & _SIGN) | _LEAST | tag
    return (((value - tag) + (one << (n_bits - one))) & ~((one << n_bits) - one)) | tag
