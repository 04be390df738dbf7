"""Bulk scoring equals scikit-learn's own parts on real reviews, in every kind of model."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment_core.model.estimator import SentimentClassifier
from sentiment_core.model.export import export_model
from sentiment_core.model.rebuild import RebuiltModel

EVERYTHING = {
    "mask_urls": True, "mask_emails": True, "split_emoji": True, "mask_numbers": True, "mark_negation": True, "drop_stop_words": True,
}  # fmt: skip
MODELS = [
    ("imdb_train.parquet", "positive", {"stem": False, "max_features": 1_000_000, "min_df": 1}, 25_000),
    ("imdb_train.parquet", "positive", {"stem": False, "weighting": "nbidf", "ngram_max": 3, "max_features": 100_000}, 5_000),
    ("imdb_train.parquet", "positive", {}, 3_000),
    ("amazon_books_electronics.parquet", "positive", {"mark_negation": True}, 4_000),
    ("flipkart_train.parquet", "positive", {"stem": False, "ngram_max": 3}, 3_668),
    ("flipkart_train.parquet", "positive", {"char_min": 3, "char_max": 5}, 3_668),
    ("youtube_train.parquet", "label", {"split_emoji": True}, 14_691),
    ("youtube_train.parquet", "label", {**EVERYTHING, "weighting": "nbidf"}, 14_691),
]


@pytest.mark.parametrize(("name", "label", "parameters", "n_compared"), MODELS)
def test_probabilities_are_scikit_learns(name, label, parameters, n_compared, reviews_data_dir, tmp_path):  # noqa: PLR0917
    rows = pq.read_table(reviews_data_dir / name)
    rows = rows.take(pa.array(np.random.default_rng(0).permutation(len(rows))))
    train = rows.slice(0, 4_000)
    # A few steps of the regression will do: what is compared is the sums, not the quality.
    model = SentimentClassifier(**parameters, C=0.1).fit(train["text"], [str(value) for value in train[label].to_pylist()])
    export_model(model, tmp_path / "model", {})
    texts = rows["text"].slice(0, n_compared)
    expected = RebuiltModel(tmp_path / "model").predict_proba(texts.to_pylist())
    np.testing.assert_allclose(model.predict_proba(texts), expected, rtol=0, atol=1e-9)
