"""What every command has in common: help, exit status, speed."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sentiment_core import cli
from sentiment_core.errors import Permanent, Transient

WORDS = {"expected": "a thing", "found": "another", "remedy": "mend it"}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A root with commands that end in every way there is."""
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def well() -> None:
        typer.echo("done")

    @app.command()
    def permanent() -> None:
        raise Permanent("the file", **WORDS)

    @app.command()
    def transient() -> None:
        raise Transient("the server", **WORDS)

    @app.command()
    def interrupted() -> None:
        raise KeyboardInterrupt

    @app.command()
    def partly() -> None:
        raise typer.Exit(1)

    monkeypatch.setattr(cli, "app", app)


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("well", 0),
        ("permanent", 1),
        ("transient", 75),
        ("interrupted", 130),
        ("partly", 1),
        ("no-such-command", 2),
        ("well --what", 2),
    ],
)
def test_the_exit_status_tells_how_it_ended(arguments: str, status: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments.split()) == status
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    if status in (1, 75) and arguments != "partly":
        assert "expected a thing, found another. To mend it: mend it" in said.err


def _commands() -> list[str]:
    return sorted(command.name or command.callback.__name__ for command in cli.app.registered_commands if command.callback)


@pytest.mark.parametrize("command", _commands())
def test_every_command_explains_itself(command: str) -> None:
    answer = CliRunner().invoke(cli.app, [command, "--help"])
    assert answer.exit_code == 0
    assert len(answer.output.split("Usage")[1].split()) > 8


def test_the_commands_of_the_stack_are_there() -> None:
    assert {"up", "down", "status", "doctor"} <= set(_commands())


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom sentiment_core import cli\ncli.run(['--help'])\n"
        "heavy = {'airflow', 'mlflow', 'evidently', 'pandas', 'sklearn', 'boto3', 'psycopg2', 'sqlalchemy', 'psutil'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.endswith("loaded: []\n"), answer.stdout[-200:]


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    script = f"'{sys.executable}' -c \"from sentiment_core.cli import main; main()\" --help 2>'{tmp_path / 'err'}' | head -n 1"
    answer = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout
    assert (tmp_path / "err").read_text() == ""


def test_the_environment_overrides_the_embedded_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    from sentiment_core import local

    monkeypatch.setattr(
        local, "environment", lambda: {"SENTIMENT_DATABASE_URL": "postgresql://a/b", "MLFLOW_TRACKING_URI": "http://embedded"}
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    settings = cli.load_settings()
    assert settings.mlflow_tracking_uri == "http://elsewhere"
    assert settings.database_url == "postgresql+psycopg2://a/b"
