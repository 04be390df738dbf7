"""Scoring keeps what it was given and depends on the text alone."""

import copy
import random
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment_core import schema
from sentiment_core.domain import ModelRef, ReviewBatch
from sentiment_core.model.estimator import SentimentClassifier
from sentiment_core.scoring import score

REF = ModelRef(name="sentiment", version=3, digest="0" * 64)
TEXT = st.one_of(st.text(max_size=60), st.sampled_from(["great film", "awful film", "", "<b>naïve</b> \U0001f600 plot"]))


@pytest.fixture(scope="module")
def estimator():
    rng = random.Random(0)
    labels = [rng.choice(["negative", "positive"]) for _ in range(100)]
    texts = [" ".join(rng.choices(["film", "plot", "great" if label == "positive" else "awful"], k=6)) for label in labels]
    return SentimentClassifier().fit(texts, labels)


def _batch(texts):
    rows = [
        {"row_number": 2 * place, "review_date": date(2026, 11, 1), "review_id": f"r{place}", "product_id": None, "text": text}
        for place, text in enumerate(texts)
    ]
    return ReviewBatch(table=pa.Table.from_pylist(rows, schema=schema.REVIEW_BATCH))


@settings(deadline=None, max_examples=40)
@given(st.lists(TEXT, max_size=12))
def test_ids_order_and_count_are_kept(estimator, texts):
    batch = _batch(texts)
    scored = score(estimator, REF, batch, text_excerpt=10)
    assert scored.model == REF
    assert scored.table.schema.equals(schema.SCORED_BATCH)
    for name in ("row_number", "review_date", "review_id", "product_id", "source", "created_at", "rating"):
        assert scored.table[name].to_pylist() == batch.table[name].to_pylist()


@settings(deadline=None, max_examples=30)
@given(st.lists(TEXT, min_size=1, max_size=12), st.integers(1, 12))
def test_batch_size_does_not_change_scores(estimator, texts, size):
    whole = score(estimator, REF, _batch(texts), text_excerpt=5).table
    parts = [score(estimator, REF, _batch(texts[at : at + size]), text_excerpt=5).table for at in range(0, len(texts), size)]
    for name in set(schema.SCORED_BATCH.names) - {"row_number", "review_id"}:
        assert pa.concat_tables(parts)[name].to_pylist() == whole[name].to_pylist()


def test_scores_are_the_estimators_own(estimator):
    texts = ["great film", "awful plot", "film"]
    table = score(estimator, REF, _batch(texts), text_excerpt=0).table
    expected = estimator.predict_proba(texts)
    assert table["p_negative"].to_numpy().tolist() == expected[:, 0].tolist()
    assert table["p_positive"].to_numpy().tolist() == expected[:, 1].tolist()
    assert table["p_neutral"].null_count == 3
    assert table["label"].to_pylist() == estimator.predict(texts).tolist()
    assert table["label"].to_pylist()[:2] == ["positive", "negative"]
    assert np.allclose(table["confidence"].to_numpy(), expected.max(axis=1))


def test_a_three_class_model_fills_its_neutral_column():
    model = SentimentClassifier(min_df=1).fit(["good", "bad", "plain"], ["positive", "negative", "neutral"])
    table = score(model, REF, _batch(["plain", "good"]), text_excerpt=0).table
    assert table["p_neutral"].null_count == 0
    assert table["label"].to_pylist() == ["neutral", "positive"]


@given(st.text(max_size=30), st.integers(1, 40))
@settings(deadline=None, max_examples=50)
def test_an_excerpt_is_the_beginning_in_whole_characters(estimator, text, n_chars):
    assert score(estimator, REF, _batch([text]), text_excerpt=n_chars).table["text_excerpt"].to_pylist() == [text[:n_chars]]


def test_a_policy_of_no_excerpt_keeps_none_of_the_text(estimator):
    assert score(estimator, REF, _batch(["secret"]), text_excerpt=0).table["text_excerpt"].to_pylist() == [None]


def test_an_empty_batch_gives_an_empty_batch(estimator):
    table = score(estimator, REF, _batch([]), text_excerpt=10).table
    assert len(table) == 0
    assert table.schema.equals(schema.SCORED_BATCH)


def test_a_table_in_several_chunks_is_one_batch(estimator):
    batch = _batch(["great", "awful", "film"])
    chunked = ReviewBatch(table=pa.concat_tables([batch.table.slice(0, 1), batch.table.slice(1)]))
    assert score(estimator, REF, chunked, text_excerpt=9).table.equals(score(estimator, REF, batch, text_excerpt=9).table)


def test_the_label_is_the_models_decision_and_confidence_its_probability(estimator):
    texts = ["great film", "awful plot", "film", "plot"]
    model = copy.deepcopy(estimator).adjust(estimator.calibration, np.array([50.0, 0.0]))
    table = score(model, REF, _batch(texts), text_excerpt=0).table
    assert table["label"].to_pylist() == model.predict(texts).tolist() == ["negative"] * 4
    assert table["confidence"].to_pylist() == table["p_negative"].to_pylist()
    assert table["p_positive"].to_pylist() == estimator.predict_proba(texts)[:, 1].tolist()
