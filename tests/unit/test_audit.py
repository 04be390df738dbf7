"""`make audit` finds what it is to find, is quiet about the rest, and says when it could not look."""

import importlib.util
import json
import secrets
import shutil
import string
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment_core.local.state import StateDir
from sentiment_core.settings import REPOSITORY


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit_of_this_repository", REPOSITORY / "include" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    return folder


def git(folder, *arguments):
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def drawn(n, alphabet=string.ascii_letters + string.digits):
    return "".join(secrets.choice(alphabet) for _ in range(n - 1)) + "7"


# Put together here, so that this file itself holds nothing of the kind.
PLANTED = {
    "a private key": lambda: "-----BEGIN " + "OPENSSH PRIVATE KEY-----",
    "an AWS key": lambda: "AKIA" + drawn(16, string.ascii_uppercase + string.digits),
    "a GitHub token": lambda: "ghp_" + drawn(36),
    "a Slack token": lambda: "xoxb-" + drawn(24),
    "a Google key": lambda: "AIza" + drawn(35),
    "a PyPI token": lambda: "pypi-AgEI" + drawn(40),
    "a signed token": lambda: f"eyJ{drawn(20)}.eyJ{drawn(40)}.{drawn(43)}",
    "a password in an address": lambda: "postgresql://me:" + drawn(12) + "@host/db",
    "a secret": lambda: f'MY_API_KEY = "{drawn(32)}"',
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_secret_is_found_and_not_told(audit, repository, what, capsys, monkeypatch):
    planted = PLANTED[what]()
    (repository / "settings.py").write_text(f"# fine\nvalue: {planted}\n")
    git(repository, "add", ".")
    assert what in {found.what for found in audit.find_secrets(repository)}
    monkeypatch.setattr(audit, "REPOSITORY", repository)
    assert audit.main(["--secrets-only"]) == 1
    said = capsys.readouterr().out
    assert "settings.py:2: looks like" in said
    assert planted not in said


@pytest.mark.parametrize("what", PLANTED)
def test_a_secret_that_was_removed_is_still_in_the_history(audit, repository, what):
    (repository / "settings.py").write_text(f"value: {PLANTED[what]()}\n")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "one")
    (repository / "settings.py").write_text("value: none\n")
    git(repository, "commit", "--quiet", "-am", "two")
    assert list(audit.find_secrets(repository)) == []
    assert what in {found.what for found in audit.find_secrets(repository, history=True)}


def test_what_says_that_it_is_no_secret_is_believed(audit, repository):
    (repository / "a.py").write_text(f"{PLANTED['a secret']()}  # not a secret\n")
    (repository / "b.py").write_text(
        "password = 'only-for-tests-secret-access-key'\nurl = 'postgresql://me:secret@db'\nSECRET = ${SECRET:?run make-env}\n"
        "sha256 = 9f8a7c6b5d4e3f2a1b0c9d8e7f6a5b4c\ntoken = some_function_with_a_long_name(argument)\n"
    )
    git(repository, "add", ".")
    assert list(audit.find_secrets(repository)) == []


def test_the_secrets_of_this_clones_own_stack_are_known_by_heart(audit, repository):
    made = StateDir(repository / ".local")
    made.create()
    own = made.secrets()["owner_password"]
    (repository / ".gitignore").write_text(".local/\n")
    (repository / "notes.md").write_text(f"by the way: {own}\n")
    git(repository, "add", ".")
    assert [found.what for found in audit.find_secrets(repository)] == ["a secret of this clone's own stack"]


@pytest.mark.parametrize("name", sorted(StateDir.secrets.__globals__["_SECRETS"]))
def test_every_secret_that_the_stack_makes_would_be_found_anywhere(audit, name):
    make = StateDir.secrets.__globals__["_SECRETS"][name]
    value = next(value for value in iter(make, None) if any(char.isdigit() for char in value))
    assert [found.what for found in audit.look_through("log", f'token: "{value}"'.encode())] == ["a secret"]


def test_this_repository_holds_no_secret(audit):
    if not (REPOSITORY / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git clone")
    assert list(audit.find_secrets(REPOSITORY)) == []


@given(content=st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
def test_any_file_can_be_looked_through(audit, content):
    list(audit.look_through("a", content))


def answer(*packages):
    return json.dumps({"dependencies": list(packages)})


def test_what_pip_audit_could_not_look_up_is_not_called_fine(audit, capsys):
    passed_over = answer(*({"name": f"p{n}", "skip_reason": "Dependency not found on PyPI"} for n in range(9)))
    for output in (passed_over, "", answer()):
        assert audit.judge_dependencies(output, "no route to host", is_ci=False) == 0
        assert "Dependencies: not checked" in capsys.readouterr().out
        assert audit.judge_dependencies(output, "no route to host", is_ci=True) == 1


def test_a_vulnerability_is_told_with_the_version_that_mends_it(audit, capsys):
    flaw = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
    fine = {"name": "fine", "version": "1.0", "vulns": []}
    assert audit.judge_dependencies(answer(fine), "", is_ci=True) == 0
    assert audit.judge_dependencies(answer(fine, {"name": "bad", "version": "1.0", "vulns": [flaw]}), "", is_ci=False) == 1
    assert "bad 1.0: PYSEC-1; mended in 2.0" in capsys.readouterr().out


def test_without_uv_the_dependencies_are_not_checked_and_that_is_said(audit, capsys, monkeypatch):
    monkeypatch.setattr(audit, "_uv", lambda: "/nowhere/uv")
    monkeypatch.delenv("CI", raising=False)
    assert audit.check_dependencies() == 0
    assert "/nowhere/uv" in capsys.readouterr().out
