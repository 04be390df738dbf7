"""The verdict comes out of Evidently's own tests: what the report shows is what happens."""

import copy
import json
import re
import resource
import subprocess
import sys
from dataclasses import replace
from datetime import date, timedelta
from html import escape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sentiment_core import reports, schema
from sentiment_core.drift import checks as named
from sentiment_core.drift.checks import checks, failures
from sentiment_core.drift.history import History, Labels, Night
from sentiment_core.drift.measure import measure
from sentiment_core.drift.reference import Reference
from sentiment_core.drift.rehearsal import as_past
from sentiment_core.drift.verdict import conclude
from sentiment_core.errors import Permanent
from sentiment_core.policy import read_policy

LIMITS = replace(read_policy(Path(__file__).parents[2] / "include" / "policy.toml").drift, mode="threshold")
DAY = date(2026, 11, 20)
SECRET = "the sender's own words"


def reviews(n, *, seed, foreign_share=0.0):
    """Rows as the night's sample has them; foreign reviews are shorter, of other topics, and the model is at a loss with them."""
    draw = np.random.default_rng(seed)
    is_foreign = draw.random(n) < foreign_share
    p_positive = draw.beta(0.4 + 2 * is_foreign, 0.4 + 2 * is_foreign)
    topics = draw.normal(size=(n, 8)) + 1.5 * is_foreign[:, np.newaxis]
    label = np.where(p_positive >= 0.5, "positive", "negative")
    shares = {name: draw.beta(3, 60, n).astype(np.float32) for name in ("strange_share", "upper_share", "non_letter_share")}
    return pa.table(
        {
            "review_id": [f"{SECRET} {number}" for number in range(n)],
            "text_excerpt": [SECRET] * n,
            "p_positive": p_positive,
            "confidence": np.maximum(p_positive, 1 - p_positive),
            "raw_confidence": np.maximum(p_positive, 1 - p_positive),
            "n_chars": np.exp(draw.normal(7 - 1.4 * is_foreign, 0.7)).astype(np.int32),
            "n_words": np.exp(draw.normal(5.3 - 1.4 * is_foreign, 0.7)).astype(np.int32),
            "n_sentences": draw.poisson(9, n).astype(np.int32),
            "unknown_share": draw.beta(4, 45, n).astype(np.float32),
            **shares,
            "surprise": draw.normal(7, 0.5, n).astype(np.float32),
            "distinct_share": draw.beta(60, 30, n).astype(np.float32),
            "negation_share": draw.beta(2, 80, n).astype(np.float32),
            "topics": pa.array(topics.astype(np.float32).tolist(), pa.list_(pa.float32())),
            "label": label,
            "true_label": np.where(draw.random(n) < p_positive, "positive", "negative"),
            "product_id": [f"{SECRET} {number}" for number in draw.integers(n // 5, size=n)],
        }
    )


REFERENCE = Reference.of(reviews(3000, seed=1), LIMITS)
QUIET = reviews(2000, seed=2)
MIXED = reviews(2000, seed=3, foreign_share=0.5)


def judge(night, *, reference=REFERENCE, limits=LIMITS, history=None, n=None, labels=None):
    night = Night(rows=night, n=len(night) if n is None else n, window_date=DAY, labels=labels)
    return reports.judge(
        reference, night, history=history or History(), limits=limits, title="Drift check of 2026-11-20", model_version=3
    )


@pytest.fixture(scope="module")
def quiet():
    return judge(QUIET)


@pytest.fixture(scope="module")
def mixed():
    return judge(MIXED)


def test_a_quiet_night_is_quiet_and_its_page_says_so(quiet):
    assert quiet.verdict.verdict == "quiet"
    assert escape(quiet.verdict.sentence).encode() in quiet.page
    assert b"Drift check of 2026-11-20" in quiet.page


def test_a_night_half_of_which_is_foreign_and_puzzles_the_model_asks_for_a_retrain(mixed):
    assert mixed.verdict.verdict == "retrain"
    assert mixed.verdict.p_value < 1e-6
    assert mixed.verdict.columns["n_chars"]["is_drifted"]
    assert b'class="badge retrain"' in mixed.page


@pytest.mark.parametrize("rows", [QUIET, MIXED], ids=["quiet", "mixed"])
def test_with_evidently_and_without_it_the_verdict_is_the_same(rows, quiet, mixed):
    """Rehearsals of thousands of nights evaluate the same checks directly."""
    night = Night(rows=rows, n=len(rows), window_date=DAY)
    measured = measure(REFERENCE, night, history=History(), limits=LIMITS)
    verdict = conclude(measured, failures(checks(measured, LIMITS)), LIMITS)
    assert verdict == (quiet if rows is QUIET else mixed).verdict


def test_breaking_the_registered_metric_breaks_the_trigger(monkeypatch, mixed):
    """Evidently computes another figure, and the drifted night is no longer one: nothing works the verdict out beside it."""
    honest = reports.DriftStatisticCalculation.calculate

    def soothing(self, context, current_data, reference_data):
        if self.metric.name in (named.SURPRISE, named.LABELLED_FALL):
            return self.result(1.0)
        if self.metric.name == named.EVIDENCE:
            return self.result(0.0)
        return honest(self, context, current_data, reference_data)

    monkeypatch.setattr(reports.DriftStatisticCalculation, "calculate", soothing)
    assert (mixed.verdict.verdict, judge(MIXED).verdict.verdict) == ("retrain", "quiet")


def test_breaking_the_bound_test_breaks_the_trigger(monkeypatch):
    def without_harm(check, honest=reports._as_metric):
        limit = 1e9 if check.name == named.ESTIMATED_FALL else check.limit
        return honest(replace(check, limit=limit))

    monkeypatch.setattr(reports, "_as_metric", without_harm)
    assert judge(MIXED).verdict.verdict == "warn"


@pytest.fixture(scope="module")
def carried():
    """A drifted night's checks, and Evidently's result."""
    measured = measure(REFERENCE, Night(rows=MIXED, n=2000), history=History(), limits=LIMITS)
    found = checks(measured, LIMITS)
    return found, reports.carry_out(found, REFERENCE.rows.select(["n_chars"]), MIXED.select(["n_chars"]), sample_rows=500).result


def altered(result, place, **changes):
    result = copy.deepcopy(result)
    result["tests"][place].update(changes)
    return result


def test_the_result_holds_every_check_with_its_figure_and_its_test(carried):
    found, result = carried
    metrics = {metric["config"]["name"]: metric["value"] for metric in result["metrics"] if "measured" in metric["config"]}
    assert metrics == {check.name: check.value for check in found}
    assert reports.read_failed(result, found) == failures(found)
    assert len(result["tests"]) == len(found)


def test_a_flipped_status_flips_the_finding(carried):
    found, result = carried
    for place, check in enumerate(found):
        flipped = altered(result, place, status="SUCCESS" if check.has_failed else "FAIL")
        assert reports.read_failed(flipped, found)[check.name] != check.has_failed


def test_a_missing_or_broken_test_is_an_error_and_not_a_quiet_night(carried):
    found, result = carried
    for place in range(len(found)):
        fewer = {**result, "tests": result["tests"][:place] + result["tests"][place + 1 :]}
        with pytest.raises(Permanent, match="expected one entry in the result, found 0"):
            reports.read_failed(fewer, found)
        with pytest.raises(Permanent, match="SUCCESS or FAIL"):
            reports.read_failed(altered(result, place, status="ERROR"), found)


def test_a_figure_that_is_no_number_never_reaches_evidently(carried):
    found, _ = carried
    with pytest.raises(Permanent, match="expected a finite number"):
        reports.carry_out(
            [replace(found[0], value=float("nan"))], MIXED.select(["n_chars"]), MIXED.select(["n_chars"]), sample_rows=10
        )


def test_no_word_of_a_review_no_id_and_no_product_is_in_the_page_or_the_result(mixed, carried):
    assert SECRET.encode() not in mixed.page
    assert b"the sender" not in mixed.page
    assert SECRET not in json.dumps(carried[1], default=str)
    assert SECRET not in str(mixed.verdict)


def test_our_part_of_the_page_needs_neither_scripts_nor_style_attributes(mixed):
    ours = re.search(rb'<section class="verdict">.*?</section>', mixed.page, re.DOTALL)[0]
    assert b"<script" not in ours
    assert not re.search(rb"\s(style|on\w+)=", ours)
    assert b"http" not in ours


def test_a_huge_night_costs_what_a_sample_does(mixed):
    rows = reviews(120_000, seed=4)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    judged = judge(rows, n=10_000_000)
    assert judged.verdict.n == 10_000_000
    assert len(judged.page) < 5_000_000
    assert len(judged.page) < 1.05 * len(mixed.page)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000


def test_a_night_judged_twice_gives_the_same_verdict(mixed):
    assert judge(MIXED).verdict == mixed.verdict


def test_the_nights_before_are_drawn_with_tonight_the_last():
    past, history = [], History()
    for back in (3, 2, 1):
        night = Night(rows=reviews(800, seed=back), n=800, window_date=DAY - timedelta(days=back))
        measured = measure(REFERENCE, night, history=history, limits=LIMITS)
        past.append(as_past(night.window_date, measured, conclude(measured, failures(checks(measured, LIMITS)), LIMITS)))
        history = History(nights=tuple(past))
    page = judge(MIXED, history=history, labels=Labels(n=400, n_right=330)).page.decode()
    assert "20 Nov" in page
    assert "17 Nov" in page
    assert page.count('class="mark retrain"') >= 2
    assert "82.5% measured on labels" in page


@pytest.mark.parametrize("reference", [None, REFERENCE], ids=["none", "some"])
@pytest.mark.parametrize("n", [0, 1])
def test_too_few_reviews_or_no_reference_still_gives_a_page(reference, n):
    judged = judge(QUIET.slice(0, n), reference=reference)
    assert judged.verdict.verdict == "too_few"
    assert escape(judged.verdict.sentence).encode() in judged.page


def test_missing_and_constant_columns_never_reach_evidently():
    n = len(QUIET)
    night = QUIET.set_column(QUIET.column_names.index("n_words"), "n_words", pa.nulls(n, pa.int32()))
    gaps = np.where(np.arange(n) % 50 == 0, np.nan, QUIET["surprise"].to_numpy())
    night = night.set_column(night.column_names.index("surprise"), "surprise", pa.array(gaps, pa.float32()))
    constant = REFERENCE.rows.set_column(
        REFERENCE.rows.column_names.index("upper_share"), "upper_share", pa.array(np.zeros(len(REFERENCE)), pa.float32())
    )
    judged = judge(night, reference=Reference.of(constant, LIMITS))
    assert {name for name, column in judged.verdict.columns.items() if column.get("left_out")} == {"n_words", "upper_share"}
    assert judged.verdict.columns["n_chars"]["score"] is not None
    assert b"constant in the reference" in judged.page


def test_columns_of_a_report_are_those_of_the_schema():
    assert set(reports._DESCRIBED) <= {*schema.DRIFT_COLUMNS, *(field.name for field in schema.LENS_NUMERIC)}


OFFLINE = """
import socket, sys
def refuse(*_): raise AssertionError("a connection was tried")
socket.socket.connect = socket.create_connection = refuse
sys.path.insert(0, {folder!r})
import test_reports
assert test_reports.judge(test_reports.MIXED).verdict.verdict == "retrain"
assert "iterative_telemetry" not in sys.modules
"""


def test_a_report_is_made_without_any_connection():
    code = OFFLINE.format(folder=str(Path(__file__).parent))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
