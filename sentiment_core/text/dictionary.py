"""A model's terms, packed for storing and compiled for look-ups.

`Vocabulary` is what is stored with an estimator and what people read: terms as bytes and offsets. `compile_dictionary`
turns it into the tables of the kernel, which can be kept as files and mapped into memory, so that opening a large model
costs next to nothing and processes share its pages. No weights, no texts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentiment_core.errors import Permanent
from sentiment_core.text.kernel import (
    BUCKET_BITS,
    CHAR_MAX,
    CHAR_MIN,
    COLUMN_BITS,
    DISPLACEMENT_BITS,
    I32,
    I64,
    KEY_BITS,
    MAX_WORDS,
    N_AHEAD,
    N_COLUMNS,
    N_SIZES,
    N_UNIGRAMS,
    NGRAM_MAX,
    RULES,
    SQUARE,
    SQUARE_BITS,
    U8,
    U64,
    WORD_BITS,
    Dictionary,
    find,
    find_term,
    find_word,
    hash_of,
    key_hash,
    put,
    put_word,
)  # fmt: skip
from sentiment_core.text.machine import compiled, lowest_bit, match8
from sentiment_core.text.rules import (
    EMAILS,
    EMOJIS,
    HTML,
    LOWER,
    MAX_LENGTHS,
    NEGATION,
    NEGATIONS,
    NUMBERS,
    STEM,
    STOPS,
    URLS,
    TextRules,
)
from sentiment_core.text.stop_words import stop_words

MAX_NGRAM = 3
_BITS = {
    "lower_case": LOWER, "strip_html": HTML, "mask_urls": URLS, "mask_emails": EMAILS, "mask_numbers": NUMBERS,
    "split_emoji": EMOJIS, "drop_stop_words": STOPS, "mark_negation": NEGATION, "stem": STEM,
}  # fmt: skip
_BLANK, _NO_BLANK = 32, 255  # no byte of UTF-8 is 255: a run of characters may hold blanks and is one token
_ENTRY_BITS = 64
_MAX_BUCKET_BITS = 23  # 512 MB
_OK, _DOUBLED, _MALFORMED, _UNORDERED, _COLLISION, _TOO_MANY = range(6)
_PROBLEMS = {
    _DOUBLED: "it stands there twice",
    _MALFORMED: f"it is no run of one to {MAX_NGRAM} tokens with a blank between two of them",
    _UNORDERED: "it stands behind terms of several words",
    _COLLISION: "it holds a word that shares its hash with another",
    _TOO_MANY: f"its words are more than {MAX_WORDS:,}",
}


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Terms as UTF-8 bytes with offsets, those of one token first; a term's place is its column.

    >>> Vocabulary.of(["not good", "good", "bad"]).terms
    ['good', 'bad', 'not good']
    """

    term_bytes: npt.NDArray[np.uint8]
    term_offsets: npt.NDArray[np.int64]

    @classmethod
    def of(cls, terms: Iterable[str]) -> "Vocabulary":
        """Pack distinct terms; their order stays within each number of tokens."""
        encoded = [term.encode() for term in sorted(terms, key=lambda term: term.count(" "))]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(term) for term in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8).copy(), offsets)

    def __len__(self) -> int:
        return len(self.term_offsets) - 1

    @cached_property
    def terms(self) -> list[str]:
        """Terms in the order of the columns."""
        packed, offsets = self.term_bytes.tobytes(), self.term_offsets.tolist()
        return [packed[start:end].decode() for start, end in pairwise(offsets)]


def compile_dictionary(vocabulary: Vocabulary, rules: TextRules) -> Dictionary:
    """The kernel's tables of a vocabulary.

    Raises:
        ValueError: a term that stands twice, or that no text can hold under the rules; lengths that make no sense.
    """
    if rules.char_max and not (1 <= rules.char_min <= rules.char_max and rules.n_lengths <= MAX_LENGTHS):
        raise ValueError(
            f"expected up to {MAX_LENGTHS} lengths of character runs, from 1 on, found {rules.char_min} to {rules.char_max}"
        )
    n_terms = len(vocabulary)
    table: U64 = np.zeros(2 * _n_slots(MAX_NGRAM * n_terms), np.uint64)
    longest = 1 if rules.char_max else min(rules.ngram_max, MAX_NGRAM)
    bits = 63 // longest if longest > 1 else 31
    keys: U64 = np.zeros(n_terms, np.uint64)
    sizes = np.zeros(N_SIZES, np.int64)
    problem, place = _number_words(
        _letters(vocabulary.term_bytes),
        vocabulary.term_offsets,
        longest,
        _NO_BLANK if rules.char_max else _BLANK,
        MAX_WORDS,
        table,
        keys,
        sizes,
    )
    if problem:
        raise ValueError(f"term {vocabulary.terms[place]!r} of the dictionary: {_PROBLEMS[problem]}")
    n_unigrams, n_words = sizes[0], sizes[1]  # which the second loop writes over
    words: U64 = np.zeros(1 << max(4, int(n_words / 0.7).bit_length()), np.uint64)
    place = _move(table, words)
    if place >= 0:
        raise ValueError(f"word {place} of the dictionary: {_PROBLEMS[_COLLISION]}")
    sizes[[RULES, NGRAM_MAX, N_COLUMNS]] = rule_bits(rules), longest, n_terms
    sizes[[CHAR_MIN, CHAR_MAX]] = rules.char_min, rules.char_max
    terms, bloom, square = _term_table(keys[n_unigrams:], bits, int(n_words), vocabulary, sizes)
    return Dictionary(words, terms, bloom, square, _hashes(stop_words()), _hashes(NEGATIONS), sizes)


def _term_table(keys: U64, bits: int, n_words: int, vocabulary: Vocabulary, sizes: I64) -> tuple[U64, U64, I32]:
    """Table, filter and square of the terms of several words, and the sizes that say how to read them."""
    word_bits, column_bits = n_words.bit_length(), len(vocabulary).bit_length()
    # Eight bits a key let a ninth of the others pass; at most 512 KB, or it would not stay in the second cache.
    filter_bits = min(22, max(6, int(8 * len(keys)).bit_length()))
    bloom: U64 = np.zeros(1 << (filter_bits - 6), np.uint64)
    # Up to 80 of 100 entries are taken: a smaller table is worth more than a shorter search.
    for bucket_bits in range(max(1, int(len(keys) / 6.4).bit_length()), _MAX_BUCKET_BITS + 1):
        key_bits = max(word_bits * int(sizes[NGRAM_MAX]), bucket_bits, filter_bits)
        if key_bits - bucket_bits + DISPLACEMENT_BITS + column_bits > _ENTRY_BITS:
            continue
        terms, square = aligned(8 << bucket_bits), np.zeros(SQUARE * SQUARE, np.int32)
        sizes[[WORD_BITS, KEY_BITS, BUCKET_BITS, COLUMN_BITS]] = word_bits, key_bits, bucket_bits, column_bits
        problem, place = _enter_terms(keys, bits, sizes, terms, bloom, square)
        if problem == _DOUBLED:
            raise ValueError(f"term {vocabulary.terms[sizes[N_UNIGRAMS] + place]!r} of the dictionary: {_PROBLEMS[_DOUBLED]}")
        if problem == _OK:
            return terms, bloom, square
    raise ValueError(f"{n_words:,} words in {len(vocabulary):,} terms are more than a table can tell apart; raise min_df")


def empty_dictionary(rules: TextRules) -> Dictionary:
    """Tables of no term: what the kernel wants to know of the rules alone."""
    return compile_dictionary(Vocabulary.of([]), rules)


def rule_bits(rules: TextRules) -> int:
    """The rules as the kernel reads them."""
    return sum(bit for name, bit in _BITS.items() if getattr(rules, name))


def save_dictionary(dictionary: Dictionary, folder: Path) -> None:
    """Keep the tables as one .npy file each; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in dictionary._asdict().items():
        np.save(folder / f"{name}.npy", table, allow_pickle=False)


def holds_dictionary(folder: Path) -> bool:
    """Whether a folder has every table and size; one that an earlier version of the product compiled may lack some."""
    return (
        all((folder / f"{name}.npy").is_file() for name in Dictionary._fields)
        and len(np.load(folder / "sizes.npy", allow_pickle=False)) >= N_SIZES
    )


def open_dictionary(folder: Path, vocabulary: Vocabulary, rules: TextRules) -> Dictionary:
    """Map the tables of a folder into memory; who calls has checked the folder's digest.

    Raises:
        Permanent: the files are not those of this vocabulary and these rules.
    """
    # Copy on write: the kernel is compiled for writable arrays, and nothing is written.
    tables = Dictionary(*(np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in Dictionary._fields))
    sizes = tables.sizes
    fits = (
        [table.dtype.str for table in tables] == ["<u8", "<u8", "<u8", "<i4", "<u8", "<u8", "<i8"]
        and sizes.shape == (N_SIZES,)
        and len(tables.square) == SQUARE * SQUARE
        and len(tables.terms) == 2 * int(sizes[N_AHEAD]) + (8 << int(sizes[BUCKET_BITS]))
        and all(_is_power_of_two(len(table)) for table in (tables.words, tables.filter))
        and int(sizes[N_COLUMNS]) == len(vocabulary)
        and int(sizes[RULES]) == rule_bits(rules)
        and (int(sizes[CHAR_MIN]), int(sizes[CHAR_MAX])) == (rules.char_min, rules.char_max)
    )
    if not fits:
        raise Permanent(
            f"compiled dictionary {folder}",
            expected=f"the tables of the model's {len(vocabulary):,} terms",
            found="others",
            remedy="register the model again",
        )
    return tables


def aligned(n: int) -> U64:
    """Zeros that begin where a cache line begins."""
    memory = np.zeros(n + 8, np.uint64)
    first = -memory.ctypes.data % 64 // 8
    return memory[first : first + n]


def _is_power_of_two(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0


def _letters(term_bytes: U8) -> U8:
    return term_bytes if len(term_bytes) else np.zeros(1, np.uint8)


def _hashes(words: Iterable[str]) -> U64:
    encoded = [np.frombuffer(word.encode(), np.uint8) for word in words]
    return np.sort(np.array([hash_of(word, 0, len(word)) for word in encoded], np.uint64))


def _n_slots(n: int) -> int:
    """At least twice as many as entries, so that a search ends soon; a power of two."""
    return 1 << max(4, int(2 * n).bit_length())


@compiled(allocates=True)
def _number_words(
    letters: U8, offsets: I64, longest: int, blank: int, most: int, table: U64, keys: U64, sizes: I64
) -> tuple[int, int]:  # pragma: no cover
    """Give every word an id, words that are terms themselves first, and every term its key; (problem, term)."""
    n_terms = len(offsets) - 1
    starts = np.zeros(longest * n_terms + 2, np.int64)
    ends = np.zeros(longest * n_terms + 2, np.int64)
    n_words = n_unigrams = 0
    bits = np.uint64(63 // longest if longest > 1 else 31)
    for t in range(n_terms):
        first, end = offsets[t], offsets[t + 1]
        n_tokens = 0
        key = np.uint64(0)
        while first <= end:
            last = first
            while last < end and letters[last] != blank:
                last += 1
            if last == first or n_tokens == longest:
                return _MALFORMED, t
            h = hash_of(letters, first, last - first)
            known = np.int64(find(table, h, h >> np.uint64(31)))
            if known == 0:
                put(table, h, h >> np.uint64(31), np.uint64(n_words + 1))
                starts[n_words], ends[n_words] = first, last
                n_words += 1
                known = n_words
                if n_words > most:
                    return _TOO_MANY, t
            else:
                if ends[known - 1] - starts[known - 1] != last - first:
                    return _COLLISION, t
                for k in range(last - first):
                    if letters[first + k] != letters[starts[known - 1] + k]:
                        return _COLLISION, t
                if last == end and n_tokens == 0:
                    return _DOUBLED, t
            key = (key << bits) | np.uint64(known)
            n_tokens += 1
            first = last + 1
        if n_tokens == 1:
            if n_unigrams < t:
                return _UNORDERED, t
            n_unigrams += 1
        keys[t] = key
    sizes[0], sizes[1] = n_unigrams, n_words
    return _OK, 0


@compiled
def _move(table: U64, words: U64) -> int:  # pragma: no cover
    """Enter words under their hashes; returns one that shares the bits that count with another, or -1."""
    for k in range(0, len(table), 2):
        if table[k]:
            if find_word(words, table[k]):
                return np.int64(table[k + 1]) - 1
            put_word(words, table[k], table[k + 1])
    return -1


@compiled
def _enter_terms(keys: U64, bits: int, sizes: I64, terms: U64, bloom: U64, square: I32) -> tuple[int, int]:  # pragma: no cover
    """Fill table, filter and square; (problem, term): _TOO_MANY when an entry would lie too far from its slot."""
    word_bits, key_bits = np.uint64(sizes[WORD_BITS]), np.uint64(sizes[KEY_BITS])
    bucket_shift, column_bits = key_bits - np.uint64(sizes[BUCKET_BITS]), np.uint64(sizes[COLUMN_BITS])
    shift = key_bits - np.uint64(6 + lowest_bit(np.uint64(len(bloom))))
    word = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    last = np.uint64((len(terms) >> 3) - 1)
    for k in range(len(keys)):
        first, second = np.int64((keys[k] >> np.uint64(bits)) & word) - 1, np.int64(keys[k] & word) - 1
        if keys[k] >> np.uint64(2 * bits) == 0 and first | second < SQUARE:
            place = first << SQUARE_BITS | second
            if square[place]:
                return _DOUBLED, k
            square[place] = sizes[N_UNIGRAMS] + k + 1
            continue
        key = np.uint64(0)
        for place in range(sizes[NGRAM_MAX] - 1, -1, -1):
            key = (key << word_bits) | ((keys[k] >> np.uint64(bits * place)) & word)
        h = key_hash(key, key_bits)
        if find_term(terms, h, bucket_shift, column_bits):
            return _DOUBLED, k
        bucket = h >> bucket_shift
        displacement = np.uint64(0)
        _, empty = match8(terms, np.int64(bucket << np.uint64(3)), column_bits, np.uint64(0))
        while empty == 0:
            bucket = (bucket + np.uint64(1)) & last
            displacement += np.uint64(1)
            _, empty = match8(terms, np.int64(bucket << np.uint64(3)), column_bits, np.uint64(0))
        if displacement >> np.uint64(DISPLACEMENT_BITS):
            return _TOO_MANY, k
        rest = ((h & ((np.uint64(1) << bucket_shift) - np.uint64(1))) << np.uint64(DISPLACEMENT_BITS)) | displacement
        entry = (rest << column_bits) | np.uint64(sizes[N_UNIGRAMS] + k + 1)
        terms[(bucket << np.uint64(3)) + np.uint64(lowest_bit(empty))] = entry
        bloom[h >> shift >> np.uint64(6)] |= np.uint64(1) << (h >> shift & np.uint64(63))
    return _OK, 0


def texts_of(column: Any) -> tuple[U8, I64]:
    """The bytes of an Arrow large_string array and where each text begins and the last one ends; nothing is copied."""
    offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    data = column.buffers()[2]
    letters = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    letters.flags.writeable = offsets.flags.writeable = False  # or the kernel would be compiled twice
    return letters, offsets
