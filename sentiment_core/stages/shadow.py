"""A challenger beside the champion: it scores the night's objects once more, and nobody but an analyst sees it.

For as many nights as the policy says, and never at the night's cost: it runs when everything is published and nothing
waits for it. What goes wrong is raised as everywhere else, so that it is seen and tried again; that a night is not
judged by it is the DAG's business.
"""

from contextlib import closing
from typing import Any

from sentiment_core import memory
from sentiment_core.domain import ModelRef
from sentiment_core.stages.night import batches_of, score_ahead
from sentiment_core.stages.promotion import certain
from sentiment_core.stages.services import Services
from sentiment_core.stages.window import Night


def score_shadow(services: Services, night: Night) -> dict[str, Any]:
    """Score the night's objects with the challenger, into score_history only.

    Returns outcome (`scored`, or `none`: there is nothing to do), reason, model_version, n_objects, n_scored and n_agreed,
    the reviews on which challenger and champion say the same.

    Raises:
        Transient: MLflow is away, so that nobody knows who is challenger; an object has changed since it was scored.
        Permanent: the challenger's files are not to be trusted.
    """
    from sentiment_core.store.shadow import keep_shadow, shadow_nights, waiting_objects

    challenger = _challenger(services, night)
    if isinstance(challenger, str):
        return {"outcome": "none", "reason": challenger}
    n_nights = services.policy.promotion.shadow_nights
    if shadow_nights(services.engine, model_version=challenger.version, other_than=night.window_date) >= n_nights:
        return {"outcome": "none", "reason": f"version {challenger.version} has scored {n_nights} nights already"}
    memory.return_batches()
    model = services.registry.open(challenger)
    objects = waiting_objects(
        services.engine, model_version=challenger.version, run_id=night.run_id, window_date=night.window_date
    )
    total = {"n_objects": len(objects), "n_scored": 0, "n_agreed": 0}
    with closing(score_ahead(services, model, list(objects.values()))) as ahead:
        for object_id, obj in objects.items():
            scored = (batch for batch, _ in batches_of(obj, ahead))
            kept = keep_shadow(
                services.engine,
                object_id,
                scored,
                model=challenger,
                run_id=f"shadow__{night.run_id}",
                window_date=night.window_date,
            )
            for name, count in kept.items():
                total[name] += count
    return {"outcome": "scored", "reason": "", "model_version": challenger.version, **total}


def _challenger(services: Services, night: Night) -> ModelRef | str:
    """The version that scores in the shadow, or why there is none."""
    from sentiment_core.registry import NoModel

    if not services.policy.promotion.shadow_nights:
        return "the policy asks for no shadow scoring"
    if night.kind == "backfill":
        return "a backfill says what the nights themselves would have said"
    try:
        challenger, champion = services.registry.resolve("challenger"), services.registry.resolve("champion")
    except NoModel as error:
        return str(error)
    certain(challenger)
    certain(champion)
    return "the challenger is champion" if challenger.version == champion.version else challenger
