"""`make` in a fresh folder, with a single small requirement instead of all of them."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
UV = re.search(r"^uv==\S+", (REPOSITORY / "requirements.txt").read_text(), re.MULTILINE)

# Where the compiler stands: what it would take 20 s for is a file in the place that compiled code has.
_WARM = """
import pathlib, sys, time
done = pathlib.Path("compiled") / "complete"
done.parent.mkdir(exist_ok=True)
print("at it", file=sys.stderr, flush=True)
while pathlib.Path("wait").exists():
    time.sleep(0.05)
done.write_text("")
print(done.resolve())
"""


def _make(folder: Path, *targets: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """As a person would type it whose environment has nothing but the usual PATH."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP", "http", "UV_"))}
    environment = {**kept, "PATH": f"{Path(sys.executable).resolve().parent}:/usr/local/bin:/usr/bin:/bin", **environ}
    return subprocess.run(["make", *targets], cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has been set up."""
    folder = tmp_path_factory.mktemp("set up") / "a clone's place"
    (folder / "include").mkdir(parents=True)
    for name in ("Makefile", "include/setup.sh", "include/set_up.py"):
        shutil.copy(REPOSITORY / name, folder / name)
    assert UV is not None
    (folder / "requirements.txt").write_text(f"{UV.group()}\n")
    package = folder / "sentiment_core" / "cli"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text("import sys; print('the command', sys.argv[1:])\n")
    (folder / "sentiment_core" / "warm.py").write_text(_WARM)
    (folder / "sentiment_core" / "text").mkdir()
    (folder / "sentiment_core" / "text" / "kernel.py").write_text("")
    done = _make(folder, "set-up")
    if done.returncode and re.search(r"No matching distribution|Connection|resolution", done.stderr):
        pytest.skip(f"no package index in reach: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    assert "Set up in" in done.stdout
    return folder


def test_the_command_is_there_with_its_words_intact(clone: Path) -> None:
    answer = subprocess.run(
        [clone / ".venv/bin/sentiment", "sql", "-c", "a b"], capture_output=True, text=True, check=True, cwd="/"
    )
    assert answer.stdout == "the command ['sql', '-c', 'a b']\n"


def test_a_second_time_does_nothing_and_takes_no_time(clone: Path) -> None:
    seconds = []
    for _ in range(3):  # the quickest: other tests run beside this one
        began = time.monotonic()
        assert _make(clone, "set-up").stdout == ""
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 1


def test_changed_sources_are_compiled_and_nothing_is_installed(clone: Path) -> None:
    (clone / "sentiment_core" / "text" / "kernel.py").write_text("# renewed\n")
    said = _make(clone, "set-up").stdout
    assert "Compiling (once" in said
    assert "Installing" not in said
    assert _make(clone, "set-up").stdout == ""


def test_compiled_code_that_was_removed_is_compiled_again(clone: Path) -> None:
    shutil.rmtree(clone / "compiled")
    assert "Compiling (once" in _make(clone, "set-up").stdout
    assert (clone / "compiled" / "complete").exists()


def test_compiling_that_was_interrupted_is_done_again(clone: Path) -> None:
    (clone / "wait").touch()
    (clone / "sentiment_core" / "text" / "kernel.py").write_text("# interrupted\n")
    process = subprocess.Popen(["make", "set-up"], cwd=clone, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "at it\n"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (clone / "wait").unlink()
    assert "Compiling (once" in _make(clone, "set-up").stdout
    assert _make(clone, "set-up").stdout == ""


def test_compiling_that_fails_fails_the_set_up(clone: Path) -> None:
    program = clone / "sentiment_core" / "warm.py"
    program.write_text("raise SystemExit('no memory')\n")
    done = _make(clone, "set-up")
    assert done.returncode != 0
    assert "no memory" in done.stderr
    program.write_text(_WARM)
    assert "Compiling (once" in _make(clone, "set-up").stdout


def test_a_changed_pin_is_installed(clone: Path) -> None:
    with (clone / "requirements.txt").open("a") as requirements:
        requirements.write("# renewed\n")
    assert "Installing" in _make(clone, "set-up").stdout
    assert _make(clone, "set-up").stdout == ""


def test_an_interrupted_set_up_is_taken_up_again(clone: Path) -> None:
    (clone / ".venv" / ".made-from").unlink()
    process = subprocess.Popen(["make", "set-up"], cwd=clone, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert "Installing" in process.stdout.readline()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "Creating .venv" in _make(clone, "set-up").stdout
    assert (clone / ".venv" / "bin" / "uv").exists()


def test_an_environment_whose_python_has_gone_is_made_anew(clone: Path) -> None:
    (clone / ".venv" / "bin" / "python").unlink()
    assert "Creating .venv" in _make(clone, "set-up").stdout
    assert _make(clone, "set-up").stdout == ""


def test_two_at_once_wait_for_each_other(clone: Path) -> None:
    (clone / ".venv" / ".made-from").unlink()
    environment = {**os.environ}
    both = [
        subprocess.Popen(
            ["make", "set-up"], cwd=clone, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("Set up in" in words for words in said) == 1


def test_a_moved_folder_is_set_up_anew(clone: Path) -> None:
    moved = clone.rename(clone.with_name("moved"))
    try:
        assert "Creating .venv" in _make(moved, "set-up").stdout
        answer = subprocess.run([moved / ".venv/bin/sentiment"], capture_output=True, text=True, check=True)
        assert answer.stdout.startswith("the command")
    finally:
        moved.rename(clone)


def test_a_python_that_only_answers_to_its_name_is_passed_over(clone: Path, tmp_path: Path) -> None:
    for name in ("python3.12", "python3.13", "python3", "python"):
        shim = tmp_path / name
        shim.write_text("#!/bin/sh\necho 'pyenv: command not found' >&2\nexit 127\n")
        shim.chmod(0o755)
    (clone / ".venv" / ".made-from").unlink(missing_ok=True)
    real = Path(sys.executable).resolve().parent
    done = _make(clone, "set-up", PATH=f"{tmp_path}:{real}:/usr/local/bin:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert "pyenv" not in done.stderr


def test_without_a_python_one_line_says_what_to_install(clone: Path, tmp_path: Path) -> None:
    script = (clone / "include" / "setup.sh").read_text()
    # the places where another machine may have one, made empty
    elsewhere = re.sub(r"(?<=[\s\"])/(opt|usr|home|Library)/", f"{tmp_path}/none/", script)
    (clone / "include" / "bare.sh").write_text(elsewhere)
    (clone / ".venv" / ".made-from").unlink(missing_ok=True)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cksum", "cat", "dirname", "id"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    environment = {"PATH": str(tools), "HOME": str(tmp_path)}
    done = subprocess.run(["/bin/sh", "include/bare.sh"], cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "Python 3.12 or 3.13" in done.stderr
    assert "install" in done.stderr
