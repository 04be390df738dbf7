"""A worker that is killed, cut off or suspended at any step: the next try, or the next run, makes everything right."""

import signal

import pytest

N_OBJECTS, N_ROWS = 4, 600
# Where, and by which words on the way to PostgreSQL the step is known. The last words are what is stopped.
STAGED, PUBLISHED = b"set status = 'superseded'", b"set is_published = true"
STEPS = {
    "before it lists": ("hold", b"pg_temp.listed_objects"),
    "before what it lists is kept": ("hold", b"copy sentiment.batch_objects"),
    "before it claims": ("hold", b"insert into sentiment.object_leases"),
    "after it has claimed": ("hold_answer", b"insert into sentiment.object_leases", b"COMMIT"),
    "in the middle of a copy": ("hold_after", b"copy sentiment.staged_reviews"),
    "before it hands its lease back": ("hold", b"delete from sentiment.object_leases"),
    "before the commit of an object": ("hold", STAGED, b"COMMIT"),
    "after the commit of an object": ("hold_answer", STAGED, b"COMMIT"),
    "before it publishes": ("hold", b"sentiment.publish "),
    "before the commit of a publication": ("hold", PUBLISHED, b"COMMIT"),
    "after the commit of a publication": ("hold_answer", PUBLISHED, b"COMMIT"),
    "before the run is closed": ("hold", b"update sentiment.scoring_runs"),
}


@pytest.fixture
def delivered(place):
    """Objects that share reviews, in one of them a bad row."""
    for number in range(N_OBJECTS):
        place.deliver(f"{number}.jsonl", N_ROWS, first=number * N_ROWS // 2, bad="{" if number == 1 else "")
    return place


@pytest.mark.parametrize("step", STEPS)
def test_worker_killed(delivered, figures, step):
    place = delivered
    kind, *words = STEPS[step]
    fault = place.to_postgres.on(kind, *words)
    worker = place.start()
    assert fault.reached.wait(60), worker.log
    worker.kill()
    place.to_postgres.heal()
    place.to_postgres.drop_links()
    figures.begin()
    place.work()
    figures.add(place.check(), "the task's next try")


@pytest.mark.parametrize(
    "step", ["before it claims", "in the middle of a copy", "after the commit of an object", "before it publishes"]
)
def test_worker_killed_and_its_run_never_tried_again(delivered, figures, step):
    place = delivered
    kind, *words = STEPS[step]
    fault = place.to_postgres.on(kind, *words)
    worker = place.start(champion=1)
    assert fault.reached.wait(60), worker.log
    worker.kill()
    place.to_postgres.heal()
    place.to_postgres.drop_links()
    figures.begin()
    place.work(run_id="another", champion=2)
    assert {version for (version,) in place.rows("select model_version from sentiment.scored_reviews")} <= {1, 2}
    figures.add(place.check(), "another run, with the next version")


def test_worker_killed_while_it_reads(delivered, figures):
    place = delivered
    fault = place.to_s3.on("hold", b"GET ", b"/3.jsonl")
    worker = place.start()
    assert fault.reached.wait(60), worker.log
    worker.kill()
    place.to_s3.heal()
    figures.begin()
    place.work()
    figures.add(place.check(), "the task's next try")


@pytest.mark.parametrize("step", [step for step in STEPS if step.startswith(("after", "before the commit", "before it hands"))])
def test_connection_to_postgres_lost(delivered, figures, step):
    place = delivered
    kind, *words = STEPS[step]
    fault = place.to_postgres.on(kind, *words)
    worker = place.start(patience_s=60)
    assert fault.reached.wait(60), worker.log
    figures.begin()
    place.to_postgres.drop_links()
    place.to_postgres.heal()
    assert worker.end() == 0, worker.log
    figures.add(place.check(), "the worker itself")


@pytest.mark.parametrize("step", ["in the middle of a copy", "before it hands its lease back"])
def test_worker_suspended_that_outlives_its_lease_and_wakes_up(delivered, figures, step):
    place = delivered
    kind, *words = STEPS[step]
    fault = place.to_postgres.on(kind, *words)
    worker = place.start(policy={"lease_seconds": 1.0}, patience_s=60)
    assert fault.reached.wait(60), worker.log
    worker.signal(signal.SIGSTOP)
    figures.begin()
    place.deliver("0.jsonl", N_ROWS, words="rewritten meanwhile")
    counts = place.work(run_id="another", champion=2)
    assert counts["n_objects"] == N_OBJECTS
    before = place.rows("select * from sentiment.scored_reviews order by review_id")
    counts = place.check()
    place.to_postgres.heal()
    worker.signal(signal.SIGCONT)
    assert worker.end() == 0, worker.log
    assert "LeaseLost" in worker.log or "another run has taken it over" in worker.log
    assert place.check() == counts
    assert place.rows("select * from sentiment.scored_reviews order by review_id") == before, "the sleeper has written nothing"
    figures.add(counts, "another run; the sleeper's next try finds nothing to do")


@pytest.mark.parametrize("step", ["before the commit of an object", "before the commit of a publication"])
def test_worker_suspended_with_locks_that_others_need(delivered, figures, step, is_full):
    if not is_full:
        pytest.skip("takes the minute after which PostgreSQL ends an idle session; FAULTS_FULL=1 runs it")
    place = delivered
    kind, *words = STEPS[step]
    fault = place.to_postgres.on(kind, *words)
    worker = place.start(policy={"lease_seconds": 1.0}, patience_s=600)  # of which it sleeps away a minute and more
    assert fault.reached.wait(60), worker.log
    worker.signal(signal.SIGSTOP)
    figures.begin()
    place.work(run_id="another", patience_s=120)
    figures.add(place.check(), "another run, when PostgreSQL has ended the sleeper's session")
    place.to_postgres.heal()
    worker.signal(signal.SIGCONT)
    assert worker.end() == 0, worker.log
    place.check()


def test_two_runs_on_the_same_night_at_the_same_moment(delivered, figures):
    place = delivered
    fault = place.to_postgres.on("hold", b"copy sentiment.staged_reviews", times=2)
    workers = [place.start(run_id=f"run-{number}", patience_s=60) for number in range(2)]
    assert fault.reached.wait(60)
    place.to_postgres.heal()
    assert [worker.end() for worker in workers] == [0, 0], [worker.log for worker in workers]
    figures.add(place.check(), "nobody has to")
