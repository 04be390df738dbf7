"""Figures by slice, and finding the slice that a candidate makes worse."""

from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats import multitest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from sentiment_core.model.slices import compare_slices, figures_by_slice, holm, lost_slices

LABELS = st.sampled_from(["negative", "positive"])
ROWS = st.lists(
    st.tuples(
        st.text(max_size=30),
        st.sampled_from(["web", "app", None]),
        st.one_of(st.none(), st.integers(0, 20).map(str)),
        LABELS,
        LABELS,
        LABELS,
    ),
    min_size=1,
    max_size=80,
)


def table(texts, sources, products):
    return pa.table(
        {
            "text": pa.array(texts, pa.large_string()),
            "source": pa.array(sources, pa.string()),
            "product_id": pa.array(products, pa.string()),
        }
    )


def reviews(n, seed=0):
    """Rows of two sources and many products, with labels."""
    random = np.random.default_rng(seed)
    labels = random.choice(["negative", "positive"], n)
    texts = ["x" * length for length in random.integers(1, 1000, n)]
    return table(texts, random.choice(["web", "app"], n).tolist(), random.choice(list("abcdefghijklmn"), n).tolist()), labels


def flipped(labels, places):
    changed = np.array(labels)
    changed[places] = np.where(changed[places] == "positive", "negative", "positive")
    return changed


@given(ROWS)
def test_the_parts_of_a_column_cover_every_row_once(rows):
    texts, sources, products, labels, decided, _ = zip(*rows, strict=True)
    found = figures_by_slice(table(texts, sources, products), labels, decided)
    n_right = sum(one == other for one, other in zip(labels, decided, strict=True))
    for column in {part.column for part in found}:
        parts = [part for part in found if part.column == column]
        assert sum(part.n for part in parts) == len(rows)
        assert sum(part.n * part.accuracy for part in parts) == pytest.approx(n_right)
        assert len({part.name for part in parts}) == len(parts) > 1
        assert all(0 <= part.low <= part.accuracy <= part.high <= 1 for part in parts)


@given(ROWS)
def test_the_order_of_the_rows_does_not_matter(rows):
    def figures(rows):
        texts, sources, products, labels, decided, _ = zip(*rows, strict=True)
        return set(figures_by_slice(table(texts, sources, products), labels, decided))

    assert figures(rows) == figures(rows[::-1])


@given(ROWS)
def test_a_comparison_counts_what_only_one_model_gets_right(rows):
    texts, sources, products, labels, champion, candidate = zip(*rows, strict=True)
    data = table(texts, sources, products)
    for part in compare_slices(data, labels, champion, candidate, min_rows=1):
        assert part.n * (part.candidate - part.champion) == pytest.approx(part.n_won - part.n_lost)
        assert 0 <= part.p_value <= 1
    mirrored = compare_slices(data, labels, candidate, champion, min_rows=1)
    assert [(part.n_won, part.n_lost) for part in mirrored] == [
        (part.n_lost, part.n_won) for part in compare_slices(data, labels, champion, candidate, min_rows=1)
    ]
    assert lost_slices(data, labels, champion, champion, alpha=0.99, min_rows=1) == ()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_statsmodels_holm(p_values):
    with mock.patch("gc.collect"):  # statsmodels collects garbage in every call, a second each in a large process
        expected = multitest.multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(holm(p_values), expected, atol=1e-12)


def test_quartiles_sources_and_the_largest_products_are_slices():
    rows, labels = reviews(2_000)
    found = figures_by_slice(rows, labels, labels)
    assert [part.column for part in found] == ["length"] * 4 + ["source"] * 2 + ["product"] * 9
    assert {part.accuracy for part in found} == {1.0}
    assert all(480 <= part.n <= 520 for part in found[:4])
    assert found[0].name.startswith("up to ")
    assert found[3].name.startswith("over ")
    assert found[-1].name == "the other 6"
    assert [part.n for part in found[6:-1]] == sorted((part.n for part in found[6:-1]), reverse=True)


def test_intervals_are_wilsons():
    rows, labels = reviews(400)
    decided = flipped(labels, np.arange(0, 400, 7))
    for part in figures_by_slice(rows, labels, decided):
        low, high = proportion_confint(round(part.n * part.accuracy), part.n, method="wilson")
        assert (part.low, part.high) == pytest.approx((low, high))


def test_rows_that_name_no_source_or_product_are_a_slice_of_their_own():
    rows = table(["aa", "bb", "cc", "dd"], [None, None, "web", "web"], [None, "1", "1", "1"])
    names = [(part.column, part.name, part.n) for part in figures_by_slice(rows, ["positive"] * 4, ["positive"] * 4)]
    assert names == [
        ("source", "web", 2),
        ("source", "without a source", 2),
        ("product", "1", 3),
        ("product", "without a product", 1),
    ]


def test_nine_products_are_shown_and_of_ten_two_stand_together():
    for n_products, n_shown in ((9, 9), (10, 9)):
        rows = table(
            [f"{'x' * number}" for number in range(n_products)], ["web"] * n_products, [str(n) for n in range(n_products)]
        )
        found = figures_by_slice(rows, ["positive"] * n_products, ["positive"] * n_products)
        assert sum(part.column == "product" for part in found) == n_shown


def test_a_source_that_the_candidate_spoils_is_found_behind_a_better_mean():
    rows, labels = reviews(4_000)
    is_app = np.array([source == "app" for source in rows["source"].to_pylist()])
    random = np.random.default_rng(1)
    champion = flipped(labels, random.random(4_000) < 0.15)
    candidate = flipped(labels, random.random(4_000) < np.where(is_app, 0.20, 0.05))
    assert (candidate == labels).mean() > (champion == labels).mean()
    lost = lost_slices(rows, labels, champion, candidate, alpha=0.05, min_rows=100)
    assert [(part.column, part.name) for part in lost] == [("source", "app")]
    assert lost[0].candidate < lost[0].champion
    compared = {(part.column, part.name): part for part in compare_slices(rows, labels, champion, candidate, min_rows=100)}
    part = compared["source", "app"]
    both = mcnemar([[0, part.n_won], [part.n_lost, 0]], exact=True).pvalue
    assert part.p_value == pytest.approx(len(compared) * both / 2)


def test_candidates_that_differ_by_chance_alone_rarely_lose_a_slice():
    n_held = 0
    for seed in range(200):
        rows, labels = reviews(600, seed)
        random = np.random.default_rng(seed)
        champion, candidate = (flipped(labels, random.random(600) < 0.15) for _ in range(2))
        n_held += bool(lost_slices(rows, labels, champion, candidate, alpha=0.05, min_rows=30))
    assert n_held <= 200 * 0.05  # of correlated slices fewer than alpha says


def test_small_slices_are_not_tested():
    rows, labels = reviews(1_000)
    tested = compare_slices(rows, labels, labels, labels, min_rows=200)
    assert {part.name for part in tested if part.column == "product"} == {"the other 6"}
    assert len(tested) == 4 + 2 + 1
    assert compare_slices(rows, labels, labels, labels, min_rows=1_001) == ()


def test_labels_that_do_not_fit_the_rows_are_refused():
    rows, labels = reviews(10)
    with pytest.raises(ValueError, match=r"\(9,\) for 10 rows"):
        lost_slices(rows, labels[:9], labels[:9], labels[:9], alpha=0.05, min_rows=1)


def test_no_rows_have_no_slices():
    assert figures_by_slice(table([], [], []), [], []) == ()
