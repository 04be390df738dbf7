import itertools
import math
import random
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment_core import schema
from sentiment_core.drift.sketch import HASH_MAX, SAMPLE, Limits, Sketch, Sketcher, hash_identities, merge
from sentiment_core.errors import Permanent

DAY, NEXT_DAY = date(2026, 11, 1), date(2026, 11, 2)


def scored(ids, day=DAY, first_row=0):
    draw = random.Random(f"{ids}{first_row}")
    rows = [
        {
            "row_number": first_row + place,
            "review_date": day,
            "review_id": review_id,
            "product_id": draw.choice(["a", "b", None]),
            "created_at": datetime(2026, 11, 1, tzinfo=UTC),
            "label": draw.choice(["negative", "positive"]),
            "p_negative": 0.25,
            "p_positive": draw.random(),
            "confidence": 0.75,
            "n_chars": draw.randrange(5000),
            "n_words": draw.randrange(900),
            "unknown_share": draw.random(),
            "upper_share": draw.random(),
            "non_letter_share": draw.random(),
        }
        for place, review_id in enumerate(ids)
    ]
    return pa.Table.from_pylist(rows, schema=schema.SCORED_BATCH)


def sketch_of(batches, size, day=DAY):
    sketcher = Sketcher(size)
    for batch in batches:
        sketcher.add(batch)
    return sketcher.sketches()[day]


def cut(table, places):
    edges = [0, *sorted(place % (len(table) + 1) for place in places), len(table)]
    return [table.slice(start, end - start) for start, end in itertools.pairwise(edges)]


def assert_same(left, right):
    assert left.n == right.n
    assert left.limit == right.limit
    assert left.sample.equals(right.sample)
    for name, moments in left.moments.items():
        assert moments.keys() == right.moments[name].keys()
        assert all(math.isclose(value, right.moments[name][key], rel_tol=1e-9) for key, value in moments.items())


IDS = st.lists(st.text(max_size=6), min_size=1, max_size=60)
SIZES = st.integers(1, 20)
PLACES = st.lists(st.integers(0, 60), max_size=5)


@settings(deadline=None)
@given(IDS, SIZES, PLACES)
def test_the_size_of_batches_does_not_change_a_sketch(ids, size, places):
    table = scored(ids)
    assert_same(sketch_of(cut(table, places), size), sketch_of([table], size))


@settings(deadline=None)
@given(IDS, SIZES, PLACES, st.randoms(use_true_random=False))
def test_merging_the_sketches_of_parts_in_any_order_and_grouping_equals_sketching_the_whole(ids, size, places, draw):
    table = scored(ids)
    parts = [sketch_of([part], size) for part in cut(table, places) if len(part)]
    draw.shuffle(parts)
    middle = draw.randrange(len(parts) + 1)
    merged = merge([merge(parts[:middle], size=size), merge(parts[middle:], size=size)], size=size)
    assert_same(merged, sketch_of([table], size))


def test_a_sample_never_holds_more_than_its_size_and_is_complete_below_it():
    table = scored([f"r{number}" for number in range(5000)])
    batches = [table.slice(start, 700) for start in range(0, 5000, 700)]
    assert len(sketch_of(batches, 300).sample) == 300
    everything = sketch_of(batches, 5000)
    assert sorted(everything.review_ids) == sorted(table["review_id"].to_pylist())
    assert everything.limit == HASH_MAX


def test_a_sample_is_uniform():
    ids = [f"review-{number:06d}" for number in range(20_000)]
    places = [int(review_id[-6:]) for review_id in sketch_of([scored(ids)], 2000).review_ids]
    counts = np.histogram(places, bins=10, range=(0, 20_000))[0]
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-squared with 9 degrees of freedom, p = .001


def test_moments_are_those_of_the_rows():
    table = scored([f"r{number}" for number in range(100)])
    moments = sketch_of([table], 10).moments
    lengths = table["n_chars"].to_numpy().astype(float)
    assert moments["n_chars"] == {"n": 100, "sum": lengths.sum(), "sumsq": (lengths**2).sum()}
    assert sum(moments["label"].values()) == 100


def test_rows_of_each_date_are_sketched_apart():
    sketcher = Sketcher(10)
    sketcher.add(pa.concat_tables([scored(["a", "b"]), scored(["a"], NEXT_DAY, first_row=2)]))
    sketches = sketcher.sketches()
    assert {day: sketch.n for day, sketch in sketches.items()} == {DAY: 2, NEXT_DAY: 1}
    assert sketches[NEXT_DAY].review_ids == ["a"]


def test_the_hash_of_an_identity_depends_on_its_date_and_nothing_else():
    ids = pa.array(["", "a", "aa", "a\0", "ä", "x" * 3000])
    hashes = hash_identities(ids, DAY)
    assert len(set(hashes.tolist())) == len(ids)
    assert not set(hashes.tolist()) & set(hash_identities(ids, NEXT_DAY).tolist())
    assert hash_identities(ids.slice(2, 3), DAY).tolist() == hashes[2:5].tolist()
    assert hash_identities(pa.chunked_array([ids.slice(0, 1), ids.slice(1)]), DAY).tolist() == hashes.tolist()


def test_within_an_object_the_last_row_of_an_identity_stands_for_it():
    sketch = sketch_of([scored(["a", "b", "a"]), scored(["a"], first_row=3)], 10)
    assert sketch.n == 4
    assert dict(zip(sketch.review_ids, sketch.sample["row_number"].to_pylist(), strict=True)) == {"a": 3, "b": 1}


def stored(sketch, object_id):
    return Sketch.from_bytes(sketch.to_bytes(), n=sketch.n, moments=sketch.moments, object_id=object_id)


def test_a_stored_sketch_comes_back_as_it_was_and_knows_its_object():
    sketch = sketch_of([scored([f"r{number}" for number in range(50)])], 20)
    assert_same(stored(sketch, None), sketch)
    assert sketch.limit < HASH_MAX
    assert stored(sketch, 7).sample["object_id"].to_pylist() == [7] * 20


def test_only_rows_that_are_current_are_kept():
    first, second = (stored(sketch_of([scored(["a", "b", "c"])], 10), object_id) for object_id in (1, 2))
    current = merge([first, second], size=10).keep({"a": 1, "b": 2, "z": 1})
    assert current.schema == SAMPLE
    assert set(zip(current["review_id"].to_pylist(), current["object_id"].to_pylist(), strict=True)) == {("a", 1), ("b", 2)}


def test_a_small_object_does_not_weigh_more_than_its_rows_beside_a_large_one():
    large = sketch_of([scored([f"large-{number}" for number in range(10_000)])], 500)
    small = sketch_of([scored([f"small-{number}" for number in range(400)])], 500)
    ids = merge([large, small], size=500).review_ids
    n_small = sum(review_id.startswith("small") for review_id in ids)
    assert abs(n_small - 500 * 400 / 10_400) < 4 * math.sqrt(500 * 400 / 10_400)


def test_no_sketches_merge_into_an_empty_one():
    empty = merge([], size=10)
    assert (empty.n, empty.review_ids, empty.sample.schema) == (0, [], SAMPLE)


@pytest.mark.parametrize("content", [b"", b"not arrow", scored(["a"]).to_batches()[0].serialize().to_pybytes()])
def test_bytes_that_are_no_sample_are_refused_by_name(content):
    with pytest.raises(Permanent, match="drift sketch of object 9"):
        Sketch.from_bytes(content, n=1, moments={}, object_id=9)


def lens(texts):
    """Sees of a text its length, as topics."""
    lengths = [len(text) for text in texts.to_pylist()]
    found = {field.name: pa.array(lengths).cast(field.arrow) for field in schema.LENS_NUMERIC}
    return {**found, "topics": pa.array([[float(length)] for length in lengths], schema.TOPICS.arrow)}


def texts_of(table):
    return pa.array([review_id * 3 for review_id in table["review_id"].to_pylist()], pa.large_string())


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 120), places=st.lists(st.integers(0, 200), max_size=12), size=st.integers(1, 9))
def test_the_lens_sees_the_text_of_every_row_that_stays(n, places, size):
    table = scored([f"{'r' * (number % 7)}{number}" for number in range(n)])
    looked_at = []
    sketcher = Sketcher(size, lens=lambda texts: looked_at.append(len(texts)) or lens(texts))
    for batch in cut(table, places):
        sketcher.add(batch, texts_of(batch))
    sample = sketcher.sketches()[DAY].sample
    assert sample["surprise"].to_pylist() == [3 * len(review_id) for review_id in sample["review_id"].to_pylist()]
    assert looked_at == [len(sample)]
    assert sample.schema.equals(SAMPLE)
    assert Sketch.from_bytes(sketcher.sketches()[DAY].to_bytes(), n=n, moments={}).sample["topics"].equals(sample["topics"])


def test_without_a_lens_its_columns_are_null():
    sample = sketch_of([scored(["a", "b"])], 5).sample
    assert {sample[name].null_count for name in schema.LENS_COLUMNS} == {2}


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 60), min_size=1, max_size=6), size=st.integers(1, 20))
def test_limits_of_the_objects_before_spare_work_and_change_nothing(sizes, size):
    """What the lens must look at grows with the sample; what a date's samples merge to stays the same."""
    objects = [scored([f"o{place}-{number}" for number in range(n)]) for place, n in enumerate(sizes) if n]
    limits, spared, whole = Limits(size), [], []
    for table in objects:
        for found, known in ((spared, limits), (whole, None)):
            sketcher = Sketcher(size, limits=known)
            sketcher.add(table)
            found.append(sketcher.sketches())
        limits.note(spared[-1])
    merged, expected = (merge([item[DAY] for item in found], size=size) for found in (spared, whole))
    if objects:
        assert_same(merged, expected)
    assert sum(item[DAY].sample.num_rows for item in spared) <= sum(item[DAY].sample.num_rows for item in whole)


def test_a_sketch_of_a_version_without_a_lens_can_still_be_read():
    sketch = sketch_of([scored(["a", "b"])], 5)
    older = pa.ipc.open_stream(sketch.to_bytes()).read_all().drop_columns(list(schema.LENS_COLUMNS))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, older.schema) as writer:
        writer.write_table(older)
    again = Sketch.from_bytes(sink.getvalue().to_pybytes(), n=2, moments={})
    assert again.sample["review_id"].to_pylist() == sketch.review_ids
    assert again.sample["topics"].null_count == 2
