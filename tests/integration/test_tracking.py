"""What a real MLflow shows of a retrain: a run with the model, and below it one for every recipe that was tried."""

import csv
import io
import json
import uuid
from dataclasses import replace

import pytest

from sentiment_core.registry import Registry
from sentiment_core.registry.tracking import flatten, log_values
from sentiment_core.trials import Trial

DIGEST = "cd" * 32
SNAPSHOT = f"snapshots/{DIGEST}.parquet"


def trial(**values):
    return Trial(**{"seconds": 2.5, "state": "complete", "params": {}, **values})


TRIALS = (
    trial(
        name="0-svm",
        family="svm",
        mean=0.31,
        params={"C": 0.3, "stem": True},
        metrics={"folds": [{"log_loss": 0.30, "accuracy": 0.9}, {"log_loss": 0.32, "accuracy": 0.88}], "log_loss": 0.31, "accuracy": 0.89},
    ),
    trial(name="1-naive_bayes", family="naive_bayes", mean=0.5, state="pruned", metrics={"folds": [{"log_loss": 0.5}], "log_loss": 0.5}),
    trial(
        name="2-logistic",
        family="logistic",
        mean=0.29,
        params={"C": 10.0, "stem": None},
        metrics={"folds": [{"log_loss": 0.28, "accuracy": 0.91}, {"log_loss": 0.30, "accuracy": 0.9}], "log_loss": 0.29, "accuracy": 0.905},
    ),
)  # fmt: skip
CURVES = {
    "classes": ["negative", "positive"],
    "confusion": [[8, 2], [1, 9]],
    "reliability": [{"confidence": 0.9, "accuracy": 0.85, "n": 20}],
    "precision_recall": {"positive": [{"recall": 0.5, "precision": 1.0, "threshold": 0.8}, {"recall": 1.0, "precision": 0.8, "threshold": 0.4}]},
}  # fmt: skip
GATES = [
    {"name": "better_on_fresh", "figure": 0.01, "limit": 0.05, "outcome": "passed", "n": 300, "sentence": "more often right"},
    {"name": "negation", "figure": 0.97, "limit": 0.95, "outcome": "failed", "n": 48, "sentence": "does not read negation"},
    {"name": "speed", "figure": None, "limit": 1000, "outcome": "skipped", "n": 0, "sentence": "not measured"},
]


@pytest.fixture(scope="module")
def registry(mlflow_server, tmp_path_factory):
    return Registry(mlflow_server.tracking_uri, f"sentiment-{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def client(mlflow_server):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=mlflow_server.tracking_uri)


@pytest.fixture(scope="module")
def retrain(registry, candidate):
    """A version that came out of three trials."""
    return registry.register(
        replace(candidate, trials=TRIALS, curves=CURVES), snapshot_key=SNAPSHOT, code_version="0.1.0+abc", run_name="manual__1",
        description="drift on a night",
    )  # fmt: skip


@pytest.fixture(scope="module")
def parent(registry, client, retrain):
    """The run of that version."""
    return client.get_run(client.get_model_version(registry.name, str(retrain.version)).run_id)


@pytest.fixture(scope="module")
def children(client, parent):
    found = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    return {run.info.run_name: run for run in found}


def content(client, run, name, folder):
    from mlflow.artifacts import download_artifacts

    path = download_artifacts(run_id=run.info.run_id, artifact_path=name, dst_path=str(folder), tracking_uri=client.tracking_uri)
    with open(path, "rb") as stream:  # noqa: PTH123
        return stream.read()


def test_every_recipe_is_a_child_run_with_its_parameters_and_figures(children):
    assert set(children) == {one.name for one in TRIALS}
    svm = children["0-svm"]
    assert svm.data.params == {"family": "svm", "C": "0.3", "stem": "True"}
    assert {name: svm.data.metrics[name] for name in ("mean", "seconds", "accuracy")} == {
        "mean": 0.31,
        "seconds": 2.5,
        "accuracy": 0.89,
    }
    assert (svm.data.tags["sentiment.place"], children["2-logistic"].data.tags["sentiment.place"]) == ("2", "1")
    assert svm.data.tags["sentiment.snapshot"] == SNAPSHOT


def test_a_recipe_has_its_figures_of_every_fold(client, children):
    history = client.get_metric_history(children["2-logistic"].info.run_id, "fold_accuracy")
    assert sorted((point.step, point.value) for point in history) == [(0, 0.91), (1, 0.9)]


def test_a_recipe_that_was_given_up_ends_as_killed(children):
    assert {name: run.info.status for name, run in children.items()} == {
        "0-svm": "FINISHED", "1-naive_bayes": "KILLED", "2-logistic": "FINISHED",
    }  # fmt: skip
    assert children["1-naive_bayes"].data.tags["sentiment.state"] == "pruned"


def test_the_run_of_the_version_has_figures_sizes_and_the_machine(parent, candidate):
    assert parent.info.status == "FINISHED"
    assert dict(flatten(candidate.metrics)).items() <= parent.data.metrics.items()
    assert parent.data.metrics["learning_seconds"] == candidate.seconds > 0
    assert parent.data.metrics["model_bytes"] > 1_000
    assert parent.data.metrics["model_prepared_bytes"] > 1_000
    assert {"sentiment.python", "sentiment.platform", "sentiment.n_cores", "sentiment.code_version"} <= parent.data.tags.keys()


def test_mlflows_own_pages_say_why_and_how_long(client, parent, children, candidate):
    assert client.get_experiment(parent.info.experiment_id).tags["mlflow.experimentKind"] == "custom_model_development"
    assert parent.data.tags["mlflow.note.content"].startswith("drift on a night")
    assert parent.data.tags["mlflow.source.name"] == "sentiment-batch 0.1.0+abc"
    assert parent.info.end_time - parent.info.start_time >= 1000 * candidate.seconds - 1
    took = {name: run.info.end_time - run.info.start_time for name, run in children.items()}
    assert took == dict.fromkeys(took, 2500)


def test_the_training_set_is_a_dataset_with_its_digest_and_size(parent, candidate):
    (logged,) = parent.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("training set cdcdcdcd", DIGEST[:32])
    assert json.loads(logged.dataset.source)["uri"] == SNAPSHOT
    assert json.loads(logged.dataset.profile)["n_rows"] == candidate.metrics["data"]["n_rows"]
    assert [(tag.key, tag.value) for tag in logged.tags] == [("mlflow.data.context", "training")]


def test_pictures_curves_table_and_environment_are_artefacts(client, parent, tmp_path):
    def names(folder):
        return {item.path for item in client.list_artifacts(parent.info.run_id, folder)}

    assert names("plots") == {
        f"plots/{name}" for name in ("calibration.png", "confusion.png", "curves.json", "precision_recall.png")
    }
    assert content(client, parent, "plots/confusion.png", tmp_path).startswith(b"\x89PNG")
    assert json.loads(content(client, parent, "plots/curves.json", tmp_path)) == CURVES
    table = csv.DictReader(io.StringIO(content(client, parent, "candidates/candidates.csv", tmp_path).decode()))
    assert [row["name"] for row in table] == ["2-logistic", "0-svm", "1-naive_bayes"]
    page = content(client, parent, "candidates/candidates.html", tmp_path).decode()
    assert f"{json.loads(parent.inputs.dataset_inputs[0].dataset.profile)['n_train']:,} reviews" in page
    requirements = content(client, parent, "environment/requirements.txt", tmp_path).decode().splitlines()
    assert any(line.startswith("scikit-learn==") for line in requirements)
    assert requirements == sorted(requirements, key=lambda line: line.split("==")[0].lower())


def test_outcome_and_gates_are_noted_on_the_run_of_the_version(registry, client, retrain, parent, tmp_path):
    registry.log_outcome(retrain, outcome="promoted", reason="ж" * 10_000, metrics={})
    assert client.get_run(parent.info.run_id).data.tags["sentiment.outcome"] == "promoted"
    registry.log_outcome(retrain, outcome="held", reason="does not read negation", metrics={"gates": GATES})
    run = client.get_run(parent.info.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.note.content"] == "drift on a night\n\n**Held**: does not read negation"
    assert (run.data.tags["sentiment.outcome"], run.data.tags["sentiment.reason"]) == ("held", "does not read negation")
    found = {name: value for name, value in run.data.metrics.items() if name.startswith("gate_")}
    assert found == {
        "gate_better_on_fresh_figure": 0.01, "gate_better_on_fresh_limit": 0.05, "gate_better_on_fresh_passed": 1.0,
        "gate_negation_figure": 0.97, "gate_negation_limit": 0.95, "gate_negation_passed": 0.0,
        "gate_speed_limit": 1000.0,
    }  # fmt: skip
    assert json.loads(content(client, run, "gates.json", tmp_path))["gates"] == GATES


def test_a_candidate_without_a_search_has_no_children_and_no_table(registry, client, candidate):
    ref = registry.register(replace(candidate, trials=(), curves={}), snapshot_key=None, code_version="x", run_name="manual__2")
    run = client.get_run(client.get_model_version(registry.name, str(ref.version)).run_id)
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"environment", "model"}
    assert client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'") == []
    assert list(run.inputs.dataset_inputs) == []


def test_more_figures_and_parameters_than_a_call_takes_arrive(client, parent):
    run = client.create_run(parent.info.experiment_id)
    figures = {f"figure_{number}": float(number) for number in range(1_003)}
    params = {f"param_{number}": number for number in range(203)}
    values = [*figures.items(), ("nan", float("nan")), ("inf", float("inf"))]
    log_values(client, run.info.run_id, metrics=[(name, value, 0) for name, value in values], params=params, tags={"a": "b"})
    found = client.get_run(run.info.run_id).data
    assert found.metrics == figures
    assert found.params == {name: str(value) for name, value in params.items()}
    assert found.tags["sentiment.a"] == "b"
