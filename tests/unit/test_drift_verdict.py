import json
from pathlib import Path

import pyarrow as pa
import pytest

from sentiment_core import schema
from sentiment_core.drift.columns import ColumnTest, Comparison
from sentiment_core.drift.page import render_head, render_page
from sentiment_core.drift.verdict import Accuracies, Findings, decide, too_few, why_too_few
from sentiment_core.policy import read_policy

LIMITS = read_policy(Path(__file__).parents[2] / "include" / "policy.toml").drift
UNKNOWN = Accuracies(estimated=None, labelled=None, reference=None)
KNOWN = Accuracies(estimated=0.81, labelled=0.79, reference=0.9)


def comparison(**left_out):
    tests = tuple(
        ColumnTest(
            name=name,
            display=f"log {name}",
            is_numeric=True,
            method="wasserstein",
            threshold=0.15,
            p_value=0.004,
            reference_mean=1.0,
            current_mean=2.0,
        )
        for name in ("n_chars", "unknown_share")
    )
    return Comparison(tests=tests, left_out=left_out, reference=pa.table({}), current=pa.table({}))


def findings(n_chars, unknown_share, *, is_dataset_drifted=False):
    scores = {"n_chars": n_chars, "unknown_share": unknown_share}
    return Findings(
        is_dataset_drifted=is_dataset_drifted, scores=scores, is_drifted={name: score >= 0.15 for name, score in scores.items()}
    )


def judge(found, accuracies=UNKNOWN, **left_out):
    return decide(comparison(**left_out), found, accuracies, n=2000, limits=LIMITS)


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (findings(0.02, 0.05), "quiet"),
        (findings(0.02, 0.41), "warn"),
        (findings(0.2, 0.41, is_dataset_drifted=True), "retrain"),
        # The word follows the tests' status, not our own arithmetic.
        (findings(0.9, 0.9, is_dataset_drifted=False), "warn"),
        (findings(0.0, 0.0, is_dataset_drifted=True), "retrain"),
    ],
)
def test_the_verdict_follows_the_status_of_the_tests(found, word):
    assert judge(found).verdict == word


def test_the_figures_are_the_largest_change_and_the_corrected_p_value():
    verdict = judge(findings(0.2, 0.41), KNOWN)
    assert (verdict.n, verdict.effect, verdict.p_value) == (2000, 0.41, pytest.approx(0.008))
    assert (verdict.estimated_accuracy, verdict.labelled_accuracy) == (0.81, 0.79)
    assert verdict.columns["unknown_share"] == {
        "statistic": "wasserstein",
        "score": 0.41,
        "threshold": 0.15,
        "p_value": 0.004,
        "is_drifted": True,
        "reference_mean": 1.0,
        "current_mean": 2.0,
    }


def test_the_sentence_says_what_moved_and_what_it_means():
    assert judge(findings(0.2, 0.41, is_dataset_drifted=True), KNOWN).sentence == (
        "2 of 2 columns moved past their limits, most of all unknown_share (0.41, limit 0.15): these reviews are unlike"
        " those the model was tested on. Estimated accuracy 0.810 against 0.900 on the reference."
        " Accuracy on the labels that have arrived: 0.790."
    )
    assert judge(findings(0.02, 0.41)).sentence == (
        "1 of 2 columns moved past its limit: unknown_share (0.41, limit 0.15). Worth a look;"
        f" a retrain is due when {LIMITS.retrain_share:.0%} of them move."
    )
    assert judge(findings(0.02, 0.05)).sentence == (
        "None of 2 columns moved past its limit; the nearest was unknown_share (0.05, limit 0.15)."
    )


def test_columns_left_out_are_named_with_the_reason():
    verdict = judge(findings(0.02, 0.05), upper_share="constant in the reference (0.0)")
    assert "Left out: upper_share (constant in the reference (0.0))." in verdict.sentence
    assert verdict.columns["upper_share"]["left_out"] == "constant in the reference (0.0)"
    assert verdict.columns["upper_share"]["is_drifted"] is None


def test_a_verdict_is_plain_json():
    assert json.loads(json.dumps(judge(findings(0.2, 0.41), label="constant").columns, allow_nan=False))


ROWS = pa.table({"p_positive": [0.5] * 200})


@pytest.mark.parametrize(
    ("reference", "current", "n", "reason"),
    [
        (None, ROWS, 2000, "no reference to compare with: make one by training"),
        (schema.REFERENCE.empty_table(), ROWS, 2000, "no reference to compare with"),
        (ROWS.slice(1), ROWS, 2000, "The reference has 199 rows and 200 are needed"),
        (ROWS, ROWS, 199, "199 reviews are too few"),
        (ROWS, ROWS.slice(199), 1, "1 review is too few"),
        (ROWS, ROWS.slice(0, 0), 0, "0 reviews are too few"),
        (ROWS, ROWS, 200, ""),
    ],
)
def test_what_is_too_few_to_judge_says_why(reference, current, n, reason):
    found = why_too_few(reference, current, n=n, limits=LIMITS)
    assert reason in found
    assert bool(found) == bool(reason)


def test_the_page_escapes_what_it_shows_and_is_whole_without_columns():
    verdict = too_few("fewer than <b>200</b>", n=3, labelled_accuracy=None)
    page = render_page(verdict, title="Drift check of <script>", model_version=1)
    assert "<script>" not in page
    assert "fewer than &lt;b&gt;200&lt;/b&gt;" in page
    assert "too few to judge" in page
    assert "<table>" not in page


def test_the_head_shows_every_column_and_marks_those_that_moved():
    head = render_head(judge(findings(0.02, 0.41), KNOWN, label="constant"), title="Drift check", model_version=12)
    assert head.count('class="bar moved"') == 1
    assert "left out: constant" in head
    assert all(figure in head for figure in ("2,000", ">12<", "0.810", "0.410", "0.0080"))
