"""Makes .venv out of requirements.txt and compiles what reads texts; standard library only, because nothing is installed yet.

Called by setup.sh with what .venv is made from, and a checksum of the sources that are compiled; writes them into
.venv/.made-from and .venv/.warmed last, so that a set-up that was interrupted is taken up again. Two at once wait for
each other. A changed file of sentiment_core/text is compiled at the next make target, and nothing is installed for it.
"""

import configparser
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
VENV = REPOSITORY / ".venv"
PYTHON = VENV / "bin" / "python"
MARK = VENV / ".made-from"
WARMED = VENV / ".warmed"
PLACE = VENV / ".made-at"
UNFINISHED = VENV / ".unfinished"


def main(wanted: str, sources: str) -> None:
    """Bring .venv to what is wanted, and compiled code to its sources."""
    (REPOSITORY / ".local").mkdir(mode=0o700, exist_ok=True)
    with (REPOSITORY / ".local" / "set-up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("Another set-up is at work here; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        began = time.monotonic()
        is_made = MARK.exists() and MARK.read_text(encoding="utf-8") == wanted and PYTHON.exists()
        if not is_made:
            set_up(wanted)
        if not (is_made and is_warm(sources)):
            warm(sources)
            say(f"Set up in {time.monotonic() - began:.0f} s.")


def set_up(wanted: str) -> None:
    """Create what is missing, install, and write the mark."""
    MARK.unlink(missing_ok=True)
    WARMED.unlink(missing_ok=True)  # other packages compile to other code
    if not is_sound():
        say(f"Creating .venv with Python {sys.version.split()[0]} ({sys.executable})")
        shutil.rmtree(VENV, ignore_errors=True)
        call([sys.executable, "-I", "-m", "venv", str(VENV)])
        PLACE.write_text(str(VENV), encoding="utf-8")
    UNFINISHED.touch()  # a package that was cut off while it was written looks installed: then all is made anew
    requirements = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8")
    say("Installing the packages of requirements.txt (the first time takes a minute or two)")
    uv = re.search(r"^uv==\S+", requirements, re.MULTILINE)
    pip = [str(PYTHON), "-I", "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--quiet"]
    call([*pip, uv.group() if uv else "uv"])
    install(pip)
    install_ourselves()
    UNFINISHED.unlink()
    MARK.write_text(wanted, encoding="utf-8")


def is_warm(sources: str) -> bool:
    """Whether these sources are compiled, and what came of it is still there; setup.sh asks the same."""
    if not WARMED.exists():
        return False
    compiled_from, place = [*WARMED.read_text(encoding="utf-8").splitlines(), "", ""][:2]
    return compiled_from == sources and (not place or Path(place).exists())


def warm(sources: str) -> None:
    """Compile, and note where the file lies that says so: nowhere, where nothing can be kept."""
    WARMED.unlink(missing_ok=True)
    say("Compiling (once, about half a minute)")
    place = call([str(PYTHON), "-P", "-m", "sentiment_core.warm"], captures=True).strip()
    WARMED.write_text(f"{sources}\n{place}\n", encoding="utf-8")


def install(pip: list[str]) -> None:
    """Install what requirements.txt pins: with uv, or, where a network wants pip's own settings, with pip."""
    files = ["-r", str(REPOSITORY / "requirements.txt")]
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--python", str(PYTHON)]
    for options in ([], ["--system-certs"]):  # the second where a company's proxy signs with its own certificate
        try:
            call([*uv, *options, *files], quiet=True)
        except subprocess.CalledProcessError as error:
            problem = str(error.output)
        else:
            return
    say(f"uv could not install them; pip tries, which takes longer. uv said: {problem.strip()}")
    call([*pip, *files])


def is_sound() -> bool:
    """Whether .venv was made at this place, by a Python that is still there and of this version."""
    settings = configparser.ConfigParser()
    try:
        settings.read_string("[venv]\n" + (VENV / "pyvenv.cfg").read_text(encoding="utf-8"))
        is_here = PLACE.read_text(encoding="utf-8") == str(VENV)
    except (OSError, configparser.Error):
        return False
    wanted = ".".join(map(str, sys.version_info[:3]))
    command = [str(PYTHON), "-I", "-c", "import sys, pip; print(sys.version.split()[0])"]
    if not (is_here and not UNFINISHED.exists() and settings.get("venv", "version", fallback="") == wanted and PYTHON.exists()):
        return False
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.returncode == 0 and answer.stdout.strip().startswith(wanted)


def install_ourselves() -> None:
    """Put the repository on .venv's path, and the command `sentiment` into its bin: no build, no network."""
    [packages] = VENV.glob("lib/python3.*/site-packages")
    (packages / "sentiment_batch.pth").write_text(f"{REPOSITORY}\n", encoding="utf-8")
    command = VENV / "bin" / "sentiment"
    # sh finds Python: a first line that names it could not hold a long path, or one with a space; -P: never the code of
    # the folder one happens to stand in
    quoted = str(PYTHON).replace("'", "'\\''")
    command.write_text(f"#!/bin/sh\nexec '{quoted}' -P -m sentiment_core.cli \"$@\"\n", encoding="utf-8")
    command.chmod(0o755)


def call(command: list[str], *, quiet: bool = False, captures: bool = False) -> str:
    """Run a program; what it says is shown unless `quiet`, where it is in the error; `captures` returns what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command,
        check=True,
        env=environment,
        stdout=subprocess.PIPE if quiet or captures else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        cwd=REPOSITORY,
    )
    return done.stdout or ""


def say(words: str) -> None:
    """A line for the person who waits."""
    print(words, flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except subprocess.CalledProcessError as problem:
        sys.exit(f"The set-up failed: {problem}. What it says above tells why; run make again when it is mended.")
    except KeyboardInterrupt:
        sys.exit("interrupted; run make again to go on")
