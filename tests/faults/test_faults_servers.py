"""Servers that are killed, slow or lying: the worker goes on by itself when they are back, and nothing is lost or doubled."""

import contextlib
import os
import subprocess
import threading
import time
from datetime import date, timedelta
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from sentiment_core.errors import SentimentError, Transient
from sentiment_core.reviews.layout import incoming_prefix
from sentiment_core.stages.listing import list_new_objects
from tests.faults.conftest import make_servers
from tests.faults.place import DAY, Place

COPY = b"copy sentiment.staged_reviews"


@pytest.fixture
def gone_s(is_full):
    """How long a server stays away."""
    return 120 if is_full else 2


@pytest.fixture
def delivered(place):
    for number in range(3):
        place.deliver(f"{number}.jsonl", 3000, first=number * 1500)
    return place


def wait(seconds):
    threading.Event().wait(seconds)


def test_postgres_killed_in_the_middle_of_a_copy_and_gone_for_a_while(delivered, servers, figures, gone_s):
    place = delivered
    fault = place.to_postgres.on("hold_after", COPY)
    worker = place.start(patience_s=gone_s + 120)
    assert fault.reached.wait(60), worker.log
    servers.postgres_server.kill()
    place.to_postgres.heal()
    wait(gone_s)
    servers.postgres_server.start()
    figures.begin()
    assert worker.end() == 0, worker.log
    figures.add(place.check(), "the worker itself")


def test_postgres_killed_before_the_commit_of_a_publication(delivered, servers, figures, gone_s):
    place = delivered
    fault = place.to_postgres.on("hold_answer", b"set is_published = true", b"COMMIT")
    worker = place.start(patience_s=gone_s + 120)
    assert fault.reached.wait(60), worker.log
    servers.postgres_server.kill()
    place.to_postgres.heal()
    wait(gone_s)
    servers.postgres_server.start()
    figures.begin()
    assert worker.end() == 0, worker.log
    figures.add(place.check(), "the worker itself")


def test_s3_killed_while_objects_are_read(place, servers, figures, gone_s):
    place.deliver("0.jsonl", 10)
    place.deliver("large.jsonl", 40_000, first=1000, words="long enough to be streamed and not to be fetched ahead of its turn")
    place.to_s3.bytes_per_s = 4_000_000
    held = place.to_s3.on("hold_answer", b"GET ", b"/large.jsonl")
    worker = place.start(patience_s=gone_s + 120)
    assert held.reached.wait(60), worker.log
    servers.s3_server.kill()
    place.to_s3.heal()
    wait(gone_s)
    servers.s3_server.start()
    figures.begin()
    assert worker.end() == 0, worker.log
    figures.add(place.check(), "the worker itself")


def test_s3_far_away_and_slow(delivered, figures):
    place = delivered
    place.to_s3.delay_s, place.to_s3.bytes_per_s = 0.2, 500_000
    place.work()
    figures.add(place.check(), "nobody has to")


@pytest.mark.parametrize("kind", ["reset", "cut"])
def test_s3_that_breaks_off_its_answers(delivered, figures, kind):
    place = delivered
    fault = place.to_s3.on(kind, b"GET ", b".jsonl", times=6)
    worker = place.start(patience_s=60)
    assert fault.reached.wait(60), worker.log
    assert worker.end() == 0, worker.log
    figures.add(place.check(), "the worker itself")


def test_object_rewritten_between_listing_and_reading(delivered, figures):
    place = delivered
    fault = place.to_s3.on("hold", b"GET ", b"/1.jsonl")
    worker = place.start(patience_s=60)
    assert fault.reached.wait(60), worker.log
    place.deliver("1.jsonl", 2000, first=500, words="rewritten")
    place.to_s3.heal()
    assert worker.end() == 0, worker.log
    figures.add(place.check(), "the worker itself")


def test_object_deleted_between_listing_and_reading_harms_nothing_else(delivered, figures):
    place = delivered
    fault = place.to_s3.on("hold", b"GET ", b"/1.jsonl")
    worker = place.start(patience_s=60)
    assert fault.reached.wait(60), worker.log
    place.bucket._client.delete_object(Bucket=place.bucket.name, Key=incoming_prefix(DAY) + "1.jsonl")
    place.to_s3.heal()
    assert worker.end() == 0, worker.log
    figures.add(place.check(), "the worker itself")
    assert worker.said["n_failed"] == 1


def test_listing_that_is_stale(delivered, figures):
    """It shows versions that are no longer there, lacks what has come, and keeps doing so while the night is tried again."""
    place = delivered
    place.work(run_id="before")
    place.to_s3.keep(b"list-type=2")
    place.deliver("2.jsonl", 100, words="the version that the listing will know")
    place.work(run_id="sees the second version")
    place.deliver("2.jsonl", 50, words="the version that it will not know")
    place.deliver("3.jsonl", 10, first=9000)
    worker = place.start(run_id="sees what was", force=True)
    assert worker.end() == 0, worker.log
    place.to_s3.heal()
    figures.begin()
    place.work(run_id="sees what is")
    figures.add(place.check(), "the next run")


def test_clock_set_back(delivered, figures):
    """As if PostgreSQL's clock, and S3's, had gone an hour fast and been put right: what has been recorded lies ahead."""
    place = delivered
    fault = place.to_postgres.on("hold", b"set status = 'superseded'")
    worker = place.start()
    assert fault.reached.wait(60), worker.log
    worker.kill()
    place.to_postgres.heal()
    place.work(run_id="fast")
    times = {"source_objects": ("scored_at",), "object_dates": ("published_at",), "scoring_runs": ("started_at", "finished_at")}
    with place.engine.begin() as connection:
        for relation, columns in times.items():
            changes = ", ".join(f"{name} = {name} + interval '1 hour'" for name in columns)
            connection.execute(text(f"update sentiment.{relation} set {changes}"))
    place.deliver("1.jsonl", 700, words="written when the clock was right again")
    path = place.servers.s3.directory / "data" / place.bucket.name / incoming_prefix(DAY) / "1.jsonl"
    found = path.stat()
    os.utime(path, (found.st_atime, found.st_mtime - 3600))
    figures.begin()
    place.work(run_id="right")
    listed = {obj.key: obj.last_modified for obj in place.bucket.list("incoming/")}
    assert min(listed, key=listed.get).endswith("1.jsonl"), "the rewritten object has to look like the oldest"
    figures.add(place.check(), "the next run")


def test_one_row_and_one_object_in_a_hundred_bad(place, figures):
    for number in range(100):
        bad = '{"review_id": "no text"}\n' if number % 2 else ""
        place.deliver(f"{number:03}.jsonl", 50, first=number * 50, bad=bad)
    place.bucket.put(incoming_prefix(DAY) + "never.parquet", b"PAR1 and nothing else")
    outcome = place.work()
    counts = (outcome["n_objects"], outcome["n_failed"], outcome["n_quarantined"], outcome["status"])
    assert counts == (101, 1, 50, "succeeded")
    figures.add(place.check(), "nobody has to")
    reasons = place.rows("select reason from sentiment.source_objects where status = 'failed'")
    assert ["Parquet" in reason for (reason,) in reasons] == [True]


def test_thousands_of_tiny_files_far_away(place, figures, is_full):
    n = 5000 if is_full else 150
    for number in range(n):
        place.deliver(f"{number:05}.jsonl", 1, first=number)
    place.to_s3.delay_s = 0.03
    figures.begin()
    assert place.work()["n_objects"] == n
    figures.add(place.check(), "nobody has to")


def test_disk_full_under_postgres(tmp_path, figures):
    """The one fault that takes a person: room has to be made. Then the night goes on by itself."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=320m", "tmpfs", folder], check=False).returncode:
        pytest.skip("needs a small file system of its own, and so root and the right to mount")
    servers = make_servers(folder)
    try:
        servers.start()
        ballast = folder / "ballast"
        with Place.at(servers, tmp_path) as place:
            for number in range(8):
                place.deliver(f"{number}.jsonl", 12_000, first=number * 10_000, words="as long as a review is " * 4)
            fill(ballast, leave=9_000_000)
            with pytest.raises(Transient, match=r"No space left|server|connection"):
                place.work()
            ballast.unlink()
            with contextlib.suppress(AssertionError):  # without room for its log PostgreSQL may have stopped
                servers.postgres_server.kill()
            servers.postgres_server.start()
            figures.begin()
            place.work()
            figures.add(place.check(), "the task's next try, once a person has made room")
    finally:
        servers.stop()
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(ballast: Path, *, leave: int) -> None:
    free = os.statvfs(ballast.parent)
    with ballast.open("wb") as stream:
        for _ in range((free.f_bavail * free.f_frsize - leave) >> 20):
            stream.write(bytes(1 << 20))


def test_finished_night_run_again(place, figures, is_full):
    """A million reviews cost what listing them costs."""
    n_objects, n_rows = (50, 20_000) if is_full else (20, 1000)
    for number in range(n_objects):
        place.deliver(f"{number:02}.jsonl", n_rows, first=number * n_rows)
    place.work(run_id="first")
    figures.begin()
    assert place.work(run_id="again")["n_objects"] == 0
    figures.add({**dict.fromkeys(("lost", "doubled", "wrong"), 0), "n": n_objects * n_rows}, "nobody has to")
    assert figures.seconds < 10
    if not is_full:
        place.check()


def test_listing_of_many_keys(place, servers, figures, is_full):
    n = 100_000 if is_full else 5_000
    folder = place.servers.s3.directory / "data" / place.bucket.name
    for back in range(8):
        there = folder / incoming_prefix(DAY - timedelta(days=back))
        there.mkdir(parents=True)
        for number in range(n // 8):
            (there / f"{number:06}.jsonl").write_bytes(b"")
    services, night = place.order().services(), place.night(kind="scheduled")
    figures.begin()
    before = cpu_seconds(servers)
    batches = list_new_objects(services, night)
    spent = cpu_seconds(servers) - before
    services.engine.dispose()
    assert sum(batch["n_objects"] for batch in batches) == n
    figures.add(
        {**dict.fromkeys(("lost", "doubled", "wrong"), 0), "n": n}, f"nobody has to: {spent:.0f} s of CPU, the server's included"
    )
    if is_full:
        assert figures.seconds < 30


def cpu_seconds(servers) -> float:
    """Of this process and of the S3 server."""
    return time.process_time() + sum(psutil.Process(servers.s3_server.pid).cpu_times()[:2])


def test_one_file_of_gigabytes(place, figures, is_full):
    """Streamed: what the worker holds at most does not grow with the file."""
    n_bytes = int(os.environ.get("FAULTS_BYTES") or 5 << 30) if is_full else 200 << 20
    # Both before the server is asked for the first time: it does not notice at once what is put under its feet.
    files = {
        name: (day, write_large(place, day, size))
        for name, day, size in (("small", DAY, 50 << 20), ("large", DAY + timedelta(days=1), n_bytes))
    }
    peaks = {}
    for name, (day, n) in files.items():
        figures.begin()
        worker = place.start(day=day, run_id=name)
        assert worker.end(3600) == 0, worker.log
        query = """select count(*), count(distinct review_id), count(*) filter (where model_version = 1 and run_id = :name)
                   from sentiment.scored_reviews where review_date = :day"""
        assert place.rows(query, name=name, day=day) == [(n, n, n)]
        peaks[name] = worker.said["peak_bytes"]
    figures.add(
        {"n": n, "lost": 0, "doubled": 0, "wrong": 0}, f"nobody has to: {n_bytes / 2**30:.1f} GB, {peaks['large'] >> 20} MB held"
    )
    assert peaks["large"] < 1.3 * peaks["small"] + (64 << 20), peaks


def write_large(place: Place, day: date, n_bytes: int) -> int:
    """A file of so many bytes, put where the S3 server keeps its objects; gives its number of reviews."""
    path = place.servers.s3.directory / "data" / place.bucket.name / incoming_prefix(day) / "large.jsonl"
    path.parent.mkdir(parents=True)
    words = "as long as a review that somebody has taken trouble over " * 70
    n = 0
    with path.open("wb") as stream:
        while stream.tell() < n_bytes:
            lines = (f'{{"review_id": "r{number}", "text": "{number} {words}"}}\n' for number in range(n, n + 1000))
            n += stream.write("".join(lines).encode()) and 1000
    return n


def test_a_night_without_any_server_says_so(place, servers):
    place.deliver("0.jsonl", 10)
    servers.postgres_server.kill()
    with pytest.raises(SentimentError, match="PostgreSQL"):
        place.work()
    servers.postgres_server.start()
    place.work()
    place.check()
