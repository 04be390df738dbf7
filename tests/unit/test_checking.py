"""What a verdict sets off: what is said of it, and which checks set off nothing."""

import logging
from datetime import date

import pytest

from sentiment_core.domain import DriftVerdict
from sentiment_core.stages.checking import _objection, _tell
from sentiment_core.stages.window import Night

DAY = date(2026, 11, 1)


def verdict(word):
    return DriftVerdict(
        verdict=word,
        n=4,
        p_value=0.5,
        effect=0.01,
        estimated_accuracy=0.9,
        labelled_accuracy=None,
        sentence="15 % are gibberish.",
    )


@pytest.mark.parametrize(
    ("word", "level"), [("quiet", "INFO"), ("warn", "INFO"), ("retrain", "INFO"), ("too_few", "INFO"), ("quarantine", "ERROR")]
)
def test_only_what_needs_a_person_is_logged_as_an_error(caplog, word, level):
    with caplog.at_level(logging.INFO):
        _tell(DAY, verdict(word), "s3://reviews/reports/check-7.html")
    [record] = caplog.records
    assert record.levelname == level
    assert "15 % are gibberish." in record.message
    assert word != "quarantine" or "s3://reviews/reports/check-7.html" in record.message


@pytest.mark.parametrize("word", ["quiet", "warn", "quarantine", "too_few"])
def test_no_verdict_but_one_sets_off_a_retrain(word):
    night = Night(window_date=DAY, run_id="run", kind="scheduled", model="champion", force=False, allow_retrain=True)
    assert word in _objection(None, night, {"verdict": word})  # no server is asked


def test_a_run_that_records_only_sets_nothing_off():
    night = Night(window_date=DAY, run_id="run", kind="backfill", model="as-of", force=False, allow_retrain=False)
    assert "records only" in _objection(None, night, {"verdict": "retrain"})
