"""Policy, settings, nouns and the one function that decides a run's window."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from sentiment_core import domain, schema
from sentiment_core.errors import Permanent
from sentiment_core.policy import read_policy
from sentiment_core.settings import REPOSITORY, Settings
from sentiment_core.stages.window import Night, plan_night, window_of

POLICY = REPOSITORY / "include" / "policy.toml"


def test_the_policy_in_the_repository_is_valid():
    assert read_policy(POLICY).nightly.batch_objects > 0


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("[drift]", "[drift]\nalpha = 0.1", "drift.alpha"),
        ("[storage]", "[store]", "store"),
        ("batch_rows = 3072", "batch_rows = 'many'", "reading.batch_rows"),
        ("batch_rows = 3072", "", "reading.batch_rows"),
        ('mode = "evidence"', 'mode = "whim"', "drift.mode"),
        ("[reading]", "[reading", "readable TOML"),
        ("evidence_ramps = [10, 15]", "evidence_ramps = 15", "drift.evidence_ramps"),
        ("evidence_ramps = [10, 15]", "evidence_ramps = []", "drift.evidence_ramps"),
        ("evidence_ramps = [10, 15]", "evidence_ramps = [10, 0]", "drift.evidence_ramps"),
        ("evidence_ramps = [10, 15]", "evidence_ramps = [10.5]", "drift.evidence_ramps"),
        ("evidence_ramps = [10, 15]", "evidence_ramps = [15, 15]", "drift.evidence_ramps"),
        ("season_sizes = [0.0,", "season_sizes = [-0.1,", "drift.season_sizes"),
        ("season_sizes = [0.0,", "season_sizes = [nan,", "drift.season_sizes"),
    ],
)
def test_a_policy_that_is_off_is_refused_by_the_name_of_its_key(tmp_path: Path, before: str, after: str, named: str):
    text = POLICY.read_text(encoding="utf-8")
    assert before in text
    path = tmp_path / "policy.toml"
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(Permanent, match=named):
        read_policy(path)


def test_settings_name_an_unknown_variable():
    with pytest.raises(Permanent, match="SENTIMENT_DATABSE_URL"):
        Settings.from_environment({"SENTIMENT_DATABSE_URL": "x"})


def test_settings_say_what_is_missing_and_what_to_do():
    with pytest.raises(Permanent, match=r"SENTIMENT_DATABASE_URL.*make up"):
        Settings.from_environment({})


def test_settings_choose_psycopg2_and_hide_passwords():
    settings = Settings.from_environment(
        {
            "SENTIMENT_DATABASE_URL": "postgresql://me:secret@db/reviews",
            "MLFLOW_TRACKING_URI": "http://me:secret@mlflow",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
    )
    assert settings.database_url == "postgresql+psycopg2://me:secret@db/reviews"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("key", "param", "expected"),
    [
        ("2026-11-05", "2026-11-09", date(2026, 11, 5)),
        (None, "2026-11-09", date(2026, 11, 9)),
        (None, None, date(2026, 11, 20)),
    ],
)
def test_the_window_is_the_partition_then_the_param_then_the_day_before(key, param, expected):
    run_after = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)
    assert window_of(partition_key=key, param_date=param, run_after=run_after).window_date == expected


@pytest.mark.parametrize("day", ["0001-01-01", "1969-12-31", "9000-01-01", "9999-12-31"])
def test_a_night_at_the_ends_of_the_calendar_is_refused(day: str):
    for key, param in ((day, None), (None, day)):
        with pytest.raises(Permanent, match="expected a date"):
            plan_night(partition_key=key, params={"date": param}, run_after=None, run_id="r", run_type="manual")


def test_a_window_that_is_no_date_is_refused():
    with pytest.raises(Permanent, match="partition key: expected a date such as 2026-11-20, found 'yesterday'"):
        window_of(partition_key="yesterday", param_date=None, run_after=None)


@pytest.mark.parametrize(
    ("run_type", "params", "model", "allow_retrain"),
    [
        ("scheduled", {}, "champion", True),
        ("manual", {}, "champion", True),
        ("backfill", {}, "as-of", False),
        ("backfill", {"model": "champion", "allow_retrain": True}, "champion", True),
        ("scheduled", {"allow_retrain": False, "model": "3"}, "3", False),
    ],
)
def test_a_backfill_gives_what_the_night_gave_and_sets_nothing_off(run_type, params, model, allow_retrain):
    night = plan_night(partition_key="2026-11-05", params=params, run_after=None, run_id="r", run_type=run_type)
    assert (night.model, night.allow_retrain) == (model, allow_retrain)
    assert Night.from_json(night.to_json()) == night


def test_a_window_is_in_utc():
    with pytest.raises(ValueError, match="UTC"):
        domain.Window(start=datetime(2026, 11, 1), end=datetime(2026, 11, 2))  # noqa: DTZ001


def test_a_verdict_holds_no_nan():
    with pytest.raises(ValueError, match="p_value"):
        domain.DriftVerdict(
            verdict="quiet", n=1, p_value=float("nan"), effect=0.0, estimated_accuracy=None, labelled_accuracy=None
        )


def test_column_names_follow_their_grammar():
    for relation in schema.RELATIONS:
        for column in relation.fields:
            assert column.comment, (relation.name, column.name)
            if column.name.endswith("_at"):
                assert column.sql == "timestamptz", (relation.name, column.name)
            if column.name.endswith("_date"):
                assert column.sql == "date", (relation.name, column.name)
            if column.name.startswith("n_"):
                assert column.sql in ("integer", "bigint"), (relation.name, column.name)
