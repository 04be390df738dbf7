"""The commands `predict` and `explain`: what a model says of a text, and why a review got its score.

Words and tables only; the work is `stages`'.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sentiment_core.cli import load_settings
from sentiment_core.cli.arguments import Json, Model, dump
from sentiment_core.errors import printable
from sentiment_core.stages.services import Services

_COLOURS = {"negative": "red", "neutral": "yellow", "positive": "green"}
_HALF = 8  # characters of a bar on either side of nought
_EIGHTHS = " ▏▎▍▌▋▊▉"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(predict)
    app.command()(explain)


def predict(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Texts to judge, each in quotes.")],
    model: Model = "champion",
    as_json: Json = False,
) -> None:
    """Say what the model makes of texts: label, confidence, and the score of every class."""
    from sentiment_core.stages.explaining import predict_texts

    results = predict_texts(Services(load_settings()), texts, model=model)
    if results[0]["is_degraded"]:
        typer.echo(f"MLflow is away: asked the last known {model}, version {results[0]['model_version']}", err=True)
    if as_json:
        typer.echo(dump(results))
        return
    console = Console(highlight=False)
    console.print(_predictions(results, console.width))
    console.print(f"[dim]by version {results[0]['model_version']} of {escape(results[0]['model_name'])}[/dim]")


def _predictions(results: list[dict[str, Any]], width: int) -> Table:
    classes = list(results[0]["scores"])
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("label", no_wrap=True)
    for name in classes:
        table.add_column(f"p {name}", justify="right", no_wrap=True)
    table.add_column("text")
    room = max(8, width - sum(len(name) + 4 for name in ("positive", *classes)))
    for result in results:
        scores = [Text(f"{result['scores'][name]:.1%}", style="bold" if name == result["label"] else "") for name in classes]
        words = Text(printable(" ".join(result["text"].split())))
        words.truncate(room, overflow="ellipsis")
        table.add_row(_label(result["label"]), *scores, words)
    return table


def explain(
    review_id: Annotated[str, typer.Argument(metavar="REVIEW_ID", help="The review's id, as delivered.")],
    day: Annotated[
        datetime | None,
        typer.Option("--date", formats=["%Y-%m-%d"], metavar="D", help="The review's date, where its id is on several."),
    ] = None,
    n_terms: Annotated[int, typer.Option("--terms", metavar="N", min=1, help="How many terms to show.")] = 12,
    as_json: Json = False,
) -> None:
    """Say why a review got its score: the words that carried it, and the model, object and run it came from."""
    from sentiment_core.stages.explaining import explain_review

    result = explain_review(Services(load_settings()), review_id, review_date=day.date() if day else None)
    if as_json:
        typer.echo(dump(result))
        return
    Console(highlight=False).print(_explanation(result, n_terms))


def _explanation(result: dict[str, Any], n_terms: int) -> Group:
    review = result["review"]
    about = printable("  ".join(filter(None, (review["product_id"] and f"product {review['product_id']}", review["source"]))))
    return Group(
        Text.assemble(
            (printable(review["review_id"]), "bold"), f" of {review['review_date']}", (f"  {about}" if about else "", "dim")
        ),
        _verdict(result["score"]),
        Padding(_excerpt(review["text"]), (1, 2)),
        _terms(result["explanation"], n_terms),
        Padding(_origin(result), (1, 0, 0, 0)),
    )


def _verdict(score: dict[str, Any]) -> Text:
    names = [name for name in _COLOURS if score[f"p_{name}"] is not None]
    shares = ", ".join(f"{name} {score[f'p_{name}']:.1%}" for name in names)
    return Text.assemble(_label(score["label"]), f"  ({shares})")


def _excerpt(text: str, most: int = 600) -> Text:
    words = printable(" ".join(text.split()))
    return Text(words if len(words) <= most else words[:most].rsplit(" ", 1)[0] + " …", style="italic")


def _terms(explanation: dict[str, Any], n_shown: int) -> Table:
    decisive, terms = explanation["decisive"], explanation["terms"]
    names = [decisive, *(name for name in explanation["scores"] if name != decisive)]
    shown, rest = terms[:n_shown], terms[n_shown:]
    largest = max((abs(term["contributions"][decisive]) for term in terms), default=1.0) or 1.0
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("words", overflow="fold", min_width=14, max_width=36)
    table.add_column("n", justify="right")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, width=2 * _HALF + 1)
    for term in shown:
        parts = [f"{term['contributions'][name]:+.3f}" for name in names]
        table.add_row(_written(term), f"{term['count']}", *parts, _bar(term["contributions"][decisive] / largest, decisive))
    if rest:
        sums = [f"{sum(term['contributions'][name] for term in rest):+.3f}" for name in names]
        table.add_row(Text(f"{len(rest):,} other terms", style="dim"), "", *sums, "")
    table.add_row(Text("intercept", style="dim"), "", *(f"{explanation['intercepts'][name]:+.3f}" for name in names), "")
    table.add_row(
        Text("log-odds", style="bold"), "", *(Text(f"{explanation['scores'][name]:+.3f}", style="bold") for name in names), ""
    )
    if any(explanation["offsets"].values()):
        table.add_row(Text("decision offset", style="dim"), "", *(f"{explanation['offsets'][name]:+.3f}" for name in names), "")
    return table


def _written(term: dict[str, Any]) -> Text:
    if term["kind"] == "characters":
        return Text.assemble(("letters ", "dim"), term["term"].replace(" ", "␣"))
    return Text(term["written"])


def _bar(share: float, name: str) -> Text:
    """A bar to the right of nought where a term speaks for a class, to the left where it speaks against."""
    length = abs(share) * _HALF
    if share >= 0:
        bar = "█" * int(length) + _EIGHTHS[int(length % 1 * 8)].strip()
        return Text.assemble(" " * _HALF, ("│", "dim"), (bar, _COLOURS.get(name, "green")))
    bar = "█" * max(1, round(length))
    other = {"positive": "red", "negative": "green"}.get(name, "magenta")
    return Text.assemble((bar.rjust(_HALF), other), ("│", "dim"))


def _origin(result: dict[str, Any]) -> Table:
    model, source, run = result["model"], result["object"], result["run"]
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("model", f"version {model['version']} of {escape(model['name'])}")
    if model["snapshot"]:
        table.add_row("trained on", escape(model["snapshot"]))
    table.add_row("object", escape(f"{printable(source['url'])}, row {source['row_number']} (object_id {source['object_id']})"))
    table.add_row("run", escape(f"{run['run_id']}, at {run['scored_at'].astimezone(UTC):%Y-%m-%d %H:%M} UTC"))
    return table


def _label(label: str) -> Text:
    return Text(label, style=f"bold {_COLOURS.get(label, '')}")
