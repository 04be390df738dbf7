"""
### Ingest late labels

Reads label files from `labels/date=D/` into `sentiment.labels`; the label with the latest `labelled_at` wins, so
a file may be read any number of times. Rejected rows go to `quarantine/` with their reasons.

Runs at 01:00 UTC for the day before, ahead of the nightly scoring, so that the drift check sees them.
"""

from datetime import timedelta

import wiring
from airflow.sdk import Param, dag, task
from sentiment_timetable import NightlyTimetable


@dag(
    schedule=NightlyTimetable("0 0 * * *", timezone="Etc/GMT+1", run_offset=-1, key_format="%Y-%m-%d"),
    start_date=wiring.START,
    catchup=False,
    max_active_runs=2,
    dagrun_timeout=timedelta(hours=6),
    default_args=wiring.DEFAULT_ARGS,
    doc_md=__doc__,
    tags=["sentiment", "nightly"],
    params={"date": Param(None, type=["null", "string"], format="date", description="Folder to read; empty: the run's own day")},
)
def ingest_labels() -> None:
    """Bring the schema up to date, then read the folder's label files."""

    @task
    def preflight() -> dict:
        """Bring the schema up to date and see that S3 answers."""
        from sentiment_core.stages.night import preflight

        with wiring.stage() as services:
            return preflight(services)

    @task
    def ingest() -> dict:
        """Read the label files of the day, and of the late days in a scheduled run."""
        from sentiment_core.stages.delivery import ingest_labels

        with wiring.stage() as services:
            return ingest_labels(services, wiring.night())

    preflight() >> ingest()


ingest_labels()
