"""The verdict comes out of Evidently's own tests: what the report says is what happens."""

import copy
import subprocess
import sys
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sentiment_core import reports, schema
from sentiment_core.drift.columns import prepare
from sentiment_core.errors import Permanent
from sentiment_core.policy import read_policy

POLICY = read_policy(Path(__file__).parents[2] / "include" / "policy.toml").drift
SECRET = "the sender's own words"


def reviews(n, *, seed, foreign_share=0.0):
    """Rows as the night's sample has them; foreign reviews are shorter, odder and full of words nobody knows."""
    draw = np.random.default_rng(seed)
    is_foreign = draw.random(n) < foreign_share
    p_positive = draw.beta(0.6 + is_foreign, 0.6 + is_foreign)
    return pa.table(
        {
            "review_id": [f"{SECRET} {number}" for number in range(n)],
            "text_excerpt": [SECRET] * n,
            "p_positive": p_positive,
            "n_chars": np.exp(draw.normal(7 - 1.4 * is_foreign, 0.7)).astype(np.int32),
            "n_words": np.exp(draw.normal(5.3 - 1.4 * is_foreign, 0.7)).astype(np.int32),
            "unknown_share": (draw.beta(4, 45, n) + 0.05 * is_foreign).astype(np.float32),
            "upper_share": draw.beta(2, 60, n).astype(np.float32),
            "non_letter_share": (draw.beta(3, 70, n) / (1 + is_foreign)).astype(np.float32),
            "label": np.where(p_positive >= 0.5, "positive", "negative"),
            "true_label": np.where(draw.random(n) < p_positive, "positive", "negative"),
            "product_id": [f"{SECRET} {number}" for number in draw.integers(n, size=n)],
        }
    )


REFERENCE = reviews(3000, seed=1)
QUIET = reviews(2000, seed=2)
MIXED = reviews(2000, seed=3, foreign_share=0.5)


def judge(reference, current, policy=POLICY, n=None):
    return reports.judge(
        reference,
        current,
        n=len(current) if n is None else n,
        labelled_accuracy=None,
        policy=policy,
        title="Drift check of 2026-11-01",
        model_version=3,
    )


def test_a_quiet_night_is_quiet_and_its_page_says_so():
    verdict, html = judge(REFERENCE, QUIET)
    assert verdict.verdict == "quiet"
    assert verdict.p_value > 0.01
    assert verdict.sentence.encode() in html
    assert b"Drift check of 2026-11-01" in html


def test_a_night_half_of_which_is_foreign_asks_for_a_retrain():
    verdict, html = judge(REFERENCE, MIXED)
    assert verdict.verdict == "retrain"
    assert verdict.p_value < 1e-6
    assert verdict.columns["unknown_share"]["is_drifted"]
    assert verdict.columns["unknown_share"]["current_mean"] == pytest.approx(np.mean(MIXED["unknown_share"].to_numpy()))
    assert verdict.estimated_accuracy < 0.8
    assert b"retrain" in html


def test_one_column_beyond_its_limit_is_a_warning():
    shouted = QUIET.set_column(
        QUIET.column_names.index("upper_share"), "upper_share", pa.array(np.full(2000, 0.3) + np.arange(2000) / 1e5)
    )
    assert judge(REFERENCE, shouted)[0].verdict == "warn"


@pytest.mark.parametrize(("night", "share_limit"), [(MIXED, 2.0), (QUIET, -1.0)])
def test_altering_the_test_in_the_report_alters_the_verdict(monkeypatch, night, share_limit):
    before = judge(REFERENCE, night)[0].verdict
    monkeypatch.setattr(reports, "lt", lambda _: evidently_lt(share_limit))
    after = judge(REFERENCE, night)[0].verdict
    assert (before, after) == {2.0: ("retrain", "warn"), -1.0: ("quiet", "retrain")}[share_limit]


def evidently_lt(limit):
    from evidently.tests import lt

    return lt(limit)


def test_a_report_without_the_test_of_the_whole_is_an_error_and_not_a_quiet_night(monkeypatch):
    class Untested(reports.DriftedColumnsCount):
        def __init__(self, **arguments):
            super().__init__(**{**arguments, "share_tests": []})

    monkeypatch.setattr(reports, "DriftedColumnsCount", Untested)
    with pytest.raises(Permanent, match="DriftedColumnsCount"):
        judge(REFERENCE, MIXED)


@pytest.fixture(scope="module")
def mixed():
    comparison = prepare(REFERENCE, MIXED, POLICY)
    return comparison, reports.make_report(comparison, POLICY)


def altered(result, place, **changes):
    result = copy.deepcopy(result)
    result["tests"][place].update(changes)
    return result


def test_a_flipped_status_flips_the_finding(mixed):
    comparison, report = mixed
    whole = next(
        i for i, test in enumerate(report.result["tests"]) if "DriftedColumnsCount" in test["metric_config"]["params"]["type"]
    )
    assert reports.read_findings(report.result, comparison).is_dataset_drifted
    assert not reports.read_findings(altered(report.result, whole, status="SUCCESS"), comparison).is_dataset_drifted


@pytest.mark.parametrize("place", range(8))
def test_a_missing_or_failed_test_is_an_error(mixed, place):
    comparison, report = mixed
    assert len(report.result["tests"]) == 8
    fewer = {**report.result, "tests": report.result["tests"][:place] + report.result["tests"][place + 1 :]}
    with pytest.raises(Permanent, match="expected one entry in the result, found 0"):
        reports.read_findings(fewer, comparison)
    with pytest.raises(Permanent, match="SUCCESS or FAIL"):
        reports.read_findings(altered(report.result, place, status="ERROR"), comparison)


def test_findings_are_the_figures_that_the_report_shows(mixed):
    comparison, report = mixed
    found = reports.read_findings(report.result, comparison)
    for test in comparison.tests:
        assert found.is_drifted[test.name] == (found.scores[test.name] >= test.threshold)
    assert list(found.scores) == list(schema.DRIFT_COLUMNS)


def test_no_word_of_a_review_no_id_and_no_product_is_in_the_page():
    verdict, html = judge(REFERENCE, MIXED)
    assert SECRET.encode() not in html
    assert b"the sender" not in html
    assert SECRET not in str(verdict)


def test_a_large_night_is_sampled_and_its_page_stays_small():
    _, html = judge(reviews(30_000, seed=4), reviews(40_000, seed=5), n=40_000)
    assert len(html) < 5_000_000
    few, _ = judge(reviews(30_000, seed=4), reviews(40_000, seed=5), replace(POLICY, sample_rows=500), n=40_000)
    assert few.n == 40_000
    assert few.columns["n_chars"]["threshold"] > POLICY.numeric_threshold


def test_a_night_judged_twice_gives_the_same_verdict():
    assert (
        judge(REFERENCE, MIXED, replace(POLICY, sample_rows=1000))[0]
        == judge(REFERENCE, MIXED, replace(POLICY, sample_rows=1000))[0]
    )


@pytest.mark.parametrize("reference", [None, REFERENCE])
@pytest.mark.parametrize("n", [0, 1, POLICY.min_reviews - 1])
def test_too_few_reviews_or_no_reference_still_gives_a_page(reference, n):
    verdict, html = judge(reference, QUIET.slice(0, n))
    assert verdict.verdict == "too_few"
    assert escape(verdict.sentence).encode() in html


def test_missing_and_constant_columns_never_reach_evidently():
    n = len(QUIET)
    night = QUIET.set_column(QUIET.column_names.index("n_words"), "n_words", pa.nulls(n, pa.int32()))
    night = night.set_column(night.column_names.index("label"), "label", pa.array(["positive"] * n))
    constant = REFERENCE.set_column(REFERENCE.column_names.index("upper_share"), "upper_share", pa.array([0.0] * len(REFERENCE)))
    verdict, html = judge(constant, night)
    assert {name for name, column in verdict.columns.items() if "left_out" in column} == {"n_words", "upper_share"}
    assert verdict.columns["label"]["is_drifted"]
    assert b"left out: constant in the reference" in html


def test_a_night_of_which_nothing_can_be_judged_is_too_few():
    nothing = {name: pa.nulls(500, pa.float32()) for name in schema.DRIFT_COLUMNS}
    verdict, _ = judge(REFERENCE, pa.table(nothing))
    assert verdict.verdict == "too_few"
    assert "unknown_share: 100% of its values in the night are missing" in verdict.sentence


OFFLINE = """
import socket, sys
def refuse(*_): raise AssertionError("a connection was tried")
socket.socket.connect = socket.create_connection = refuse
sys.path.insert(0, {folder!r})
import test_reports
assert test_reports.judge(test_reports.REFERENCE, test_reports.MIXED)[0].verdict == "retrain"
assert "iterative_telemetry" not in sys.modules
"""


def test_a_report_is_made_without_any_connection():
    code = OFFLINE.format(folder=str(Path(__file__).parent))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
