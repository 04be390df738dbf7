"""Where a URL or an e-mail address ends that begins with a word: `rules.URL` and `rules.EMAIL` in compiled code.

Part of the kernel, asked only of words under rules that mask addresses. A text's bytes come with two masks, one bit a
byte: what belongs to a word (joining apostrophes do), and what is blank (a tag is, and so is what lies behind the text).
numba's casts and pragmas as in the kernel.
"""

import numpy as np
import numpy.typing as npt

from sentiment_core.text.machine import bit, compiled
from sentiment_core.text.rules import EMAILS, LOWER, URLS

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
_ZERO = np.uint64(0)


@compiled
def find_address(
    data: U8, start: int, end: int, first: int, rules: int, words: U64, spaces: U64
) -> tuple[int, int]:  # pragma: no cover
    """Where the URL or e-mail address ends that begins with a word, and which of both it is; (0, 0) for neither."""
    if rules & URLS:
        n = _scheme(data, start + first, end, rules & LOWER != 0)
        if n and first + n < end - start and not bit(spaces, first + n):
            i = first + n
            while not bit(spaces, i):  # the text ends in a blank
                i += 1
            return i, URLS
    if rules & EMAILS:
        i = _email(data, start, end, first, words, spaces)
        if i > 0:
            return i, EMAILS
    return 0, 0


@compiled
def _scheme(data: U8, at: int, end: int, is_folded: bool) -> int:  # pragma: no cover
    """Bytes of http://, https:// or www. at a place; 0 for none."""
    fold = np.uint64(0x20) if is_folded else _ZERO
    letters = 0
    while letters < 5 and at + letters < end:
        byte = np.uint64(data[at + letters]) | fold
        wanted = np.uint64(119) if letters < 3 else _ZERO
        if byte != wanted:
            break
        letters += 1
    if letters == 3:
        return 4 if at + 3 < end and data[at + 3] == 46 else 0
    if at + 7 > end:
        return 0
    b0, b1, b2, b3 = (
        np.uint64(data[at]) | fold, np.uint64(data[at + 1]) | fold, np.uint64(data[at + 2]) | fold, np.uint64(data[at + 3]) | fold,
    )  # fmt: skip
    if not (b0 == np.uint64(104) and b1 == np.uint64(116) and b2 == np.uint64(116) and b3 == np.uint64(112)):
        return 0
    n = 5 if np.uint64(data[at + 4]) | fold == np.uint64(115) else 4
    if at + n + 3 <= end and data[at + n] == 58 and data[at + n + 1] == 47 and data[at + n + 2] == 47:
        return n + 3
    return 0


@compiled
def _is_plain_word(data: U8, start: int, i: int, words: U64) -> bool:  # pragma: no cover
    """Whether a byte belongs to a word character, joining apostrophes left out."""
    if not bit(words, i):
        return False
    byte = data[start + i]
    if byte == 39:
        return False
    return not (byte == 0xE2 and data[start + i + 1] == 0x80 and data[start + i + 2] == 0x99)


@compiled
def _email(data: U8, start: int, end: int, first: int, words: U64, spaces: U64) -> int:  # pragma: no cover
    """Where an e-mail address ends that begins at a place (see `rules.EMAIL`); 0 for none."""
    n = end - start
    i = first
    while i < n and (_is_plain_word(data, start, i, words) or (_is_own(spaces, i) and data[start + i] in (43, 45, 46))):
        i += 1
    if i >= n or data[start + i] != 64 or not _is_own(spaces, i):
        return 0
    i = _labels(data, start, n, i + 1, words, spaces)
    if i == 0:
        return 0
    while i < n:  # it may be somebody's
        width = 0
        if _is_own(spaces, i) or bit(words, i):
            if data[start + i] == 39:
                width = 1
            elif i + 2 < n and data[start + i] == 0xE2 and data[start + i + 1] == 0x80 and data[start + i + 2] == 0x99:
                width = 3
        if width == 0 or i + width >= n or not _is_plain_word(data, start, i + width, words):
            break
        i += width
        while i < n and _is_plain_word(data, start, i, words):
            i += 1
    return i


@compiled
def _is_own(spaces: U64, i: int) -> bool:  # pragma: no cover
    """Whether a byte is no blank: what stood in a tag does not count."""
    return not bit(spaces, i)


@compiled
def _labels(data: U8, start: int, n: int, i: int, words: U64, spaces: U64) -> int:  # pragma: no cover
    """The end of at least two labels of a domain, joined by dots; 0 for fewer."""
    ended = 0
    n_labels = 0
    while True:
        first = i
        while i < n and (_is_plain_word(data, start, i, words) or (data[start + i] == 45 and _is_own(spaces, i))):
            i += 1
        if i == first:
            break
        n_labels += 1
        ended = i
        if i >= n or data[start + i] != 46 or not _is_own(spaces, i):
            break
        i += 1
    return ended if n_labels >= 2 else 0
