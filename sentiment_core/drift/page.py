"""The part of a report's page that is ours: the verdict in words, and a small table of the columns behind it.

HTML without scripts, readable by itself and as the head of Evidently's report. Every value is escaped; no review
text and no product name ever gets here.
"""

import math
from html import escape
from typing import Any

from sentiment_core.domain import DriftVerdict

_WORDS = {"too_few": "too few to judge", "quiet": "quiet", "warn": "warning", "retrain": "retrain", "quarantine": "quarantine"}
_STATISTICS = {"wasserstein": "Wasserstein distance, in standard deviations", "jensenshannon": "Jensen-Shannon distance"}
_BAR_END = 3.0
"""The bars end at this many times the limit: beyond it, how far no longer matters and quiet columns would vanish."""

_NOTHING = "\N{EN DASH}"
_SMALLEST_P = 0.0001

STYLE = """
.verdict { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: #1d2330;
  background: #fff; padding: 28px max(32px, calc(50% - 540px)) 20px; }
.verdict h1 { font-size: 22px; line-height: 1.3; margin: 0 0 10px; font-weight: 600; }
.verdict .badge { display: inline-block; padding: 2px 12px; border-radius: 12px; font-size: 14px; font-weight: 600;
  margin-left: 10px; vertical-align: 3px; background: #e4e7ec; color: #3c4454; }
.verdict .badge.quiet { background: #d9f2e1; color: #14532d; }
.verdict .badge.warn { background: #fdf0c8; color: #6b4300; }
.verdict .badge.retrain, .verdict .badge.quarantine { background: #fbdcd9; color: #8a1410; }
.verdict p { margin: 0 0 16px; max-width: 78ch; }
.verdict dl { display: flex; flex-wrap: wrap; gap: 8px 36px; margin: 0 0 20px; }
.verdict dt { font-size: 12px; color: #626b7c; } .verdict dd { margin: 0; font-variant-numeric: tabular-nums; }
.verdict .scroll { overflow-x: auto; }
.verdict table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
.verdict th { text-align: left; font-size: 12px; font-weight: 500; color: #626b7c; }
.verdict th, .verdict td { padding: 5px 14px 5px 0; border-bottom: 1px solid #e6e8ec; white-space: nowrap; }
.verdict .number { text-align: right; }
.verdict .wide { width: 34%; padding-right: 0; }
.verdict .track { position: relative; height: 10px; background: #f0f2f5; border-radius: 2px; }
.verdict .bar { height: 10px; border-radius: 2px; background: #8fa3bf; } .verdict .bar.moved { background: #c8362d; }
.verdict .limit { position: absolute; top: -3px; height: 16px; width: 2px; background: #1d2330; left: 33.33%; }
.verdict .note { color: #626b7c; font-size: 12px; margin: 8px 0 0; max-width: none; }
"""


def render_head(verdict: DriftVerdict, *, title: str, model_version: int) -> str:
    """The section that goes above Evidently's report."""
    facts = {
        "reviews": f"{verdict.n:,}",
        "model version": str(model_version),
        "estimated accuracy": _figure(verdict.estimated_accuracy),
        "accuracy on labels": _figure(verdict.labelled_accuracy),
        "largest change": _figure(verdict.effect),
        "p-value": _p_value(verdict.p_value),
    }
    items = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items() if value != _NOTHING)
    return (
        f'<section class="verdict"><h1>{escape(title)}'
        f'<span class="badge {verdict.verdict}">{_WORDS[verdict.verdict]}</span></h1>'
        f"<p>{escape(verdict.sentence)}</p><dl>{items}</dl>{_table(verdict.columns)}</section>"
    )


def render_page(verdict: DriftVerdict, *, title: str, model_version: int) -> str:
    """The head as a page of its own, for nights that cannot be compared."""
    head = render_head(verdict, title=title, model_version=model_version)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>body {{ margin: 0 }}{STYLE}</style></head>'
        f"<body>{head}</body></html>\n"
    )


def _table(columns: dict[str, dict[str, Any]]) -> str:
    if not columns:
        return ""
    rows = "".join(_row(name, column) for name, column in columns.items())
    return (
        '<div class="scroll"><table><thead><tr><th>column</th><th class="number">mean of the reference</th><th class="number">mean of the night</th>'
        '<th class="number">change</th><th class="number">limit</th><th class="wide">change against its limit</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        f'<p class="note">Change: {_STATISTICS["wasserstein"]} of the reference; for the label {_STATISTICS["jensenshannon"]}, and'
        " its mean is the share of positive labels. Lengths are compared as logarithms, shares of rare characters as square"
        " roots. The mark is the limit; bars end at three times it. Below stands Evidently's report; the verdict is read from the"
        " results under its tab Tests.</p>"
    )


def _row(name: str, column: dict[str, Any]) -> str:
    if "left_out" in column:
        return f'<tr><td>{escape(name)}</td><td colspan="5">left out: {escape(column["left_out"])}</td></tr>'
    width = 100 * min(column["score"] / column["threshold"], _BAR_END) / _BAR_END
    numbers = (column[key] for key in ("reference_mean", "current_mean", "score", "threshold"))
    cells = "".join(f'<td class="number">{_figure(number)}</td>' for number in numbers)
    moved = " moved" if column["is_drifted"] else ""
    bar = f'<div class="track"><div class="bar{moved}" style="width: {width:.1f}%"></div><div class="limit"></div></div>'
    return f'<tr><td>{escape(name)}</td>{cells}<td class="wide">{bar}</td></tr>'


def _figure(value: float | None) -> str:
    """Four digits, but never fewer than the whole number; a dash for nothing.

    >>> _figure(0.12345), _figure(12.34), _figure(1345.97)
    ('0.123', '12.34', '1,346')
    """
    if value is None:
        return _NOTHING
    places = max(0, 3 - int(math.log10(max(1.0, abs(value)))))
    return f"{value:,.{places}f}"


def _p_value(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{value:.4f}" if value >= _SMALLEST_P else f"below {_SMALLEST_P}"
