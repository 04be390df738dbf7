"""The part of a report's page that is ours: the verdict in words, what was tested, and the charts that explain it.

HTML without scripts and without style attributes, readable by itself and as the head of Evidently's report. Every
value is escaped; no review text and no product name ever gets here. Where things are drawn is the business of `charts`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from sentiment_core.domain import DriftVerdict
from sentiment_core.drift.charts import NARROW, WIDE, Point, draw_accuracy, draw_columns, draw_history, mark

_WORDS = {"too_few": "too few to judge", "quiet": "quiet", "warn": "warning", "retrain": "retrain", "quarantine": "quarantine"}
_NOTHING = "\N{EN DASH}"
_SMALLEST_P = 0.0001
_LARGEST = 1e7

STYLE = """
.verdict { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; color: #18181b;
  background: #fff; padding: 28px max(20px, calc(50% - 540px)) 24px; }
.verdict h1 { font-size: 22px; line-height: 1.3; margin: 0 0 10px; font-weight: 650; letter-spacing: -.01em; }
.verdict h2 { font-size: 15px; margin: 28px 0 8px; font-weight: 650; }
.verdict .badge { display: inline-flex; align-items: center; gap: 6px; font-size: 15px; margin-left: 10px; color: #5d5d66; }
.verdict .badge svg { width: 14px; height: 14px; } .verdict .badge path { fill: currentColor; }
.verdict .badge.quiet { color: #00694f; } .verdict .badge.warn { color: #7d5c00; }
.verdict .badge.retrain { color: #b0440a; } .verdict .badge.quarantine { color: #97317a; }
.verdict p { margin: 0 0 14px; max-width: 78ch; text-wrap: pretty; }
.verdict dl { display: flex; flex-wrap: wrap; gap: 8px 34px; margin: 0; }
.verdict dt { font-size: 12px; color: #5d5d66; } .verdict dd { margin: 0; font-variant-numeric: tabular-nums; }
.verdict table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
.verdict th { text-align: left; font-size: 12px; font-weight: 500; color: #5d5d66; }
.verdict th, .verdict td { padding: 5px 14px 5px 0; border-bottom: 1px solid #e3e3e8; vertical-align: top; }
.verdict th:last-child, .verdict td:last-child { padding-right: 0; }
.verdict .number { text-align: right; white-space: nowrap; } .verdict td.failed { color: #b42318; font-weight: 650; }
.verdict .about { color: #5d5d66; font-size: 13px; } .verdict .note { color: #5d5d66; font-size: 13px; margin: 8px 0 0; }
.verdict svg.wide, .verdict svg.narrow { display: block; width: 100%; height: auto; overflow: visible; }
.verdict svg.narrow { display: none; }
.verdict text { font-size: 12px; fill: #5d5d66; font-variant-numeric: tabular-nums; }
.verdict text.name { fill: #18181b; } .verdict text.axis { fill: #18181b; }
.verdict .bar { fill: #8fa3bf; } .verdict .bar.moved { fill: #c2410c; }
.verdict .grid { stroke: #e3e3e8; } .verdict .zero { stroke: #5d5d66; }
.verdict .limit { stroke: #b42318; stroke-width: 1.5; stroke-dasharray: 4 3; }
.verdict .line { fill: none; stroke: #46628a; stroke-width: 1.5; }
.verdict .mark { fill: #5d5d66; stroke: #fff; stroke-width: 1; } .verdict .mark.quiet { fill: #00694f; }
.verdict .mark.warn { fill: #b58900; } .verdict .mark.retrain { fill: #c2410c; } .verdict .mark.quarantine { fill: #97317a; }
.verdict .measured { fill: none; stroke: #18181b; stroke-width: 1.75; }
@media (max-width: 720px) {
  .verdict { padding: 18px 14px; } .verdict h1 { font-size: 19px; } .verdict .badge { margin-left: 0; display: flex; }
  .verdict svg.wide { display: none; } .verdict svg.narrow { display: block; }
  .verdict thead { display: none; } .verdict table, .verdict tbody, .verdict tr { display: block; }
  .verdict tr { display: flex; flex-wrap: wrap; gap: 0 12px; padding: 7px 0; border-bottom: 1px solid #e3e3e8; }
  .verdict td { border: 0; padding: 0; } .verdict td:first-child { flex: 1 1 100%; }
  .verdict td[data-label]::before { content: attr(data-label) " "; color: #5d5d66; }
}
"""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A test that the verdict is read from, as its reader sees it."""

    name: str
    sentence: str
    """What it tests."""
    value: float
    limit: float
    has_failed: bool


@dataclass(frozen=True, kw_only=True)
class Story:
    """What a page tells of a night."""

    title: str
    verdict: DriftVerdict
    model_version: int
    findings: tuple[Finding, ...] = ()
    history: tuple[Point, ...] = ()
    """This version's nights up to and with this one, oldest first."""
    reference_accuracy: float | None = None
    column_limit: float | None = None
    p_limit: float | None = None
    effect_limit: float | None = None


def render_head(story: Story) -> str:
    """The section that goes above Evidently's report."""
    verdict = story.verdict
    badge = f'<svg viewBox="0 0 16 16" aria-hidden="true"><path d="{mark(verdict.verdict, 8, 8, 5)}"/></svg>'
    return (
        f'<section class="verdict"><h1>{escape(story.title)} '
        f'<span class="badge {verdict.verdict}">{badge}{_WORDS[verdict.verdict]}</span></h1>'
        f"<p>{escape(verdict.sentence)}</p>{_facts(story)}{_tests(story.findings)}{_columns(verdict.columns, story.column_limit)}{_nights(story)}</section>"
    )


def render_page(story: Story) -> str:
    """The head as a page of its own, for nights that cannot be compared."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(story.title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>body {{ margin: 0 }}{STYLE}</style></head>'
        f"<body>{render_head(story)}</body></html>\n"
    )


def _facts(story: Story) -> str:
    verdict = story.verdict
    facts = {
        "reviews": f"{verdict.n:,}",
        "model version": str(story.model_version),
        "p-value": _p_value(verdict.p_value),
        "effect": figure(verdict.effect),
        "estimated accuracy": _share(verdict.estimated_accuracy),
        "accuracy on labels": _share(verdict.labelled_accuracy),
        "on the reference": _share(story.reference_accuracy),
    }
    items = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items() if value != _NOTHING)
    return f"<dl>{items}</dl>"


def _tests(findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    rows = "".join(
        f'<tr><td>{escape(test.sentence)}<br><span class="about">{escape(test.name)}</span></td>'
        f'<td class="number" data-label="value">{figure(test.value)}</td><td class="number" data-label="limit">{figure(test.limit)}</td>'
        f'<td class="{"failed" if test.has_failed else "passed"}">{"failed" if test.has_failed else "passed"}</td></tr>'
        for test in findings
    )
    return (
        '<h2>What the verdict is read from</h2><table><thead><tr><th>test</th><th class="number">value</th>'
        f'<th class="number">limit</th><th>result</th></tr></thead><tbody>{rows}</tbody></table>'
        '<p class="note">These are the results under the tab Tests of Evidently\'s report below.</p>'
    )


def _columns(columns: Mapping[str, Mapping[str, Any]], limit: float | None) -> str:
    left_out = [f"{name} ({column['left_out']})" for name, column in columns.items() if column.get("left_out")]
    note = f'<p class="note">Left out: {escape(", ".join(left_out))}.</p>' if left_out else ""
    charts = "".join(draw_columns(columns, limit=limit, width=width) for width in (WIDE, NARROW))
    if not charts:
        return note
    return (
        f'<h2>Which columns moved</h2>{charts}{note}<p class="note">A standard error is how far chance moves the night\'s mean from the '
        "reference's, reviews of one product being alike. The dashed marks are the limit.</p>"
    )


def _nights(story: Story) -> str:
    nights = "".join(
        draw_history(story.history, p_limit=story.p_limit, effect_limit=story.effect_limit, width=width)
        for width in (WIDE, NARROW)
    )
    accuracy = "".join(draw_accuracy(story.history, reference=story.reference_accuracy, width=width) for width in (WIDE, NARROW))
    parts = []
    if nights:
        parts.append(
            f"<h2>The nights before</h2>{nights}"
            '<p class="note">Circle: quiet; triangle: warning; diamond: retrain; square: quarantine. Dashed: the limit.</p>'
        )
    if accuracy:
        parts.append(
            f'<h2>Accuracy</h2>{accuracy}<p class="note">Line: estimated from the model\'s own probabilities; rings: measured on labels; '
            "dashed: on the reference.</p>"
        )
    return "".join(parts)


def figure(value: float | None) -> str:
    """Four digits, but never fewer than the whole number, and no noughts behind them; a dash for nothing.

    >>> figure(0.12345), figure(300.0), figure(1345.97), figure(0.00001234), figure(0.0)
    ('0.1235', '300', '1,346', '1.2e-05', '0')
    """
    if value is None:
        return _NOTHING
    if 0 < abs(value) < _SMALLEST_P * 10 or abs(value) >= _LARGEST:
        return f"{value:.2g}"
    places = max(0, 3 - int(math.log10(abs(value)))) if abs(value) >= 1 else 4
    return f"{value:,.{places}f}".rstrip("0").rstrip(".") if places else f"{value:,.0f}"


def _share(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.1%}"


def _p_value(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{value:.4f}" if value >= _SMALLEST_P else f"below {_SMALLEST_P}"
