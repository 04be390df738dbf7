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
from itertools import batched, zip_longest
from pathlib import Path
from typing import Any

from sentiment_core.pipeline import n_cores
from sentiment_core.registry.comparison import as_csv, as_page
from sentiment_core.registry.plots import draw
from sentiment_core.trials import Trial, ranked

_TAG = "sentiment."
# The server takes a thousand things in one call, a hundred of them parameters.
_METRICS_A_CALL, _PARAMS_A_CALL = 800, 100
_DIGEST_CHARS = 32
_TAG_CHARS = 8_000  # what the server takes
# Of a gate that was not judged only the limit is a figure.
_GATE_FIGURES, _PASSED = ("figure", "limit", "passed"), {"passed": 1, "failed": 0}
# Which of its two faces MLflow shows: without it the one for language models, which has no place for our figures.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
_NOTE, _WHY = "mlflow.note.content", "why"
_FINISHED, _GIVEN_UP = "FINISHED", "KILLED"


def begun(seconds: float) -> int:
    """When something began that has taken so long, as MLflow counts time: milliseconds since 1970."""
    return int((time.time() - seconds) * 1000)


def about(why: str, code_version: str) -> dict[str, str]:
    """What MLflow's own pages have a place for: why a run was made, and by what."""
    return {
        _TAG + _WHY: why,
        _NOTE: why,
        "mlflow.source.name": f"sentiment-batch {code_version}",
        "mlflow.source.type": "JOB",
        "mlflow.user": "sentiment",
    }


def log_candidate(client: Any, run_id: str, candidate: Any, *, snapshot_key: str | None) -> None:
    """Parameters, figures, training set, pictures, table of trials and environment of a candidate.

    Args:
        client: MLflow's.
        run_id: the run of the retrain.
        candidate: params, metrics, trials, curves, seconds and reviews_per_second; see `model.training.Candidate`.
        snapshot_key: key of its training set in the bucket.
    """
    figures = {
        **dict(flatten(candidate.metrics)),
        "learning_seconds": candidate.seconds,
        "reviews_per_second": candidate.reviews_per_second,
    }
    log_values(client, run_id, metrics=_once(figures), params=candidate.params, tags=_machine())
    if snapshot_key:
        _log_dataset(client, run_id, snapshot_key, candidate.metrics.get("data", {}))
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
    start = begun(sum(trial.seconds for trial in trials))
    for trial in trials:
        own = {"mlflow.parentRunId": run_id, _TAG + "place": str(places[id(trial)]), _TAG + "state": trial.state}
        child = client.create_run(
            experiment_id,
            start_time=start,
            run_name=trial.name,
            tags={**{_TAG + name: value for name, value in tags.items()}, **own},
        ).info.run_id
        start += int(trial.seconds * 1000)
        figures = {"mean": trial.mean, "seconds": trial.seconds, **trial.means}
        by_fold = [(f"fold_{name}", value, step) for step, fold in enumerate(trial.folds) for name, value in fold.items()]
        log_values(client, child, metrics=[*_once(figures), *by_fold], params={"family": trial.family, **trial.params})
        client.set_terminated(child, _FINISHED if trial.is_whole else _GIVEN_UP, end_time=start)


def log_outcome(client: Any, run_id: str, *, outcome: str, reason: str, metrics: Mapping[str, Any]) -> None:
    """What became of a candidate: outcome and reason as tags, each gate with figure, limit and outcome.

    Args:
        client: MLflow's.
        run_id: the run of the retrain; it may have ended.
        outcome: promoted or held.
        reason: in words.
        metrics: `gates`, a list of dicts with name, figure, limit, outcome (passed, failed or skipped: not judged), n and
            sentence; the models' figures beside.
    """
    gates = metrics.get("gates") or []
    numbers = [
        (f"gate_{gate['name']}_{part}", float(value), 0)
        for gate in gates
        for part, value in {**gate, "passed": _PASSED.get(gate["outcome"])}.items()
        if part in _GATE_FIGURES and value is not None
    ]
    log_values(client, run_id, metrics=numbers, tags={"outcome": outcome, "reason": reason[:_TAG_CHARS]})
    why = client.get_run(run_id).data.tags.get(_TAG + _WHY, "")
    client.set_tag(run_id, _NOTE, f"{why}\n\n**{outcome.capitalize()}**: {reason}".strip()[:_TAG_CHARS])
    log_files(client, run_id, {"gates.json": json.dumps({"outcome": outcome, "reason": reason, "gates": gates}, indent=2)})


def log_values(
    client: Any,
    run_id: str,
    *,
    metrics: Sequence[tuple[str, float, int]],
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Figures (with their steps), parameters and tags, in calls as large as the server takes; no infinite ones."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    figures = (Metric(name, value, now, step) for name, value, step in metrics if math.isfinite(value))
    others = (Param(name, str(value)) for name, value in (params or {}).items())
    labels = [RunTag(_TAG + name, value) for name, value in (tags or {}).items()]
    calls = [*zip_longest(batched(figures, _METRICS_A_CALL), batched(others, _PARAMS_A_CALL), fillvalue=())]
    for some, few in calls or [((), ())]:
        client.log_batch(run_id, metrics=some, params=few, tags=labels)


def _once(figures: Mapping[str, float]) -> list[tuple[str, float, int]]:
    return [(name, value, 0) for name, value in figures.items()]


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


def _log_dataset(client: Any, run_id: str, key: str, data: Mapping[str, Any]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    digest = Path(key).stem[:_DIGEST_CHARS]  # MLflow keeps 36 characters; the whole digest stands in the key
    profile = json.dumps({name: value for name, value in data.items() if isinstance(value, int)})
    dataset = Dataset(f"training set {digest[:8]}", digest, source_type="s3", source=json.dumps({"uri": key}), profile=profile)
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])


def _machine() -> dict[str, str]:
    return {"python": platform.python_version(), "platform": platform.platform(), "n_cores": str(n_cores())}


def _installed() -> str:
    """Every installed package with its version."""
    found = {dist.metadata["Name"]: dist.version for dist in distributions() if dist.metadata["Name"]}
    return "".join(f"{name}=={found[name]}\n" for name in sorted(found, key=str.lower))
