"""Models in a real MLflow: registered, resolved, opened, refused, and used while MLflow is away."""

import base64
import json
import mmap
import os
import shutil
import subprocess
import sys
import time
import uuid
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import skops.io
import yaml

import sentiment_core
from sentiment_core.domain import ModelRef
from sentiment_core.errors import Permanent, Transient
from sentiment_core.registry import NoModel, Registry
from sentiment_core.registry.artefact import UntrustedModel, digest_of, load_estimator

TEXTS = ["What a wonderful film, I loved it", "Boring and far too long", "", "not bad at all!"]
SNAPSHOT = f"snapshots/{'ab' * 32}.parquet"


@pytest.fixture
def registry(mlflow_server, tmp_path):
    return Registry(mlflow_server.tracking_uri, f"sentiment-{uuid.uuid4().hex[:8]}", tmp_path / "models")


def _register(registry, candidate, **words):
    details = {"snapshot_key": SNAPSHOT, "code_version": "0.1.0+abc", "run_name": "manual__1", "description": "why", **words}
    return registry.register(candidate, **details)


@pytest.fixture
def registered(registry, candidate):
    return _register(registry, candidate)


def _elsewhere(registry, folder):
    """The same registered model as another machine sees it: with an empty cache."""
    return Registry(registry.tracking_uri, registry.name, folder)


def test_what_is_registered_comes_back_whole(registry, registered, candidate):
    registry.set_alias("champion", registered.version)
    ref = registry.resolve("champion")
    assert ref == registered
    assert (ref.name, ref.version, ref.snapshot, ref.is_degraded) == (registry.name, 1, SNAPSHOT, False)
    model = registry.open(ref)
    assert np.array_equal(model.estimator.predict_proba(TEXTS), candidate.estimator.predict_proba(TEXTS))
    assert model.estimator.get_params() == candidate.estimator.get_params()
    for name in ("label", "true_label"):
        assert model.reference.rows[name].equals(candidate.reference.rows[name])
    assert model.ref == ref


def test_the_run_shows_parameters_train_and_test_figures_and_the_training_set(registry, registered, candidate, mlflow_server):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mlflow_server.tracking_uri)
    version = client.get_model_version(registry.name, str(registered.version))
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test_accuracy"] == pytest.approx(candidate.metrics["test"]["accuracy"])
    assert run.data.metrics["train_accuracy"] == pytest.approx(candidate.metrics["train"]["accuracy"])
    assert run.data.params["C"] == str(candidate.estimator.C)
    assert run.data.tags["sentiment.snapshot"] == SNAPSHOT
    assert json.loads(run.inputs.dataset_inputs[0].dataset.source) == {"uri": SNAPSHOT}
    assert version.description == "why"
    assert version.tags["sentiment.code_version"] == "0.1.0+abc"
    assert version.tags["sentiment.digest"] == registered.digest


def test_versions_are_listed_with_their_aliases(registry, candidate):
    assert registry.versions() == []
    for _ in range(2):
        _register(registry, candidate)
    registry.set_alias("champion", 1)
    registry.set_alias("challenger", 2)
    registry.set_alias("champion", 2)
    found = registry.versions()
    assert [(version["version"], version["aliases"]) for version in found] == [(1, []), (2, ["challenger", "champion"])]
    assert found[0]["snapshot"] == SNAPSHOT
    assert found[0]["created_at"].endswith("+00:00")
    json.dumps(found)


def test_nothing_in_the_artefact_is_pickle(registry, registered, tmp_path):
    registry.open(registered)
    folder = tmp_path / "models" / registered.digest
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files if "code" not in path.relative_to(folder).parts[:1]} <= {
        "",
        ".yaml",
        ".txt",
        ".skops",
        ".arrow",
        ".npy",
    }
    for path in files:
        assert not path.read_bytes().startswith(b"\x80"), path  # how every pickle since protocol 2 begins
        if path.suffix == ".npy":
            np.load(path, allow_pickle=False)
    with zipfile.ZipFile(folder / "model.skops") as archive:
        for name in archive.namelist():
            assert name == "schema.json" or name.endswith(".npy")
            if name.endswith(".npy"):
                with archive.open(name) as stream:
                    np.load(stream, allow_pickle=False)
    flavor = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]["sklearn"]
    assert flavor["serialization_format"] == "skops"
    assert flavor["skops_trusted_types"] == ["sentiment_core.model.estimator.SentimentClassifier"]
    assert (folder / "code" / "sentiment_core" / "model" / "estimator.py").is_file()


def test_a_version_is_opened_with_its_compiled_dictionary_mapped_from_files(registry, registered, candidate):
    opened = registry.open(registered).estimator
    assert opened.is_prepared
    dictionary, weights = opened._tables()[0]
    for table in (*dictionary, weights):
        assert isinstance(table.base, mmap.mmap) or isinstance(table, np.memmap) or not table.size
    assert (opened.predict_proba(TEXTS) == candidate.estimator.predict_proba(TEXTS)).all()


def test_a_version_without_a_compiled_dictionary_is_compiled_with_a_warning(registered, registry, candidate, tmp_path, caplog):
    registry.open(registered)
    folder = tmp_path / "models" / registered.digest
    shutil.rmtree(folder / "prepared")
    opened = load_estimator(folder)
    assert opened.is_prepared
    assert "compiled now" in caplog.text
    assert (opened.predict_proba(TEXTS) == candidate.estimator.predict_proba(TEXTS)).all()


def test_a_model_of_an_earlier_version_says_so(registered, registry, tmp_path):
    registry.open(registered)
    folder = tmp_path / "models" / registered.digest
    path = folder / "model.skops"
    model = skops.io.load(path, trusted=["sentiment_core.model.estimator.SentimentClassifier"])
    del model.char_bytes_
    skops.io.dump(model, path)
    with pytest.raises(Permanent, match=r"char_bytes_.*earlier version"):
        load_estimator(folder)


def test_a_changed_dictionary_is_fetched_anew(registry, registered, candidate, tmp_path):
    registry.open(registered)
    with (tmp_path / "models" / registered.digest / "prepared" / "words" / "terms.npy").open("r+b") as stream:
        stream.seek(-8, os.SEEK_END)
        stream.write(b"\x01" * 8)
    assert (registry.open(registered).estimator.predict_proba(TEXTS) == candidate.estimator.predict_proba(TEXTS)).all()
    assert digest_of(tmp_path / "models" / registered.digest) == registered.digest


def test_anybody_with_mlflow_loads_it_without_this_repository(registry, registered, candidate, tmp_path):
    registry.set_alias("champion", registered.version)
    program = """
import json, sys
import mlflow, pandas as pd
texts = json.loads(sys.argv[2])
model = mlflow.sklearn.load_model(sys.argv[1])
import sentiment_core
pyfunc = mlflow.pyfunc.load_model(sys.argv[1])
frame = pd.DataFrame({"text": texts})
print(json.dumps({
    "code": sentiment_core.__file__,
    "classes": model.classes_.tolist(),
    "probabilities": model.predict_proba(texts).tolist(),
    "labels": list(pyfunc.predict(frame)),
}))
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program, f"models:/{registry.name}@champion", json.dumps(TEXTS)],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120,
        env={**environment, "MLFLOW_TRACKING_URI": registry.tracking_uri},
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    assert not Path(found["code"]).is_relative_to(Path(sentiment_core.__file__).parent.parent)
    assert found["classes"] == ["negative", "positive"]
    np.testing.assert_allclose(found["probabilities"], candidate.estimator.predict_proba(TEXTS), atol=1e-12)
    assert found["labels"] == candidate.estimator.predict(TEXTS).tolist()


def test_opening_a_model_does_not_put_its_code_before_ours(registry, registered):
    before = list(sys.path)
    model = registry.open(registered)
    assert sys.path == before
    assert type(model.estimator) is sys.modules["sentiment_core.model.estimator"].SentimentClassifier


def test_the_module_does_not_load_mlflow_before_it_is_needed():
    program = "import sys, sentiment_core.registry; sys.exit('mlflow' in sys.modules or 'sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=Path(sentiment_core.__file__).parent.parent, check=True, timeout=60)


@pytest.mark.parametrize("which", ["champion", "challenger", 7, "7", 0, 2**31, "99999999999999999999"])
def test_what_does_not_exist_is_named_with_a_remedy(registry, which):
    with pytest.raises(NoModel, match=rf"{which} of model {registry.name}.*make demo"):
        registry.resolve(which)


def test_an_alias_that_is_not_set_is_no_model(registry, registered):
    assert registry.resolve(registered.version) == registered
    with pytest.raises(NoModel, match="champion"):
        registry.resolve("champion")


def test_a_file_changed_in_the_store_is_refused(registry, registered, s3_client, tmp_path):
    run_id = registry.versions()[0]["mlflow_run_id"]
    listed = s3_client.get_paginator("list_objects_v2").paginate(Bucket="mlflow")
    keys = [item["Key"] for page in listed for item in page.get("Contents", []) if run_id in item["Key"]]
    key = next(key for key in keys if key.endswith("model/requirements.txt"))
    content = s3_client.get_object(Bucket="mlflow", Key=key)["Body"].read()
    s3_client.put_object(Bucket="mlflow", Key=key, Body=content + b"evil==1\n")
    with pytest.raises(UntrustedModel, match=registered.digest):
        _elsewhere(registry, tmp_path / "other").open(registered)
    assert not (tmp_path / "other" / registered.digest).exists()


def test_a_model_registered_by_somebody_else_is_refused(registry, registered, mlflow_server):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mlflow_server.tracking_uri)
    first = client.get_model_version(registry.name, str(registered.version))
    other = client.create_model_version(registry.name, source=first.source, run_id=first.run_id)
    registry.set_alias("champion", int(other.version))
    with pytest.raises(UntrustedModel, match="digest"):
        registry.resolve("champion")


def _planted(registry, folder, model, types, storage="skops"):
    """A cached version with a right digest whose content is not what we store."""
    folder.mkdir(parents=True)
    skops.io.dump(model, folder / "model.skops")
    flavor = {"serialization_format": storage, "pickled_model": "model.skops", "skops_trusted_types": types}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"sklearn": flavor}}))
    digest = digest_of(folder)
    folder.rename(folder.with_name(digest))
    return ModelRef(name=registry.name, version=1, digest=digest)


OURS = ["sentiment_core.model.estimator.SentimentClassifier"]


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        (({"weights": 1}, OURS, "cloudpickle"), "the format skops"),
        (({"weights": 1}, [*OURS, "subprocess.Popen"]), "subprocess.Popen"),
        (({"weights": subprocess.Popen}, OURS), "subprocess.Popen"),
    ],
)
def test_a_right_digest_does_not_make_a_pickle_or_a_foreign_type_trusted(registry, tmp_path, planted, words):
    ref = _planted(registry, tmp_path / "models" / "planted", *planted)
    with pytest.raises(UntrustedModel, match=words):
        registry.open(ref)


def test_a_digest_is_never_taken_for_a_path(registry):
    with pytest.raises(UntrustedModel, match="SHA-256"):
        registry.open(ModelRef(name=registry.name, version=1, digest="../../etc"))


def test_cached_files_that_have_changed_are_fetched_anew(registry, registered, candidate, tmp_path):
    registry.open(registered)
    stored = tmp_path / "models" / registered.digest / "model.skops"
    stored.write_bytes(b"garbage")
    assert np.array_equal(registry.open(registered).estimator.predict_proba(TEXTS), candidate.estimator.predict_proba(TEXTS))


def test_several_at_once_open_the_same_version(registry, registered, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: _elsewhere(registry, tmp_path / "shared").open(registered), range(4)))
    assert len({model.estimator.predict_proba(TEXTS).tobytes() for model in opened}) == 1
    assert [path.name for path in (tmp_path / "shared").iterdir()] == [registered.digest]


def test_while_mlflow_is_away_the_last_champion_is_used(gate, candidate, tmp_path):
    registry = Registry(gate.url, f"sentiment-{uuid.uuid4().hex[:8]}", tmp_path / "models")
    first, second = _register(registry, candidate), _register(registry, candidate)
    for ref in (first, second):
        registry.set_alias("champion", ref.version)
        registry.open(registry.resolve("champion"))
    gate.close()
    again = Registry(gate.url, registry.name, tmp_path / "models")
    known = again.resolve("champion")
    assert (known.version, known.digest, known.is_degraded) == (second.version, second.digest, True)
    assert np.array_equal(again.open(known).estimator.predict_proba(TEXTS), candidate.estimator.predict_proba(TEXTS))
    assert again.resolve(first.version).digest == first.digest
    (tmp_path / "models" / second.digest / "model.skops").write_bytes(b"garbage")
    assert again.resolve("champion").version == first.version  # the newest whose files are whole


def test_while_mlflow_is_away_an_empty_cache_says_so_in_seconds(gate, tmp_path):
    gate.close()
    registry = Registry(gate.url, "sentiment", tmp_path / "models")
    start = time.monotonic()
    for act in (lambda: registry.resolve("champion"), registry.versions, lambda: registry.set_alias("champion", 1)):
        with pytest.raises(Transient, match="an answer from MLflow"):
            act()
    assert time.monotonic() - start < 30


def test_the_cache_of_another_server_is_not_used(gate, candidate, tmp_path):
    registry = Registry(gate.url, f"sentiment-{uuid.uuid4().hex[:8]}", tmp_path / "models")
    ref = _register(registry, candidate)
    registry.set_alias("champion", ref.version)
    registry.open(registry.resolve("champion"))
    with pytest.raises(Transient):
        Registry("http://127.0.0.1:9", registry.name, tmp_path / "models").resolve("champion")


def test_a_password_in_the_address_works_and_is_told_to_nobody(make_gate, candidate, tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # so that what the registry sets is undone
    gate = make_gate(base64.b64encode(b"me:s3cr+t word").decode())
    host = urlsplit(gate.url).netloc
    name = f"sentiment-{uuid.uuid4().hex[:8]}"
    registry = Registry(f"http://me:s3cr%2Bt%20word@{host}", name, tmp_path / "models")
    ref = _register(registry, candidate)
    assert registry.open(ref).ref == ref
    with pytest.raises(Permanent, match="MLFLOW_TRACKING_PASSWORD") as refused:
        Registry(f"http://me:wrongword@{host}", name, tmp_path / "other").resolve(1)
    assert "wrongword" not in str(refused.value)
    gate.close()
    with pytest.raises(Transient) as away:
        Registry(f"http://me:wrongword@{host}", name, tmp_path / "other").resolve(1)
    assert "wrongword" not in str(away.value)


def test_a_candidate_that_cannot_be_stored_leaves_a_failed_run_and_no_version(registry, candidate, mlflow_server):
    from mlflow import MlflowClient

    class Full:
        def to_bytes(self):
            raise OSError("No space left on device")

    class Broken:
        estimator, metrics, params = candidate.estimator, candidate.metrics, {"C": 1}
        trials, curves, seconds, reviews_per_second, lens = (), {}, 1.0, 1.0, None
        reference = Full()

    with pytest.raises(OSError, match="No space"):
        _register(registry, Broken())
    client = MlflowClient(tracking_uri=mlflow_server.tracking_uri)
    experiment = client.get_experiment_by_name(registry.name)
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED"]
    assert registry.versions() == []
