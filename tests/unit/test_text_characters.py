"""The character tables say of every code point what Python says, and UTF-8 is read and written as Python does."""

import re
import sys

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from sentiment_core.text import characters
from sentiment_core.text.characters import APOSTROPHE, EMOJI, HARD, LETTER, SPACE, UPPER, WORD, decode, encode

EVERY = [chr(point) for point in range(sys.maxunicode + 1)]


@njit
def _read_all(tables):  # compiled, as the tables are read by kernels
    n = 0x110000
    flags, lower = np.empty(n, np.uint8), np.empty(n, np.uint32)
    for point in range(n):
        flags[point] = characters.flags_of(point, tables)
        lower[point] = characters.lower_of(point, tables)
    return flags, lower


@pytest.fixture(scope="module")
def every_flag():
    return _read_all(characters.tables())[0]


@pytest.fixture(scope="module")
def every_lower():
    return _read_all(characters.tables())[1]


def _where(predicate):
    return np.fromiter(map(predicate, EVERY), np.bool_, len(EVERY))


@pytest.mark.parametrize(
    ("flag", "predicate"),
    [
        (WORD, re.compile(r"\w").match),
        (SPACE, re.compile(r"\s").match),
        (SPACE, str.isspace),
        (LETTER, str.isalpha),
        (UPPER, lambda character: character.lower() != character),
    ],
)
def test_a_flag_says_of_every_code_point_what_python_says(every_flag, flag, predicate):
    assert np.flatnonzero((every_flag & flag > 0) != _where(predicate)).tolist() == []


def test_lower_case_is_that_of_python_but_where_it_has_no_single_code_point(every_flag, every_lower):
    is_hard = every_flag & HARD > 0
    lowered = np.array([ord(character.lower()[0]) for character in EVERY], np.uint32)
    assert np.flatnonzero((every_lower != lowered) & ~is_hard).tolist() == []


def test_hard_is_what_python_lowers_by_its_neighbours_or_to_several_code_points(every_flag):
    def is_hard(character):
        alone = character.lower()
        return len(alone) > 1 or f"a{character}".lower() != f"a{alone}"

    assert np.flatnonzero((every_flag & HARD > 0) != _where(is_hard)).tolist() == []


def test_apostrophes_are_the_two_that_join_words(every_flag):
    assert [EVERY[point] for point in np.flatnonzero(every_flag & APOSTROPHE)] == ["'", "\u2019"]


def test_what_is_shown_as_a_picture_by_default_is_an_emoji(every_flag):
    pictures = _where(regex.compile(r"\p{Emoji_Presentation}").match)
    assert pictures.sum() > 1000
    assert np.flatnonzero(pictures & (every_flag & EMOJI == 0)).tolist() == []


def test_an_emoji_is_never_part_of_a_word_nor_a_blank_nor_a_mere_sign(every_flag):
    is_emoji = every_flag & EMOJI > 0
    assert not (every_flag[is_emoji] & (WORD | SPACE | APOSTROPHE)).any()
    for sign in "!?.,:;()<>#*09aé©®™→←↑↓«»❝❞‼⁉₹€\u200d\ufe0f":
        assert not is_emoji[ord(sign)], sign


@pytest.mark.parametrize("picture", "😀👍🏽❤♥♡★☆☹☺✨✓✔✗✘⭐🔥🥲🫶🇩🤮💯")
def test_what_people_feel_by_is_an_emoji(every_flag, picture):
    assert every_flag[ord(picture)] & EMOJI


def test_the_tables_stay_small_enough_for_the_cache():
    assert sum(table.nbytes for table in characters.tables()) < 100_000
    assert all(table.flags.c_contiguous for table in characters.tables())


@settings(deadline=None)  # the first example compiles
@given(st.text(max_size=30))
def test_utf8_is_read_as_python_reads_it(text):
    data = np.frombuffer(text.encode() + b"\0", np.uint8)
    found, i = [], 0
    while i < len(data) - 1:
        point, n_bytes = decode(data, i)
        found.append(point)
        i += n_bytes
    assert found == [ord(character) for character in text]


@settings(deadline=None)  # the first example compiles
@given(st.text(max_size=30))
def test_utf8_is_written_as_python_writes_it(text):
    out = np.zeros(4 * len(text) + 1, np.uint8)
    o = 0
    for character in text:
        o += encode(ord(character), out, o)
    assert out[:o].tobytes() == text.encode()
