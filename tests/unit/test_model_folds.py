"""What stays together in cross-validation, and how evenly the rest is spread."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment_core.model.examples import normalise
from sentiment_core.model.folds import make_folds

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["Good", "good ", "bad", "BAD", "so so", "fine", "Fine  one"]),
        st.sampled_from([None, "p1", "p2", "p3"]),
        st.sampled_from(["negative", "positive"]),
    ),
    min_size=1,
    max_size=40,
)


@settings(deadline=None)
@given(ROWS, st.integers(2, 5), st.integers(0, 3))
def test_neither_duplicates_nor_groups_straddle_folds(rows, n_folds, seed):
    texts, products, labels = zip(*rows, strict=True)
    folds = make_folds(texts, products, labels, n_folds=n_folds, seed=seed)
    for key in (product for product in products if product):
        assert len({fold for fold, product in zip(folds, products, strict=True) if product == key}) == 1
    loose = [(normalise(text), fold) for text, product, fold in zip(texts, products, folds, strict=True) if product is None]
    assert len({text for text, _ in loose}) == len(set(loose))
    assert set(folds.tolist()) <= set(range(n_folds))


@settings(deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows, rng):
    places = list(range(len(rows)))
    rng.shuffle(places)
    folds, shuffled = (
        make_folds(*zip(*some, strict=True), n_folds=3, seed=0) for some in (rows, [rows[place] for place in places])
    )
    assert shuffled.tolist() == folds[places].tolist()


@pytest.mark.parametrize("n_products", [40, 1_000])
def test_every_fold_has_its_part_of_every_class(n_products):
    rng = random.Random(0)
    labels = [rng.choices(["negative", "neutral", "positive"], [1, 2, 5])[0] for _ in range(2_000)]
    products = [f"p{rng.randrange(n_products)}" for _ in labels]
    folds = make_folds([f"t{place}" for place in range(2_000)], products, labels, n_folds=5, seed=0)
    for label in set(labels):
        n = np.bincount(folds[np.array(labels) == label], minlength=5)
        assert n.max() < 1.5 * n.mean()
    assert np.bincount(folds).max() < 1.15 * 400


def test_another_seed_gives_other_folds():
    texts, labels = [f"t{place}" for place in range(100)], ["negative", "positive"] * 50
    one, other = (make_folds(texts, [None] * 100, labels, n_folds=5, seed=seed) for seed in (0, 1))
    assert one.tolist() != other.tolist()
