"""What no line of this code may do, and that SECURITY.md promises nothing that no test holds to."""

import ast
import re
from pathlib import Path

import pytest

from sentiment_core.errors import Permanent, printable
from sentiment_core.settings import REPOSITORY

FOLDERS = ("sentiment_core", "dags", "plugins", "include")
SOURCES = sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))
# They run what they read.
FORBIDDEN_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {
    "eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "pd.read_pickle", "pandas.read_pickle", "torch.load",
    "mlflow.sklearn.load_model", "mlflow.pyfunc.load_model",
}  # fmt: skip
SECURITY = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")


def calls(tree):
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_nothing_that_is_read_is_run(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in imported} & FORBIDDEN_MODULES
    for name, call in calls(tree):
        assert name not in FORBIDDEN_CALLS, f"{name} in line {call.lineno}"
        options = {keyword.arg: keyword.value for keyword in call.keywords}
        assert "shell" not in options, f"a shell in line {call.lineno}"
        if name in ("np.load", "np.save", "numpy.load"):
            assert ast.unparse(options["allow_pickle"]) == "False", f"line {call.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_nothing_listens_on_all_interfaces(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        assert "0.0.0.0" not in line, number  # noqa: S104
        assert '"::"' not in line, number


def test_a_message_is_one_line_and_holds_no_control_character_whoever_named_its_thing():
    hostile = "incoming/date=2026-11-01/a\n[2026-11-01] INFO all is well\x1b[2J\u202etxt.csv"
    said = str(Permanent(f"object {hostile}", expected="x", found=hostile.replace("\n", " "), remedy="y"))
    assert "\n" not in said
    assert printable(said) == said
    assert "\\x1b[2J" in said


def test_every_promise_names_a_test_that_exists():
    """In SECURITY.md a promise is a row of a table, whose last cell names tests as `path::name`."""
    rows = [line for line in SECURITY.splitlines() if line.startswith("|") and not re.match(r"\|[ |-]+\|$|\| Promise", line)]
    assert len(rows) >= 30
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row.rstrip("|").rpartition("|")[2])
        assert named, f"no test: {row}"
        for path, name in named:
            source = (REPOSITORY / path).read_text(encoding="utf-8")
            assert not name or re.search(rf"^def {name}\(", source, re.MULTILINE), f"{path}::{name}"


def test_the_documents_lead_to_it():
    assert "SECURITY.md" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for path in set(re.findall(r"`((?:include|dags|plugins|sentiment_core)/[\w./-]+)`", SECURITY)):
        assert Path(REPOSITORY / path).exists(), path
