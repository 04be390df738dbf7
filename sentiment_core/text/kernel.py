"""The fused kernel: UTF-8 bytes of Arrow strings to tokens, n-grams, dictionary and sums, without a Python object a text.

The one place of low-level code. A text goes through these passes, each over memory that the pass before has left in
cache:

1. `_mark`: 64 bytes at a time into bit masks (word, blank, the rest is punctuation), which also count letters; only bytes
   from 0x80 on are looked at one code point at a time. Tags become blanks, apostrophes inside words become words.
2. `read_tokens`: the places of the masks' edges are the tokens. A token's bytes are hashed sixteen at a time with ASCII
   letters folded; a memo says which word of the dictionary it is. Only a token that the memo does not know is lower-cased,
   stemmed and looked up (`_resolve`), so that rules cost next to nothing.
3. `_find_terms`: pairs of frequent words, two fifths of all, stand in a square by their ids. Other pairs and triples are exact
   integer keys. A filter of bits that fits the cache drops most of those that are no term; the others are looked up in one
   table, asked for ahead of time. Where there is one score, that table holds the terms' values too (`text.weighing`), and a
   term costs one line of memory instead of two.
4. `_tell_apart`: the distinct terms, and which of them are repeated. Sums over all as if they stood there once, and over the
   repeated ones what 1 + log(count) adds to that.

Where the processor can, passes 2 to 4 take eight or sixteen tokens or terms at a time (`text.vectors`); the loops here say
what they do, and do it elsewhere.

A word is known by about 60 bits of its hash; that no two words of a dictionary share them is checked when it is compiled,
and a strange word is taken for a known one once in some 2^40 look-ups. Nothing else is approximate. Texts with a character whose
lower case depends on its neighbours (Σ, İ) are reported as HARD; the caller lower-cases them and asks again. Texts that are no
UTF-8 are reported as BROKEN, and have no tokens.

Everything is released from the GIL and touches only its arguments: `Dictionary` is shared by threads, `Scratch` is one
thread's. numba mixes signed and unsigned integers into floats, hence the casts. Compiled functions do not show in
coverage, hence the pragmas. No files, no scikit-learn, no weights' meaning.
"""

import os
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sentiment_core.text.addresses import find_address
from sentiment_core.text.characters import (
    EMOJI,
    HARD,
    LETTER,
    SPACE,
    UPPER,
    WORD,
    CharacterTables,
    decode,
    encode,
    flags_of,
    lower_of,
)
from sentiment_core.text.machine import bit, classify64, compiled, load_u64, lowest_bit, match4, match8, n_bits, prefetch
from sentiment_core.text.porter import stem
from sentiment_core.text.rules import EMAILS, EMOJIS, HTML, LOWER, NEGATION, NUMBERS, STEM, STOPS, URLS
from sentiment_core.text.vectors import (
    CAN_SELECT,
    GOLD,
    MIX1,
    MIX2,
    hash8,
    put_below,
    put_ids,
    put_known,
    put_places,
    put_square,
    read_slots,
    recall8,
    write_slots,
)

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]

# What a pass counts of a text.
N_CHARS, N_UPPER, N_LETTERS, N_BLANKS, N_WORDS, N_UNKNOWN, IS_HARD, IS_BROKEN, N_TALLIES = range(9)

# The memo: 131,072 pairs of surface forms (2 MB; what of it is not in the second cache is asked for ahead of time). Running
# text finds 997 of 1,000 tokens in it, and one that is not found costs ten times as much as one that is; half as many pairs
# find 992, which made scoring a twentieth slower, twice as many are not quicker. An entry is 40 bits of the token's hash,
# 21 of its word's id + 1, and three flags.
_MEMO_BITS = 17
_TAG = np.uint64(0xFFFFFFFFFF000000)
_ID_MASK = np.uint64((1 << 21) - 1)
_IS_STOP, _NEGATES, _ENDS_CLAUSE = np.uint64(1 << 21), np.uint64(1 << 22), np.uint64(1 << 23)
MAX_WORDS = (1 << 21) - 2

_ONE, _ZERO, _ALL = np.uint64(1), np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF)
_2, _3, _8, _63, _64 = np.uint64(2), np.uint64(3), np.uint64(8), np.uint64(63), np.uint64(64)
_HIGH = np.uint64(0x8080808080808080)
_GOLD, _MIX1, _MIX2 = np.uint64(GOLD), np.uint64(MIX1), np.uint64(MIX2)
_27, _30, _31, _32, _LOW = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32), np.uint64(0xFFFFFFFF)
# Elements behind the last token that selections look at.
_OVERRUN = 24
# How far ahead lines of the big tables are asked for: the time of that many look-ups is that of one miss.
_AHEAD = 64
_TF = 1 + np.log(np.maximum(np.arange(256.0), 1))
_NO_WEIGHTS = np.zeros(1)
# Bytes beyond a word that its stem and its mark may need.
SLACK = 80


class Dictionary(NamedTuple):
    """What a model knows of words, ready for look-ups; made by `text.dictionary`."""

    words: U64
    """Open addressing, a power of two of slots: 43 bits of a word's hash, and its id + 1 (0: empty)."""
    terms: U64
    """Terms of several words: a power of two of buckets of eight entries of eight bytes, each what the bucket's number does
    not say of the key's hash, how many buckets behind its own it lies, column + 1 (0: empty). A key and its hash are one
    to one, so that nothing is lost (quotienting; Knuth, 6.4, exercise 13). Or, where N_AHEAD is not 0, what
    `text.weighing` makes of it."""
    filter: U64
    """One bit for the top bits of every key's hash; a power of two of words."""
    square: I32
    """Pairs of the first SQUARE words, which training makes the most frequent: column + 1 (0: no term), a row a first word."""
    stops: U64
    """Hashes of stop words, sorted."""
    negators: U64
    """Hashes of negations, sorted."""
    sizes: I64
    """See the indices below."""


N_UNIGRAMS, WORD_BITS, NGRAM_MAX, RULES, KEY_BITS, BUCKET_BITS, COLUMN_BITS, N_COLUMNS = range(8)
CHAR_MIN, CHAR_MAX, N_AHEAD, N_SIZES = range(8, 12)
"""Terms of one word; bits of a word in a key; words of the longest term; rules as bits; bits of a key, of a bucket's number,
of a column's number; terms; shortest and longest run of characters (0: terms are made of tokens); places ahead of the
buckets of a table that holds values (0: it holds columns)."""
SQUARE_BITS = 8
SQUARE = 1 << SQUARE_BITS
"""A quarter of a megabyte holds two of five pairs of running text; four times as much, half of them, is not quicker."""
DISPLACEMENT_BITS = 3
"""How many buckets behind its own an entry may lie, in bits."""


class Scratch(NamedTuple):
    """Memory of one thread; its arrays are as long as the longest text wants."""

    memo: U64
    seed: U64
    hashes: U64
    found: U64
    is_word: U8
    words: U64
    spaces: U64
    cuts: U64
    leads: U64
    quotes: U64
    angles: U64
    opening: U64
    far_quotes: I64
    starts: I32
    ends: I32
    ids: I32
    keys: U64
    hits: I32
    left: I32
    distinct: I32
    lasts: I32
    again: I32
    n_more: I32
    repeated: I32
    counts: I32
    slots: U32
    buffer: U8
    points: U32
    tail: U8
    tally: I64


def scratch(longest: int, n_lengths: int = 0) -> Scratch:
    """Memory for texts of up to `longest` bytes; pages that no text reaches are never touched."""
    n_tokens = 3 * longest * max(1, n_lengths) + 64  # a character in a word of its own makes three runs of a length
    masks = np.zeros((7, (longest >> 6) + 3), np.uint64)
    slots = 1 << max(10, int(4 * n_tokens).bit_length())
    return Scratch(
        memo=np.zeros(2 << _MEMO_BITS, np.uint64),
        seed=np.frombuffer(os.urandom(8), np.uint64),
        hashes=np.empty(longest + 64, np.uint64),
        found=np.empty(longest + 64, np.uint64),
        is_word=np.empty((longest >> 3) + 8, np.uint8),
        words=masks[0],
        spaces=masks[1],
        cuts=masks[2],
        leads=masks[3],
        quotes=masks[4],
        angles=masks[5],
        opening=masks[6],
        far_quotes=np.empty(longest // 3 + 2, np.int64),
        starts=np.empty(longest + 64, np.int32),
        ends=np.empty(longest + 64, np.int32),
        ids=np.empty(n_tokens, np.int32),
        keys=np.empty(2 * longest + 8, np.uint64),
        hits=np.empty(n_tokens, np.int32),
        left=np.empty(n_tokens, np.int32),
        distinct=np.empty(n_tokens, np.int32),
        lasts=np.empty(n_tokens, np.int32),
        again=np.empty(n_tokens, np.int32),
        n_more=np.zeros(n_tokens, np.int32),  # and zeros again after each round
        repeated=np.empty(n_tokens, np.int32),
        counts=np.empty(n_tokens, np.int32),
        slots=np.empty(slots, np.uint32),
        buffer=np.zeros(3 * longest + SLACK, np.uint8),
        points=np.empty(2 * longest + SLACK, np.uint32),
        tail=np.zeros(64, np.uint8),
        tally=np.zeros(N_TALLIES, np.int64),
    )


@compiled(is_inlined=True)
def mixed(x: Any) -> Any:  # pragma: no cover
    """A 64-bit integer spread over all its bits, one to one."""
    x = (x ^ (x >> _30)) * _MIX1
    x = (x ^ (x >> _27)) * _MIX2
    return x ^ (x >> _31)


@compiled(is_inlined=True)
def _load(data: U8, at: int, n: int) -> Any:  # pragma: no cover
    """Up to eight bytes as an integer, also where fewer than eight are left in memory."""
    if at + 8 <= len(data):
        x = load_u64(data, at)
    elif at + n >= 8:
        return load_u64(data, at + n - 8) >> (_8 * np.uint64(8 - n))
    else:
        x = _ZERO
        for k in range(n):
            x |= np.uint64(data[at + k]) << np.uint64(8 * k)
    return x & (_ALL >> (_64 - _8 * np.uint64(n)))


@compiled
def hash_of(data: U8, at: int, n: int) -> Any:  # pragma: no cover
    """64 bits of n > 0 bytes."""
    return _hashed(data, at, n, _ZERO, _ZERO)


@compiled(is_inlined=True)
def _hashed(data: U8, at: int, n: int, fold: Any, seed: Any) -> Any:  # pragma: no cover
    """The same; with the high bits of all bytes as `fold`, ASCII letters count as lower case (only words may stand there)."""
    h = np.uint64(n) * _GOLD ^ seed
    while n > 16:
        x = load_u64(data, at)
        h = mixed(h ^ (x | ((~x & fold) >> _2)))
        at += 8
        n -= 8
    if at + 16 <= len(data):  # without a branch on the length, which nobody foretells
        first = load_u64(data, at) & (_ALL >> np.uint64(64 - 8 * min(n, 8)))
        second = load_u64(data, at + 8) & ((_ONE << np.uint64(4 * max(n - 8, 0)) << np.uint64(4 * max(n - 8, 0))) - _ONE)
    else:
        first = _load(data, at, min(n, 8))
        second = _load(data, at + 8, n - 8) if n > 8 else _ZERO
    h = (h ^ (first | ((~first & fold) >> _2))) * _MIX1
    h = (h ^ (h >> _31) ^ (second | ((~second & fold) >> _2))) * _MIX2
    return (h ^ (h >> _31)) * _GOLD | _ONE  # never 0, which means an empty slot


@compiled(is_inlined=True)
def find(table: U64, key: Any, slot: Any) -> Any:  # pragma: no cover
    """What an open-addressed table has under a key, searched from a slot on; 0 for nothing."""
    last = np.uint64((len(table) >> 1) - 1)
    while True:
        slot &= last
        found = table[_2 * slot]
        if found == key:
            return table[_2 * slot + _ONE]
        if found == _ZERO:
            return _ZERO
        slot += _ONE


@compiled
def put(table: U64, key: Any, slot: Any, value: Any) -> None:  # pragma: no cover
    """Store under a key that is not there yet; the table has room."""
    last = np.uint64((len(table) >> 1) - 1)
    slot &= last
    while table[_2 * slot] != _ZERO:
        slot = (slot + _ONE) & last
    table[_2 * slot] = key
    table[_2 * slot + _ONE] = value


@compiled
def _copy(source: Any, at: int, target: Any, to: int, n: int) -> None:  # pragma: no cover
    for k in range(n):
        target[to + k] = source[at + k]


@compiled(is_inlined=True)
def find_word(words: U64, h: Any) -> Any:  # pragma: no cover
    """Id + 1 of the word with a hash; 0 for none."""
    last = np.uint64(len(words) - 1)
    slot = (h >> _ONE) & last
    while True:
        entry = words[slot]
        if (entry ^ h) & ~_ID_MASK == _ZERO and entry & _ID_MASK != _ZERO:
            return entry & _ID_MASK
        if entry & _ID_MASK == _ZERO:
            return _ZERO
        slot = (slot + _ONE) & last


@compiled
def put_word(words: U64, h: Any, number: Any) -> None:  # pragma: no cover
    """Store id + 1 of a word that is not there yet; the table has room."""
    last = np.uint64(len(words) - 1)
    slot = (h >> _ONE) & last
    while words[slot] & _ID_MASK != _ZERO:
        slot = (slot + _ONE) & last
    words[slot] = (h & ~_ID_MASK) | number


@compiled
def is_among(values: U64, wanted: Any) -> bool:  # pragma: no cover
    """Whether a sorted array holds a value."""
    place = np.searchsorted(values, wanted)
    return place < len(values) and values[place] == wanted


@compiled
def _set_bits(mask: U64, i: int, n: int) -> None:  # pragma: no cover
    for k in range(i, i + n):
        mask[k >> 6] |= _ONE << np.uint64(k & 63)


@compiled
def _blank_out(s: Scratch, first: int, last: int) -> None:  # pragma: no cover
    """Make bytes from first to last blanks."""
    for b in range(first >> 6, (last >> 6) + 1):
        mask = _ALL
        if b == first >> 6:
            mask &= _ALL << np.uint64(first & 63)
        if b == last >> 6:
            mask &= _ALL >> np.uint64(63 - (last & 63))
        s.spaces[b] |= mask
        s.words[b] &= ~mask
        s.cuts[b] &= ~mask


@compiled(is_inlined=True)
def _mark(data: U8, start: int, end: int, rules: int, characters: CharacterTables, s: Scratch) -> int:  # pragma: no cover
    """Classes of all bytes of a text as bit masks; returns how many blocks of 64 they take."""
    words, spaces, cuts, leads, quotes, opening, angles = s.words, s.spaces, s.cuts, s.leads, s.quotes, s.opening, s.angles
    tail, tally, far_quotes = s.tail, s.tally, s.far_quotes
    n_blocks = ((end - start) >> 6) + 1  # the last one ends in a blank, which closes the last token
    any_wide = any_angle = any_quote = _ZERO
    n_upper = n_letters = n_blanks = n_continuations = 0
    for b in range(n_blocks):
        at = start + (b << 6)
        left = end - at
        if at + 64 <= len(data):
            word, space, upper, letter, wide, continuation, less, greater, quote = classify64(data, at)
        else:
            for k in range(64):
                tail[k] = data[at + k] if at + k < len(data) else 0
            word, space, upper, letter, wide, continuation, less, greater, quote = classify64(tail, 0)
        valid = _ALL if left >= 64 else (_ONE << np.uint64(left)) - _ONE
        wide &= valid
        n_upper += n_bits(upper & valid)
        n_letters += n_bits(letter & valid)
        n_blanks += n_bits(space & valid)
        n_continuations += n_bits(continuation & valid)
        words[b] = word & valid
        spaces[b] = space | ~valid
        cuts[b] = _ZERO
        leads[b] = wide & ~continuation
        quotes[b] = quote & valid
        opening[b] = less & valid
        angles[b] = (less | greater) & valid
        any_wide |= wide
        any_angle |= less & valid
        any_quote |= quote & valid
    tally[:] = 0
    tally[N_CHARS] = end - start - n_continuations
    tally[N_UPPER], tally[N_LETTERS], tally[N_BLANKS] = n_upper, n_letters, n_blanks
    n_far = 0
    if any_wide and _is_utf8(data, start, end, n_blocks, n_continuations, leads):
        n_far = _mark_wide(data, start, n_blocks, rules, characters, s)
    elif any_wide:
        tally[IS_BROKEN] = 1
        _blank_out(s, 0, (n_blocks << 6) - 1)
    if rules & HTML and any_angle:
        _drop_tags(n_blocks, s)
    if any_quote:
        _join_words(n_blocks, s)
    for k in range(n_far):
        i = far_quotes[k]
        if i > 0 and bit(words, i - 1) and bit(words, i + 3):
            _set_bits(words, i, 3)
    return n_blocks


@compiled
def _is_utf8(data: U8, start: int, end: int, n_blocks: int, n_continuations: int, leads: U64) -> bool:  # pragma: no cover
    """Whether all bytes beyond ASCII belong to well-formed code points (RFC 3629, section 4)."""
    n_wanted = 0
    for b in range(n_blocks):
        left = leads[b]
        while left:
            at = start + (b << 6) + lowest_bit(left)
            left &= left - _ONE
            first = data[at]
            n = 1 if first < 0xE0 else 2 if first < 0xF0 else 3
            if first < 0xC2 or first > 0xF4 or at + n >= end:
                return False
            for k in range(1, n + 1):
                if data[at + k] & 0xC0 != 0x80:
                    return False
            second = data[at + 1]  # of a surrogate, of too high a number, and of one that fewer bytes could say, it gives it away
            if (first == 0xE0 and second < 0xA0) or (first == 0xED and second > 0x9F):
                return False
            if (first == 0xF0 and second < 0x90) or (first == 0xF4 and second > 0x8F):
                return False
            n_wanted += n
    return n_wanted == n_continuations


@compiled
def _mark_wide(
    data: U8, start: int, n_blocks: int, rules: int, characters: CharacterTables, s: Scratch
) -> int:  # pragma: no cover
    """The classes of what is not ASCII; returns how many apostrophes U+2019 it noted."""
    n_far = 0
    for b in range(n_blocks):
        leads = s.leads[b]
        while leads:
            i = (b << 6) + lowest_bit(leads)
            leads &= leads - _ONE
            point, n = decode(data, start + i)
            flags = flags_of(point, characters)
            s.tally[N_UPPER] += (flags & UPPER) != 0
            s.tally[N_LETTERS] += (flags & LETTER) != 0
            s.tally[N_BLANKS] += (flags & SPACE) != 0
            s.tally[IS_HARD] |= (flags & HARD) != 0 and (rules & LOWER) != 0
            if flags & WORD:
                _set_bits(s.words, i, n)
            elif flags & SPACE:
                _set_bits(s.spaces, i, n)
            elif point == 0x2019:
                s.far_quotes[n_far] = i
                n_far += 1
            if flags & EMOJI and rules & EMOJIS:
                _set_bits(s.cuts, i, 1)
                _set_bits(s.cuts, i + n, 1)
    return n_far


@compiled
def _drop_tags(n_blocks: int, s: Scratch) -> None:  # pragma: no cover
    """From every < to the next > with neither between them: blanks."""
    opened = -1
    for b in range(n_blocks):
        angles = s.angles[b]
        while angles:
            k = lowest_bit(angles)
            angles &= angles - _ONE
            if (s.opening[b] >> np.uint64(k)) & _ONE:
                opened = (b << 6) + k
            elif opened >= 0:
                _blank_out(s, opened, (b << 6) + k)
                opened = -1


@compiled
def _join_words(n_blocks: int, s: Scratch) -> None:  # pragma: no cover
    """An apostrophe between two word characters is one of them."""
    before = _ZERO
    for b in range(n_blocks):
        word = s.words[b]
        after = s.words[b + 1] & _ONE if b + 1 < n_blocks else _ZERO
        s.words[b] |= s.quotes[b] & ((word << _ONE) | before) & ((word >> _ONE) | (after << _63))
        before = word >> _63


@compiled(is_inlined=True)
def read_tokens(
    data: U8, start: int, end: int, dictionary: Dictionary, characters: CharacterTables, s: Scratch, vocabulary: Any
) -> int:  # pragma: no cover
    """A text's tokens as word ids into `s.ids` (-1: in no term), and its tallies; returns how many.

    Where terms are made of characters, its runs of characters are its tokens. With a `vocabulary` (a tuple of arrays that
    `_word_id` fills) every token gets an id.
    """
    rules = dictionary.sizes[RULES]
    n_blocks = _mark(data, start, end, rules, characters, s)
    if dictionary.sizes[CHAR_MAX]:
        return _read_characters(
            data, start, end, dictionary.sizes, dictionary.words, characters, s.spaces, s.buffer, s.starts, s.ids, vocabulary
        )
    n_found = _find_tokens(n_blocks, s)
    # 16 bytes are read from a token's beginning on; behind the last text of a buffer there may be none.
    if CAN_SELECT and rules & (URLS | EMAILS | NEGATION) == 0 and end + 16 <= len(data):
        return _read_eight(data, start, n_found, dictionary, characters, s, vocabulary)
    return _read_each(data, start, end, n_found, dictionary, characters, s, vocabulary)


@compiled(is_inlined=True)
def _read_eight(
    data: U8, start: int, n_found: int, dictionary: Dictionary, characters: CharacterTables, s: Scratch, vocabulary: Any
) -> int:  # pragma: no cover
    """Tokens to ids, eight at a time; for rules under which a token means the same wherever it stands."""
    rules, seed = dictionary.sizes[RULES], s.seed[0]
    masks, memo, ids, starts, ends = s.words, s.memo, s.ids, s.starts, s.ends
    hashes, found, words = s.hashes, s.found, s.is_word
    fold = _HIGH if rules & LOWER else _ZERO
    n_tokens = n_words = n_unknown = 0
    starts[n_found : n_found + 8] = 0  # which hash8 looks at
    for t in range(0, n_found, 8):
        is_word, long = hash8(data, start, starts, ends, t, n_found, masks, fold, seed, hashes)
        words[t >> 3] = is_word
        while long:
            k = t + lowest_bit(long)
            long &= long - _ONE
            first, n = np.int64(starts[k]), np.int64(ends[k] - starts[k])
            hashes[k] = _token_hash(data, start + first, n, (is_word >> np.uint64(k - t)) & _ONE, fold, seed)
        for k in range(t, t + 8):
            prefetch(memo, np.int64(_slot(hashes[k])))
    for t in range(0, n_found, 8):
        there = (_ONE << np.uint64(min(8, n_found - t))) - _ONE
        is_word = np.uint64(words[t >> 3])
        missing = recall8(memo, hashes, t, np.uint64(_MEMO_BITS), _TAG, found) & there
        while missing:
            k = t + lowest_bit(missing)
            missing &= missing - _ONE
            first, n = np.int64(starts[k]), np.int64(ends[k] - starts[k])
            one = (is_word >> np.uint64(k - t)) & _ONE
            found[k] = _known(data, start + first, n, one, False, 0, hashes[k], dictionary, characters, s, vocabulary)
        n_kept, n_strange = put_ids(found, t, there, is_word, _ID_MASK, _IS_STOP, ids, n_tokens)
        n_tokens += n_kept
        n_words += n_bits(is_word)
        n_unknown += n_strange
    s.tally[N_WORDS], s.tally[N_UNKNOWN] = n_words, n_unknown
    return n_tokens


@compiled(is_inlined=True)
def _token_hash(data: U8, at: int, n: int, is_word: Any, fold: Any, seed: Any) -> Any:  # pragma: no cover
    """What the memo knows a token by. Folding makes _ the byte of DEL, hence another hash for what is no word."""
    return _hashed(data, at, n, fold & (_ZERO - is_word), seed) ^ ((is_word - _ONE) & _GOLD)


@compiled(is_inlined=True)
def _known(
    data: U8, at: int, n: int, is_word: Any, is_marked: bool, mask: int, h: Any, dictionary: Dictionary,
    characters: CharacterTables, s: Scratch, vocabulary: Any,
) -> Any:  # fmt: skip # pragma: no cover
    """What the memo knows of a token, or has from now on."""
    packed = _recall(s.memo, h)
    if packed == _ZERO:
        packed = _resolve(
            data, at, n, is_word != _ZERO, is_marked, mask, dictionary.sizes[RULES], dictionary.words, dictionary.stops,
            dictionary.negators, characters, s.buffer, s.points, vocabulary,
        )  # fmt: skip
        _remember(s.memo, h, packed)
    return packed


@compiled(is_inlined=True)
def _read_each(
    data: U8, start: int, end: int, n_found: int, dictionary: Dictionary, characters: CharacterTables, s: Scratch, vocabulary: Any
) -> int:  # pragma: no cover
    """Tokens to ids one by one, under any rules."""
    rules, seed = dictionary.sizes[RULES], s.seed[0]
    # Locals, because a tuple of arrays costs more to hand to a function than a look into the memo.
    masks, ids, starts, ends = s.words, s.ids, s.starts, s.ends
    fold = _HIGH if rules & LOWER else _ZERO
    n_tokens = n_words = n_unknown = 0
    is_negated = False
    resume = 0  # where an address that was taken as a whole has ended
    for t in range(n_found):
        first, last = np.int64(starts[t]), np.int64(ends[t])
        if first < resume:
            if last <= resume:
                continue
            first = resume
        is_word = (masks[first >> 6] >> np.uint64(first & 63)) & _ONE
        mask = 0
        if rules & (URLS | EMAILS) and is_word:  # in this order: which token is a word nobody foretells
            resume, mask = find_address(data, start, end, first, rules, s.words, s.spaces)
        # All addresses of a kind are one token.
        h = np.uint64(mask) * _GOLD if mask else _token_hash(data, start + first, last - first, is_word, fold, seed)
        packed = _known(data, start + first, last - first, is_word, False, mask, h, dictionary, characters, s, vocabulary)
        if rules & NEGATION:
            marked = False
            if packed & _NEGATES:
                marked, is_negated = is_negated, True
            elif is_negated:
                marked = packed & _ENDS_CLAUSE == _ZERO
                is_negated = marked
            if marked:
                packed = _known(data, start + first, last - first, is_word, True, mask, ~h, dictionary, characters, s, vocabulary)
        word = np.int64(packed & _ID_MASK) - 2
        is_kept = packed & _IS_STOP == _ZERO
        ids[n_tokens] = word
        n_tokens += is_kept
        n_words += np.int64(is_word)
        n_unknown += np.int64(is_word) & is_kept & (word < 0)
    s.tally[N_WORDS], s.tally[N_UNKNOWN] = n_words, n_unknown
    return n_tokens


@compiled
def _read_characters(
    data: U8, start: int, end: int, sizes: I64, words: U64, characters: CharacterTables, spaces: U64, buffer: U8, offsets: I32,
    ids: I32, vocabulary: Any,
) -> int:  # fmt: skip # pragma: no cover
    """The runs of characters of a text, as scikit-learn's `char_wb` makes them: inside words, a blank on each side."""
    n_tokens = i = 0
    while i < end - start:
        if bit(spaces, i):
            i += 1
            continue
        buffer[0] = 32
        offsets[0] = 0
        filled = n_points = 1
        while not bit(spaces, i):  # the text ends in a blank
            offsets[n_points] = filled
            n_points += 1
            point, n_bytes = decode(data, start + i)
            filled += encode(lower_of(point, characters) if sizes[RULES] & LOWER else point, buffer, filled)
            i += n_bytes
        buffer[filled] = 32
        offsets[n_points] = filled
        n_points += 1
        offsets[n_points] = filled + 1
        for length in range(sizes[CHAR_MIN], sizes[CHAR_MAX] + 1):
            for first in range(max(1, n_points - length + 1)):
                at, last = offsets[first], offsets[min(first + length, n_points)]
                ids[n_tokens] = _run_id(buffer, np.int64(at), np.int64(last - at), words, vocabulary)
                n_tokens += 1
            if length >= n_points:  # the whole word with its blanks counts once
                break
    return n_tokens


@compiled(is_inlined=True)
def _slot(h: Any) -> Any:  # pragma: no cover
    """Where the pair of entries begins that a token may have."""
    return (h >> np.uint64(64 - _MEMO_BITS)) << _ONE


@compiled(is_inlined=True)
def _recall(memo: U64, h: Any) -> Any:  # pragma: no cover
    """What the memo knows of a token; 0 for nothing."""
    slot = _slot(h)
    first, second = memo[slot], memo[slot + _ONE]
    wanted = h << np.uint64(_MEMO_BITS) & _TAG
    # Both are looked at without a branch: which of the two it is nobody foretells.
    is_first, is_second = np.uint64((first ^ wanted) & _TAG == _ZERO), np.uint64((second ^ wanted) & _TAG == _ZERO)
    return (first & (_ZERO - is_first) | second & (_ZERO - is_second)) & ~_TAG


@compiled(is_inlined=True)
def _remember(memo: U64, h: Any, packed: Any) -> None:  # pragma: no cover
    slot = _slot(h)
    memo[slot + _ONE] = memo[slot]
    memo[slot] = (h << np.uint64(_MEMO_BITS) & _TAG) | packed


@compiled(is_inlined=True)
def _find_tokens(n_blocks: int, s: Scratch) -> int:  # pragma: no cover
    """Where tokens begin and end: the edges of runs of one class; returns how many."""
    masks, blanks, cuts, starts, ends = s.words, s.spaces, s.cuts, s.starts, s.ends
    n_starts = n_ends = 0
    before_words = before_rest = _ZERO
    for b in range(n_blocks):
        words, spaces, cut = masks[b], blanks[b], cuts[b]
        rest = ~(words | spaces)
        shifted_words, shifted_rest = (words << _ONE) | before_words, (rest << _ONE) | before_rest
        before_words, before_rest = words >> _63, rest >> _63
        found = (words & ~shifted_words) | (rest & ~shifted_rest) | (cut & ~spaces)
        n_starts += _places(found, b << 6, starts, n_starts)
        found = (shifted_words & ~words) | (shifted_rest & ~rest) | (cut & (shifted_words | shifted_rest))
        n_ends += _places(found, b << 6, ends, n_ends)
    return n_starts


@compiled(is_inlined=True)
def _places(mask: Any, base: int, out: I32, filled: int) -> int:  # pragma: no cover
    """Append the places of a mask's bits, each plus a base; returns how many. Up to 64 elements behind are overwritten."""
    if CAN_SELECT:
        return put_places(mask, base, out, filled)
    n = 0
    while mask:
        out[filled + n] = base + lowest_bit(mask)
        n += 1
        mask &= mask - _ONE
    return n


@compiled
def _resolve(
    data: U8, at: int, n: int, is_word: bool, is_marked: bool, mask: int, rules: int, words: U64, stops: U64, negators: U64,
    characters: CharacterTables, word: U8, points: U32, vocabulary: Any,
) -> Any:  # fmt: skip # pragma: no cover
    """The long way from a token's bytes to what the memo keeps of it, by way of `word`: id + 2 (1: unknown) and flags."""
    packed = _ZERO
    if mask == 0:
        n = _lower(data, at, n, rules, characters, word)
        if is_word and rules & NUMBERS and _is_number(word, n):
            mask = NUMBERS
    if mask:
        n = _write_mask(mask, word)
    else:
        h = hash_of(word, 0, n)
        if rules & NEGATION:
            if is_among(negators, h) or _holds_nt(word, n):
                packed |= _NEGATES
            elif n == 1 and (word[0] == 46 or word[0] == 58 or word[0] == 59 or word[0] == 33 or word[0] == 63):  # .:;!?
                packed |= _ENDS_CLAUSE
        if rules & STOPS and is_among(stops, h):
            packed |= _IS_STOP
        if is_word and rules & STEM:
            n = stem(word, n, points)
    if is_marked:
        word[n], word[n + 1], word[n + 2], word[n + 3] = 95, 78, 69, 71  # _NEG
        n += 4
    return packed | np.uint64(_word_id(word, n, words, vocabulary) + 2)


@compiled
def _lower(data: U8, at: int, n: int, rules: int, characters: CharacterTables, out: U8) -> int:  # pragma: no cover
    """A token's bytes in lower case (or as they are) into a buffer; returns how many."""
    if rules & LOWER == 0:
        _copy(data, at, out, 0, n)
        return n
    o = 0
    end = at + n
    while at < end:
        byte = data[at]
        if byte < 0x80:
            out[o] = byte + 32 if 65 <= byte <= 90 else byte
            o += 1
            at += 1
        else:
            point, width = decode(data, at)
            o += encode(lower_of(point, characters), out, o)
            at += width
    return o


@compiled
def _is_number(word: U8, n: int) -> bool:  # pragma: no cover
    for k in range(n):
        if not 48 <= word[k] <= 57:
            return False
    return True


@compiled
def _holds_nt(word: U8, n: int) -> bool:  # pragma: no cover
    for k in range(n - 2):
        if word[k] == 110 and word[k + 1] == 39 and word[k + 2] == 116:
            return True
    return False


@compiled
def _write_mask(mask: int, out: U8) -> int:  # pragma: no cover
    """<url>, <email> or <number>."""
    if mask == URLS:
        out[0], out[1], out[2], out[3], out[4] = 60, 117, 114, 108, 62
        return 5
    if mask == EMAILS:
        out[0], out[1], out[2], out[3], out[4], out[5], out[6] = 60, 101, 109, 97, 105, 108, 62
        return 7
    out[0], out[1], out[2], out[3], out[4], out[5], out[6], out[7] = 60, 110, 117, 109, 98, 101, 114, 62
    return 8


@compiled
def _word_id(word: U8, n: int, words: U64, vocabulary: Any) -> int:  # pragma: no cover
    return _run_id(word, 0, n, words, vocabulary)


@compiled
def _run_id(letters: U8, at: int, n: int, words: U64, vocabulary: Any) -> int:  # pragma: no cover
    """The id of so many bytes, -1 where there is none; a vocabulary gives one to what is new."""
    h = hash_of(letters, at, n)
    if vocabulary is None:
        return np.int64(find_word(words, h)) - 1
    table, starts, known_letters, used = vocabulary
    known = np.int64(find(table, h, h >> _31))
    if known:
        return known - 1
    place = used[0]
    put(table, h, h >> _31, np.uint64(place + 1))
    _copy(letters, at, known_letters, starts[place], n)
    starts[place + 1] = starts[place] + n
    used[0] = place + 1
    return place


@compiled(is_inlined=True)
def key_hash(key: Any, n_bits: Any) -> Any:  # pragma: no cover
    """A key of so many bits spread over them, one to one; the top bits are the best."""
    return key * (_GOLD >> (_64 - n_bits) | _ONE) & (_ALL >> (_64 - n_bits))


@compiled(is_inlined=True)
def _find_terms(n_tokens: int, dictionary: Dictionary, weights: F64, width: int, s: Scratch) -> int:  # pragma: no cover
    """Columns (or places, see N_AHEAD) of the terms of a text, with repeats, as `s.hits`; returns how many.

    Their weights are asked for.
    """
    hits, keys, sizes = s.hits, s.keys, dictionary.sizes
    n_hits = _find_words(n_tokens, s.ids, sizes[N_UNIGRAMS], hits)
    if sizes[NGRAM_MAX] > 1:
        n_hits = _find_square(n_tokens, s.ids, dictionary.square, hits, n_hits)
    for k in range(n_hits):  # rare words' lie far away
        prefetch(weights, np.int64(hits[k]) * width)
    if sizes[NGRAM_MAX] == 1:
        return n_hits
    key_bits = np.uint64(sizes[KEY_BITS])
    n_keys = _find_keys(n_tokens, s.ids, 0, np.uint64(sizes[WORD_BITS]), key_bits, dictionary.filter, keys, 0)
    if sizes[NGRAM_MAX] > 2:
        n_keys = _find_keys(n_tokens, s.ids, 1, np.uint64(sizes[WORD_BITS]), key_bits, dictionary.filter, keys, n_keys)
    bucket_shift = key_bits - np.uint64(sizes[BUCKET_BITS])
    if sizes[N_AHEAD]:
        return _look_up_places(dictionary.terms, sizes[N_AHEAD], bucket_shift, keys, n_keys, hits, n_hits)
    return _look_up_columns(dictionary.terms, bucket_shift, np.uint64(sizes[COLUMN_BITS]), weights, width, s, n_keys, n_hits)


@compiled(is_inlined=True)
def _find_words(n_tokens: int, ids: I32, n_words: int, hits: I32) -> int:  # pragma: no cover
    """The words that are terms by themselves; returns how many."""
    n_hits = 0
    if CAN_SELECT:
        ids[n_tokens : n_tokens + _OVERRUN] = -1
        for i in range(0, n_tokens, 16):
            n_hits += put_below(ids, i, n_words, hits, n_hits)
        return n_hits
    for i in range(n_tokens):
        hits[n_hits] = ids[i]
        n_hits += np.int64(0 <= ids[i] < n_words)
    return n_hits


@compiled(is_inlined=True)
def _find_square(n_tokens: int, ids: I32, square: I32, hits: I32, n_hits: int) -> int:  # pragma: no cover
    """Append the pairs of frequent words that are terms; returns how many hits there are then."""
    if CAN_SELECT:
        for i in range(0, n_tokens - 1, 16):
            n_hits += put_square(ids, i, SQUARE_BITS, square, hits, n_hits)
        return n_hits
    for i in range(n_tokens - 1):
        is_frequent = np.int64(0 <= ids[i] | ids[i + 1] < SQUARE)
        column = np.int64(square[(np.int64(ids[i]) << SQUARE_BITS | np.int64(ids[i + 1])) * is_frequent]) * is_frequent - 1
        hits[n_hits] = column
        n_hits += column >= 0
    return n_hits


@compiled(is_inlined=True)
def _find_keys(
    n_tokens: int, ids: I32, is_three: int, word_bits: Any, key_bits: Any, bloom: U64, keys: U64, n_keys: int
) -> int:  # pragma: no cover
    """Append the hashed keys of pairs outside the square, or of triples, that the filter lets pass; how many there are then."""
    shift = key_bits - np.uint64(6 + lowest_bit(np.uint64(len(bloom))))
    least = 0 if is_three else SQUARE  # of any of a pair's ids
    if CAN_SELECT:
        factor, mask = _GOLD >> (_64 - key_bits) | _ONE, _ALL >> (_64 - key_bits)
        for i in range(0, n_tokens - 1 - is_three, 8):
            n_keys += put_known(ids, i, is_three, least, word_bits, factor, mask, shift, bloom, keys, n_keys)
        return n_keys
    for i in range(n_tokens - 1 - is_three):
        # A word that is in no term makes the key wrong, and is_known drops it: of negative numbers the highest bit is set.
        key = (np.uint64(ids[i] + 1) << word_bits) | np.uint64(ids[i + 1] + 1)
        is_known = (ids[i] | ids[i + 1]) >= least
        if is_three:
            key = (key << word_bits) | np.uint64(ids[i + 2] + 1)
            is_known &= ids[i + 2] >= 0
        h = key_hash(key, key_bits)
        keys[n_keys] = h
        n_keys += np.int64(bloom[h >> shift >> np.uint64(6)] >> (h >> shift & _63) & _ONE) & is_known
    return n_keys


@compiled(is_inlined=True)
def _look_up_columns(
    terms: U64, shift: Any, column_bits: Any, weights: F64, width: int, s: Scratch, n_keys: int, n_hits: int
) -> int:  # pragma: no cover
    """Append the columns of the keys that are terms; returns how many hits there are then."""
    hits, keys = s.hits, s.keys
    for k in range(min(n_keys, _AHEAD)):
        prefetch(terms, np.int64(keys[k] >> shift << _3))
    for k in range(n_keys):
        if k + _AHEAD < n_keys:
            prefetch(terms, np.int64(keys[k + _AHEAD] >> shift << _3))
        column = np.int64(find_term(terms, keys[k], shift, column_bits)) - 1
        hits[n_hits] = column
        n_hits += column >= 0
        prefetch(weights, column * width if column > 0 else 0)
    return n_hits


@compiled(is_inlined=True)
def _look_up_places(
    terms: U64, n_ahead: int, shift: Any, keys: U64, n_keys: int, hits: I32, n_hits: int
) -> int:  # pragma: no cover
    """The same of a table that holds values: places."""
    for k in range(min(n_keys, _AHEAD)):
        prefetch(terms, 2 * n_ahead + np.int64(keys[k] >> shift << _3))
    for k in range(n_keys):
        if k + _AHEAD < n_keys:
            prefetch(terms, 2 * n_ahead + np.int64(keys[k + _AHEAD] >> shift << _3))
        place = find_place(terms, n_ahead, keys[k], shift)
        hits[n_hits] = place
        n_hits += place >= 0
    return n_hits


@compiled(is_inlined=True)
def find_term(terms: U64, h: Any, shift: Any, column_bits: Any) -> Any:  # pragma: no cover
    """Column + 1 of the term whose key has a hash; 0 for none. Eight entries, a cache line, are compared at once."""
    n_buckets = np.uint64(len(terms) >> 3)
    bucket = h >> shift
    wanted = (h & ((_ONE << shift) - _ONE)) << np.uint64(DISPLACEMENT_BITS)
    farthest = wanted + np.uint64((1 << DISPLACEMENT_BITS) - 1)
    while True:
        equal, empty = match8(terms, np.int64(bucket << _3), column_bits, wanted)
        equal &= ~empty
        if equal:
            return terms[(bucket << _3) + np.uint64(lowest_bit(equal))] & ((_ONE << column_bits) - _ONE)
        if empty or wanted == farthest:
            return _ZERO
        bucket = (bucket + _ONE) & (n_buckets - _ONE)
        wanted += _ONE


@compiled(is_inlined=True)
def tag_bits(shift: Any) -> Any:  # pragma: no cover
    """How many bits of a tag each of a term's two values carries, where buckets leave so many bits of a key's hash open."""
    return (shift + np.uint64(DISPLACEMENT_BITS + 2)) >> _ONE


@compiled(is_inlined=True)
def find_place(terms: U64, n_ahead: int, h: Any, shift: Any) -> int:  # pragma: no cover
    """Place of the values of the term whose key has a hash; -1 for none. Four pairs, a cache line, are compared at once.

    A tag is what `find_term` compares, and 1, so that it is not 0, which no term is.
    """
    last = np.uint64(((len(terms) - 2 * n_ahead) >> 3) - 1)
    half = tag_bits(shift)
    bucket = h >> shift
    tag = ((h & ((_ONE << shift) - _ONE)) << np.uint64(DISPLACEMENT_BITS)) + _ONE
    farthest = tag + np.uint64((1 << DISPLACEMENT_BITS) - 1)
    while True:
        equal, empty = match4(terms, 2 * n_ahead + np.int64(bucket << _3), half, tag)
        if equal:
            return n_ahead + np.int64((bucket << _2) + np.uint64(lowest_bit(equal) >> 1))
        if empty or tag == farthest:
            return -1
        bucket = (bucket + _ONE) & last
        tag += _ONE


@compiled(is_inlined=True)
def _settle(
    hits: I32, n_hits: int, factor: Any, left: I32, s: Scratch, n_distinct: int, wants_lasts: bool
) -> tuple[int, int, int]:  # pragma: no cover
    """A round of telling distinct columns apart: all hits write into a slot that their column names; then all read it.

    A hit writes its number, and what the slot does not say of its column's hash (a column and its hash are one to one). Who
    reads its own column and number has met its last repeat, or itself, and is distinct; who reads its own column and another
    number is a repeat, and that number goes to `s.again`; who reads another column has lost its slot and is left for the next
    round, where slots are named otherwise. Writing first and reading afterwards, nothing waits for a store, which a table that
    is filled one by one does at every hit, and no slot need be cleared.

    Appends to `s.distinct`, and the hits' numbers to `s.lasts` where they are wanted. Returns how many are distinct by now, and
    how many are met again and left in this round.
    """
    slots, distinct, again = s.slots, s.distinct, s.again
    bits = 6
    while 1 << bits < 4 * n_hits:
        bits += 1
    n_again = n_left = 0
    if CAN_SELECT:
        for k in range(0, n_hits, 16):
            write_slots(hits, k, n_hits, slots, factor, np.uint64(bits))
        for k in range(0, n_hits, 16):
            found = read_slots(
                hits, k, n_hits, slots, factor, np.uint64(bits), distinct, n_distinct, again, n_again, left, n_left
            )
            if wants_lasts:
                _places(found[0], k, s.lasts, n_distinct)
            n_distinct, n_again, n_left = n_distinct + n_bits(found[0]), n_again + found[1], n_left + found[2]
        return n_distinct, n_again, n_left
    shift = np.uint64(32 - bits)
    rest = (_ONE << shift) - _ONE
    for k in range(n_hits):
        h = np.uint64(hits[k]) * factor & _LOW
        slots[h >> shift] = (h & rest) << np.uint64(bits) | np.uint64(k)
    for k in range(n_hits):
        h = np.uint64(hits[k]) * factor & _LOW
        last = np.int64(np.uint64(slots[h >> shift]) ^ (h & rest) << np.uint64(bits))  # never before k where it is a number
        is_same = np.int64(last >> bits == 0)
        is_last = np.int64(last == k)
        distinct[n_distinct] = hits[k]
        s.lasts[n_distinct] = k
        n_distinct += is_last
        again[n_again] = last
        n_again += is_same - is_last
        left[n_left] = hits[k]
        n_left += 1 - is_same
    return n_distinct, n_again, n_left


@compiled(is_inlined=True)
def _tell_apart(n_hits: int, s: Scratch, wants_repeated: bool) -> tuple[int, int]:  # pragma: no cover
    """The distinct columns among the hits, and if wanted those that are repeated and how often each stands there.

    Returns how many each are. Uses up the hits.
    """
    hits, left, again, n_more = s.hits, s.left, s.again, s.n_more
    repeated, counts = s.repeated, s.counts
    n_distinct = n_repeated = 0
    factor = _GOLD >> _32
    while n_hits:
        n_distinct, n_again, n_left = _settle(hits, n_hits, factor, left, s, n_distinct, False)
        before = n_repeated
        for k in range(n_again if wants_repeated else 0):
            repeated[n_repeated] = again[k]
            n_repeated += np.int64(n_more[again[k]] == 0)
            n_more[again[k]] += 1
        for k in range(before, n_repeated):
            last = repeated[k]
            repeated[k], counts[k] = hits[last], n_more[last] + 1
            n_more[last] = 0
        hits, left, n_hits = left, hits, n_left
        factor = (factor * _MIX1 & _LOW) | _ONE
    return n_distinct, n_repeated


@compiled(is_inlined=True)
def _count_distinct(n_hits: int, s: Scratch) -> int:  # pragma: no cover
    """The distinct columns among the hits, and how often each stands there; returns how many. Uses up the hits."""
    hits, left, again, n_more = s.hits, s.left, s.again, s.n_more
    lasts, counts = s.lasts, s.counts
    n_distinct = 0
    factor = _GOLD >> _32
    while n_hits:
        before = n_distinct
        n_distinct, n_again, n_left = _settle(hits, n_hits, factor, left, s, n_distinct, True)
        for k in range(n_again):
            n_more[again[k]] += 1
        for k in range(before, n_distinct):
            counts[k] = n_more[lasts[k]] + 1
            n_more[lasts[k]] = 0
        hits, left, n_hits = left, hits, n_left
        factor = (factor * _MIX1 & _LOW) | _ONE
    return n_distinct


@compiled
def score_texts(
    data: U8, offsets: I64, dictionary: Dictionary, characters: CharacterTables, s: Scratch,
    weights: F64, is_binary: bool, scores: F64, tallies: I64,
) -> None:  # fmt: skip # pragma: no cover
    """Weighted sums of all texts, and what was counted of them.

    Args:
        data: UTF-8 of all texts.
        offsets: where each text begins in it, and where the last one ends.
        dictionary: the model's terms.
        characters: `characters.tables()`.
        s: this thread's memory, for texts of that length.
        weights: for each term and class two values, one after another: its squared scale, and its weight times its scale;
            where the dictionary's table holds them, that table.
        is_binary: a term counts once a text; otherwise 1 + log(count) (Manning, Raghavan and Schuetze 2008, 6.4.1).
        scores: texts by classes, filled: sum of weights over the length of the scaled vector (0 without any term).
        tallies: N_TALLIES for each text, one after another, filled.
    """
    n_classes = scores.shape[1]
    distinct, repeated, counts = s.distinct, s.repeated, s.counts
    width = 2 * n_classes
    for row in range(len(offsets) - 1):
        n_tokens = read_tokens(data, offsets[row], offsets[row + 1], dictionary, characters, s, None)
        _copy(s.tally, 0, tallies, row * N_TALLIES, N_TALLIES)
        n_hits = _find_terms(n_tokens, dictionary, weights, width, s)
        n_distinct, n_repeated = _tell_apart(n_hits, s, not is_binary)
        for c in range(n_classes):
            total = length = 0.0
            for k in range(n_distinct):
                at = np.int64(distinct[k]) * width + 2 * c
                length += weights[at]
                total += weights[at + 1]
            for k in range(n_repeated):
                value = _TF[counts[k]] if counts[k] < len(_TF) else 1.0 + np.log(counts[k])
                at = np.int64(repeated[k]) * width + 2 * c
                length += (value * value - 1.0) * weights[at]
                total += (value - 1.0) * weights[at + 1]
            scores[row, c] = total / np.sqrt(length) if length > 0 else 0.0


@compiled
def count_texts(
    data: U8, offsets: I64, dictionary: Dictionary, characters: CharacterTables, s: Scratch,
    columns: I32, counts: I32, ends: I64, tallies: I64,
) -> None:  # fmt: skip # pragma: no cover
    """The terms of all texts as a sparse matrix: columns (unsorted) and counts of a text up to its end."""
    filled = 0
    for row in range(len(offsets) - 1):
        n_tokens = read_tokens(data, offsets[row], offsets[row + 1], dictionary, characters, s, None)
        _copy(s.tally, 0, tallies, row * N_TALLIES, N_TALLIES)
        n_distinct = _count_distinct(_find_terms(n_tokens, dictionary, _NO_WEIGHTS, 0, s), s)
        _copy(s.distinct, 0, columns, filled, n_distinct)
        _copy(s.counts, 0, counts, filled, n_distinct)
        filled += n_distinct
        ends[row] = filled
