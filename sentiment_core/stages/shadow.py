"""A challenger beside the champion: it scores the night's objects once more, and nobody but an analyst sees it.

For as many nights as the policy says, and never at the night's cost: it runs when everything is published, nothing
waits for it, and whatever goes wrong is told and not raised.
"""

import logging
from contextlib import closing
from typing import Any

from sentiment_core import memory
from sentiment_core.domain import ModelRef
from sentiment_core.stages.night import batches_of, score_ahead
from sentiment_core.stages.services import Services
from sentiment_core.stages.window import Night

log = logging.getLogger(__name__)


def score_shadow(services: Services, night: Night) -> dict[str, Any]:
    """Score the night's objects with the challenger, into score_history only.

    Returns outcome (`scored`, `none`: there is nothing to do, `failed`), reason, model_version, n_objects, n_scored and
    n_agreed, the reviews on which challenger and champion say the same.
    """
    try:
        return _score_shadow(services, night)
    except Exception as error:  # the night is done and must not fail for this: the reason is its outcome
        log.exception("the challenger has not scored %s to its end", night.window_date)
        return {"outcome": "failed", "reason": f"{type(error).__name__}: {error}"}


def _score_shadow(services: Services, night: Night) -> dict[str, Any]:
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
    if challenger.is_degraded or champion.is_degraded:
        return "MLflow is away: nobody knows who is challenger"
    return "the challenger is champion" if challenger.version == champion.version else challenger
