from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from sentiment_core import schema
from sentiment_core.drift.accuracy import estimate_accuracy, reference_accuracy
from sentiment_core.drift.columns import effective_size, intraclass_correlation, prepare
from sentiment_core.policy import read_policy

LIMITS = read_policy(Path(__file__).parents[2] / "include" / "policy.toml").drift


def reviews(n, *, seed, products=400, spread=0.0, positive=0.5, unknown=0.08, **columns):
    """Rows of a reference whose products differ by `spread` standard deviations; every seed has products of its own."""
    draw = np.random.default_rng(seed)
    product = draw.integers(products, size=n)
    taste = spread * np.random.default_rng(0).normal(size=100_000)[product + 1000 * (seed % 90)]
    p_positive = 1 / (1 + np.exp(-(draw.normal(size=n) + taste) * 3 - np.log(positive / (1 - positive)) * 2))
    table = {
        "p_positive": p_positive,
        "n_chars": np.exp(draw.normal(7 + taste / 3, 0.7)).astype(int),
        "n_words": np.exp(draw.normal(5.3 + taste / 3, 0.7)).astype(int),
        "unknown_share": np.clip(draw.normal(unknown, 0.03, n) + 0.01 * taste, 0, 1),
        "upper_share": draw.beta(2, 60, n),
        "non_letter_share": draw.beta(3, 70, n),
        "label": np.where(p_positive >= 0.5, "positive", "negative"),
        "true_label": np.where(draw.random(n) < p_positive, "positive", "negative"),
        "product_id": [f"p{number}" for number in product],
    }
    return pa.table({**table, **columns}).select(schema.REFERENCE.names).cast(schema.REFERENCE)


def test_identical_tables_differ_in_no_column():
    table = reviews(500, seed=1)
    comparison = prepare(table, table, LIMITS)
    assert [test.name for test in comparison.tests] == list(schema.DRIFT_COLUMNS)
    assert all(test.p_value == pytest.approx(1) for test in comparison.tests)
    assert all(test.reference_mean == test.current_mean for test in comparison.tests)


def test_limits_fall_with_more_reviews_and_never_below_the_policy():
    reference = reviews(5000, seed=1)
    limits = {n: [test.threshold for test in prepare(reference, reviews(n, seed=2), LIMITS).tests] for n in (200, 1000, 20_000)}
    assert all(small > large for small, large in zip(limits[200][:6], limits[1000][:6], strict=True))
    assert limits[20_000] == [LIMITS.numeric_threshold] * 6 + [LIMITS.categorical_threshold]


def test_a_night_about_few_products_has_wider_limits_and_larger_p_values_than_one_about_many():
    reference = reviews(4000, seed=1, spread=1.0)
    few, many = (prepare(reference, reviews(2000, seed=2, spread=1.0, products=products), LIMITS) for products in (20, 400))
    assert few.tests[0].threshold > 2 * many.tests[0].threshold


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 10_000), st.sampled_from([200, 600, 2000]), st.sampled_from([15, 100, 400]))
def test_a_quiet_night_stays_within_its_limits_however_few_its_products(seed, n, products):
    comparison = prepare(reviews(3000, seed=1, spread=1.0), reviews(n, seed=seed, spread=1.0, products=products), LIMITS)
    for test in (test for test in comparison.tests if test.is_numeric):
        old, new = (table[test.display].to_numpy() for table in (comparison.reference, comparison.current))
        assert wasserstein_distance(old, new) / old.std() < test.threshold, test


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full(500, 0.25), "constant in the reference"),
        (np.full(500, np.nan), "100% of its values in the reference are missing"),
        (np.where(np.arange(500) % 4, 0.1, np.nan), "25% of its values in the reference are missing"),
    ],
)
def test_a_column_that_cannot_be_judged_is_named_and_the_rest_is_judged(values, reason):
    comparison = prepare(reviews(500, seed=1, upper_share=values), reviews(500, seed=2), LIMITS)
    assert reason in comparison.left_out["upper_share"]
    assert [test.name for test in comparison.tests] == [name for name in schema.DRIFT_COLUMNS if name != "upper_share"]


def test_a_column_that_is_missing_tonight_is_left_out_and_one_that_is_constant_tonight_is_judged():
    night = reviews(500, seed=2, p_positive=np.full(500, 0.97)).drop_columns(["n_words"])
    comparison = prepare(reviews(500, seed=1), night, LIMITS)
    assert comparison.left_out == {"n_words": "missing from the night"}
    assert comparison.tests[0].name == "p_positive"
    assert comparison.tests[0].p_value < 1e-6


def test_no_missing_value_gets_through():
    holes = np.where(np.arange(1000) % 20, 0.05 + np.arange(1000) / 10_000, np.nan)
    holes[7] = np.inf
    comparison = prepare(reviews(1000, seed=1, unknown_share=holes), reviews(1000, seed=2, upper_share=holes), LIMITS)
    assert not comparison.left_out
    assert (len(comparison.reference), len(comparison.current)) == (949, 949)
    for table in (comparison.reference, comparison.current):
        assert all(np.isfinite(table[test.display].to_numpy()).all() for test in comparison.tests if test.is_numeric)
        assert all(column.null_count == 0 for column in table.columns)


def test_what_is_compared_holds_statistics_only():
    comparison = prepare(reviews(300, seed=1), reviews(300, seed=2), LIMITS)
    assert comparison.current.column_names == [test.display for test in comparison.tests]


def test_rows_without_a_product_stand_alone():
    assert effective_size(pa.nulls(50, pa.string()), 0.9) == 50
    assert effective_size(pa.array(["film"] * 50), 0.5) == pytest.approx(50 / (1 + 49 * 0.5))


def test_the_correlation_within_products_is_found():
    draw = np.random.default_rng(3)
    product = draw.integers(300, size=6000)
    values = draw.normal(size=300)[product] + 2 * draw.normal(size=6000)
    groups = pa.array([f"p{number}" for number in product])
    assert intraclass_correlation(values, groups) == pytest.approx(0.2, abs=0.04)
    assert intraclass_correlation(draw.normal(size=6000), groups) < 0.02
    assert intraclass_correlation(values, pa.nulls(6000, pa.string())) == 0.0


def test_accuracy_is_estimated_from_confidence_and_follows_a_night_that_is_harder():
    reference = reviews(8000, seed=1)
    night = reviews(4000, seed=2)
    assert estimate_accuracy(reference, night) == pytest.approx(reference_accuracy(night), abs=0.02)
    doubtful = night.filter(pa.array(np.abs(night["p_positive"].to_numpy() - 0.5) < 0.3))
    assert estimate_accuracy(reference, doubtful) == pytest.approx(reference_accuracy(doubtful), abs=0.03)
    assert estimate_accuracy(reference, doubtful) < reference_accuracy(reference) - 0.1


def test_accuracy_of_no_reviews_is_not_known():
    assert estimate_accuracy(reviews(300, seed=1), reviews(300, seed=2).slice(0, 0)) is None
