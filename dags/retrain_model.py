"""
### Retrain the model

Builds a training set from the champion's and the labels that have arrived since, trains a candidate, registers it
as challenger, compares both on the same held-out reviews, and promotes it or holds it, with the reason in
`sentiment.model_events`.

Set off by `score_reviews` when a night has drifted, by the policy's schedule, or by hand. With `approval` a person
decides in Airflow's UI (*Required Actions*) once the figures are there; without an answer it is held.
"""

from datetime import timedelta

import wiring
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param, TriggerRule, dag, get_current_context, task

POLICY = wiring.policy()


@dag(
    schedule=POLICY.retrain.schedule or None,
    start_date=wiring.START,
    catchup=False,
    max_active_runs=1,  # two retrains at once would compare with the same champion
    dagrun_timeout=timedelta(hours=48),
    default_args=wiring.DEFAULT_ARGS,
    doc_md=__doc__,
    tags=["sentiment", "model"],
    params={
        "reason": Param("by hand", type="string", minLength=1, description="Why; goes into model_events"),
        "approval": Param(None, type=["null", "boolean"], description="Ask a person before promoting? Empty: as the policy says"),
        "snapshot": Param(
            None,
            type=["null", "string"],
            pattern="^snapshots/[0-9a-f]{64}\\.parquet$",
            description="Key of a training set to start from; empty: the champion's and the labels since",
        ),
    },
)
def retrain_model() -> None:
    """Snapshot, train, compare, ask where asked for, promote or hold."""

    @task
    def preflight() -> dict:
        """Bring the schema up to date and see that S3 answers."""
        from sentiment_core.stages.night import preflight

        with wiring.stage() as services:
            return preflight(services)

    @task
    def build_snapshot() -> dict:
        """Write the training set, or hold when there is nothing to learn from."""
        from sentiment_core.stages.retraining import build_snapshot

        context = get_current_context()
        with wiring.stage() as services:
            reason, snapshot = wiring.retrain_reason(), context["params"]["snapshot"]
            return build_snapshot(services, run_id=context["run_id"], reason=reason, snapshot=snapshot)

    @task.short_circuit
    def has_something_to_learn(snapshot: dict) -> bool:
        """End here when the retrain is held for want of labels."""
        return snapshot["outcome"] == "built"

    @task(pool=wiring.POOL, execution_timeout=timedelta(hours=4))
    def train_candidate(snapshot: dict) -> dict:
        """Train from the snapshot and register the challenger."""
        from sentiment_core.stages.retraining import train_candidate

        with wiring.stage() as services:
            run_id = get_current_context()["run_id"]
            return train_candidate(services, snapshot=snapshot["snapshot"], run_id=run_id, reason=snapshot["reason"]).to_json()

    @task
    def compare(candidate: dict) -> dict:
        """Score candidate and champion anew on the same held-out reviews."""
        from sentiment_core.domain import ModelRef
        from sentiment_core.stages.promotion import compare_with_champion

        with wiring.stage() as services:
            return compare_with_champion(services, ModelRef.from_json(candidate))

    @task.branch
    def is_approval_needed(comparison: dict) -> str:
        """A person is asked only about a candidate that passed the gates."""
        approval = get_current_context()["params"]["approval"]
        asked = POLICY.promotion.approval if approval is None else approval
        return "ask_for_approval" if asked and comparison["outcome"] == "promoted" else "promote_or_hold"

    ask_for_approval = HITLOperator(
        task_id="ask_for_approval",
        subject="Promote version {{ ti.xcom_pull(task_ids='compare')['candidate'] }} of the sentiment model?",
        body="{{ ti.xcom_pull(task_ids='compare')['reason'] }}",
        options=["Promote", "Hold"],
        defaults="Hold",
        response_timeout=timedelta(hours=POLICY.promotion.approval_hours),
        execution_timeout=None,
    )

    @task(trigger_rule=TriggerRule.NONE_FAILED)
    def promote_or_hold(candidate: dict, comparison: dict) -> dict:
        """Move the alias or leave it, and write down why."""
        from sentiment_core.domain import ModelRef
        from sentiment_core.stages.promotion import conclude

        context = get_current_context()
        answer = context["ti"].xcom_pull(task_ids="ask_for_approval")
        approved = None if answer is None else answer["chosen_options"] == ["Promote"]
        with wiring.stage() as services:
            return conclude(services, ModelRef.from_json(candidate), comparison, run_id=context["run_id"], approved=approved)

    snapshot = build_snapshot()
    candidate = train_candidate(snapshot)
    comparison = compare(candidate)
    conclusion = promote_or_hold(candidate, comparison)
    preflight() >> snapshot >> has_something_to_learn(snapshot) >> candidate >> comparison
    comparison >> is_approval_needed(comparison) >> [ask_for_approval, conclusion]
    ask_for_approval >> conclusion


retrain_model()
