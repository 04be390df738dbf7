"""A retrain: a training set, a candidate registered as challenger, the comparison, then promoted or held.

From the DAG step by step, from the command line in one go over files. How sets are stored and extended is the business
of `training_sets`, who is champion and why that of `promotion`. A hold is a normal outcome.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentiment_core.domain import LABELS, ModelRef
from sentiment_core.errors import Permanent
from sentiment_core.stages import promotion
from sentiment_core.stages.services import Services
from sentiment_core.stages.training_sets import (
    classes_of,
    extend,
    read_snapshot,
    with_classes,
    with_held_out_share,
    write_snapshot,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from sentiment_core.reviews.labelled import Columns

log = logging.getLogger(__name__)
Tell = Callable[[str], None]


def build_snapshot(services: Services, *, run_id: str, reason: str, snapshot: str | None = None) -> dict[str, Any]:
    """Write the training set of this retrain and return its key, or hold when there is nothing to learn from.

    Args:
        services: the servers.
        run_id: run to which events are attributed.
        reason: why a retrain was asked for.
        snapshot: key of a standing training set; None takes the champion's.
    """
    champion = promotion.current_champion(services)
    standing_key = snapshot or (champion.snapshot if champion else None)
    if standing_key is None:
        raise Permanent(
            "retrain",
            expected="a training set: the champion's, or param `snapshot`",
            found="neither a champion nor a param",
            remedy="train a first model with `sentiment train --data FILE`, or run `make demo`",
        )
    made = extend(services, read_snapshot(services, standing_key), with_labels=champion is not None)
    counts = {name: getattr(made, name) for name in ("n_standing", "n_fresh", "n_duplicates", "n_conflicts")}
    needed = services.policy.retrain.min_fresh_labels
    if champion and not snapshot and made.n_fresh < needed:
        held = f"{made.n_fresh} labels since version {champion.version} was trained; {needed} are needed to learn from"
        promotion.record(
            services, champion.version, "held", f"{held} (asked for: {reason})",
            run_id=run_id, snapshot=standing_key, metrics={"data": counts},
        )  # fmt: skip
        return {"outcome": "held", "reason": held, "snapshot": None, **counts}
    if made.n_conflicts:
        log.warning("%d rows left out, because their texts have different labels", made.n_conflicts)
    return {"outcome": "built", "reason": reason, "snapshot": write_snapshot(services, made.table), **counts}


def train_candidate(services: Services, *, snapshot: str, run_id: str, reason: str, on_progress: Tell | None = None) -> ModelRef:
    """Train from a snapshot and register the result as challenger."""
    return _train(services, snapshot=snapshot, run_id=run_id, reason=reason, tell=on_progress)[0]


def _train(services: Services, *, snapshot: str, run_id: str, reason: str, tell: Tell | None) -> tuple[ModelRef, dict[str, Any]]:
    from sentiment_core.families import installed_families
    from sentiment_core.model.search import forget
    from sentiment_core.model.training import train
    from sentiment_core.store.engine import search_storage
    from sentiment_core.store.records import registration

    done = registration(services.engine, run_id=run_id, snapshot=snapshot)
    if done:  # this run has come this far before: one retrain, one search
        return services.registry.resolve(done["model_version"]), done["metrics"]
    table = read_snapshot(services, snapshot)
    storage = search_storage(services.settings.database_url)
    candidate = train(
        table,
        policy=services.policy,
        classes=classes_of(table),
        progress=tell,
        storage=storage,
        families=installed_families(),
    )
    registered = next(
        (item for item in services.registry.versions() if (item["run"], item["snapshot"]) == (run_id, snapshot)), None
    )
    if registered:  # killed between MLflow and PostgreSQL: one retrain, one version
        ref = services.registry.resolve(registered["version"])
    else:
        ref = services.registry.register(
            candidate, snapshot_key=snapshot, code_version=promotion.code_version(), run_name=run_id, description=reason
        )
    services.registry.set_alias("challenger", ref.version)
    tried = {"trials": [trial.to_json() for trial in candidate.trials]}
    promotion.record(
        services, ref.version, "registered", reason, run_id=run_id, snapshot=snapshot, metrics=candidate.metrics | tried
    )
    # Not before the event is written: until then the trials are all that a killed retrain can go on with.
    forget(storage, candidate.study, begun_before=datetime.now() - timedelta(days=services.policy.search.study_days))  # noqa: DTZ005
    return ref, candidate.metrics


def train_from_files(
    services: Services, paths: Sequence[Path], columns: "Columns", *, may_promote: bool, tell: Tell | None = None
) -> dict[str, Any]:
    """The whole retrain in one process, from files of labelled reviews alone.

    What the champion was trained from stays the standing test: the candidate must not be worse there, and has to be
    better on held-out reviews of the files that the champion's set does not hold.

    Returns model_version, outcome (`promoted` or `held`), reason, metrics, snapshot; in metrics `data`, `train`, `test` of
    the training and `candidate`, `champion`, `gates` of the comparison.
    """
    from sentiment_core.stages.night import preflight

    tell = tell or (lambda _: None)
    run_id = f"cli__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"
    tell("reading the reviews")
    table = read_files(services, paths, columns, tell=tell)
    table = with_held_out_share(table, services.policy.promotion.held_out_share_of_files)
    preflight(services)
    names = ", ".join(path.name for path in paths)
    snapshot = write_snapshot(services, table)
    candidate, metrics = _train(services, snapshot=snapshot, run_id=run_id, reason=f"trained from {names}", tell=tell)
    tell("comparing with the champion on held-out reviews")
    comparison = promotion.compare_with_champion(services, candidate)
    approved = None if may_promote else False
    refusal = "promotion was not asked for (--no-promote)"
    done = promotion.conclude(services, candidate, comparison, run_id=run_id, approved=approved, refusal=refusal)
    return {
        "model_version": candidate.version,
        "outcome": done["outcome"],
        "reason": done["reason"],
        "metrics": {**metrics, **comparison["metrics"]},
        "snapshot": snapshot,
        "champion": comparison["champion"],
    }


def read_files(services: Services, paths: Sequence[Path], columns: "Columns", *, tell: Tell | None = None) -> "pa.Table":
    """The labelled rows of several files as one table with a note of its classes; raises Permanent for a file that is off."""
    import pyarrow as pa

    from sentiment_core.reviews.labelled import read_labelled

    found = []
    for path in paths:
        try:
            with path.open("rb") as stream:
                found.append(read_labelled(stream, str(path), columns, services.policy.reading))
        except OSError as error:
            raise Permanent(
                str(path), expected="a readable file", found=str(error), remedy="check the name and its rights"
            ) from error
        part = found[-1]
        if tell and part.n_unlabelled + part.n_rejected:
            why = f" ({part.first_reason})" if part.first_reason else ""
            tell(f"{path.name}: {part.n_unlabelled:,} rows without a label and {part.n_rejected:,} unreadable ones left out{why}")
    table = pa.concat_tables([part.table for part in found])
    classes = LABELS if any(part.has_neutral for part in found) else ("negative", "positive")
    return with_classes(table, classes)
