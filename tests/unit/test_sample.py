from collections import Counter
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sentiment_core.errors import Permanent
from sentiment_core.reviews.sample import SAMPLE, domains, generate

DAY = date(2026, 11, 20)
SEEN, UNSEEN = (0.0, 0.6), (0.6, 1.0)


def texts_and_classes(table: pa.Table) -> tuple[list[str], np.ndarray]:
    return table["text"].to_pylist(), pc.greater_equal(table["rating"], 3).to_numpy(zero_copy_only=False)


def fitted(texts, is_positive, weights=None):
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(C=5, max_iter=300))
    return model.fit(texts, is_positive, logisticregression__sample_weight=weights)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_linear_model_finds_films_hard_electronics_harder_and_learns_from_a_few_hundred_labels(seed):
    texts, classes = texts_and_classes(generate(6_000, domain="films", seed=seed, products=SEEN))
    films = texts_and_classes(generate(2_000, domain="films", seed=seed, first_id=6_000, products=UNSEEN))
    electronics = texts_and_classes(generate(2_000, domain="electronics", seed=seed, products=UNSEEN))
    fresh, fresh_classes = texts_and_classes(generate(600, domain="electronics", seed=seed, first_id=2_000, products=SEEN))

    before = fitted(texts, classes)
    weights = np.r_[np.ones(len(texts)), np.full(len(fresh), 5.0)]
    after = fitted(texts + fresh, np.r_[classes, fresh_classes], weights)

    assert 0.85 <= before.score(*films) <= 0.93
    assert 0.07 <= before.score(*films) - before.score(*electronics) <= 0.17
    assert after.score(*electronics) - before.score(*electronics) >= 0.04
    assert after.score(*films) >= before.score(*films) - 0.015


@pytest.mark.parametrize("domain", domains())
def test_same_seed_same_reviews_and_another_seed_others(domain):
    table = generate(50, domain=domain, seed=4, day=DAY)
    assert table.equals(generate(50, domain=domain, seed=4, day=DAY))
    assert table["text"].to_pylist() != generate(50, domain=domain, seed=5, day=DAY)["text"].to_pylist()


def test_every_review_says_that_it_is_synthetic():
    table = generate(200, domain="kitchen", seed=1)
    assert all(review_id.startswith("synthetic-") for review_id in table["review_id"].to_pylist())
    assert set(table["source"].to_pylist()) == {"synthetic:kitchen"}


def test_ids_go_on_where_the_last_batch_ended():
    first, second = (generate(30, domain="books", seed=1, first_id=start) for start in (0, 30))
    ids = first["review_id"].to_pylist() + second["review_id"].to_pylist()
    assert len(set(ids)) == 60
    assert first["text"].to_pylist() != second["text"].to_pylist()


@pytest.mark.parametrize("domain", domains())
def test_reviews_are_of_the_schema_and_of_the_day(domain):
    table = generate(300, domain=domain, seed=2, day=DAY)
    assert table.schema == SAMPLE
    assert all(isinstance(at, datetime) and at.astimezone(UTC).date() == DAY for at in table["created_at"].to_pylist())
    assert all(text.strip() and "{" not in text for text in table["text"].to_pylist())
    assert set(table["rating"].to_pylist()) <= {1, 2, 3, 4, 5}


def test_no_reviews_are_an_empty_table():
    assert generate(0, domain="films", seed=1).schema == SAMPLE
    assert len(generate(0, domain="films", seed=1)) == 0


def test_ratings_are_j_shaped_and_popularity_is_uneven():
    table = generate(5_000, domain="films", seed=3)
    ratings = Counter(table["rating"].to_pylist())
    assert ratings[5] > ratings[1] > ratings[2] > ratings[3]
    products = Counter(table["product_id"].to_pylist()).most_common()
    assert 3 * products[len(products) // 2][1] < products[0][1] < 0.05 * len(table)


def test_lengths_spread_from_a_few_words_to_hundreds():
    lengths = [len(text.split()) for text in generate(5_000, domain="films", seed=3)["text"].to_pylist()]
    assert min(lengths) <= 5
    assert max(lengths) >= 300
    assert 50 < np.median(lengths) < 150


def test_parts_of_the_catalogue_share_no_product():
    seen, unseen = (
        set(generate(500, domain="films", seed=1, products=part)["product_id"].to_pylist()) for part in (SEEN, UNSEEN)
    )
    assert not seen & unseen


def test_an_unknown_domain_is_refused_with_the_known_ones():
    with pytest.raises(Permanent, match="films, electronics, books, kitchen"):
        generate(1, domain="cars", seed=1)
