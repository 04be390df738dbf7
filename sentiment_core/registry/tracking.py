"""What MLflow shows of a retrain: one run with the model's figures, and below it one for every recipe that was tried.

Calls of one client on runs that exist; which run belongs to which version is the registry's business. Nothing is
computed here that a model could be judged by: figures, trials and curves come with the candidate.
"""

import json
import math
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import distributions
from itertools import batched
from pathlib import Path
from typing import Any

from sentiment_core.pipeline import n_cores
from sentiment_core.registry.comparison import Trial, as_csv, as_page, folds, means, ranked
from sentiment_core.registry.plots import draw

_TAG = "sentiment."
# What the server takes in one call.
_METRICS_A_CALL, _PARAMS_A_CALL = 1_000, 100
_DIGEST_CHARS = 32
_TAG_CHARS = 8_000  # what the server takes
_FINISHED, _GIVEN_UP = "FINISHED", "KILLED"


def log_candidate(client: Any, run_id: str, candidate: Any, *, snapshot_key: str | None) -> None:
    """Parameters, figures, training set, pictures, table of trials and environment of a candidate.

    Args:
        client: MLflow's.
        run_id: the run of the retrain.
        candidate: params, metrics, trials, curves and seconds; see `model.training.Candidate`.
        snapshot_key: key of its training set in the bucket.
    """
    figures = {**dict(flatten(candidate.metrics)), "learning_seconds": candidate.seconds}
    log_values(client, run_id, metrics=figures.items(), params=candidate.params)
    if snapshot_key:
        _log_dataset(client, run_id, snapshot_key, candidate.metrics.get("data", {}))
    for name, value in _machine().items():
        client.set_tag(run_id, _TAG + name, value)
    trials, pictures = candidate.trials, draw(candidate.curves)
    files: dict[str, str | bytes] = {f"plots/{name}": content for name, content in pictures.items()}
    files["environment/requirements.txt"] = _installed()
    if candidate.curves:
        files["plots/curves.json"] = json.dumps(candidate.curves)
    if trials:
        title = f"Recipes tried for a model of {candidate.metrics.get('data', {}).get('n_train', 0):,} reviews"
        files |= {"candidates/candidates.csv": as_csv(trials), "candidates/candidates.html": as_page(trials, title=title)}
    log_files(client, run_id, files)


def log_trials(client: Any, experiment_id: str, run_id: str, trials: Sequence[Trial], tags: Mapping[str, str]) -> None:
    """A child run for every recipe that was tried: its figures on every fold (steps) and over all, its parameters.

    One that was given up ends as KILLED, as MLflow's UI marks what did not run to its end.
    """
    places = {id(trial): place for place, trial in enumerate(ranked(trials), 1)}
    for trial in trials:
        own = {"mlflow.parentRunId": run_id, _TAG + "place": str(places[id(trial)]), _TAG + "state": trial.state}
        child = client.create_run(
            experiment_id, run_name=trial.name, tags={**{_TAG + name: value for name, value in tags.items()}, **own}
        ).info.run_id
        figures = {"mean": trial.mean, "seconds": trial.seconds, **means(trial)}
        log_values(client, child, metrics=figures.items(), params={"family": trial.family, **trial.params})
        by_fold = [(f"fold_{name}", value, step) for step, fold in enumerate(folds(trial)) for name, value in fold.items()]
        _log_metrics(client, child, by_fold)
        client.set_terminated(child, _FINISHED if trial.state == "complete" else _GIVEN_UP)


def log_outcome(client: Any, run_id: str, *, outcome: str, reason: str, metrics: Mapping[str, Any]) -> None:
    """What became of a candidate: outcome and reason as tags, each gate with figure, limit and outcome.

    Args:
        client: MLflow's.
        run_id: the run of the retrain; it may have ended.
        outcome: promoted or held.
        reason: in words.
        metrics: `gates`, a list of dicts with name, figure, limit and passed; the models' figures beside.
    """
    gates = metrics.get("gates") or []
    client.set_tag(run_id, _TAG + "outcome", outcome)
    client.set_tag(run_id, _TAG + "reason", reason[:_TAG_CHARS])
    numbers = [
        (f"gate_{gate['name']}_{part}", float(gate[part]))
        for gate in gates
        for part in ("figure", "limit", "passed")
        if isinstance(gate.get(part), int | float)
    ]
    log_values(client, run_id, metrics=numbers, params={})
    log_files(client, run_id, {"gates.json": json.dumps({"outcome": outcome, "reason": reason, "gates": gates}, indent=2)})


def log_values(client: Any, run_id: str, *, metrics: Any, params: Mapping[str, Any]) -> None:
    """Figures and parameters, in calls as large as the server takes; what is no finite number is left out."""
    from mlflow.entities import Param

    _log_metrics(client, run_id, [(name, value, 0) for name, value in metrics])
    for part in batched((Param(name, str(value)) for name, value in params.items()), _PARAMS_A_CALL):
        client.log_batch(run_id, params=part)


def log_files(client: Any, run_id: str, files: Mapping[str, str | bytes]) -> None:
    """Files by their path among the run's artefacts."""
    with tempfile.TemporaryDirectory(prefix="sentiment-run-") as folder:
        for name, content in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        client.log_artifacts(run_id, folder)


def flatten(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Nested figures under the names MLflow shows; what is no number is left out.

    >>> list(flatten({"test": {"accuracy": 0.9, "confusion": [[1]], "ece": None}}))
    [('test_accuracy', 0.9)]
    """
    for name, value in metrics.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}_")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", float(value)


def _log_metrics(client: Any, run_id: str, values: Sequence[tuple[str, float, int]]) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    found = (Metric(name, value, now, step) for name, value, step in values if math.isfinite(value))
    for part in batched(found, _METRICS_A_CALL):
        client.log_batch(run_id, metrics=part)


def _log_dataset(client: Any, run_id: str, key: str, data: Mapping[str, Any]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    digest = Path(key).stem[:_DIGEST_CHARS]  # MLflow keeps 36 characters; the whole digest stands in the key
    profile = json.dumps({name: value for name, value in data.items() if isinstance(value, int)})
    dataset = Dataset(key, digest, source_type="s3", source=json.dumps({"uri": key}), profile=profile)
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])


def _machine() -> dict[str, str]:
    return {"python": platform.python_version(), "platform": platform.platform(), "n_cores": str(n_cores())}


def _installed() -> str:
    """Every installed package with its version."""
    found = {dist.metadata["Name"]: dist.version for dist in distributions() if dist.metadata["Name"]}
    return "".join(f"{name}=={found[name]}\n" for name in sorted(found, key=str.lower))
