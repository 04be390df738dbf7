"""The commands train and evaluate: labelled files in, a model or figures out. The work is `stages`'."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sentiment_core.cli import load_settings
from sentiment_core.cli.arguments import Json, Model, dump
from sentiment_core.stages.services import Services

if TYPE_CHECKING:
    from sentiment_core.reviews.labelled import Columns

console = Console(highlight=False)
Data = Annotated[
    list[Path],
    typer.Option("--data", metavar="FILE...", help="Parquet, JSONL or CSV files (.gz too) of labelled reviews."),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        "--label-column",
        metavar="C",
        help="negative/neutral/positive, 0/1 or false/true; stars 1-5 if named rating. Default: label, else positive, else rating.",
    ),
]
TextColumn = Annotated[str, typer.Option("--text-column", metavar="C", help="Column of the texts.")]

# From here on a figure's fractions say nothing.
_WHOLE_FROM = 1_000


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    settings = {"allow_extra_args": True}  # --data FILE FILE ...: a shell's pattern gives several
    app.command(context_settings=settings)(train)
    app.command(context_settings=settings)(evaluate)


def train(
    context: typer.Context,
    *,
    data: Data,
    label_column: LabelColumn = None,
    text_column: TextColumn = "text",
    product_column: Annotated[
        str | None,
        typer.Option(
            "--product-column", metavar="C", help="What a review is about; folds keep it together. Default: product_id."
        ),
    ] = None,
    no_promote: Annotated[bool, typer.Option("--no-promote", help="Register as challenger; leave the champion.")] = False,
    as_json: Json = False,
) -> None:
    """Train a model from labelled files, register it, and promote it when it passes the gates of the policy."""
    from sentiment_core.stages.retraining import train_from_files

    columns = _columns(text_column, label_column, product_column)
    result = _done(train_from_files, _paths(data, context), columns, may_promote=not no_promote)
    if as_json:
        typer.echo(dump({name: value for name, value in result.items() if name != "champion"}))
    else:
        _print_training(result)


def evaluate(
    context: typer.Context,
    *,
    data: Data,
    model: Model = "champion",
    label_column: LabelColumn = None,
    text_column: TextColumn = "text",
    as_json: Json = False,
) -> None:
    """Measure a model on labelled files: on all rows, and beside it without repeated and learnt texts."""
    from sentiment_core.stages.evaluating import evaluate_files

    columns = _columns(text_column, label_column, None)
    result = _done(evaluate_files, _paths(data, context), columns, model=model)
    if as_json:
        typer.echo(dump(result))
    else:
        _print_evaluation(result)


def _done(stage: Callable[..., dict[str, Any]], paths: list[Path], columns: "Columns", **more: Any) -> dict[str, Any]:
    """What a stage makes of labelled files; on the way it is shown what is being done."""
    services = Services(load_settings())
    with _shown() as tell:
        return stage(services, paths, columns, tell=tell, **more)


def _paths(data: list[Path], context: typer.Context) -> list[Path]:
    from sentiment_core.reviews.layout import SUFFIXES, suffix_of

    paths = [*data, *map(Path, context.args)]
    for path in paths:
        if suffix_of(path.name) is None:
            raise typer.BadParameter(f"expected a name ending in {', '.join(SUFFIXES)}, found {path.name!r}", param_hint="--data")
    return paths


def _columns(text: str, label: str | None, product: str | None) -> "Columns":
    from sentiment_core.reviews.labelled import Columns

    named = [name for name in (text, label, product) if name is not None]
    if len(set(named)) < len(named):
        raise typer.BadParameter(f"expected different columns, found {', '.join(named)}", param_hint="--text-column")
    return Columns(text=text, label=label, product=product)


@contextmanager
def _shown() -> Iterator[Callable[[str], None]]:
    """Say what is being done, on a terminal with a clock, and nothing elsewhere."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield lambda _: None
        return
    with Progress(
        SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}"), console=screen, transient=True
    ) as progress:
        task = progress.add_task("", total=None)

        def tell(words: str) -> None:
            if progress.tasks[0].description:
                progress.console.print(f"[dim]{escape(progress.tasks[0].description)}[/dim]", highlight=False, soft_wrap=True)
            progress.update(task, description=escape(words))

        yield tell


def _print_training(result: dict[str, Any]) -> None:
    metrics = result["metrics"]
    data = metrics["data"]
    console.print(
        f"{data['n_rows']:,} labelled reviews: {data['n_train']:,} learnt from, {data['n_test']:,} held out, {data['n_duplicates']:,} "
        f"repeated and {data['n_conflicts']:,} contradicting ones left out.",
    )
    console.print()
    console.print(_comparison_table(result))
    console.print()
    console.print(_class_table(metrics["test"]))
    console.print()
    console.print(_gate_table(metrics["gates"]))
    console.print()
    style = "green" if result["outcome"] == "promoted" else "yellow"
    console.print(
        f"[bold {style}]version {result['model_version']} {result['outcome']}[/bold {style}]: {escape(result['reason'])}"
    )
    if result["outcome"] == "held":
        stays = f"Version {result['champion']} stays champion. " if result["champion"] else "There is no champion. "
        console.print(f"{stays}To promote it all the same: sentiment promote {result['model_version']}")


def _comparison_table(result: dict[str, Any]) -> Table:
    table = _table("held-out reviews", "model", n=True)
    names = {"test": "all", "test_standing": "standing", "test_fresh": "fresh"}
    sides = [("candidate", f"version {result['model_version']}"), ("champion", f"champion {result['champion']}")]
    for part, title in names.items():
        for side, model in sides:
            figures = (result["metrics"][side] or {}).get(part)
            if figures and figures["n"] and (part == "test" or result["metrics"]["champion"]):
                table.add_row(title, model, *_row(figures))
    return table


def _table(*names: str, n: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in (*(("n",) if n else ()), "accuracy", "macro F1", "ECE"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _row(figures: dict[str, Any]) -> tuple[str, ...]:
    return f"{figures['n']:,}", *(f"{figures[name]:.4f}" for name in ("accuracy", "macro_f1", "ece"))


def _class_table(figures: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    for name in ("n", "precision", "recall", "F1"):
        table.add_column(name, justify="right")
    for name, found in figures["per_class"].items():
        table.add_row(name, f"{found['n']:,}", *(f"{found[figure]:.4f}" for figure in ("precision", "recall", "f1")))
    return table


def _gate_table(gates: list[dict[str, Any]]) -> Table:
    styles = {"passed": "green", "failed": "bold red", "skipped": "dim"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("gate", "outcome", "measured", "limit", "n"):
        table.add_column(name, justify="left" if name in ("gate", "outcome") else "right", no_wrap=True)
    for gate in gates:
        measured = "" if gate["figure"] is None else _in_digits(gate["figure"])
        outcome = f"[{styles[gate['outcome']]}]{gate['outcome']}[/]"
        table.add_row(gate["name"].replace("_", " "), outcome, measured, _in_digits(gate["limit"]), f"{gate['n']:,}")
    return table


def _in_digits(figure: float) -> str:
    """Four digits; all of a large number, which is one of reviews or megabytes.

    >>> _in_digits(179_312.4), _in_digits(0.04761), _in_digits(8.5e-9)
    ('179,312', '0.04761', '8.5e-09')
    """
    return f"{figure:,.0f}" if abs(figure) >= _WHOLE_FROM else f"{figure:.4g}"


def _print_evaluation(result: dict[str, Any]) -> None:
    table = _table("reviews", n=True)
    beside = result["deduplicated"]
    table.add_row("all", *_row(result))
    if beside["n"]:
        table.add_row("deduplicated", *_row(beside))
    console.print(f"version {result['model_version']}")
    console.print()
    console.print(table)
    learnt = beside["n_trained_from"]
    known = "whether it was trained from some is not known" if learnt is None else f"{learnt:,} the model was trained from"
    console.print(f"[dim]deduplicated leaves out {beside['n_repeated']:,} repeated texts; {known}[/dim]", soft_wrap=True)
    console.print()
    console.print(_class_table(result))
    console.print()
    console.print(_confusion_table(result))


def _confusion_table(result: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("labelled \\ said")
    for name in result["classes"]:
        table.add_column(name, justify="right")
    for name, row in zip(result["classes"], result["confusion_matrix"], strict=True):
        table.add_row(name, *(f"{count:,}" for count in row))
    return table
