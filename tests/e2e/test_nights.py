"""Nights through the real scheduler: what sets a run off, which night it scores, what a drifted one leads to."""

import pytest

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("answer", ["held", "promoted"])
def test_a_person_is_asked_with_the_figures_at_hand(request, answer):
    decision = request.getfixturevalue(answer)
    assert decision.asked["options"] == ["Promote", "Hold"]
    assert decision.asked["defaults"] == ["Hold"]
    assert decision.asked["subject"].startswith("Promote version ")
    assert decision.asked["body"]
    assert decision.state == "success"


def test_an_answer_decides_about_the_promotion(machine, held, promoted):
    query = "select model_version, event, reason from sentiment.model_events where run_id = :run_id order by event_id"
    first, second = machine.rows(query, run_id=held.run_id), machine.rows(query, run_id=promoted.run_id)
    assert [(version, event) for version, event, _ in first] == [(1, "registered"), (1, "held")]
    assert first[1][2].startswith("not approved by a person")
    assert [(version, event) for version, event, _ in second] == [(2, "registered"), (2, "promoted")]
    assert machine.services.registry.resolve("champion").version == 2


@pytest.mark.parametrize("way", ["key", "date", "neither"])
def test_a_run_scores_exactly_its_night(machine, nights, way):
    night = nights[way]
    assert night.state == "success"
    assert night.run_id in machine.runs_of(night.date)
    assert machine.counts(night.date) == [(night.n, night.n, 1)]


def test_no_other_night_was_touched(machine, nights, scheduled):
    dates = {day for (day,) in machine.rows("select distinct window_date from sentiment.source_objects")}
    assert dates >= {night.date for night in nights.values()}
    ours = {night.run_id: night.date for night in (*nights.values(), scheduled)}
    runs = machine.rows("select run_id, window_date from sentiment.scoring_runs")
    assert [(run_id, day) for run_id, day in runs if ours.get(run_id, day) != day] == []


def test_a_row_without_an_id_is_listed_with_its_reason(machine, nights):
    [(review_id, reason)] = machine.rows(
        """select q.review_id, q.reason from sentiment.quarantined_reviews q join sentiment.source_objects o using (object_id)
           where o.window_date = :day""",
        day=nights["key"].date,
    )
    assert review_id is None
    assert "review_id" in reason


def test_a_run_takes_the_version_it_is_asked_for(machine, nights):
    query = "select distinct model_version from sentiment.scored_reviews where review_date = :day"
    assert machine.rows(query, day=nights["date"].date) == [(1,)]
    assert machine.rows(query, day=nights["key"].date) == [(2,)]


def test_a_drifted_night_sets_off_a_retrain_that_is_held_for_want_of_labels(machine, nights):
    night = nights["drifted"]
    assert machine.verdicts(night.date)[0] == "retrain"
    assert night.tasks["set_off_retrain"] == "success"
    run_id = f"drift__{night.date}"
    assert run_id in machine.run_ids("retrain_model")
    assert machine.end("retrain_model", run_id) == "success"
    query = "select model_version, event, reason from sentiment.model_events where run_id = :run_id"
    [(version, event, reason)] = machine.rows(query, run_id=run_id)
    assert (version, event) == (2, "held")
    assert reason.startswith("0 labels since version 2 was trained")
    assert f"drift on {night.date}" in reason
    assert machine.states("retrain_model", run_id)["train_candidate"] == "skipped"


def test_quiet_nights_set_nothing_off(machine, nights):
    for way in ("key", "date", "neither"):
        assert nights[way].tasks["set_off_retrain"] == "skipped"


def test_a_tasks_log_lies_in_s3_and_is_told_over_rest(machine, nights):
    night = nights["key"]
    assert "2 objects in 1 folders, 2 to score" in machine.api.task_log("score_reviews", night.run_id, "list_new_objects")
    s3 = machine.stack.s3.client()
    prefix = f"tasks/dag_id=score_reviews/run_id={night.run_id}/task_id=list_new_objects/"
    logs = machine.until(lambda: s3.list_objects_v2(Bucket="airflow-logs", Prefix=prefix).get("Contents"), "the task's log")
    texts = [s3.get_object(Bucket="airflow-logs", Key=log["Key"])["Body"].read() for log in logs]
    assert any(b"2 objects in 1 folders, 2 to score" in text for text in texts)


def test_the_schedules_own_run_goes_on_when_its_folder_fills(machine, scheduled):
    assert machine.end("score_reviews", scheduled.run_id) == "success"
    assert scheduled.run_id in machine.runs_of(scheduled.date)
    assert machine.counts(scheduled.date) == [(scheduled.n, scheduled.n, 1)]
