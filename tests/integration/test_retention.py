"""What a night of maintenance takes away, and what it never does: over the real servers, by the policy's own numbers."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from sentiment_core.errors import Permanent
from sentiment_core.policy import read_policy
from sentiment_core.reviews.layout import incoming_prefix, labels_prefix, report_key, snapshot_key
from sentiment_core.settings import REPOSITORY
from sentiment_core.stages import checking
from sentiment_core.stages.night import score_window
from sentiment_core.stages.promotion import record
from sentiment_core.stages.retention import forget_objects, forget_rows
from sentiment_core.store import retention as store

DAY = datetime.now(UTC).date()
POLICY = read_policy(REPOSITORY / "include" / "policy.toml")


@pytest.fixture
def later(monkeypatch):
    """Let days pass."""

    def pass_days(days):
        monkeypatch.setattr(store, "today", lambda _: DAY + timedelta(days=days))

    return pass_days


@pytest.fixture
def policy(services):
    """Change a limit, as an edit of the file would."""

    def change(section, **values):
        services.__dict__["policy"] = replace(services.policy, **{section: replace(getattr(services.policy, section), **values)})

    return change


def deliver(services, *rows, name="a.jsonl"):
    services.bucket.put(incoming_prefix(DAY) + name, "".join(json.dumps(row) + "\n" for row in rows).encode())


def review(number, words="a wonderful film with a moving story"):
    return {"review_id": f"r{number}", "text": f"{words} number {number}"}


def rows(services, query):
    with services.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def keys(services, prefix=""):
    return {obj.key for obj in services.bucket.list(prefix)}


def test_nothing_is_forgotten_before_its_time_and_everything_after(services, trained_model, later):
    ref = trained_model(services)
    deliver(services, review(1), {"review_id": "bad"})
    score_window(services, DAY)
    deliver(services, review(1, "a dreadful film"))
    score_window(services, DAY)
    checking.check_date(services, DAY, ref, run_id="test")
    delivered = keys(services, "incoming/")
    assert {**forget_rows(services, run_id="m"), **forget_objects(services, run_id="m")} == {
        "excerpts": 0, "history": 0, "samples": 0, "quarantined_rows": 0, "staged_rows": 0, "leaves": 0,
        "reports": 0, "quarantined_objects": 0, "snapshots": 0,
    }  # fmt: skip
    later(40_000)
    counts = {**forget_rows(services, run_id="m"), **forget_objects(services, run_id="m")}
    expected = {"excerpts": 1, "history": 1, "samples": 1, "reports": 1, "snapshots": 0}
    assert {name: counts[name] for name in expected} == expected
    assert rows(services, "select review_id, text_excerpt from sentiment.scored_reviews") == [("r1", None)]
    assert rows(services, "select count(*) from sentiment.score_history") == [(0,)]
    assert (keys(services, "reports/"), keys(services, "quarantine/")) == (set(), set())
    assert keys(services, "incoming/") == delivered
    noted = dict(rows(services, "select what, sum(n)::integer from sentiment.removals where run_id = 'm' group by what"))
    assert noted["objects of reports/"] == noted["excerpts"] == noted["history"] == noted["samples"] == 1
    assert rows(services, "select count(*) from sentiment.drift_checks") == [(1,)]


def test_a_review_goes_only_when_the_policy_says_so(services, trained_model, later, policy):
    trained_model(services)
    deliver(services, review(1) | {"rating": 5})
    score_window(services, DAY)
    later(40_000)
    forget_rows(services, run_id="m")
    assert rows(services, "select count(*) from sentiment.scored_reviews") == [(1,)]
    policy("retention", review_days=365)
    counts = forget_rows(services, run_id="m")
    assert (counts["reviews"], counts["labels"]) == (1, 1)
    assert rows(services, "select count(*) from sentiment.scored_reviews") == [(0,)]
    assert score_window(services, DAY)["n_objects"] == 0  # and the same delivery does not bring it back


def test_a_policy_that_keeps_everything_takes_nothing_away(services, trained_model, later, policy):
    ref = trained_model(services)
    deliver(services, review(1), {"review_id": "bad"})
    score_window(services, DAY)
    checking.check_date(services, DAY, ref, run_id="test")
    before = keys(services)
    later(40_000)
    policy("retention", **dict.fromkeys(vars(POLICY.retention), 0))
    assert forget_rows(services, run_id="m") == {"excerpts": 0}
    assert forget_objects(services, run_id="m") == {"reports": 0, "quarantined_objects": 0}
    assert keys(services) == before


def test_a_policy_without_excerpts_keeps_none_of_those_that_are_there(services, trained_model, policy):
    trained_model(services)
    deliver(services, review(1))
    score_window(services, DAY)
    policy("storage", text_excerpt=0)
    assert forget_rows(services, run_id="m")["excerpts"] == 1
    deliver(services, review(2), name="b.jsonl")
    score_window(services, DAY)
    assert rows(services, "select count(*), count(text_excerpt) from sentiment.scored_reviews") == [(2, 0)]


def test_training_sets_in_use_stay(services, trained_model, candidate, later):
    """Of the champion, of who was champion before, of a challenger; not of versions that nobody returns to."""
    used = {name: snapshot_key(f"{number:064x}") for number, name in enumerate(("oldest", "before", "champion", "challenger"))}
    unused = snapshot_key("f" * 64)
    for key in (*used.values(), unused):
        services.bucket.put(key, b"a training set")
    for name, key in used.items():
        ref = services.registry.register(
            replace(candidate, trials=candidate.trials[:1]), snapshot_key=key, code_version="t", run_name=name, description=name
        )
        if name != "challenger":
            services.registry.set_alias("champion", ref.version)
            record(services, ref.version, "promoted", "test", run_id=name, snapshot=key)
    services.registry.set_alias("challenger", ref.version)
    assert forget_objects(services, run_id="m")["snapshots"] == 0
    later(40_000)
    assert forget_objects(services, run_id="m")["snapshots"] == 2
    assert keys(services, "snapshots/") == {used["before"], used["champion"], used["challenger"]}


def test_what_is_forgotten_of_the_bucket_leaves_what_senders_delivered(services, later):
    for key in (
        incoming_prefix(DAY) + "a.csv",
        labels_prefix(DAY) + "a.csv",
        report_key(DAY, 1),
        "quarantine/x.jsonl",
        "reportsx/y",
    ):
        services.bucket.put(key, b"words")
    later(40_000)
    counts = forget_objects(services, run_id="m")
    assert (counts["reports"], counts["quarantined_objects"]) == (1, 1)
    assert keys(services) == {incoming_prefix(DAY) + "a.csv", labels_prefix(DAY) + "a.csv", "reportsx/y"}


def test_a_date_whose_samples_are_gone_can_still_be_judged(services, trained_model, later, policy):
    ref = trained_model(services)
    deliver(services, *(review(number) for number in range(300)))
    score_window(services, DAY)
    later(400)
    assert forget_rows(services, run_id="m")["samples"] == 1
    check = checking.check_date(services, DAY, ref, run_id="test")
    assert check["verdict"] == "too_few"
    assert check["n"] == 300


@pytest.mark.parametrize("days", [-1, 40_000])
def test_a_retention_that_is_no_number_of_days_is_refused(tmp_path, days):
    path = tmp_path / "policy.toml"
    words = (REPOSITORY / "include" / "policy.toml").read_text(encoding="utf-8")
    assert "report_days = 365" in words
    path.write_text(words.replace("report_days = 365", f"report_days = {days}"), encoding="utf-8")
    with pytest.raises(Permanent, match=r"retention\.report_days"):
        read_policy(path)
