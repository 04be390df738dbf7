"""Commands of the nightly work without Airflow: put, score, models, export. Words and tables only; the work is `stages`'."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sentiment_core.cli import load_settings
from sentiment_core.stages.services import Services

console = Console(highlight=False)
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(put)
    app.command()(score)
    versions = typer.Typer(invoke_without_command=True, no_args_is_help=False)
    versions.callback()(models)
    versions.command()(export)
    app.add_typer(versions, name="models")
    app.command()(export)


def _day(text: str) -> date:
    complaint = f"expected a date such as 2026-11-20, found {text!r}"
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        raise typer.BadParameter(complaint)
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(complaint) from error


def _model(text: str) -> str:
    if not re.fullmatch(r"champion|challenger|as-of|[1-9][0-9]*", text):
        raise typer.BadParameter(f"expected champion, challenger, as-of or a version number, found {text!r}")
    return text


def _registered(text: str) -> str:
    if not re.fullmatch(r"champion|challenger|[1-9][0-9]*", text):
        raise typer.BadParameter(f"expected champion, challenger or a version number, found {text!r}")
    return text


Day = Annotated[date, typer.Option("--date", parser=_day, metavar="D", help="The night, YYYY-MM-DD (UTC).")]


def put(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Parquet, JSONL or CSV files (.gz too).")],
    day: Day,
    labels: Annotated[bool, typer.Option("--labels", help="The files hold late labels, not reviews.")] = False,
    as_json: Json = False,
) -> None:
    """Upload reviews (or labels) to their folder in S3."""
    from sentiment_core.stages.delivery import put_file

    services = Services(load_settings())
    results = []
    for path in files:
        results.append(put_file(services, path, day, is_labels=labels))
        if not as_json:
            typer.echo(f"{results[-1]['outcome']}: {results[-1]['url']}")
    if as_json:
        typer.echo(json.dumps(results))


def score(
    day: Day,
    to: Annotated[date | None, typer.Option("--to", parser=_day, metavar="D2", help="Last night of a range, included.")] = None,
    model: Annotated[
        str, typer.Option(parser=_model, metavar="M", help="champion, challenger, as-of or a version number.")
    ] = "champion",
    force: Annotated[bool, typer.Option("--force", help="Score objects again that have been scored.")] = False,
    as_json: Json = False,
) -> None:
    """Score nights without Airflow: what is new in S3, with the model, into PostgreSQL."""
    from sentiment_core.stages.night import score_window

    last = to or day
    if last < day:
        raise typer.BadParameter(f"expected --to on or after --date {day}, found {last}")
    services = Services(load_settings())
    results = []
    nights = [day + timedelta(days=n) for n in range((last - day).days + 1)]
    with Console(stderr=True).status("") as status:
        for night in nights:
            status.update(f"{night}: listing")

            def tell(n_objects: int, n_scored: int, night: date = night) -> None:
                status.update(f"{night}: {n_objects:,} objects, {n_scored:,} reviews")

            results.append(score_window(services, night, model=model, force=force, on_progress=tell))
            if not as_json:
                _print_night(results[-1])
    if as_json:
        typer.echo(json.dumps(results))


def _print_night(result: dict[str, Any]) -> None:
    failed = f", {result['n_failed']} objects failed (see sentiment.source_objects)" if result["n_failed"] else ""
    degraded = ", by the cached model: MLflow is away" if result["status"] == "degraded" else ""
    typer.echo(
        f"{result['window_date']}: {result['n_scored']:,} reviews of {result['n_objects']:,} new objects scored by version "
        f"{result['model_version']}, {result['n_quarantined']:,} rows quarantined{failed}{degraded}"
    )


def export(
    version: Annotated[str, typer.Argument(parser=_registered, metavar="V", help="A version number, champion or challenger.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty folder, or one to be made.")],
    as_json: Json = False,
) -> None:
    """Write a model as open files: dictionary and weights as Parquet, rules as JSON, a script that rebuilds it."""
    from sentiment_core.model.export import export_model

    registry = Services(load_settings()).registry
    model = registry.open(registry.resolve(int(version) if version.isdigit() else version))
    about = {"model_name": model.ref.name, "model_version": model.ref.version, "digest": model.ref.digest}
    paths = [str(path) for path in export_model(model.estimator, folder, about)]
    if as_json:
        typer.echo(json.dumps({**about, "files": paths}))
        return
    typer.echo(f"version {model.ref.version} written:")
    for path in paths:
        typer.echo(f"  {path}")


def models(context: typer.Context, as_json: Json = False) -> None:
    """The registered versions, which one is champion, and how each came to be."""
    from sentiment_core.store.records import events

    if context.invoked_subcommand:
        return
    services = Services(load_settings())
    history = events(services.engine)
    versions = [
        {**version, "events": [event for event in history if event["model_version"] == version["version"]]}
        for version in services.registry.versions()
    ]
    if as_json:
        typer.echo(json.dumps(versions, default=_plain))
        return
    if not versions:
        typer.echo("No version is registered yet. `make demo` trains one; so does a run of the DAG retrain_model.")
        return
    for version in versions:
        console.print(f"[bold]version {version['version']}[/bold]  {', '.join(version['aliases'])}")
        console.print(_history(version["events"]))


def _plain(value: Any) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


def _history(events: list[dict[str, Any]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for event in events:
        at = event["at"].astimezone(UTC).strftime("%Y-%m-%d %H:%M")
        table.add_row("", at, event["event"], escape(event["reason"]))
    return table
