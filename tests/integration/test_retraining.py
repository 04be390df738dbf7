"""A retrain that is killed goes on where it stood, and leaves no trials behind when it is done."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from sentiment_core.stages import promotion, retraining
from sentiment_core.stages.retraining import train_candidate
from sentiment_core.stages.training_sets import write_snapshot
from sentiment_core.store.engine import connect
from sentiment_core.store.migrate import migrate

KEPT = "select study_name from sentiment_search.studies order by study_id"


class Killed(BaseException):
    """What nobody catches."""


@pytest.fixture
def quick(services):
    """The services under a policy that tries two recipes only."""
    migrate(services.settings.database_url)
    policy = services.policy
    services.__dict__["policy"] = replace(policy, search=replace(policy.search, trials=2, folds=2))
    return services


@pytest.fixture
def snapshot(quick, training_set):
    return write_snapshot(quick, training_set.slice(0, 400))


def rows(services, query: str) -> list[tuple]:
    with connect(services.settings.database_url, role=None).begin() as connection:  # trials are the owner's alone
        found = connection.execute(text(query))
        return [tuple(row) for row in found] if found.returns_rows else []


def test_trials_are_kept_until_the_retrain_is_written_down_and_no_longer(quick, snapshot, monkeypatch):
    def killed(*_, **__):
        raise Killed

    def retrain(**more):
        return train_candidate(quick, snapshot=snapshot, run_id="run 1", reason="a test", **more)

    with monkeypatch.context() as patch:
        patch.setattr(promotion, "record", killed)
        with pytest.raises(Killed):
            retrain()
    assert [len(rows(quick, query)) for query in (KEPT, "select 1 from sentiment_search.trials")] == [1, 2]
    told: list[str] = []
    ref = retrain(on_progress=told.append)
    assert not any(words.startswith("trial ") for words in told), "what was tried is not tried again"
    assert ref.version == 1
    assert rows(quick, KEPT) == []
    assert rows(quick, "select 1 from sentiment_search.trials") == []
    assert [version["version"] for version in quick.registry.versions()] == [1]
    monkeypatch.setattr(retraining, "read_snapshot", killed)
    assert retrain().version == 1, "a step that is tried again after it was done trains nothing"
    assert rows(quick, "select model_version, event from sentiment.model_events") == [(1, "registered")]


def test_a_search_that_nobody_went_on_with_is_forgotten_after_its_days(quick, snapshot, training_set, monkeypatch):
    def killed(*_, **__):
        raise Killed

    for place, days in ((0, quick.policy.search.study_days + 1), (1, 0)):
        left = write_snapshot(quick, training_set.slice(500 + place, 400))
        with monkeypatch.context() as patch:
            patch.setattr(type(quick.registry), "register", killed)
            with pytest.raises(Killed):
                train_candidate(quick, snapshot=left, run_id=f"left {place}", reason="a test")
        rows(quick, f"update sentiment_search.trials set datetime_start = datetime_start - interval '{days} days'")
    kept = rows(quick, KEPT)
    assert len(kept) == 2
    train_candidate(quick, snapshot=snapshot, run_id="run 1", reason="a test")
    assert rows(quick, KEPT) == kept[1:]
