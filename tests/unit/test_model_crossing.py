"""Cross-fitting: fresh rows that a candidate learnt from, scored by models that know neither them nor their products."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from sentiment_core import schema
from sentiment_core.model.comparison import compare
from sentiment_core.model.crossing import cross_fit
from sentiment_core.model.estimator import SentimentClassifier
from sentiment_core.policy import read_policy
from sentiment_core.settings import REPOSITORY

POLICY = read_policy(REPOSITORY / "include" / "policy.toml")
PLAIN = ["a", "plain", "text", "of", "many", "other", "words"]


def row(place, label, origin, product, words):
    """A review whose every word but the given ones says nothing."""
    text = " ".join([*words, PLAIN[place % 7], PLAIN[place % 5], f"n{place}"])
    return {"review_id": f"r{place}", "product_id": product, "text": text, "label": label, "origin": origin}


def table(rows):
    return pa.Table.from_pylist(rows, schema=schema.SNAPSHOT)


def fitted(rows, **kinds):
    return SentimentClassifier(min_df=1, stem=False, selection="chi2", **kinds).fit(rows["text"], rows["label"].to_pylist())


@pytest.fixture
def rows():
    """Standing rows whose words tell the label, and fresh ones of eight products: half of them by a word of the product's own."""
    standing = [row(i, ("negative", "positive")[i % 2], "standing", f"s{i % 10}", [("bad", "good")[i % 2]]) for i in range(200)]
    fresh = [
        row(
            200 + i, ("negative", "positive")[i % 2], ("fresh", "familiar")[i // 8 % 2], f"p{i % 8 // 2}{i % 2}",
            [f"own{i % 8}" if i % 8 < 4 else ("awful", "superb")[i % 2]],
        )
        for i in range(160)
    ]  # fmt: skip
    return table(standing + fresh)


def test_a_product_of_its_own_words_is_a_riddle_to_models_without_it(rows):
    candidate = fitted(rows)
    places, found = cross_fit(candidate, rows, weights=np.ones(len(rows)), n_folds=4)
    assert places.tolist() == list(range(200, 360))
    assert np.allclose(found.sum(axis=1), 1)
    known = candidate.predict_proba(rows["text"])[places]
    is_own = np.array(["own" in text for text in rows["text"].to_pylist()])[places]
    sure_of_own, sure_of_others = (np.abs(found[mask, 1] - 0.5).mean() for mask in (is_own, ~is_own))
    assert np.abs(known[is_own, 1] - 0.5).mean() > 0.3
    assert sure_of_own < 0.1
    assert sure_of_others > 0.2


def test_standing_rows_of_a_folds_products_are_left_out_as_well(rows):
    listed = rows.to_pylist()
    telling = [row(400 + i, "positive", "standing", "p00", ["own0"]) for i in range(30)]
    with_telling, without = table(listed + telling), table(listed)
    weights = np.ones(len(with_telling))
    found = cross_fit(fitted(with_telling), with_telling, weights=weights, n_folds=4)[1]
    is_own = np.array(["own0" in text for text in without["text"].to_pylist()[200:]])
    assert np.abs(found[is_own, 1] - 0.5).mean() < 0.1


@pytest.mark.parametrize("n_folds", [0, 161])
def test_without_folds_or_with_fewer_rows_there_are_none(rows, n_folds):
    places, found = cross_fit(fitted(rows), rows, weights=np.ones(len(rows)), n_folds=n_folds)
    assert (len(places), found.shape) == (0, (0, 2))


def test_a_class_that_one_fold_alone_holds_gives_no_rows():
    rows = table(
        [row(i, "positive", "fresh", f"p{i}", ["good"]) for i in range(20)] + [row(30, "negative", "fresh", "p", ["bad"])]
    )
    assert len(cross_fit(fitted(rows), rows, weights=np.ones(len(rows)), n_folds=3)[0]) == 0


def test_rows_that_were_learnt_from_count_in_the_comparison_unless_the_champion_knows_them(rows):
    standing = rows.slice(0, 200)
    champion, candidate = fitted(standing), fitted(rows)
    gates = {}
    for name, folds, held in (("with", 5, standing), ("without", 0, standing), ("known", 5, rows.slice(0, 280))):
        policy = replace(POLICY, promotion=replace(POLICY.promotion, fresh_folds=folds))
        found = compare(champion, candidate, rows, policy, champion_snapshot=held).metrics["gates"]
        gates[name] = next(gate for gate in found if gate["name"] == "better_on_fresh")
    assert gates["with"]["n"] == 160
    assert gates["without"]["n"] < gates["known"]["n"] < 160
    assert gates["with"]["figure"] < gates["without"]["figure"]
    assert "judged by models fitted without their products" in gates["with"]["sentence"]
    assert "judged by models" not in gates["without"]["sentence"]
