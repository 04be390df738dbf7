"""Commands of the nightly work without Airflow: put, score. Words and tables only; the work is `stages`'."""

from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sentiment_core.cli import load_settings
from sentiment_core.cli.arguments import AnyModel, Json, calendar_day, dump
from sentiment_core.stages.services import Services


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(put)
    app.command()(score)


Day = Annotated[date, typer.Option("--date", parser=calendar_day, metavar="D", help="The night, YYYY-MM-DD (UTC).")]


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
        typer.echo(dump(results))


def score(
    day: Day,
    to: Annotated[
        date | None, typer.Option("--to", parser=calendar_day, metavar="D2", help="Last night of a range, included.")
    ] = None,
    model: AnyModel = "champion",
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
        typer.echo(dump(results))


def _print_night(result: dict[str, Any]) -> None:
    failed = f", {result['n_failed']} objects failed (see sentiment.source_objects)" if result["n_failed"] else ""
    degraded = ", by the cached model: MLflow is away" if result["status"] == "degraded" else ""
    typer.echo(
        f"{result['window_date']}: {result['n_scored']:,} reviews of {result['n_objects']:,} new objects scored by version "
        f"{result['model_version']}, {result['n_quarantined']:,} rows quarantined{failed}{degraded}"
    )
