"""The share of labels that would change: honest about how little a sample of few objects says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment_core.model.flips import allot, draw_clusters, share_of_all, share_of_drawn

sizes = st.lists(st.integers(1, 1000), min_size=1, max_size=60)


@given(sizes=sizes, n=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_draw_is_of_clusters_there_are_and_the_same_for_the_same_seed(sizes, n, seed):
    drawn = draw_clusters(sizes, n, seed=seed)
    assert drawn == draw_clusters(sizes, n, seed=seed)
    assert set(drawn) <= set(range(len(sizes)))
    assert len(drawn) == min(n, len(sizes))


def test_large_clusters_are_drawn_more_often():
    drawn = draw_clusters([1] * 99 + [901], 90, seed=1)
    assert 70 <= drawn.count(99) <= 90


@given(weights=sizes, n=st.integers(1, 5000))
def test_every_cluster_gets_rows_and_all_together_about_as_many_as_asked_for(weights, n):
    rows = allot(weights, n)
    assert min(rows) >= 1
    assert abs(sum(rows) - max(n, len(rows))) <= len(rows)


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(0, 1)), min_size=2, max_size=40))
def test_the_interval_holds_the_share_and_stays_between_nothing_and_everything(clusters):
    share = share_of_drawn([(n, round(n * part)) for n, part in clusters])
    assert 0 <= share.low <= share.share + 1e-12
    assert share.share - 1e-12 <= share.high <= 1


def test_who_has_looked_at_every_row_knows():
    assert share_of_all([(10, 10, 3), (30, 30, 3)]).share == pytest.approx(0.15)
    assert share_of_all([(10, 10, 3), (30, 30, 3)]).low == share_of_all([(10, 10, 3), (30, 30, 3)]).high


def test_none_among_few_is_not_none_at_all():
    assert share_of_drawn([(100, 0)] * 40).high == pytest.approx(0.00102, abs=5e-5)
    assert share_of_all([(10_000, 50, 0)]).high > 0.05


@pytest.mark.parametrize(("mean", "likeness", "least"), [(0.01, 500, 0.93), (0.05, 40, 0.93), (0.3, 10, 0.93), (0.05, 3, 0.89)])
def test_of_the_intervals_about_95_in_100_hold_the_truth(mean, likeness, least):
    """Objects differ in how many of their labels change (beta-binomial), and in size.

    Where most objects change in nothing and a few in a third of their labels (likeness 3), forty objects promise too much.
    """
    generator = np.random.default_rng(5)
    held = 0
    for round_ in range(400):
        sizes = generator.integers(50, 3000, 300)
        shares = generator.beta(mean * likeness, (1 - mean) * likeness, 300)
        truth = (sizes * shares).sum() / sizes.sum()
        drawn = draw_clusters(sizes.tolist(), 40, seed=round_)
        found = share_of_drawn([(100, int(generator.binomial(100, shares[place]))) for place in drawn])
        held += found.low <= truth <= found.high
    assert held >= least * 400


def test_the_intervals_of_a_sample_of_every_object_hold_the_truth_too():
    generator = np.random.default_rng(6)
    held = 0
    for _ in range(400):
        sizes, shares = generator.integers(50, 3000, 20), generator.beta(2, 30, 20)
        rows = allot(sizes.tolist(), 1000)
        changed = [round(size * share) for size, share in zip(sizes, shares, strict=True)]
        counts = [
            (size, n, int(generator.hypergeometric(change, size - change, n)))
            for size, n, change in zip(sizes.tolist(), rows, changed, strict=True)
        ]
        found = share_of_all(counts)
        held += found.low <= sum(changed) / sizes.sum() <= found.high
    assert held >= 0.92 * 400
