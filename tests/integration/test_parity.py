"""Bulk scoring equals scikit-learn's own parts on real reviews, in every kind of model."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment_core.model.calibration import fit_platt
from sentiment_core.model.estimator import SentimentClassifier
from sentiment_core.model.export import export_model
from sentiment_core.model.rebuild import RebuiltModel

EVERYTHING = {
    "mask_urls": True, "mask_emails": True, "split_emoji": True, "mask_numbers": True, "mark_negation": True, "drop_stop_words": True,
}  # fmt: skip
CHOSEN = {"selection": "chi2", "max_features": 2_000, "max_chars": 3_000, "char_min": 3, "char_max": 5, "mark_negation": True}
MODELS = [
    ("imdb_train.parquet", "positive", {"stem": False, "max_features": 1_000_000, "min_df": 1}, 25_000),
    ("imdb_train.parquet", "positive", {"stem": False, "weighting": "nbidf", "ngram_max": 3, "max_features": 100_000}, 5_000),
    ("imdb_train.parquet", "positive", {}, 3_000),
    ("amazon_books_electronics.parquet", "positive", {"mark_negation": True}, 4_000),
    ("flipkart_train.parquet", "positive", {"stem": False, "ngram_max": 3}, 3_668),
    ("flipkart_train.parquet", "positive", {"char_min": 3, "char_max": 5}, 3_668),
    ("youtube_train.parquet", "label", {"split_emoji": True}, 14_691),
    ("youtube_train.parquet", "label", {**EVERYTHING, "weighting": "nbidf"}, 14_691),
    ("youtube_train.parquet", "label", {**CHOSEN, "classifier": "svm", "weighting": "nbidf", "class_weight": "balanced"}, 14_691),
    ("flipkart_train.parquet", "positive", {**CHOSEN, "classifier": "naive_bayes", "weighting": "presence"}, 3_668),
]


@pytest.mark.parametrize(("name", "label", "parameters", "n_compared"), MODELS)
def test_probabilities_are_scikit_learns(name, label, parameters, n_compared, reviews_data_dir, tmp_path):  # noqa: PLR0917
    rows = pq.read_table(reviews_data_dir / name)
    rows = rows.take(pa.array(np.random.default_rng(0).permutation(len(rows))))
    train = rows.slice(0, 4_000)
    # A few steps of the regression will do: what is compared is the sums, not the quality.
    model = SentimentClassifier(**parameters, C=0.1).fit(train["text"], [str(value) for value in train[label].to_pylist()])
    if "selection" in parameters:
        scores = np.random.default_rng(0).normal(size=(300, len(model.coef_)))
        places = np.arange(300) % len(model.classes_)
        model.adjust(fit_platt(scores + places[:, None] / 2, places), np.linspace(-0.5, 0.5, len(model.classes_)))
    export_model(model, tmp_path / "model", {})
    texts = rows["text"].slice(0, n_compared)
    expected = RebuiltModel(tmp_path / "model").predict_proba(texts.to_pylist())
    np.testing.assert_allclose(model.predict_proba(texts), expected, rtol=0, atol=1e-9)
