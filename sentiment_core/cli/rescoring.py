"""The command `rescore`: words, options and progress only; the work is `stages.rescoring`'s."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sentiment_core.cli import load_settings
from sentiment_core.cli.arguments import AnyModel, Json, calendar_day, dump

if TYPE_CHECKING:
    from sentiment_core.stages.rescoring import Tell

_N_SHOWN = 10  # objects that are named on a terminal; --json names them all


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(rescore)


def _version(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"expected a version number, found {text!r}")
    return int(text)


def rescore(
    *,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say how many reviews, minutes and changed labels; write nothing.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Do it; what was said before goes to score_history.")] = False,
    model: AnyModel = "champion",
    version: Annotated[
        int | None, typer.Option(parser=_version, metavar="V", help="Only reviews whose score is this version's.")
    ] = None,
    product: Annotated[str | None, typer.Option(metavar="P", help="Only reviews of this product.")] = None,
    first: Annotated[
        date | None, typer.Option("--from", parser=calendar_day, metavar="D", help="Only review dates from this one on.")
    ] = None,
    last: Annotated[
        date | None, typer.Option("--to", parser=calendar_day, metavar="D2", help="Only review dates up to this one, included.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score reviews again that are scored already: plan first, then apply."""
    from sentiment_core.domain import Selection
    from sentiment_core.stages.rescoring import apply_rescore, plan_rescore
    from sentiment_core.stages.services import Services

    if plan == apply:
        raise typer.BadParameter(f"expected one of --plan and --apply, found {'both' if plan else 'neither'}")
    if first and last and last < first:
        raise typer.BadParameter(f"expected --to on or after --from {first}, found {last}")
    selection = Selection(version=version, product_id=product, first=first, last=last)
    services = Services(load_settings())
    with _shown("looking into" if plan else "scoring") as tell:
        work = plan_rescore if plan else apply_rescore
        result = work(services, selection, model=model, on_progress=tell)
    if as_json:
        typer.echo(dump(result))
    else:
        typer.echo("\n".join(_plan_lines(result) if plan else _done_lines(result)))


@contextmanager
def _shown(doing: str) -> Iterator["Tell"]:
    with Console(stderr=True).status(f"{doing} ...") as status:

        def tell(n_objects: int, n_all: int, n_rows: int) -> None:
            status.update(f"{doing}: {n_objects:,} of {n_all:,} objects, {n_rows:,} reviews")

        yield tell


def _plan_lines(plan: dict[str, Any]) -> Iterator[str]:
    if not plan["n_objects"]:
        yield "Nothing to score again: no review is meant that another version has scored" + (
            ", and can be read." if plan["kept"] else "."
        )
    else:
        yield (
            f"{_by(plan)} would score {_count(plan['n_rows'], 'review')} of {_count(plan['n_objects'], 'object')} again: "
            f"{plan['n_bytes'] / 1e6:,.1f} MB to read, about {_minutes(plan['minutes'])}."
        )
    if flips := plan["flips"]:
        share, low, high = (f"{flips[name]:.1%}" for name in ("share", "share_low", "share_high"))
        yield (
            f"Labels that would change: {share} ({low} to {high}, with 95 % confidence), that is {flips['n']:,} reviews "
            f"({flips['n_low']:,} to {flips['n_high']:,}). In a sample of {flips['n_sampled']:,}:"
        )
        if not flips["moved"]:
            yield "  none"
        for move in flips["moved"]:
            yield f"  {move['before']} to {move['after']}: {move['n']:,}"
    yield from _kept_lines(plan["kept"])


def _done_lines(done: dict[str, Any]) -> Iterator[str]:
    if not done["n_objects"]:
        yield "Nothing was scored again."
    else:
        yield (
            f"{_by(done)}: {_count(done['n_rows'], 'review')} of {_count(done['n_objects'], 'object')} scored again in "
            f"{done['seconds']:,.1f} s, {_count(done['n_flipped'], 'label')} changed (run {done['run_id']})."
        )
    yield from _kept_lines(done["kept"])


def _kept_lines(kept: list[dict[str, Any]]) -> Iterator[str]:
    if kept:
        n_rows = sum(item["n_rows"] for item in kept)
        yield f"Kept as they are: {_count(n_rows, 'review')} of {_count(len(kept), 'object')} whose texts are no longer there."
    for item in kept[:_N_SHOWN]:
        yield f"  {item['key']}: {item['reason']} ({_count(item['n_rows'], 'review')})"
    if len(kept) > _N_SHOWN:
        yield f"  and {len(kept) - _N_SHOWN:,} more; --json names them all"


def _by(result: dict[str, Any]) -> str:
    versions = [str(version) for version in result["model_versions"]]
    return f"Version {versions[0]}" if len(versions) == 1 else f"Versions {', '.join(versions[:-1])} and {versions[-1]}"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _minutes(minutes: float) -> str:
    return f"{minutes:,.1f} minutes" if minutes > 1 else f"{max(1, minutes * 60):,.0f} s"
