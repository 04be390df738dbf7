"""What each code point is, in tables that numba kernels read: the one place where a kernel learns of Unicode.

The tables say what the running Python says (`re`, `str.isalpha`, `str.lower`), because Python is what the kernels are
compared with; emoji alone, which Python does not know, are named here. Each table has two stages: 256 code points are
a block, equal blocks are kept once, and an index says which block is whose. All of Unicode then takes about 90 KB and
a text in one script a few hundred bytes, which stay in the first cache. Beside the tables: UTF-8 read and written one
code point at a time. No tokens, no rules of what happens to a text.

Compiled functions do not show in coverage, hence the pragmas; they are tested through their results.
"""

import re
import sys
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sentiment_core.text.machine import compiled

WORD = 1
r"""What `\w` matches: letters, numbers and the underscore; marks are not among them."""
SPACE = 2
r"""What `\s` matches, which is what `str.split` cuts at."""
LETTER = 4
"""`str.isalpha`."""
UPPER = 8
"""What `str.lower` changes."""
HARD = 16
"""No single lower case: Σ depends on what stands beside it, İ becomes two code points. A text with one goes through `str.lower` first."""
EMOJI = 32
"""Pictures, flags' letters and skin tones; what glues them (U+200D, U+FE0F) only together with them, hence not here."""
APOSTROPHE = 64
"""Joins the parts of a word such as "don't"."""

SIGMA, DOTTED_I = 0x03A3, 0x0130
APOSTROPHES = (0x0027, 0x2019)

# Every code point with the property Emoji_Presentation of Unicode's emoji-data.txt (UTS #51), whole blocks where they are
# pictures throughout, and the symbols that became emoji (hearts, stars, weather, check marks), which are pictures to
# people whether a variation selector follows or not. Arrows, keys of a player, and ©®™ are left out: nobody feels by them.
EMOJI_RANGES = (
    (0x231A, 0x231B),  # watch, hourglass
    (0x23E9, 0x23EC),
    (0x23F0, 0x23F0),
    (0x23F3, 0x23F3),
    (0x25FD, 0x25FE),
    (0x2600, 0x26FF),  # Miscellaneous Symbols
    (0x2700, 0x275A),  # Dingbats up to their quotation marks
    (0x2763, 0x2767),  # the hearts among the ornaments; brackets and numbers in circles follow
    (0x2795, 0x2797),
    (0x27B0, 0x27B0),
    (0x27BF, 0x27BF),
    (0x2B1B, 0x2B1C),
    (0x2B50, 0x2B50),  # star
    (0x2B55, 0x2B55),
    (0x1F004, 0x1F004),
    (0x1F0CF, 0x1F0CF),
    (0x1F18E, 0x1F18E),
    (0x1F191, 0x1F19A),
    (0x1F1E6, 0x1F1FF),  # letters of flags
    (0x1F201, 0x1F201),
    (0x1F21A, 0x1F21A),
    (0x1F22F, 0x1F22F),
    (0x1F232, 0x1F236),
    (0x1F238, 0x1F23A),
    (0x1F250, 0x1F251),
    (0x1F300, 0x1F64F),  # Symbols and Pictographs with the skin tones, Emoticons
    (0x1F680, 0x1F6FF),  # Transport
    (0x1F7E0, 0x1F7EB),
    (0x1F7F0, 0x1F7F0),
    (0x1F900, 0x1F9FF),  # Supplemental Symbols and Pictographs
    (0x1FA70, 0x1FAFF),  # Symbols and Pictographs Extended-A
)

_N_POINTS = sys.maxunicode + 1
_BLOCK = 256
# Planes from the fourth on hold private use, tags and variation selectors: no letter, blank or case. Not asking about
# them makes the tables four times faster to build; a test asks about every code point.
_N_ASKED = 0x40000
_NOTHING = 0xFFFF  # a code point that Unicode keeps free of any meaning


class CharacterTables(NamedTuple):
    """Handed to compiled functions as it is; see `flags_of` and `lower_of` for how it is read."""

    flag_index: npt.NDArray[np.uint16]
    """Block of flags, by code point // 256."""
    flags: npt.NDArray[np.uint8]
    """The distinct blocks of flags, one after another."""
    shift_index: npt.NDArray[np.uint16]
    shifts: npt.NDArray[np.int32]
    """From a code point to its lower case."""


@cache
def tables() -> CharacterTables:
    """The tables of this process, built at the first call (about 30 ms)."""
    points = np.arange(_N_ASKED, dtype=np.uint32)
    points[0xD800:0xE000] = _NOTHING  # surrogates are no characters
    points[[SIGMA, DOTTED_I]] = _NOTHING
    shifts = np.zeros(_N_POINTS, np.int32)
    shifts[:_N_ASKED] = _points_of(_string_of(points).lower()).astype(np.int32) - points.astype(np.int32)
    points[[SIGMA, DOTTED_I]] = SIGMA, DOTTED_I
    flags = _flags(_string_of(points), shifts)
    return CharacterTables(*_two_stages(flags), *_two_stages(shifts))


def _flags(asked: str, shifts: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    flags = np.zeros(_N_POINTS, np.uint8)
    for pattern, flag in ((r"\w+", WORD), (r"\s+", SPACE)):
        for found in re.finditer(pattern, asked):
            flags[found.start() : found.end()] |= flag
    words = np.flatnonzero(flags & WORD)
    flags[words[np.fromiter(map(str.isalpha, _string_of(words)), np.bool_, len(words))]] |= LETTER  # no letter is outside \w
    flags[np.flatnonzero(shifts)] |= UPPER
    flags[[SIGMA, DOTTED_I]] |= UPPER | HARD
    flags[list(APOSTROPHES)] |= APOSTROPHE
    for first, last in EMOJI_RANGES:
        block = flags[first : last + 1]
        block[block & (WORD | SPACE) == 0] |= EMOJI
    return flags


def _string_of(points: npt.NDArray[Any]) -> str:
    return points.astype("<u4").tobytes().decode("utf-32-le")


def _points_of(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def _two_stages(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint16], npt.NDArray[Any]]:
    blocks: dict[bytes, int] = {}
    width = _BLOCK * values.itemsize
    packed = values.tobytes()
    index = [blocks.setdefault(packed[start : start + width], len(blocks)) for start in range(0, len(packed), width)]
    return np.array(index, np.uint16), np.frombuffer(b"".join(blocks), values.dtype).copy()


@compiled
def flags_of(point: int, tables: CharacterTables) -> int:  # pragma: no cover
    """WORD, SPACE, ... of a code point, added up."""
    return tables.flags[(np.int64(tables.flag_index[point >> 8]) << 8) | (point & 255)]


@compiled
def lower_of(point: int, tables: CharacterTables) -> int:  # pragma: no cover
    """The lower case of a code point; what is HARD has none and stays."""
    return point + tables.shifts[(np.int64(tables.shift_index[point >> 8]) << 8) | (point & 255)]


@compiled
def decode(data: npt.NDArray[np.uint8], i: int) -> tuple[int, int]:  # pragma: no cover
    """The code point that starts at data[i], and its bytes; `data` is valid UTF-8, as Arrow's strings are."""
    lead: Any = np.int64(data[i])
    if lead < 0x80:  # noqa: PLR2004
        return lead, 1
    if lead < 0xE0:  # noqa: PLR2004
        return ((lead & 0x1F) << 6) | (data[i + 1] & 0x3F), 2
    if lead < 0xF0:  # noqa: PLR2004
        return ((lead & 0x0F) << 12) | ((data[i + 1] & 0x3F) << 6) | (data[i + 2] & 0x3F), 3
    return ((lead & 0x07) << 18) | ((data[i + 1] & 0x3F) << 12) | ((data[i + 2] & 0x3F) << 6) | (data[i + 3] & 0x3F), 4


@compiled
def encode(point: int, out: npt.NDArray[np.uint8], o: int) -> int:  # pragma: no cover
    """Write a code point at out[o], and say how many bytes it took; lower case can take a byte more than its capital (Ⱥ)."""
    if point < 0x80:  # noqa: PLR2004
        out[o] = point
        return 1
    if point < 0x800:  # noqa: PLR2004
        out[o] = 0xC0 | (point >> 6)
        out[o + 1] = 0x80 | (point & 0x3F)
        return 2
    if point < 0x10000:  # noqa: PLR2004
        out[o] = 0xE0 | (point >> 12)
        out[o + 1] = 0x80 | ((point >> 6) & 0x3F)
        out[o + 2] = 0x80 | (point & 0x3F)
        return 3
    out[o] = 0xF0 | (point >> 18)
    out[o + 1] = 0x80 | ((point >> 12) & 0x3F)
    out[o + 2] = 0x80 | ((point >> 6) & 0x3F)
    out[o + 3] = 0x80 | (point & 0x3F)
    return 4
