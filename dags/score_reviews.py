"""
### Score a night of reviews

Scores what landed in `incoming/date=D/` with the champion of the MLflow registry, writes one row a review to
`sentiment.scored_reviews`, compares the night with what the model was tested on, and sets off `retrain_model`
when the drift exceeds the policy's threshold.

Runs at 02:00 UTC for the day before. To run it for another night: *Trigger* with `date`, or a backfill (both ends
included). Running a night again changes nothing unless there is something new; `force` scores its objects again.
A backfill uses the model of the night itself (`as-of`) and sets nothing off.

Where to look when it fails: `sentiment doctor`; a bad row is in `sentiment.quarantined_reviews`, an unreadable
object in `sentiment.source_objects` with its reason.
"""

from datetime import timedelta

import wiring
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, TriggerRule, dag, task
from sentiment_timetable import NightlyTimetable

# 02:00 UTC written as midnight two hours west: a backfill compares midnights, and would lose its last day otherwise.
NIGHTLY = NightlyTimetable("0 0 * * *", timezone="Etc/GMT+2", run_offset=-1, key_format="%Y-%m-%d")


@dag(
    schedule=NIGHTLY,
    start_date=wiring.START,
    catchup=False,
    max_active_runs=4,  # nights are independent; the pool bounds how many score at the same moment
    dagrun_timeout=timedelta(hours=12),
    default_args=wiring.DEFAULT_ARGS,
    doc_md=__doc__,
    tags=["sentiment", "nightly"],
    params={
        "date": Param(None, type=["null", "string"], format="date", description="Night to score; empty: the run's own night"),
        "model": Param(
            None,
            type=["null", "string"],
            pattern="^(champion|challenger|as-of|[0-9]+)$",
            description="champion, challenger, as-of or a version; empty: champion, for a backfill as-of",
        ),
        "force": Param(False, type="boolean", description="Score objects again that have been scored"),
        "allow_retrain": Param(
            None, type=["null", "boolean"], description="May drift set off a retrain? Empty: yes, for a backfill no"
        ),
    },
)
def score_reviews() -> None:
    """Preflight, wait for the folder, pin the model, list, score, publish, check, and retrain when drifted."""

    @task
    def preflight() -> dict:
        """Bring the schema up to date and see that S3 answers."""
        from sentiment_core.stages.night import preflight

        with wiring.stage() as services:
            return preflight(services)

    @task(trigger_rule=TriggerRule.NONE_FAILED)
    def resolve_model() -> dict:
        """Pin the model to one version for the whole run."""
        from sentiment_core.stages.night import resolve_model

        with wiring.stage() as services:
            return resolve_model(services, wiring.night()).to_json()

    @task
    def list_new_objects() -> list:
        """Ask the ledger which listed objects are new, cut into batches."""
        from sentiment_core.stages.listing import list_new_objects

        with wiring.stage() as services:
            return list_new_objects(services, wiring.night())

    @task(
        pool=wiring.POOL,
        execution_timeout=timedelta(hours=6),
        map_index_template="{{ task.op_kwargs['batch']['n_objects'] }} objects",
    )
    def score_objects(model: dict, batch: dict) -> dict:
        """Score a batch of objects into staging."""
        from sentiment_core.domain import ModelRef
        from sentiment_core.stages.night import score_objects

        with wiring.stage() as services:
            return score_objects(services, wiring.night(), ModelRef.from_json(model), batch)

    @task(trigger_rule=TriggerRule.NONE_FAILED, execution_timeout=timedelta(hours=2))
    def publish_dates(model: dict, counts: list) -> dict:
        """Make the staged rows current, date by date."""
        from sentiment_core.domain import ModelRef
        from sentiment_core.stages.night import publish_dates

        with wiring.stage() as services:
            return publish_dates(services, wiring.night(), ModelRef.from_json(model), counts or [])

    @task
    def check_drift(model: dict, published: dict) -> dict:
        """Judge the date's rows, keep the report, record the verdict."""
        from sentiment_core.domain import ModelRef
        from sentiment_core.stages.checking import check_drift

        with wiring.stage() as services:
            return check_drift(services, wiring.night(), ModelRef.from_json(model), published["published"])

    @task.short_circuit
    def is_retrain_due(check: dict) -> bool:
        """Go on only when this verdict is to set off a retrain."""
        from sentiment_core.stages.checking import is_retrain_due

        with wiring.stage() as services:
            return is_retrain_due(services, wiring.night(), check)

    @task(pool=wiring.POOL, execution_timeout=timedelta(hours=2), priority_weight=-1, weight_rule="absolute")
    def score_shadow() -> dict:
        """Score the night with the challenger too, into score_history only, where the policy asks for it."""
        from sentiment_core.stages.shadow import score_shadow

        with wiring.stage() as services:
            return score_shadow(services, wiring.night())

    @task(trigger_rule=TriggerRule.ONE_FAILED)
    def record_failure() -> None:
        """Say in scoring_runs that the run did not finish."""
        from sentiment_core.stages.night import record_failure

        with wiring.stage() as services:
            record_failure(services, wiring.night())

    wait_for_folder = wiring.NightFolderSensor(
        task_id="wait_for_folder", timeout=60.0 * wiring.policy().nightly.late_folder_minutes, execution_timeout=None
    )
    model, batches = resolve_model(), list_new_objects()
    scored = score_objects.partial(model=model).expand(batch=batches)
    published = publish_dates(model, scored)
    check = check_drift(model, published)
    set_off_retrain = TriggerDagRunOperator(
        task_id="set_off_retrain",
        trigger_dag_id="retrain_model",
        # One a night: a run that is cleared, or a trigger that is tried again, must not train twice.
        trigger_run_id="drift__{{ ti.xcom_pull(task_ids='check_drift')['window_date'] }}",
        conf={
            "reason": "drift on {{ ti.xcom_pull(task_ids='check_drift')['window_date'] }}: "
            "{{ ti.xcom_pull(task_ids='check_drift')['sentence'] }}"
        },
        logical_date=None,
        skip_when_already_exists=True,
    )

    preflight() >> wait_for_folder >> model >> batches >> scored >> published >> check >> is_retrain_due(check) >> set_off_retrain
    # A run is judged by its last tasks: a challenger whose task is killed does not fail the night.
    published >> score_shadow() >> EmptyOperator(task_id="leave_shadow", trigger_rule=TriggerRule.ALL_DONE)
    [model, batches, scored, published] >> record_failure()


score_reviews()
