"""The table of what a search tried: as CSV for programs, and as a page for people.

Pure functions over trials: the best first, those that were given up last. A page is one file without scripts, and every
value in it is escaped. Nothing here talks to a server.
"""

import csv
import io
from collections.abc import Sequence
from html import escape
from typing import Any

from sentiment_core.trials import COMPARED, Trial, is_number, parameters, ranked, scale, varied, words

_NOTHING = "\N{EN DASH}"
_WIDTH, _HEIGHT = 160, 16  # of the strip of folds, in pixels
_STYLE = """
body { margin: 0; background: #fff; color: #18181b; font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 20px 24px 32px; }
h1 { font-size: 19px; font-weight: 650; margin: 0 0 4px; } p { margin: 0 0 16px; color: #5d5d66; max-width: 80ch; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 16px 6px 0; border-top: 1px solid #e3e3e8; vertical-align: top; font-weight: 400; }
tbody th { white-space: nowrap; } thead th { border-top: 0; color: #5d5d66; font-size: 12px; white-space: nowrap; } th small { font-weight: 400; }
.number { text-align: right; white-space: nowrap; } .best td, .best th { background: #eef6fb; }
.best th { font-weight: 650; } small { display: block; color: #5d5d66; font-size: 12px; } svg { display: block; margin-top: 3px; }
.given-up { color: #5d5d66; } .params { min-width: 260px; color: #5d5d66; font-size: 12px; }
"""


def as_csv(trials: Sequence[Trial]) -> str:
    """One row a trial; figures of all folds, then of each, then parameters."""
    rows = [_row(place, trial) for place, trial in enumerate(ranked(trials), 1)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    names.sort(key=lambda name: 2 * name.startswith("param_") + ("_fold_" in name))  # stable: a missing fold moves no column
    sink = io.StringIO()
    writer = csv.DictWriter(sink, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()


def _row(place: int, trial: Trial) -> dict[str, Any]:
    return {
        "place": place,
        **{name: getattr(trial, name) for name in ("name", "family", "state", "mean", "seconds")},
        **trial.means,
        **{f"{name}_fold_{number}": value for number, fold in enumerate(trial.folds, 1) for name, value in fold.items()},
        **{f"param_{name}": "" if value is None else value for name, value in trial.params.items()},
    }


def as_page(trials: Sequence[Trial], *, title: str) -> str:
    """The table as a page of its own."""
    in_order = ranked(trials)
    shown = list(dict.fromkeys(name for trial in in_order for name in trial.means if name != COMPARED))
    heads = "".join(f'<th class="number">{escape(words(name))}</th>' for name in (COMPARED, *shown, "seconds"))
    names, ends = varied(in_order), scale(in_order)
    body = "".join(_line(place, trial, shown, names, ends) for place, trial in enumerate(in_order, 1))
    n_given_up = sum(not trial.is_whole for trial in in_order)
    n_recipes = f"{len(in_order)} recipes" if len(in_order) > 1 else "One recipe"
    given_up = f", {n_given_up} of them given up early" if n_given_up else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body><main>'
        f"<h1>{escape(title)}</h1><p>{n_recipes}, cross-validated on the same folds{given_up}. They are compared by"
        " log loss, of which less is better; a dot is a fold, the line their mean.</p>"
        f'<div class="scroll"><table><thead><tr><th></th><th>recipe</th>{heads}<th>folds</th><th>parameters</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div></main></body></html>\n"
    )


def _line(place: int, trial: Trial, shown: list[str], names: list[str], ends: tuple[float, float]) -> str:
    kind = "given-up" if not trial.is_whole else "best" if place == 1 else ""
    figures = trial.means
    numbers = [_figure(trial.mean), *(_figure(figures.get(name)) for name in shown), f"{trial.seconds:,.1f}"]
    cells = "".join(f'<td class="number">{number}</td>' for number in numbers)
    state = "" if trial.is_whole else f"<small>{escape(trial.state)}</small>"
    return (
        f'<tr class="{kind}"><td class="number">{place}</td><th scope="row">{escape(trial.name)}{state}</th>{cells}'
        f'<td>{_strip(trial, ends)}</td><td class="params">{escape(parameters(trial, names))}</td></tr>'
    )


def _strip(trial: Trial, ends: tuple[float, float]) -> str:
    values = trial.compared
    if not values:
        return _NOTHING
    least, most = ends
    places = [6 + (value - least) / ((most - least) or 1) * (_WIDTH - 12) for value in (*values, sum(values) / len(values))]
    dots = "".join(f'<circle cx="{x:.1f}" cy="{_HEIGHT / 2}" r="3" fill="#0072b2" fill-opacity=".55"/>' for x in places[:-1])
    mean = f'<rect x="{places[-1] - 1:.1f}" width="2" height="{_HEIGHT}" fill="#18181b"/>'
    words = ", ".join(f"{value:.4f}" for value in values)
    return f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{words}"><title>{words}</title>{dots}{mean}</svg>'


def _figure(value: float | None) -> str:
    return f"{value:.4f}" if is_number(value) else _NOTHING
