"""References: rows that neither model nor lens has learnt from."""

import numpy as np
import pyarrow as pa
import pytest

from sentiment_core import schema
from sentiment_core.drift.reference import Reference
from sentiment_core.errors import Permanent
from sentiment_core.model.estimator import SentimentClassifier
from sentiment_core.model.reference import make_reference, sharpen


class Limits:
    topics, lens_words, min_reference, most_missing, column_cut = 10, 5_000, 500, 0.1, 0.001


def reviews(n, seed, *, origin="standing", products=150):
    draw = np.random.default_rng(seed)
    is_good = draw.random(n) < 0.5
    product = draw.integers(products, size=n)
    words = [
        [*draw.choice(["good", "fine", "great"] if good else ["bad", "poor", "awful"], 2), *draw.choice(300, 12).astype(str)]
        for good in is_good
    ]
    # Every product has a name of its own, which only its reviews hold.
    texts = [
        f"name{seed}x{number} " + " ".join(f"w{word}" for word in found) for number, found in zip(product, words, strict=True)
    ]
    return pa.table(
        {
            "text": pa.array(texts, pa.large_string()),
            "label": np.where(is_good, "positive", "negative"),
            "product_id": [f"{seed}-{number}" for number in product],
            "origin": [origin] * n,
        }
    )


def refit(texts, labels, weights):
    refit.seen.append(set(texts.to_pylist()))
    return SentimentClassifier(min_df=2).fit(texts, labels, weights)


def make(train, test):
    refit.seen = []
    labels = np.asarray(train["label"].to_pylist())
    model = SentimentClassifier(min_df=2).fit(train["text"], labels)
    return make_reference(model, refit, train, test, weights=np.ones(len(train)), limits=Limits, seed=0)


@pytest.fixture(scope="module")
def made():
    return make(reviews(2_000, 1), reviews(300, 2))


def test_most_training_rows_and_all_that_are_held_out_are_in_it(made):
    _, rows = made
    assert rows.schema.equals(schema.REFERENCE)
    assert 1_700 < len(rows) < 2_100
    assert sum(product.startswith("2-") for product in rows["product_id"].to_pylist()) == 300


def test_a_product_whose_reviews_made_the_lens_is_not_in_it(made):
    lens, rows = made
    named = {word.split("x")[1] for word in lens.vocabulary.terms if word.startswith("name1x")}
    inside = {product.removeprefix("1-") for product in rows["product_id"].to_pylist() if product.startswith("1-")}
    assert named
    assert not named & inside


def test_no_row_was_scored_by_a_model_that_has_learnt_from_its_product():
    train = reviews(2_000, 1)
    make(train, reviews(300, 2))
    by_product = {}
    for text, product in zip(train["text"].to_pylist(), train["product_id"].to_pylist(), strict=True):
        by_product.setdefault(product, set()).add(text)
    assert len(refit.seen) == 4
    for seen in refit.seen:
        assert all(texts <= seen or not texts & seen for texts in by_product.values())
    assert all(len(seen) < len(train) for seen in refit.seen)


def test_of_few_training_rows_the_held_out_ones_make_the_reference():
    _, rows = make(reviews(400, 3), reviews(120, 4))
    assert len(rows) == 120
    assert not refit.seen


def test_where_enough_was_labelled_of_late_the_reference_is_of_that_alone():
    train = pa.concat_tables([reviews(1_500, 5), reviews(800, 6, origin="fresh")])
    test = pa.concat_tables([reviews(200, 7), reviews(100, 8, origin="latest")])
    _, rows = make(train, test)
    assert {product.split("-")[0] for product in rows["product_id"].to_pylist()} == {"6", "8"}


def test_sharpening_keeps_the_order_and_the_sum():
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 100)
    sharp = sharpen(probabilities, 1.4)
    assert np.allclose(sharp.sum(axis=1), 1)
    assert np.array_equal(sharp.argmax(axis=1), probabilities.argmax(axis=1))
    assert (sharp.max(axis=1) >= probabilities.max(axis=1)).all()


def test_bytes_that_are_no_reference_are_refused():
    for content in (b"", b"nothing", Reference.of(make(reviews(400, 9), reviews(60, 10))[1], Limits).to_bytes()[:-40]):
        with pytest.raises(Permanent, match="train the model anew"):
            Reference.from_bytes(content)
