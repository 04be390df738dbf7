"""A family of models that another package brings: searched beside ours, registered, trusted, held for its speed."""

import importlib
import random
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sentiment_core import schema
from sentiment_core.errors import Permanent
from sentiment_core.families import installed_families
from sentiment_core.model.comparison import compare
from sentiment_core.model.explain import explain
from sentiment_core.model.training import train
from sentiment_core.policy import read_policy
from sentiment_core.registry import Registry
from sentiment_core.registry.artefact import UntrustedModel
from sentiment_core.settings import REPOSITORY

POLICY = read_policy(REPOSITORY / "include" / "policy.toml")
PACKAGE = '''
import numpy as np

from sentiment_core.model.estimator import SentimentClassifier


def echo(text):
    """How much of a text's second half says again what the first says: the longest common part, by all pairs of letters."""
    half = len(text) // 2
    best, before = 0, [0] * (half + 1)
    for one in text[:half]:
        here = [0]
        for place, other in enumerate(text[half:half * 2]):
            here.append(before[place] + 1 if one == other else 0)
        best, before = max(best, *here), here
    return best / max(half, 1)


class EchoClassifier(SentimentClassifier):
    def scores(self, texts):
        return np.array([[self.slope * (echo(text) - self.border_)] for text in texts.to_pylist()])

    def examine(self, texts):
        return self.calibration.probabilities(self.scores(texts), self.link), super().examine(texts)[1]


class EchoFamily:
    name = "echo"
    trusted_types = ("echo_family.EchoClassifier",)

    def known(self):
        return [{"slope": 20.0}]

    def choose(self, chooser):
        return {"slope": chooser.suggest_float("slope", 1, 100, log=True)}

    def fit(self, parameters, texts, labels, weights, *, seed):
        model = EchoClassifier(ngram_max=1, random_state=seed).fit(texts, labels, weights)
        echoes = np.array([echo(text) for text in texts.to_pylist()])
        model.slope = parameters["slope"]
        model.border_ = float(np.mean([echoes[labels == name].mean() for name in np.unique(labels)]))
        return model
'''


@pytest.fixture(scope="module")
def echo_package(tmp_path_factory):
    """A folder with an installed package that brings a family: slow, and right where no n-gram is."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "echo_family.py").write_text(PACKAGE, encoding="utf-8")
    about = folder / "echo_family-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: echo-family\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[sentiment.families]\necho = echo_family:EchoFamily\n", encoding="utf-8")
    return folder


@pytest.fixture
def installed(echo_package, monkeypatch):
    monkeypatch.syspath_prepend(str(echo_package))
    importlib.invalidate_caches()
    return installed_families()


@pytest.fixture(scope="module")
def snapshot():
    """Positive reviews say everything twice."""
    rng = random.Random(0)
    rows = []
    for number in range(240):
        words = [rng.choices(["film", "plot", "scene", "actor", "music", "story", "camera", "light"], k=22) for _ in range(2)]
        is_positive = number % 2 == 0
        first, second = " ".join(words[0]), " ".join(words[0] if is_positive else words[1])
        rows.append(
            {**dict.fromkeys(schema.SNAPSHOT.names), "review_id": f"r{number}", "text": f"{first:<150.150}{second:<150.150}",
             "label": "positive" if is_positive else "negative", "origin": "standing"}
        )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schema.SNAPSHOT)


@pytest.fixture(scope="module")
def trained(echo_package, snapshot):
    sys.path.insert(0, str(echo_package))
    try:
        limits = replace(POLICY.search, trials=6, folds=3)
        return train(snapshot, policy=replace(POLICY, search=limits), families=installed_families())
    finally:
        sys.path.remove(str(echo_package))


@pytest.fixture
def registry(mlflow_server, tmp_path):
    return Registry(mlflow_server.tracking_uri, f"sentiment-{uuid.uuid4().hex[:8]}", tmp_path)


def test_without_packages_there_are_no_families_but_ours():
    assert installed_families() == ()


def test_a_family_is_tried_beside_ours_and_taken_where_it_is_better(installed, trained):
    assert [family.name for family in installed] == ["echo"]
    assert {trial.family for trial in trained.trials} == {"logistic", "naive_bayes", "nb_logistic", "svm", "echo"}
    assert trained.params["family"] == "echo"
    assert trained.metrics["test"]["accuracy"] > 0.95
    assert len(trained.reference) == trained.metrics["data"]["n_test"]
    assert next(trial for trial in trained.trials if trial.family == "echo").params == {"family": "echo", "slope": 20.0}


def test_the_floor_of_the_policy_decides_whether_it_may_become_champion(trained, snapshot):
    held = compare(None, trained.estimator, snapshot, POLICY)
    assert held.outcome == "held"
    (speed,) = [gate for gate in held.metrics["gates"] if gate["outcome"] == "failed"]
    assert (speed["name"], speed["limit"]) == ("speed", POLICY.promotion.min_reviews_per_second)
    assert trained.reviews_per_second < speed["limit"]
    assert held.reason.startswith("scores ")
    patient = replace(POLICY, promotion=replace(POLICY.promotion, min_reviews_per_second=1))
    assert compare(None, trained.estimator, snapshot, patient).outcome == "promoted"


def test_it_is_registered_and_loaded_where_its_package_is_installed_and_refused_elsewhere(
    installed, trained, snapshot, registry, monkeypatch
):
    ref = registry.register(replace(trained, trials=()), snapshot_key=None, code_version="test", run_name="test")
    texts = snapshot["text"][:8].combine_chunks()
    opened = registry.open(ref).estimator
    assert np.array_equal(opened.predict_proba(texts), trained.estimator.predict_proba(texts))
    with registry._mlflow("test") as client:
        run = client.get_run(client.get_model_version(registry.name, str(ref.version)).run_id)
    assert run.data.metrics["reviews_per_second"] == pytest.approx(trained.reviews_per_second)
    with pytest.raises(Permanent, match="a linear model"):
        explain(opened, "good")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not Path(path, "echo_family.py").is_file()])
    importlib.invalidate_caches()
    with pytest.raises(UntrustedModel, match="EchoClassifier"):
        registry.open(ref)


@pytest.mark.parametrize(
    ("entries", "words"),
    [("a = no_such_module:X", "family a of models"), ("a = echo_family:EchoFamily\nb = echo_family:EchoFamily", "a second one")],
)
def test_a_package_that_is_off_is_named(echo_package, tmp_path, monkeypatch, entries, words):
    about = tmp_path / "off-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: off\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(f"[sentiment.families]\n{entries}\n", encoding="utf-8")
    (tmp_path / "echo_family.py").write_text(PACKAGE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    with pytest.raises(Permanent, match=words):
        installed_families()
