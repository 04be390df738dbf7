"""The commands `drift` and `rehearse`: verdicts on files, and what a policy would have made of past or simulated nights.

Words, tables and progress only; the work is `stages`'.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sentiment_core.cli import load_settings
from sentiment_core.cli.arguments import Json, Model, calendar_day, dump
from sentiment_core.stages.services import Services

if TYPE_CHECKING:
    from sentiment_core.stages.rehearsing import Injection

console = Console(highlight=False)
_COLOURS = {"quiet": "green", "warn": "yellow", "retrain": "red", "quarantine": "magenta", "too_few": "dim"}
_WORDS = {"quiet": "quiet", "warn": "warning", "retrain": "retrain", "quarantine": "quarantine", "too_few": "too few"}
_MANY_NIGHTS = 40


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(drift)
    app.command()(rehearse)


def drift(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Parquet, JSONL or CSV files (.gz too) with a column text.")
    ],
    model: Model = "champion",
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Write each file's report as HTML into this folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line a file.")] = False,
) -> None:
    """Judge files against what a model was tested on: one verdict a file, each as if it were a night by itself."""
    from sentiment_core.stages.judging import judge_file

    _check_files(files)
    services = Services(load_settings())
    with _shown() as tell:
        for path in files:
            found = judge_file(services, path, model=model, report_dir=report, tell=tell)
            if as_json:
                typer.echo(dump(found))
            else:
                _print_verdict(found)


def _check_files(files: list[Path]) -> None:
    from sentiment_core.reviews.layout import SUFFIXES, suffix_of

    for path in files:
        if suffix_of(path.name) is None:
            raise typer.BadParameter(f"expected a name ending in {', '.join(SUFFIXES)}, found {path.name!r}", param_hint="FILE")


def _print_verdict(found: dict[str, Any]) -> None:
    console.print(
        f"{_coloured(found['verdict'])}  {escape(found['file'])}, {found['n']:,} reviews, version {found['model_version']}"
    )
    console.print(f"  {escape(found['sentence'])}", soft_wrap=True)
    if found["report"]:
        console.print(f"  [dim]{escape(found['report'])}[/dim]", soft_wrap=True)


def _coloured(verdict: str) -> str:
    colour = _COLOURS[verdict]
    return f"[{colour}]{_WORDS[verdict]}[/{colour}]"


def _injection(text: str) -> "Injection":
    from sentiment_core.stages.rehearsing import Injection

    parts = dict(part.partition("=")[::2] for part in text.split(",") if part)
    unknown = sorted(parts.keys() - {"domain", "share", "from", "ramp"})
    expected = "expected domain=FILE,share=.1,from=YYYY-MM-DD (and ramp=NIGHTS)"
    if unknown or "domain" not in parts:
        raise typer.BadParameter(f"{expected}, found {text!r}" + (f" ({', '.join(unknown)} is not known)" if unknown else ""))
    try:
        share, ramp = float(parts.get("share", ".1")), int(parts.get("ramp", "0"))
    except ValueError as error:
        raise typer.BadParameter(f"{expected}, found {text!r}") from error
    if not (0 < share <= 1 and ramp >= 0):
        raise typer.BadParameter(f"expected a share above 0 and up to 1 and a ramp of 0 or more nights, found {text!r}")
    path = Path(parts["domain"])
    _check_files([path])
    return Injection(path=path, share=share, ramp=ramp, first=calendar_day(parts["from"]) if "from" in parts else None)


def rehearse(
    *,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="FILE", help="Policy to rehearse; default: the one in force.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", metavar="DIR", help="Nights from files here: DIR/date=YYYY-MM-DD/* or names that begin with a date."
        ),
    ] = None,
    first: Annotated[date | None, typer.Option("--from", parser=calendar_day, metavar="D", help="First night.")] = None,
    last: Annotated[date | None, typer.Option("--to", parser=calendar_day, metavar="D2", help="Last night, included.")] = None,
    model: Model = "champion",
    quiet_years: Annotated[
        int | None, typer.Option("--quiet-years", metavar="N", min=1, help="Judge N years of quiet nights made of the reference.")
    ] = None,
    n_nights: Annotated[int, typer.Option("--nights", min=2, help="Nights of a simulated year.")] = 365,
    n_reviews: Annotated[int, typer.Option("--reviews", min=1, help="Reviews of a simulated night.")] = 2_000,
    labelled: Annotated[float, typer.Option("--labelled", min=0, max=1, help="Share of them whose label arrives.")] = 0.2,
    clustered: Annotated[bool, typer.Option("--clustered", help="All reviews of a product come in one simulated night.")] = False,
    inject: Annotated[
        list[str] | None,
        typer.Option("--inject", metavar="SPEC", help="Plant drift: domain=FILE,share=.1,from=D[,ramp=NIGHTS]; repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Replay nights under a policy and say what would have happened: warnings, retrains, quarantines, by date."""
    from sentiment_core.stages import rehearsing

    if quiet_years and (folder or last):
        raise typer.BadParameter("simulated years take neither --folder nor --to", param_hint="--quiet-years")
    if first and last and last < first:
        raise typer.BadParameter(f"expected --to on or after --from {first}, found {last}")
    injections = [_injection(text) for text in inject or []]
    services = Services(load_settings())
    asked = rehearsing.Asked(
        policy_path=policy, folder=folder, first=first, last=last, model=model, injections=tuple(injections),
        n_years=quiet_years or 0, n_nights=n_nights, n_reviews=n_reviews, labelled_share=labelled, is_clustered=clustered,
    )  # fmt: skip
    with _shown() as tell:
        found = (
            rehearsing.rehearse_years(services, asked, tell=tell)
            if quiet_years
            else rehearsing.replay(services, asked, tell=tell)
        )
    if as_json:
        typer.echo(dump(found))
    elif quiet_years:
        _print_years(found)
    else:
        _print_replay(found)


@contextmanager
def _shown() -> Iterator[Callable[[str], None]]:
    """Say what is being done on a terminal, and nothing elsewhere."""
    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield lambda _: None
        return
    with screen.status("") as status:
        yield lambda words: status.update(escape(words))


def _print_replay(found: dict[str, Any]) -> None:
    nights, counts = found["nights"], found["counts"]
    # Of many nights those that were not quiet are news.
    told = nights if len(nights) <= _MANY_NIGHTS else [night for night in nights if night["verdict"] != "quiet"]
    table = _table(
        "night", "reviews", "verdict", "p-value", "effect", "estimated", "measured", "what happens", right=(1, 3, 4, 5, 6)
    )
    for night in told:
        table.add_row(
            night["date"],
            f"{night['n']:,}",
            _coloured(night["verdict"]),
            _figure(night["p_value"], "{:.2g}"),
            _figure(night["effect"], "{:.3f}"),
            _figure(night["estimated_accuracy"], "{:.1%}"),
            _figure(night["labelled_accuracy"], "{:.1%}"),
            escape(_what_happens(night)),
        )
    if told:
        console.print(table)
        console.print()
    console.print(
        f"{len(nights)} nights under {escape(found['policy'])}, mode {found['mode']}: "
        + ", ".join(f"{counts[word]} {_coloured(word)}" for word in _WORDS if counts[word])
        + f". Retrains set off: {len(found['retrains'])}."
    )
    for planted in found["planted"]:
        console.print(_planted_line(planted))
    if found["note"]:
        console.print(f"[dim]{escape(found['note'])}[/dim]")


def _planted_line(planted: dict[str, Any]) -> str:
    def told(n: int | None) -> str:
        return "never" if n is None else "the first night" if n == 1 else f"after {n} nights"

    return (
        f"{planted['share']:.0%} of {escape(planted['domain'])} from {planted['from']}: warned {told(planted['nights_to_warn'])}, "
        f"retrain {told(planted['nights_to_retrain'])}."
    )


def _what_happens(night: dict[str, Any]) -> str:
    if night["sets_off_retrain"]:
        return "sets off a retrain"
    if night["verdict"] == "quarantine":
        return "pages somebody"
    return str(night["objection"])


def _print_years(found: dict[str, Any]) -> None:
    table = _table("year", "nights", "warnings", "retrains", "quarantines", "too few", right=(1, 2, 3, 4, 5))
    for number, year in enumerate(found["years"], start=1):
        table.add_row(str(number), *(f"{year[name]:,}" for name in ("nights", "warn", "retrains", "quarantine", "too_few")))
    console.print(table)
    console.print()
    console.print(
        f"{len(found['years'])} times {found['nights_a_year']} nights of {found['n_reviews']:,} reviews under {escape(found['policy'])}, "
        f"mode {found['mode']}, version {found['model_version']}. In 365 nights this policy has on this data"
    )
    for name, word in (("warn", "warnings"), ("retrains", "retrains"), ("quarantine", "quarantines")):
        rate = found["a_year"][name]
        console.print(
            f"  {rate['mean']:.2f} false {word} (95 % interval {rate['low']:.2f} to {rate['high']:.2f})"
            if not found["planted"]
            else f"  {rate['mean']:.2f} {word} (95 % interval {rate['low']:.2f} to {rate['high']:.2f}), the planted drift's among them"
        )
    share = found["alarm_share"]
    console.print(f"  warn or worse on {share['mean']:.2%} of the nights ({share['low']:.2%} to {share['high']:.2%})")
    for planted in found["planted"]:
        console.print(_power_line(planted, len(found["years"])))
    console.print(f"[dim]{escape(found['note'])}[/dim]")


def _power_line(planted: dict[str, Any], n_years: int) -> str:
    first, five = planted["first_night"], planted["within_five_nights"]
    median = "never" if planted["median_nights_to_warn"] is None else f"{planted['median_nights_to_warn']:g}"
    return (
        f"{planted['share']:.0%} of {escape(planted['domain'])} from {planted['from']}: median night of the first warning {median}; "
        f"on the first night in {first['mean']:.0%} of {n_years} years ({first['low']:.0%} to {first['high']:.0%}), "
        f"within five in {five['mean']:.0%} ({five['low']:.0%} to {five['high']:.0%}); retrain in {planted['n_retrained']}."
    )


def _table(*names: str, right: tuple[int, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(names):
        table.add_column(name, justify="right" if place in right else "left", overflow="fold")
    return table


def _figure(value: float | None, how: str) -> str:
    return "\N{EN DASH}" if value is None else how.format(value)
