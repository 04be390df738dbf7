"""
### Forget what has been kept long enough

Applies the section `retention` of `include/policy.toml`: shortens and removes excerpts of texts, removes superseded
scores, samples, rejected rows, old drift reports and training sets that no model in use was trained from, and clears
away what killed runs have left in staging. A review's current score goes only where `review_days` says so.

Runs at 04:00 UTC, when the night is done, and from the start: it need not be unpaused. A night it misses is made good
by the next. What it took away is counted: in what its tasks return, and in `sentiment.removals`.
"""

from datetime import timedelta

import wiring
from airflow.sdk import CronTriggerTimetable, dag, get_current_context, task


@dag(
    schedule=CronTriggerTimetable("0 4 * * *", timezone="UTC"),
    start_date=wiring.START,
    catchup=False,
    max_active_runs=1,  # two would wait for each other's locks
    is_paused_upon_creation=False,  # what the policy promises of personal data holds without anybody's doing
    dagrun_timeout=timedelta(hours=6),
    default_args=wiring.DEFAULT_ARGS,
    doc_md=__doc__,
    tags=["sentiment", "nightly"],
)
def maintain() -> None:
    """Bring the schema up to date, then forget in PostgreSQL and in the bucket."""

    @task
    def preflight() -> dict:
        """Bring the schema up to date and see that S3 answers."""
        from sentiment_core.stages.night import preflight

        with wiring.stage() as services:
            return preflight(services)

    @task(execution_timeout=timedelta(hours=4))
    def forget_rows() -> dict:
        """Shorten and remove excerpts, scores, samples and staging as the policy says; counts by kind."""
        from sentiment_core.stages.retention import forget_rows

        with wiring.stage() as services:
            return forget_rows(services, run_id=get_current_context()["run_id"])

    @task(execution_timeout=timedelta(hours=2))
    def forget_objects() -> dict:
        """Remove reports, training sets and rejected rows from the bucket as the policy says; counts by kind."""
        from sentiment_core.stages.retention import forget_objects

        with wiring.stage() as services:
            return forget_objects(services, run_id=get_current_context()["run_id"])

    preflight() >> [forget_rows(), forget_objects()]


maintain()
