"""The table of what a search tried, and the pictures of a run."""

import csv
import io
import json
import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment_core.registry.comparison import as_csv, as_page
from sentiment_core.registry.plots import draw
from sentiment_core.trials import Trial, parameters, ranked, varied

PNG = b"\x89PNG\r\n\x1a\n"


def trial(**values):
    return Trial(**{"family": "logistic", "seconds": 1.5, "state": "complete", "params": {}, "metrics": {}, **values})


def tried(name, *losses, **more):
    per_fold = [{"log_loss": loss, "accuracy": 1 - loss} for loss in losses]
    mean = sum(losses) / len(losses)
    return trial(name=name, mean=mean, metrics={"folds": per_fold, "log_loss": mean, "accuracy": 1 - mean}, **more)


TRIALS = [
    tried("0-logistic", 0.30, 0.34, params={"C": 1.0, "stem": True, "class_weight": None}),
    trial(name="1-svm", mean=0.20, state="pruned", family="svm", params={"C": 9.0, "stem": True}, metrics={"folds": [{"log_loss": 0.2}], "log_loss": 0.2}),
    tried("2-<b>nb</b>", 0.25, 0.27, family="nb", params={"C": 30.0, "stem": True, "class_weight": None}),
]  # fmt: skip


def test_the_best_comes_first_and_what_was_given_up_last():
    assert [one.name for one in ranked(TRIALS)] == ["2-<b>nb</b>", "0-logistic", "1-svm"]


@given(st.lists(st.tuples(st.floats(allow_nan=True), st.sampled_from(["complete", "pruned", "fail"])), max_size=20))
def test_ranking_keeps_every_trial_whatever_its_mean(values):
    trials = [trial(name=str(number), mean=mean, state=state) for number, (mean, state) in enumerate(values)]
    found = ranked(trials)
    assert sorted(one.name for one in found) == sorted(one.name for one in trials)
    whole = [one.mean for one in found if one.is_whole and abs(one.mean) < float("inf")]
    assert whole == sorted(whole)
    assert [one.is_whole for one in found] == sorted((one.is_whole for one in found), reverse=True)


def test_figures_are_those_of_all_folds_and_of_each():
    assert TRIALS[0].means == {"log_loss": pytest.approx(0.32), "accuracy": pytest.approx(0.68)}
    assert TRIALS[0].folds[1] == {"log_loss": 0.34, "accuracy": pytest.approx(0.66)}


def test_a_trial_comes_back_out_of_the_json_it_was_kept_as():
    for one in TRIALS:
        assert Trial.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert math.isnan(Trial.from_json({**TRIALS[0].to_json(), "mean": None}).mean), "JSON has no word for it"


def test_parameters_are_told_where_trials_differ_in_them():
    assert varied(TRIALS) == ["C"], "what is not set is the same everywhere"
    assert [parameters(one, varied(TRIALS)) for one in TRIALS] == ["C 1", "C 9", "C 30"]
    assert varied(TRIALS[:1]) == []


def test_the_csv_reads_back_with_a_row_a_trial_and_the_same_columns():
    rows = list(csv.DictReader(io.StringIO(as_csv(TRIALS))))
    assert [(row["place"], row["name"], row["state"]) for row in rows] == [
        ("1", "2-<b>nb</b>", "complete"),
        ("2", "0-logistic", "complete"),
        ("3", "1-svm", "pruned"),
    ]
    assert float(rows[1]["log_loss_fold_2"]) == 0.34
    assert rows[2]["log_loss_fold_2"] == rows[2]["accuracy"] == rows[2]["param_class_weight"] == ""
    assert [name for name in rows[0] if name.startswith("param_")] == ["param_C", "param_stem", "param_class_weight"]
    assert float(rows[0]["mean"]) == pytest.approx(0.26)


def test_the_page_shows_what_differs_and_escapes_every_value():
    page = as_page(TRIALS, title="Recipes & more")
    assert "<b>" not in page
    assert "2-&lt;b&gt;nb&lt;/b&gt;" in page
    assert "<title>Recipes &amp; more</title>" in page
    assert "C 30" in page
    assert "stem True" not in page  # all recipes have it
    assert page.count("<circle") == 2 + 1 + 2
    assert "1 of them given up early" in page
    assert "<script" not in page
    assert "http" not in page
    ET.fromstring(
        page.removeprefix("<!DOCTYPE html>\n")
        .replace('<meta charset="utf-8">', "")
        .replace('initial-scale=1">', 'initial-scale=1"/>')
    )


def test_a_table_of_one_recipe_is_a_table():
    assert "1 recipes" not in as_page(TRIALS[:1], title="One")
    assert len(list(csv.DictReader(io.StringIO(as_csv(TRIALS[:1]))))) == 1


CURVES = {
    "classes": ["negative", "neutral", "positive"],
    "confusion": [[8, 1, 1], [2, 5, 3], [0, 0, 0]],
    "reliability": [{"confidence": 0.6, "accuracy": 0.5, "n": 10}, {"confidence": 0.99, "accuracy": 1.0, "n": 10}],
    "precision_recall": {
        "negative": [{"recall": 0.2, "precision": 1.0, "threshold": 0.9}, {"recall": 1.0, "precision": 0.5, "threshold": 0.1}],
        "neutral": [],
    },
}


def test_three_pictures_are_drawn():
    pictures = draw(CURVES)
    assert set(pictures) == {"confusion.png", "calibration.png", "precision_recall.png"}
    assert all(content.startswith(PNG) for content in pictures.values())
    assert draw(CURVES) == pictures


@pytest.mark.parametrize(
    "curves", [{}, {"classes": ["a", "b"], "confusion": [[0, 0], [0, 0]], "reliability": [], "precision_recall": {"a": []}}]
)
def test_what_has_no_rows_is_not_drawn(curves):
    assert draw(curves) == {}


def test_a_class_of_another_name_and_a_single_bin_are_drawn():
    curves = {
        "classes": ["a", "b"],
        "confusion": [[1, 0], [0, 1]],
        "reliability": [{"confidence": 1.0, "accuracy": 1.0, "n": 2}],
        "precision_recall": {"a": [{"recall": 1.0, "precision": 1.0, "threshold": 1.0}]},
    }
    assert len(draw(curves)) == 3
