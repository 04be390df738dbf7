"""What the lens sees of a text."""

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment_core import schema
from sentiment_core.model.reference import make_lens
from sentiment_core.text.features import as_texts
from sentiment_core.text.lens import Lens

WORDS = [f"word{number}" for number in range(60)]


class Limits:
    topics, lens_words = 5, 1_000


def corpus(n=300, seed=0):
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, 20, p=np.arange(60, 0, -1) / 1_830)) + ". It is not bad!" for _ in range(n)]


TEXTS = corpus()
LENS = make_lens(as_texts(TEXTS), Limits, seed=0)


def seen(texts):
    return {name: values.to_pylist() for name, values in LENS.examine(as_texts(texts)).items()}


def test_columns_are_those_of_the_schema():
    found = LENS.examine(as_texts(TEXTS[:3]))
    assert tuple(found) == schema.LENS_COLUMNS
    for field in (*schema.LENS_NUMERIC, schema.TOPICS):
        assert found[field.name].type == field.arrow
    assert {len(place) for place in found["topics"].to_pylist()} == {5}


def test_shares_and_counts_by_hand():
    found = seen(["Word1 word1 is NOT zzz. qqq!", ""])
    assert found["strange_share"][0] == pytest.approx(2 / 8)
    assert found["negation_share"] == pytest.approx([1 / 8, 0])
    assert found["n_sentences"] == [2, 0]
    assert found["distinct_share"] == pytest.approx([7 / 8, 0])
    assert found["topics"][1] == [0] * 5


def test_surprise_is_minus_the_log_of_how_frequent_words_are():
    counts = Counter(" ".join(TEXTS).lower().replace(".", " .").replace("!", " !").split())
    total = sum(counts.values())
    rare, common = seen(["word55", "word0"])["surprise"]
    assert common == pytest.approx(-math.log(counts["word0"] / total), abs=0.02)
    assert rare > common
    assert seen(["never-seen-before"])["surprise"][0] > rare


def test_markup_is_not_looked_at():
    plain, marked = seen(["word1 word2 word3", "<p class='x'>word1</p> <br /> word2 <b>word3</b>"])["topics"]
    assert marked == plain


def test_of_a_very_long_text_the_beginning_is_looked_at():
    assert seen(["word1 " * 20_000 + "strange " * 90_000])["strange_share"][0] < 0.001


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=20), cut=st.integers(0, 20))
def test_what_is_seen_depends_on_the_text_alone(texts, cut):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    whole = LENS.examine(as_texts(texts))
    parts = [LENS.examine(as_texts(part)) for part in (texts[:cut], texts[cut:]) if part]
    for name, values in whole.items():
        assert pa.concat_arrays([part[name] for part in parts]).equals(values)


def test_a_lens_survives_its_files(tmp_path):
    LENS.save(tmp_path / "lens")
    again = Lens.open(tmp_path / "lens")
    texts = as_texts(corpus(20, seed=1))
    assert {name: values.to_pylist() for name, values in again.examine(texts).items()} == seen(texts)


def test_the_same_reviews_make_the_same_lens():
    again = make_lens(as_texts(TEXTS), Limits, seed=0)
    assert np.array_equal(again.topics, LENS.topics)
    assert np.array_equal(again.surprise, LENS.surprise)


def test_few_reviews_make_a_lens_of_few_topics():
    assert make_lens(as_texts(TEXTS[:45]), Limits, seed=0).topics.shape[1] == 2
    with pytest.raises(ValueError, match="no term"):
        make_lens(as_texts(["alone", "other"]), Limits, seed=0)
