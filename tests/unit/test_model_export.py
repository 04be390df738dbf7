"""A model as open files, and the model that scikit-learn's own parts make of them."""

import copy
import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment_core.errors import Permanent
from sentiment_core.model.calibration import fit_platt
from sentiment_core.model.estimator import SentimentClassifier
from sentiment_core.model.export import export_model
from sentiment_core.model.rebuild import RebuiltModel

TEXTS = [
    "A great, GREAT film!! I loved it <br/> see www.films.org", "never liked films. Boring", "it's fine :) 7/10", "not bad at all 👍👍",
    "awful plot; mail me at joe@x.org", "lovely acting and lovely music", "Ordinary. Nothing special, 42 minutes", "ΣΑΣ was naïve",
] * 3  # fmt: skip
TWO = ["positive", "negative", "positive", "positive", "negative", "positive", "negative", "negative"] * 3
THREE = ["positive", "negative", "neutral", "positive", "negative", "positive", "neutral", "negative"] * 3
EVERY_RULE = {
    "mask_urls": True, "mask_emails": True, "split_emoji": True, "mask_numbers": True, "mark_negation": True,
    "drop_stop_words": True, "ngram_max": 3,
}  # fmt: skip
WORDS = st.sampled_from(" ".join(TEXTS).split())
UNSEEN = st.lists(st.one_of(st.lists(WORDS, max_size=20).map(" ".join), st.text(max_size=30)), min_size=1, max_size=5)


@pytest.fixture(
    scope="module",
    params=[
        ({}, TWO),
        ({"stem": False}, THREE),
        ({"weighting": "nbidf"}, TWO),
        ({"weighting": "nbidf"}, THREE),
        (EVERY_RULE, TWO),
        ({"char_min": 3, "char_max": 5}, THREE),
        ({"char_min": 2, "char_max": 3, "weighting": "nbidf"}, TWO),
        ({"classifier": "svm", "weighting": "presence"}, TWO),
        ({"classifier": "svm", "weighting": "nbidf", "class_weight": "balanced", "ratio_power": 0.5}, THREE),
        ({"classifier": "naive_bayes", "weighting": "presence", "C": 1.0}, THREE),
        ({"classifier": "complement", "C": 1.0, "selection": "chi2", "max_features": 40}, TWO),
    ],
    ids=[
        "tfidf",
        "three classes",
        "naive Bayes features",
        "naive Bayes features of three classes",
        "every rule",
        "characters",
        "characters as naive Bayes features",
        "support vectors",
        "support vectors of three classes",
        "naive Bayes",
        "complement naive Bayes of chosen terms",
    ],
)
def plain(request):
    parameters, labels = request.param
    return SentimentClassifier(min_df=1, **parameters).fit(TEXTS, labels), labels


@pytest.fixture(scope="module", params=[False, True], ids=["as learnt", "adjusted"])
def exported(request, plain, tmp_path_factory):
    model, labels = copy.deepcopy(plain[0]), plain[1]
    if request.param:
        places = np.searchsorted(model.classes_, labels)
        scores = np.random.default_rng(0).normal(size=(len(labels), len(model.coef_))) + places[:, None]
        model.adjust(fit_platt(scores, places), np.linspace(-0.4, 0.4, len(model.classes_)))
    folder = tmp_path_factory.mktemp("export") / "model"
    export_model(model, folder, {"model_version": 3})
    return model, folder


@settings(deadline=None, max_examples=60)
@given(texts=UNSEEN)
def test_the_rebuilt_model_gives_the_same_probabilities(exported, texts):
    model, folder = exported
    rebuilt = RebuiltModel(folder)
    assert rebuilt.classes_.tolist() == model.classes_.tolist()
    np.testing.assert_allclose(rebuilt.predict_proba(texts), model.predict_proba(texts), rtol=0, atol=1e-9)
    assert rebuilt.predict(texts).tolist() == model.predict(texts).tolist()


def test_the_files_say_what_they_are(exported):
    model, folder = exported
    description = json.loads((folder / "model.json").read_text())
    assert description["model_version"] == 3
    assert description["rules"]["ngram_max"] == model.ngram_max
    assert pq.read_table(folder / "dictionary.parquet")["term"].to_pylist() == model.vocabulary.terms + model.characters.terms


STRANGER = """
import contextlib, io, json, runpy, sys
sys.modules["sentiment_core"] = None
for line in sys.stdin:
    sys.argv = json.loads(line)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        runpy.run_path(sys.argv[0], run_name="__main__")
    print(json.dumps(said.getvalue()), flush=True)
"""


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """A Python in which nothing of ours can be imported, and which runs a script as often as asked: its libraries load once."""
    folder = tmp_path_factory.mktemp("stranger")
    command = [sys.executable, "-I", "-c", STRANGER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder) as process:

        def run(*arguments):
            process.stdin.write(json.dumps([str(argument) for argument in arguments]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield run


def test_the_script_needs_nothing_of_ours(exported, stranger):
    model, folder = exported
    said = stranger(folder / "rebuild.py", folder, "a great film", "boring")
    told = [json.loads(line) for line in said.splitlines()]
    expected = model.predict_proba(["a great film", "boring"])
    np.testing.assert_allclose([[row[name] for name in model.classes_] for row in told], expected, rtol=0, atol=1e-9)


def test_a_folder_that_holds_something_is_left_alone(exported, tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(Permanent, match="an empty one"):
        export_model(exported[0], tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
