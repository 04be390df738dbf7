"""The benchmarks' limit does what it says: a slower or emptier one would flatter every ratio."""

import importlib.util
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

WORD = re.compile(rb"[A-Za-z0-9_]+")
FOLD = int.from_bytes(b"\x20" * 8, "little")
MASK = (1 << 64) - 1


@pytest.fixture(scope="module")
def limit():
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "limit.py"
    spec = importlib.util.spec_from_file_location("benchmarks_limit", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hash_of(word: bytes, first: int, second: int) -> int:
    """What limit._hash computes, byte by byte."""

    def load(place):
        return int.from_bytes(word[place : place + 8], "little") | (FOLD & ((1 << 8 * min(8, len(word) - place)) - 1))

    mixed, done = load(0) * first & MASK, 8
    while len(word) > done:
        mixed = ((mixed ^ mixed >> 32) * second & MASK) ^ (load(min(done, len(word) - 8)) * first & MASK)
        done += 8
    mixed ^= len(word)
    return mixed ^ mixed >> 29


def twin(texts, limit):
    words = [word for text in texts for word in WORD.findall(text.encode())]
    total = 0
    for word in words:
        total ^= hash_of(word, int(limit.FIRST), int(limit.SECOND))
    return len(words), total


PIECES = st.sampled_from(
    ["a", "B7_", "word", "eightby8", "x" * 63, "Y" * 64, "z" * 65, " ", ". ", "<br />", "é", "日本", "\U0001f600"]
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.one_of(st.text(max_size=90), st.lists(PIECES, max_size=40).map("".join)), max_size=6))
def test_it_finds_and_hashes_every_word_of_every_text(limit, texts):
    assert limit.Texts(pa.array(texts, pa.large_string())).walk() == twin(texts, limit)


def test_case_does_not_matter_and_a_slice_is_its_own(limit):
    texts = pa.array(["before", "One TWO_3 incomprehensibilities", "after"], pa.large_string())
    assert limit.Texts(texts.slice(1, 1)).walk() == twin(["one two_3 INCOMPREHENSIBILITIES"], limit)


def test_words_do_not_run_on_from_one_text_to_the_next(limit):
    assert limit.Texts(pa.array(["good", "film"], pa.large_string())).walk()[0] == 2
