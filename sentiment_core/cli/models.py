"""Commands about registered versions: models with its history, promote, rollback, export. The work is `stages`'."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sentiment_core.cli import load_settings
from sentiment_core.cli.arguments import Json, dump, registered, version_or
from sentiment_core.errors import printable
from sentiment_core.stages.services import Services

console = Console(highlight=False)
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; goes into model_events.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module, each by itself and below `models`."""
    versions = typer.Typer(invoke_without_command=True, no_args_is_help=False)
    versions.callback()(models)
    for command in (promote, rollback, export):
        versions.command()(command)
        app.command()(command)
    app.add_typer(versions, name="models")


def _run_id() -> str:
    return f"cli__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"


def promote(
    version: Annotated[
        str, typer.Argument(parser=version_or("challenger"), metavar="V", help="A version number, or challenger.")
    ],
    reason: Reason = "by hand",
    as_json: Json = False,
) -> None:
    """Make a version champion, whatever the gates said; the next night uses it."""
    from sentiment_core.stages import promotion

    done = promotion.promote(Services(load_settings()), version, run_id=_run_id(), reason=reason)
    if as_json:
        typer.echo(dump(done))
    elif done["outcome"] == "unchanged":
        typer.echo(f"version {done['model_version']} is champion already")
    else:
        before = f"; it was version {done['previous']}" if done["previous"] else ""
        typer.echo(f"version {done['model_version']} is champion now{before}")


def rollback(reason: Reason = "by hand", as_json: Json = False) -> None:
    """Make the last good champion champion again, in one step; the next night uses it."""
    from sentiment_core.stages import promotion

    done = promotion.roll_back(Services(load_settings()), run_id=_run_id(), reason=reason)
    if as_json:
        typer.echo(dump(done))
    else:
        typer.echo(f"version {done['model_version']} is champion again; version {done['previous']} was rolled back")


def export(
    version: Annotated[str, typer.Argument(parser=registered, metavar="V", help="A version number, champion or challenger.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty folder, or one to be made.")],
    as_json: Json = False,
) -> None:
    """Write a model as open files: dictionary and weights as Parquet, rules as JSON, a script that rebuilds it."""
    from sentiment_core.model.export import export_model

    registry = Services(load_settings()).registry
    model = registry.open(registry.resolve(version))
    about = {"model_name": model.ref.name, "model_version": model.ref.version, "digest": model.ref.digest}
    paths = [str(path) for path in export_model(model.estimator, folder, about)]
    if as_json:
        typer.echo(dump({**about, "files": paths}))
        return
    typer.echo(f"version {model.ref.version} written:")
    for path in paths:
        typer.echo(f"  {path}")


def models(context: typer.Context, as_json: Json = False) -> None:
    """The registered versions with their figures, which one is champion, and what happened to each."""
    from sentiment_core.stages import promotion

    if context.invoked_subcommand:
        return
    versions = promotion.history(Services(load_settings()))
    if as_json:
        typer.echo(dump(versions))
        return
    if not versions:
        typer.echo("No version is registered yet. `sentiment train --data FILE` trains one; so does `make demo`.")
        return
    console.print(_version_table(versions))
    console.print()
    console.print(
        _history(sorted((event for version in versions for event in version["events"]), key=lambda event: event["event_id"]))
    )


def _version_table(versions: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("version", justify="right", no_wrap=True)
    table.add_column("is", no_wrap=True)
    table.add_column("registered", no_wrap=True)
    for name in ("test n", "accuracy", "macro F1", "ECE"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("snapshot", no_wrap=True)
    for version in versions:
        registered = next((event for event in version["events"] if event["event"] == "registered"), None)
        test = ((registered or {}).get("metrics") or {}).get("test") or {}
        at = datetime.fromisoformat(version["created_at"]).strftime("%Y-%m-%d")
        figures = (_count(test.get("n")), *(_share(test.get(name)) for name in ("accuracy", "macro_f1", "ece")))
        aliases = "\n".join(version["aliases"])
        digest = Path(version["snapshot"]).stem[:8] if version["snapshot"] else ""
        table.add_row(str(version["version"]), f"[bold]{aliases}[/bold]", at, *figures, digest)
    return table


def _count(value: Any) -> str:
    return "" if value is None else f"{value:,}"


def _share(value: Any) -> str:
    return "" if value is None else f"{value:.3f}"


def _history(events: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("at (UTC)", no_wrap=True)
    table.add_column("version", justify="right")
    table.add_column("event", no_wrap=True)
    table.add_column("why", ratio=1, overflow="fold")
    for event in events:
        at = event["at"].astimezone(UTC).strftime("%Y-%m-%d %H:%M")
        table.add_row(at, str(event["model_version"]), event["event"].replace("_", " "), escape(printable(event["reason"])))
    return table
