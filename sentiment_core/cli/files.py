"""The command `score-file`: a file or a pipe in, the same rows with their scores out.

Words, names of files and progress only; the work is `stages`'.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sentiment_core.cli import load_settings
from sentiment_core.cli.arguments import Model, dump
from sentiment_core.errors import Permanent

if TYPE_CHECKING:
    from sentiment_core.reviews.written import Writer
    from sentiment_core.stages.filing import Input
    from sentiment_core.stages.filing import Progress as FileProgress

PIPE = Path("-")


class Format(StrEnum):
    """What a pipe carries."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    CSV = "csv"


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("score-file")(score_file)


def score_file(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Parquet, JSONL or CSV file (.gz too) with a column text; - for a pipe.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Parquet or CSV file (.csv.gz too); - for CSV into a pipe.")],
    model: Model = "champion",
    form: Annotated[
        Format | None, typer.Option("--format", help="What the input is, where its name does not say; a pipe is jsonl.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON; on stderr when OUT is -.")] = False,
) -> None:
    """Score a file: every row in its order with label and probabilities, or with what is wrong with it in the column error."""
    from sentiment_core.stages.filing import score_stream
    from sentiment_core.stages.services import Services

    suffix = _suffix(source, form)
    _check_target(source, target)
    with _reading(source, suffix) as rows, _writing(target) as writer:
        services = Services(load_settings())
        opened = services.registry.open(services.registry.resolve(model))
        if opened.ref.is_degraded:
            typer.echo(f"MLflow is away: scored by the last known {model}, version {opened.ref.version}", err=True)
        with _shown() as tell:
            summary = score_stream(services, opened, rows, writer, on_progress=tell)
    _conclude(summary, as_json=as_json, is_piped=target == PIPE)


def _suffix(source: Path, form: Format | None) -> str:
    from sentiment_core.reviews.layout import SUFFIXES, suffix_of

    known = None if source == PIPE else suffix_of(source.name)
    if form is not None:
        return f".{form}"
    if known is None and source != PIPE:
        raise typer.BadParameter(
            f"expected a name ending in {', '.join(SUFFIXES)}, or --format; found {source.name!r}", param_hint="IN"
        )
    return known or ".jsonl"


def _check_target(source: Path, target: Path) -> None:
    from sentiment_core.reviews.written import OUTPUT_SUFFIXES, output_suffix

    if target == PIPE:
        return
    if output_suffix(target) is None:
        raise typer.BadParameter(
            f"expected a name ending in {', '.join(OUTPUT_SUFFIXES)}, or -; found {target.name!r}", param_hint="OUT"
        )
    if target.exists() and not target.is_file():
        raise typer.BadParameter(f"expected a file, found {target} to be none", param_hint="OUT")
    if source != PIPE and source.exists() and target.exists() and source.samefile(target):
        raise typer.BadParameter("expected another file than IN, found the same", param_hint="OUT")


@contextmanager
def _reading(source: Path, suffix: str) -> "Iterator[Input]":
    from sentiment_core.stages.filing import Input

    if source == PIPE:
        yield Input(stream=sys.stdin.buffer, name="standard input", suffix=suffix)
        return
    try:
        stream = source.open("rb")
    except OSError as error:
        raise Permanent(
            str(source), expected="a readable file", found=str(error), remedy="check the name and its rights"
        ) from error
    with stream:
        yield Input(stream=stream, name=str(source), suffix=suffix)


@contextmanager
def _writing(target: Path) -> "Iterator[Writer]":
    from sentiment_core.reviews.written import CsvWriter, writing

    if target != PIPE:
        with writing(target) as writer:
            yield writer
        return
    try:
        yield CsvWriter(sys.stdout.buffer)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has read enough (`| head`). Nothing more goes there, the interpreter's last flush included.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None


@contextmanager
def _shown() -> "Iterator[Callable[[FileProgress], None] | None]":
    """Show progress on a terminal, and nothing elsewhere."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[row_rate]:,.0f} rows/s, {task.fields[text_rate]:,.1f} MB/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, rows=0, row_rate=0, text_rate=0)
        started = time.monotonic()

        def tell(done: "FileProgress") -> None:
            seconds = max(time.monotonic() - started, 1e-3)
            row_rate, text_rate = done.n_rows / seconds, done.text_bytes / seconds / 1e6
            completed = min(done.n_read, done.total) if done.total else done.n_read
            bar.update(task, total=done.total, completed=completed, rows=done.n_rows, row_rate=row_rate, text_rate=text_rate)

        yield tell


def _conclude(summary: dict[str, Any], *, as_json: bool, is_piped: bool) -> None:
    if as_json:
        typer.echo(dump(summary), err=is_piped)
        return
    bad = f", {summary['n_errors']:,} rows could not be (see the column error)" if summary["n_errors"] else ""
    if Console(stderr=True).is_terminal or not is_piped:
        typer.echo(
            f"{summary['n_scored']:,} reviews scored by version {summary['model_version']} in {summary['seconds']:,.1f} s, "
            f"{summary['reviews_per_second']:,.0f} a second{bad}",
            err=is_piped,
        )
