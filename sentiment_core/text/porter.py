"""Porter's stemmer for compiled code: what `nltk.stem.porter.PorterStemmer` gives in its default mode, at a kernel's speed.

M. F. Porter, "An algorithm for suffix stripping", Program 14.3 (1980): 130-137, with the extensions of NLTK. Steps 2 to 4
and the irregular words are rules, kept as text below in NLTK's order and found through their last two letters; steps 1
and 5 are code, since they look at more than a suffix. One code serves two kinds of words: ASCII as it stands, in place;
others as an array of code points. No tokens, no marks such as `_NEG`.

Compiled functions do not show in coverage, hence the pragmas; they are tested against NLTK.
"""

from operator import itemgetter
from string import ascii_lowercase
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sentiment_core.text.characters import decode, encode
from sentiment_core.text.machine import compiled

type Letters = npt.NDArray[np.uint8] | npt.NDArray[np.uint32]

IRREGULAR, STEP_2, STEP_3, STEP_4 = 0, 1, 2, 3
_N_LETTERS = 26


class Rule(NamedTuple):
    """A suffix of a word becomes another; the first rule of a step whose suffix fits is the only one that is looked at."""

    suffix: str
    replacement: str
    n_kept: int = 0
    """How many letters of the suffix count as stem when it is measured."""


# As in NLTK's tables and order, with two turned into suffixes of their own: "ion after s or t" and "logi, whose l counts".
_RULES = {
    IRREGULAR: "sky=sky skies=sky dying=die lying=lie tying=tie news=news innings=inning inning=inning outings=outing "
    "outing=outing cannings=canning canning=canning howe=howe proceed=proceed exceed=exceed succeed=succeed",
    STEP_2: "ational=ate tional=tion enci=ence anci=ance izer=ize bli=ble alli=al entli=ent eli=e ousli=ous ization=ize "
    "ation=ate ator=ate alism=al iveness=ive fulness=ful ousness=ous aliti=al iviti=ive biliti=ble fulli=ful logi=log/1",
    STEP_3: "icate=ic ative= alize=al iciti=ic ical=ic ful= ness=",
    STEP_4: "al= ance= ence= er= ic= able= ible= ant= ement= ment= ent= sion=s/1 tion=t/1 ou= ism= ate= iti= ous= ive= ize=",
}


def _rules(step: int) -> list[Rule]:
    fields = [word.replace("=", "/").split("/") for word in _RULES[step].split()]
    return [Rule(suffix, replacement, *map(int, kept)) for suffix, replacement, *kept in fields]


def _bucket(step: int, rule: Rule) -> int:
    """Number of what a rule is found by: its step and the last two letters of its suffix."""
    before, last = (ascii_lowercase.index(letter) for letter in rule.suffix[-2:])
    return (step * _N_LETTERS + before) * _N_LETTERS + last


def _packed(texts: list[str]) -> npt.NDArray[np.uint8]:
    return np.array([list(text.encode().ljust(8, b"\0")) for text in texts], np.uint8)  # no text has more than 8 letters


# What compiled code reads, as constants: the rules one after another, and where those of a step and an ending begin.
_FOUND = sorted(((_bucket(step, rule), rule) for step in _RULES for rule in _rules(step)), key=itemgetter(0))
_ORDERED = [rule for _, rule in _FOUND]
_STARTS = np.searchsorted([bucket for bucket, _ in _FOUND], range(len(_RULES) * _N_LETTERS**2 + 1)).astype(np.int16)
_SUFFIX, _N_SUFFIX = _packed([rule.suffix for rule in _ORDERED]), np.array([len(rule.suffix) for rule in _ORDERED])
_NEW, _N_NEW = _packed([rule.replacement for rule in _ORDERED]), np.array([len(rule.replacement) for rule in _ORDERED])
_N_KEPT = np.array([rule.n_kept for rule in _ORDERED])

_A, _B, _D, _E, _G, _I, _L, _N, _S, _T, _W, _X, _Y, _Z = (ord(letter) for letter in "abdegilnstwxyz")
_VOWELS = sum(1 << (ord(letter) - _A) for letter in "aeiou")
_SHORT = 2
"""Words of up to so many letters stay as they are."""


def stem_word(word: str) -> str:
    """The stem of a lower-case word: `stem` for a string.

    >>> [stem_word(word) for word in ("relational", "dying", "happiness", "agreed", "it's", "übungen")]
    ['relat', 'die', 'happi', 'agre', "it'", 'übungen']
    """
    buffer = np.array(list(word.encode()), np.uint8)
    return buffer[: stem(buffer, len(buffer), np.empty(len(buffer), np.uint32))].tobytes().decode()


@compiled
def stem(word: npt.NDArray[np.uint8], n: int, points: npt.NDArray[np.uint32]) -> int:  # pragma: no cover
    """Replace the UTF-8 bytes word[:n] of one lower-case token by its stem, and say how long that is.

    It is never longer than the token, so that nothing is written from word[n] on. `points` is memory for n code points.
    A token may hold anything but an
    asterisk after which "d" stands, which NLTK takes for one of its rules' own signs.
    """
    for i in range(n):
        if word[i] >= 0x80:  # noqa: PLR2004
            return _stem_wide(word, n, points)
    return _stem_letters(word, n)


@compiled
def _stem_wide(word: npt.NDArray[np.uint8], n: int, points: npt.NDArray[np.uint32]) -> int:  # pragma: no cover
    n_points = i = 0
    while i < n:
        points[n_points], n_bytes = decode(word, i)
        n_points += 1
        i += n_bytes
    o = 0
    for k in range(_stem_letters(points, n_points)):
        o += encode(np.int64(points[k]), word, o)
    return o


@compiled
def _stem_letters(word: Letters, n: int) -> int:  # pragma: no cover
    if n <= _SHORT:
        return n
    rule = _rule(word, n, IRREGULAR)
    if rule >= 0:
        return _replace(word, 0, rule)
    n = _participle(word, _plural(word, n))
    if n > _SHORT and word[n - 1] == _Y and _is_consonant(word, n - 2):  # step 1c
        word[n - 1] = _I
    n = _step_2(word, n)
    n = _apply(word, n, STEP_3, 1)
    n = _apply(word, n, STEP_4, 2)
    return _final(word, n)


@compiled
def _plural(word: Letters, n: int) -> int:  # pragma: no cover
    """Step 1a."""
    if word[n - 1] != _S:
        return n
    if word[n - 2] == _S:
        return n
    if word[n - 2] == _E and word[n - 3] == _I:
        return n - 1 if n == 4 else n - 2  # NLTK: dies, die; but flies, fli  # noqa: PLR2004
    return n - 2 if n > 3 and word[n - 2] == _E and word[n - 3] == _S and word[n - 4] == _S else n - 1  # noqa: PLR2004


@compiled
def _participle(word: Letters, n: int) -> int:  # pragma: no cover
    """Step 1b."""
    if n > 2 and word[n - 1] == _D and word[n - 2] == _E:  # noqa: PLR2004
        if word[n - 3] == _I:
            return n - 1 if n == 4 else n - 2  # NLTK: died, die; but spied, spi  # noqa: PLR2004
        if word[n - 3] == _E:
            return n - 1 if _measure(word, n - 3) > 0 else n
        return _after_participle(word, n - 2) if _has_vowel(word, n - 2) else n
    if n > 3 and word[n - 1] == _G and word[n - 2] == _N and word[n - 3] == _I:  # noqa: PLR2004
        return _after_participle(word, n - 3) if _has_vowel(word, n - 3) else n
    return n


@compiled
def _after_participle(word: Letters, n: int) -> int:  # pragma: no cover
    """What follows once -ed or -ing is cut off: the e comes back, or a doubled letter becomes one."""
    last = word[n - 1]
    before = word[n - 2] if n > 1 else 0
    if (before == _A and last == _T) or (before == _B and last == _L) or (before == _I and last == _Z):
        word[n] = _E
        return n + 1
    if before == last and _is_consonant(word, n - 1):
        return n if last in (_L, _S, _Z) else n - 1
    if _measure(word, n) == 1 and _ends_cvc(word, n):
        word[n] = _E
        return n + 1
    return n


@compiled
def _step_2(word: Letters, n: int) -> int:  # pragma: no cover
    # NLTK: what -alli becomes goes through the step again, so that "rationalli" ends up with "rational".
    is_alli = n > 4 and word[n - 1] == _I and word[n - 2] == _L and word[n - 3] == _L and word[n - 4] == _A  # noqa: PLR2004
    shorter = _apply(word, n, STEP_2, 1)
    return _apply(word, shorter, STEP_2, 1) if is_alli and shorter < n else shorter


@compiled
def _final(word: Letters, n: int) -> int:  # pragma: no cover
    """Steps 5a and 5b."""
    if n > 0 and word[n - 1] == _E:
        measure = _measure(word, n - 1)
        if measure > 1 or (measure == 1 and not _ends_cvc(word, n - 1)):
            n -= 1
    if n > 1 and word[n - 1] == _L and word[n - 2] == _L and _measure(word, n - 1) > 1:
        n -= 1
    return n


@compiled
def _apply(word: Letters, n: int, step: int, least: int) -> int:  # pragma: no cover
    """Apply the rule of a step that fits, given that what it leaves has at least that measure."""
    rule = _rule(word, n, step)
    if rule < 0:
        return n
    start = n - _N_SUFFIX[rule]
    return _replace(word, start, rule) if _measure(word, start + _N_KEPT[rule]) >= least else n


@compiled
def _rule(word: Letters, n: int, step: int) -> int:  # pragma: no cover
    """The first rule of a step that fits the end of the word (an irregular form: all of it); -1 when none does."""
    if n < 2:  # noqa: PLR2004
        return -1
    before, last = np.int64(word[n - 2]) - _A, np.int64(word[n - 1]) - _A
    if not (0 <= before < _N_LETTERS and 0 <= last < _N_LETTERS):
        return -1
    bucket = (step * _N_LETTERS + before) * _N_LETTERS + last
    for rule in range(_STARTS[bucket], _STARTS[bucket + 1]):
        length = _N_SUFFIX[rule]
        if (n == length or (n > length and step != IRREGULAR)) and _ends_with(word, n - length, rule):
            return rule
    return -1


@compiled
def _ends_with(word: Letters, start: int, rule: int) -> bool:  # pragma: no cover
    for i in range(_N_SUFFIX[rule] - 2):  # noqa: SIM110 -- numba has no all(); the last two letters brought us here
        if word[start + i] != _SUFFIX[rule, i]:
            return False
    return True


@compiled
def _replace(word: Letters, start: int, rule: int) -> int:  # pragma: no cover
    for i in range(_N_NEW[rule]):
        word[start + i] = _NEW[rule, i]
    return start + _N_NEW[rule]


@compiled
def _is_vowel(letter: Any) -> bool:  # pragma: no cover
    place: Any = np.int64(letter) - _A
    return 0 <= place < _N_LETTERS and (_VOWELS >> place) & 1 == 1


@compiled
def _is_consonant(word: Letters, i: int) -> bool:  # pragma: no cover
    """Whether word[i] is neither a, e, i, o, u nor a y after a consonant; in a run of y they alternate."""
    is_other = True
    while i > 0 and word[i] == _Y:
        is_other = not is_other
        i -= 1
    return is_other != _is_vowel(word[i])


@compiled
def _has_vowel(word: Letters, n: int) -> bool:  # pragma: no cover
    was_vowel = True  # a y that starts the word is a consonant
    for i in range(n):
        was_vowel = _is_vowel(word[i]) or (word[i] == _Y and not was_vowel)
        if was_vowel:
            return True
    return False


@compiled
def _measure(word: Letters, n: int) -> int:  # pragma: no cover
    """How often a consonant follows a vowel in word[:n]."""
    measure, was_vowel = 0, False
    for i in range(n):
        is_vowel = _is_vowel(word[i]) or (word[i] == _Y and i > 0 and not was_vowel)
        measure += was_vowel and not is_vowel
        was_vowel = is_vowel
    return measure


@compiled
def _ends_cvc(word: Letters, n: int) -> bool:  # pragma: no cover
    """Porter's *o: consonant, vowel, consonant other than w, x, y; for NLTK also a vowel and a consonant alone."""
    if n < 2 or _is_consonant(word, n - 2) or not _is_consonant(word, n - 1):  # noqa: PLR2004
        return False
    if n == 2:  # noqa: PLR2004
        return True
    return _is_consonant(word, n - 3) and word[n - 1] not in (_W, _X, _Y)
