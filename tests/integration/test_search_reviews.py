"""What the search makes of real reviews, measured on reviews that it never saw.

Limits lie two standard errors below what was seen once, so that a change of the recipes shows and chance does not.
"""

import resource
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment_core import schema
from sentiment_core.domain import LABELS
from sentiment_core.model.training import train
from sentiment_core.policy import read_policy
from sentiment_core.settings import REPOSITORY

POLICY = read_policy(Path(REPOSITORY) / "include" / "policy.toml")


def _snapshot(path):
    rows = pq.read_table(path)
    names = {"review_id", "product_id", "text"} & set(rows.column_names)
    table = {name: rows[name].to_pylist() for name in names}
    if "label" in rows.column_names:
        table["label"] = rows["label"].to_pylist()
    else:
        table["label"] = ["positive" if is_positive else "negative" for is_positive in rows["positive"].to_pylist()]
    table |= {name: [None] * len(rows) for name in schema.SNAPSHOT.names if name not in table}
    return pa.table({**table, "origin": ["standing"] * len(rows)}).select(schema.SNAPSHOT.names).cast(schema.SNAPSHOT)


def _limited(trials):
    return replace(POLICY, search=replace(POLICY.search, trials=trials))


@pytest.fixture(scope="module")
def comments(reviews_data_dir):
    return _snapshot(reviews_data_dir / "flipkart_train.parquet")


@pytest.fixture(scope="module")
def of_comments(comments):
    return train(comments, policy=_limited(6))  # the known recipes, and one of the sampler's


def test_uneven_comments(of_comments):
    assert of_comments.params["char_max"] == 5
    assert of_comments.metrics["test"]["macro_f1"] > 0.80
    assert of_comments.metrics["test"]["ece"] < 0.05  # of 400 rows; a calibrated model's lies below that 95 times of 100
    assert of_comments.metrics["cross_validation"]["score"] > 0.82


def test_the_same_snapshot_and_seed_give_the_same_predictions(of_comments, comments):
    again = train(comments, policy=_limited(6))
    assert (again.estimator.predict_proba(comments["text"]) == of_comments.estimator.predict_proba(comments["text"])).all()
    assert (again.estimator.predict(comments["text"]) == of_comments.estimator.predict(comments["text"])).all()
    assert again.metrics == of_comments.metrics


def test_comments_of_three_classes(reviews_data_dir):
    found = train(_snapshot(reviews_data_dir / "youtube_train.parquet"), policy=_limited(2), classes=LABELS)
    assert found.metrics["test"]["accuracy"] > 0.765
    assert found.metrics["test"]["macro_f1"] > 0.68
    assert found.metrics["test"]["ece"] < 0.02


def test_long_reviews(reviews_data_dir):
    found = train(_snapshot(reviews_data_dir / "imdb_train.parquet"), policy=_limited(2))
    assert found.params["char_max"] == 0
    assert found.params["ngram_max"] == 3
    assert len(found.estimator.vocabulary) == 100_000  # small enough to be scored out of the processor's cache
    assert found.metrics["test"]["accuracy"] > 0.905
    assert found.metrics["test"]["ece"] < 0.02
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert peak_bytes < 4 << 30
