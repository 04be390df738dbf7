"""Learning a dictionary: which terms a corpus holds, and which of them are kept.

Reading texts is the kernel's; here its word ids become counted n-grams, over all cores. A word's id is the order of its
first appearance, whatever the number of cores, so that the same corpus gives the same dictionary everywhere.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiment_core.pipeline import n_cores
from sentiment_core.text.characters import DOTTED_I, SIGMA, CharacterTables, tables
from sentiment_core.text.dictionary import Vocabulary, empty_dictionary, texts_of
from sentiment_core.text.kernel import (
    I32,
    I64,
    SLACK,
    U8,
    U64,
    Dictionary,
    Scratch,
    find,
    hash_of,
    mixed,
    put,
    read_tokens,
    scratch,
)
from sentiment_core.text.machine import compiled
from sentiment_core.text.rules import TextRules


def on_all_cores[T, R](work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """Apply compiled work that releases the GIL to parts at once; results in the order of the parts."""
    if len(parts) == 1:
        return [work(parts[0])]
    with ThreadPoolExecutor(n_cores()) as pool:
        return list(pool.map(work, parts))


def learn_vocabulary(texts: pa.LargeStringArray, rules: TextRules, *, min_df: int, max_features: int) -> Vocabulary:
    """The `max_features` most frequent terms that stand in at least `min_df` texts, the most frequent first.

    Terms that are equally frequent are kept in the order of
    their words' first appearance.

    Raises:
        ValueError: when there is no such term.
    """
    words, ids, ends = _number_all(_softened(texts) if rules.lower_case else texts, rules)
    longest = 1 if rules.char_max else rules.ngram_max
    bits = 63 // longest if longest > 1 else 31
    if len(words) >> min(bits, 28):
        raise ValueError(
            f"{len(words):,} distinct words are too many for terms of {longest} words; raise min_df or shorten terms"
        )
    n_parts = n_cores()
    counted = on_all_cores(lambda part: _count_ngrams(ids, ends, longest, bits, part, n_parts), range(n_parts))
    keys, n_times, n_texts = (np.concatenate(columns) for columns in zip(*counted, strict=True))
    kept = np.flatnonzero(n_texts >= min_df)
    if not len(kept):
        raise ValueError(f"no term stands in {min_df} texts or more")
    lengths = (
        1 + (keys >> np.uint64(bits) > 0).astype(np.int64) + (keys >> np.uint64(min(2 * bits, 63)) > 0 if longest > 2 else 0)
    )
    order = np.lexsort((keys[kept], lengths[kept], -n_times[kept]))[:max_features]
    kept = kept[order]
    kept = kept[np.argsort(lengths[kept], kind="stable")]
    return Vocabulary(*_spell(keys[kept], lengths[kept], bits, words.term_bytes, words.term_offsets))


def lowered(texts: pa.LargeStringArray, is_hard: pa.Array) -> pa.LargeStringArray:
    """The same texts, the chosen ones in lower case."""
    replaced = pa.array([text.lower() for text in texts.filter(is_hard).to_pylist()], pa.large_string())
    return pc.replace_with_mask(texts, is_hard, replaced)


def _softened(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """The same texts, those in lower case whose lower case only Python knows (Σ at the end of a word, İ)."""
    is_hard = pc.or_(pc.match_substring(texts, chr(SIGMA)), pc.match_substring(texts, chr(DOTTED_I)))
    return lowered(texts, is_hard) if pc.any(is_hard).as_py() else texts


def _number_all(texts: pa.LargeStringArray, rules: TextRules) -> tuple[Vocabulary, I32, I64]:
    """All distinct words, and every text as their ids; ids up to a text's end are its own."""
    cuts = np.linspace(0, len(texts), n_cores() + 1).astype(int)
    parts = [texts.slice(first, last - first) for first, last in pairwise(cuts) if last > first]
    numbered = on_all_cores(lambda part: _number(part, rules), parts)
    if not numbered:
        return Vocabulary.of([]), np.zeros(0, np.int32), np.zeros(0, np.int64)
    words, ids, ends = numbered[0]
    for more_words, more_ids, more_ends in numbered[1:]:
        words, places = _united(words, more_words)
        ids = np.concatenate([ids, places[more_ids]])
        ends = np.concatenate([ends, more_ends + ends[-1]])
    return words, ids, ends


def _number(texts: pa.LargeStringArray, rules: TextRules) -> tuple[Vocabulary, I32, I64]:
    data, offsets = texts_of(texts)
    longest = int(np.diff(offsets).max())
    dictionary, memory = empty_dictionary(rules), scratch(longest, rules.n_lengths)
    # A token takes a byte at least, a character makes up to three runs of a length; what is not reached costs nothing.
    n_most = (int(offsets[-1] - offsets[0]) + len(texts)) * max(1, 3 * rules.n_lengths)
    ids: I32 = np.empty(n_most, np.int32)
    ends: I64 = np.zeros(len(texts), np.int64)
    vocabulary = _room(1 << 16, 1 << 20)
    # Words and letters that a byte of text may bring: a token twice (marked as negated too), or runs of characters.
    new_words = 3 * rules.n_lengths or 2
    new_letters = new_words * 4 * (rules.char_max or 2)
    row = 0
    while True:
        row = _number_texts(
            data, offsets, row, dictionary, tables(), memory, vocabulary, ids, ends, new_words, new_letters
        )  # fmt: skip
        _, starts, letters, used = vocabulary
        if row == len(texts):
            break
        vocabulary = _more_room(vocabulary, new_words * (longest + 1), new_letters * (longest + SLACK))
    n_words = int(used[0])
    return Vocabulary(letters[: starts[n_words]].copy(), starts[: n_words + 1].copy()), ids[: ends[-1]].copy(), ends


def _room(n_words: int, n_bytes: int) -> tuple[U64, I64, U8, I64]:
    return (
        np.zeros(4 * n_words, np.uint64), np.zeros(n_words + 2, np.int64), np.zeros(n_bytes, np.uint8), np.zeros(1, np.int64),
    )  # fmt: skip


def _more_room(vocabulary: tuple[U64, I64, U8, I64], n_words: int, n_letters: int) -> tuple[U64, I64, U8, I64]:
    table, starts, letters, used = vocabulary
    n_slots = 1 << int(len(table) // 2 + n_words).bit_length()  # a power of two is wanted of the table
    grown = _room(n_slots, 2 * len(letters) + n_letters)
    grown[1][: len(starts)] = starts
    grown[2][: len(letters)] = letters
    grown[3][:] = used
    _rehash(table, grown[0])
    return grown


@compiled(allocates=True)
def _rehash(table: U64, larger: U64) -> None:  # pragma: no cover
    for k in range(0, len(table), 2):
        if table[k]:
            put(larger, table[k], table[k] >> np.uint64(31), table[k + 1])


@compiled(allocates=True)
def _number_texts(
    data: U8, offsets: I64, row: int, dictionary: Dictionary, characters: CharacterTables, s: Scratch, vocabulary: Any,
    ids: I32, ends: I64, new_words: int, new_letters: int,
) -> int:  # fmt: skip # pragma: no cover
    """Number the tokens of texts from a row on; returns the row before which there was no more room for new words."""
    table, starts, letters, used = vocabulary
    filled = ends[row - 1] if row else 0
    while row < len(offsets) - 1:
        n_bytes = offsets[row + 1] - offsets[row]
        n_words = used[0] + new_words * (n_bytes + 1)
        n_letters = starts[used[0]] + new_letters * (n_bytes + SLACK)
        if 4 * n_words > len(table) or n_words + 2 > len(starts) or n_letters > len(letters):
            return row
        n_tokens = read_tokens(data, offsets[row], offsets[row + 1], dictionary, characters, s, vocabulary)
        for k in range(n_tokens):
            ids[filled + k] = s.ids[k]
        filled += n_tokens
        ends[row] = filled
        row += 1
    return row


def _united(words: Vocabulary, more: Vocabulary) -> tuple[Vocabulary, I32]:
    """Words of two, those of the first in their places; and the place of each of the second."""
    table: U64 = np.zeros(2 << int(2 * (len(words) + len(more)) + 16).bit_length(), np.uint64)
    _enter(words.term_bytes, words.term_offsets, table, 0)
    places = _enter(more.term_bytes, more.term_offsets, table, len(words))
    new = np.flatnonzero(places < 0)
    places[new] = len(words) + np.arange(len(new))
    lengths = np.diff(more.term_offsets)[new]
    offsets = np.concatenate([words.term_offsets, words.term_offsets[-1] + np.cumsum(lengths)])
    chosen = np.repeat(more.term_offsets[new] - np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(new) else [], lengths)
    letters = more.term_bytes[(chosen + np.arange(len(chosen))).astype(np.int64)]
    return Vocabulary(np.concatenate([words.term_bytes, letters]), offsets.astype(np.int64)), places.astype(np.int32)


@compiled(allocates=True)
def _enter(letters: U8, offsets: I64, table: U64, first: int) -> I64:  # pragma: no cover
    """Enter words; returns the place of those that were there, and -1 for the others."""
    places = np.full(len(offsets) - 1, -1, np.int64)
    for k in range(len(offsets) - 1):
        h = hash_of(letters, offsets[k], offsets[k + 1] - offsets[k])
        known = np.int64(find(table, h, h >> np.uint64(31)))
        if known:
            places[k] = known - 1
        else:
            put(table, h, h >> np.uint64(31), np.uint64(first + k + 1))
    return places


@compiled(allocates=True)
def _count_ngrams(ids: I32, ends: I64, longest: int, bits: int, part: int, n_parts: int) -> Any:  # pragma: no cover
    """The n-grams whose keys' hashes fall to one part: key, how often it stands in all texts, and in how many texts."""
    capacity = 1 << 16
    table = np.zeros(2 * capacity, np.uint64)
    keys = np.zeros(capacity >> 1, np.uint64)
    n_times = np.zeros(capacity >> 1, np.int64)
    n_texts = np.zeros(capacity >> 1, np.int32)
    seen = np.zeros(capacity >> 1, np.int32)
    n_keys = 0
    first = 0
    for row in range(len(ends)):
        for i in range(first, ends[row]):
            key = np.uint64(0)
            for length in range(min(longest, ends[row] - i)):
                key = (key << np.uint64(bits)) | np.uint64(ids[i + length] + 1)
                h = mixed(key)
                if np.int64(h & np.uint64(0xFFFF)) % n_parts != part:
                    continue
                place = np.int64(find(table, key, h >> np.uint64(20))) - 1
                if place < 0:
                    if n_keys == len(keys):
                        capacity *= 2
                        larger = np.zeros(2 * capacity, np.uint64)
                        for k in range(n_keys):
                            put(larger, keys[k], mixed(keys[k]) >> np.uint64(20), np.uint64(k + 1))
                        table = larger
                        keys = np.concatenate((keys, np.zeros(n_keys, np.uint64)))
                        n_times = np.concatenate((n_times, np.zeros(n_keys, np.int64)))
                        n_texts = np.concatenate((n_texts, np.zeros(n_keys, np.int32)))
                        seen = np.concatenate((seen, np.zeros(n_keys, np.int32)))
                    place = n_keys
                    keys[place] = key
                    put(table, key, h >> np.uint64(20), np.uint64(place + 1))
                    n_keys += 1
                n_times[place] += 1
                if seen[place] != row + 1:
                    seen[place] = row + 1
                    n_texts[place] += 1
        first = ends[row]
    return keys[:n_keys].copy(), n_times[:n_keys].copy(), n_texts[:n_keys].copy()


@compiled(allocates=True)
def _spell(keys: U64, lengths: I64, bits: int, letters: U8, offsets: I64) -> tuple[U8, I64]:  # pragma: no cover
    """Keys as terms: bytes and offsets."""
    mask = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    ends = np.zeros(len(keys) + 1, np.int64)
    for k in range(len(keys)):
        n_bytes = lengths[k] - 1
        for place in range(lengths[k]):
            word = np.int64((keys[k] >> np.uint64(bits * place)) & mask) - 1
            n_bytes += offsets[word + 1] - offsets[word]
        ends[k + 1] = ends[k] + n_bytes
    out = np.zeros(ends[-1], np.uint8)
    for k in range(len(keys)):
        at = ends[k]
        for place in range(lengths[k] - 1, -1, -1):
            word = np.int64((keys[k] >> np.uint64(bits * place)) & mask) - 1
            n_bytes = offsets[word + 1] - offsets[word]
            out[at : at + n_bytes] = letters[offsets[word] : offsets[word + 1]]
            at += n_bytes
            if place:
                out[at] = 32
                at += 1
    return out, ends
