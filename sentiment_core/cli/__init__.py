"""The command `sentiment`: one module a group of commands, each with `register(app)`.

Here are the root, the translation of errors into exit status, and the settings that all commands share. A module
imports what is heavy inside its functions, so that `--help` answers at once.
"""

import os
import sys
from importlib import import_module

import typer

from sentiment_core import __version__
from sentiment_core.errors import Permanent, Transient
from sentiment_core.settings import ModelSettings, Settings

MODULES = ("stack", "nightly", "rescoring", "files", "training", "drift", "models", "single", "serving", "sql", "demo")
FAILED, TRY_AGAIN_LATER = 1, 75

app = typer.Typer(
    name="sentiment",
    help="Nightly sentiment of reviews: S3 to scores to PostgreSQL to drift to retrain, on Airflow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(
    version: bool = typer.Option(False, "--version", help="Say the version and end.", is_eager=True),
) -> None:
    """Nightly sentiment of reviews: S3 to scores to PostgreSQL to drift to retrain, on Airflow."""
    if version:
        typer.echo(f"sentiment {__version__}")
        raise typer.Exit


def load_settings() -> Settings:
    """The settings of a command: the embedded stack's, overridden by the environment."""
    return Settings.from_environment(_environment())


def load_model_settings() -> ModelSettings:
    """The settings of a command that only asks a model."""
    return ModelSettings.from_environment(_environment())


def _environment() -> dict[str, str]:
    from sentiment_core import local

    return {**local.environment(), **os.environ}


def main(arguments: list[str] | None = None) -> None:
    """Run a command; exit status 0 done, 1 failed, 2 usage, 75 try again later, 130 interrupted."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run a command and give its exit status; never a stack trace for an error of ours."""
    for name in ("NO_PROXY", "no_proxy"):  # the embedded stack is on loopback, which no proxy knows
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1,localhost")))
    try:
        app(args=arguments, prog_name="sentiment")
    except SystemExit as end:  # Typer's own: 0, 1, 2 for usage, 130 for an interrupt
        return end.code if isinstance(end.code, int) else FAILED
    except Transient as error:
        typer.secho(str(error), err=True, fg="yellow")
        return TRY_AGAIN_LATER
    except Permanent as error:
        typer.secho(str(error), err=True, fg="red")
        return FAILED
    return 0


for _module in MODULES:  # last: the modules take load_settings from here
    import_module(f"{__name__}.{_module}").register(app)
