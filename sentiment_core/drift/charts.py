"""The charts of a drift report, as SVG: which columns moved, and how the nights before went.

Pure functions from figures to markup, without scripts and without style attributes, so that a page may forbid both;
the page's style sheet colours the classes. Text of reviews never gets here, and every name is escaped.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from html import escape
from typing import Any

WIDE, NARROW = 1040, 340
_ROW, _PANEL, _BETWEEN, _TOP = 24, 96, 46, 22
_NAME_SHARE = 0.16
_MOST_ERRORS = 12.0
"""Bars end here, in standard errors: further away, how far no longer matters and the others would vanish."""
_LEAST_P = -8.0
"""Probabilities are drawn down to 1 in 10^8; what is below lies on the edge."""
_DATE_WIDTH = 80
_RIGHT = 16
_LEAST_SPAN = 0.02


@dataclass(frozen=True, kw_only=True)
class Point:
    """A night in the history of a model version."""

    day: date
    verdict: str
    p_value: float | None
    effect: float | None
    estimated: float | None
    """Accuracy expected without labels."""
    measured: float | None
    """Accuracy on the labels that have arrived."""


def draw_columns(columns: Mapping[str, Mapping[str, Any]], *, limit: float | None, width: int) -> str:
    """Bars of how far each column moved, in standard errors from the reference, to the right where it grew.

    Args:
        columns: by name: `score` (signed) and `is_drifted`. Those without a score are not drawn.
        limit: of the scores' absolute values.
        width: of the chart, in pixels.
    """
    drawn = sorted(
        ((name, column) for name, column in columns.items() if column.get("score") is not None),
        key=lambda item: -abs(item[1]["score"]),
    )
    if not drawn:
        return ""
    left = max(120.0, _NAME_SHARE * width)
    middle, half = left + (width - left) / 2, (width - left) / 2 - 44
    end = min(_MOST_ERRORS, max(abs(column["score"]) for _, column in drawn) * 1.05)
    end = max(end, 1.15 * (limit or 0.0), 1.0)
    height = _TOP + _ROW * len(drawn) + 6
    parts = [_text(middle, 12, "less \N{LEFTWARDS ARROW} standard errors \N{RIGHTWARDS ARROW} more", "axis")]
    for place, (name, column) in enumerate(drawn):
        parts += _bar(name, column, limit, y=_TOP + _ROW * place, middle=middle, half=half, end=end)
    parts.append(f'<line class="zero" x1="{middle:.1f}" x2="{middle:.1f}" y1="{_TOP - 4}" y2="{height - 4}"/>')
    return _svg(width, height, "How far each column moved, in standard errors", parts)


def _bar(
    name: str, column: Mapping[str, Any], limit: float | None, *, y: float, middle: float, half: float, end: float
) -> list[str]:
    z = float(column["score"])
    length = min(abs(z), end) / end * half
    x = middle if z >= 0 else middle - length
    moved = " moved" if column.get("is_drifted") else ""
    rectangle = f'x="{x:.1f}" y="{y + 4:.1f}" width="{max(length, 0.5):.1f}" height="{_ROW - 10}" rx="2"'
    parts = [
        _text(0, y + 15, name, "name", anchor="start"),
        f'<rect class="bar{moved}" {rectangle}><title>{escape(name)}: {z:+.1f} standard errors</title></rect>',
        _text(middle + math.copysign(length + 5, z), y + 15, _signed(z), "figure", anchor="start" if z >= 0 else "end"),
    ]
    if limit is not None and limit <= end:
        for sign in (-1, 1):
            at = middle + sign * limit / end * half
            parts.append(f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="{y + 1:.1f}" y2="{y + _ROW - 3:.1f}"/>')
    return parts


def draw_history(points: Sequence[Point], *, p_limit: float | None, effect_limit: float | None, width: int) -> str:
    """How surprising and how large the differences of past nights were; the lower the upper line, the more surprising."""
    drawn = [point for point in points if point.p_value is not None]
    if not drawn:
        return ""
    at = _dates(points, width)
    surprise = _Panel(
        title="p-value: how often chance alone does this",
        top=_TOP,
        low=_LEAST_P,
        high=0.0,
        ticks=((0.0, "1"), (-4.0, "1 in 10,000"), (-8.0, "1 in 10\N{SUPERSCRIPT EIGHT}")),
        limit=math.log10(p_limit) if p_limit else None,
        say=lambda value: f"p = {10**value:.2g}",
    )
    effects = [point.effect or 0.0 for point in drawn]
    most = max([*effects, 1.3 * (effect_limit or 0.0), 0.01])
    size = _Panel(
        title="effect: how large the difference is",
        top=_TOP + _PANEL + _BETWEEN,
        low=0.0,
        high=most,
        ticks=((0.0, "0"), (most, f"{most:.2g}")),
        limit=effect_limit,
    )
    parts = [
        *surprise.draw([(point, _log(point.p_value)) for point in drawn], at, width),
        *size.draw([(point, point.effect or 0.0) for point in drawn], at, width),
        *_date_labels(points, at, size.bottom + 18, width),
    ]
    return _svg(width, size.bottom + 24, "p-value and effect by night", parts)


def draw_accuracy(points: Sequence[Point], *, reference: float | None, width: int) -> str:
    """Accuracy estimated without labels (line) and measured on labels (rings) by night, beside the reference's."""
    known = [value for point in points for value in (point.estimated, point.measured) if value is not None]
    if not known:
        return ""
    values = [*known, *([reference] if reference is not None else [])]
    low, high = _span(min(values), max(values))
    at = _dates(points, width)
    ticks = tuple((value, f"{value:.1%}") for value in (low, (low + high) / 2, high))
    panel = _Panel(title="accuracy", top=_TOP, low=low, high=high, ticks=ticks, limit=reference, say="{:.1%}".format)
    parts = panel.draw([(point, point.estimated) for point in points if point.estimated is not None], at, width)
    for point in points:
        if point.measured is not None:
            parts.append(
                f'<circle class="measured" cx="{at(point.day):.1f}" cy="{panel.y(point.measured):.1f}" r="5">'
                f"<title>{point.day}: {point.measured:.1%} measured on labels</title></circle>"
            )
    return _svg(width, panel.bottom + 24, "Accuracy by night", [*parts, *_date_labels(points, at, panel.bottom + 18, width)])


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """One chart over dates."""

    title: str
    top: float
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    limit: float | None
    say: Callable[[float], str] = "{:.3g}".format
    """How a value reads."""

    @property
    def bottom(self) -> float:
        return self.top + _PANEL

    def y(self, value: float) -> float:
        """Where a value lies; what is off the scale lies on its edge."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.top + (1 - share) * _PANEL

    def draw(self, values: Sequence[tuple[Point, float]], at: Callable[[date], float], width: int) -> list[str]:
        """Title, grid, limit, line and the nights' marks."""
        left = _left(width)
        parts = [_text(left, self.top - 8, self.title, "axis", anchor="start")]
        for value, label in self.ticks:
            parts.append(
                f'<line class="grid" x1="{left}" x2="{width - _RIGHT}" y1="{self.y(value):.1f}" y2="{self.y(value):.1f}"/>'
            )
            parts.append(_text(left - 6, self.y(value) + 4, label, "tick", anchor="end"))
        if self.limit is not None:
            parts.append(
                f'<line class="limit" x1="{left}" x2="{width - _RIGHT}" y1="{self.y(self.limit):.1f}" y2="{self.y(self.limit):.1f}"/>'
            )
        if len(values) > 1:
            path = "L".join(f"{at(point.day):.1f} {self.y(value):.1f}" for point, value in values)
            parts.append(f'<path class="line" d="M{path}"/>')
        for point, value in values:
            parts.append(
                f'<path class="mark {escape(point.verdict)}" d="{mark(point.verdict, at(point.day), self.y(value), _size(width, values))}">'
                f"<title>{point.day}: {self.say(value)} ({escape(point.verdict)})</title></path>"
            )
        return parts


def mark(verdict: str, x: float, y: float, r: float) -> str:
    """The shape of a verdict around a point, so that nobody has to tell colours apart: circle, triangle, diamond, square.

    >>> mark("retrain", 10, 10, 5)
    'M10.0 3.5L16.5 10.0L10.0 16.5L3.5 10.0Z'
    """
    if verdict == "warn":
        corners = [(x, y - 1.2 * r), (x + 1.2 * r, y + r), (x - 1.2 * r, y + r)]
    elif verdict == "retrain":
        corners = [(x, y - 1.3 * r), (x + 1.3 * r, y), (x, y + 1.3 * r), (x - 1.3 * r, y)]
    elif verdict == "quarantine":
        corners = [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)]
    else:
        arc = f"a{r:.1f} {r:.1f} 0 1 0 "
        return f"M{x - r:.1f} {y:.1f}{arc}{2 * r:.1f} 0{arc}{-2 * r:.1f} 0Z"
    return "M" + "L".join(f"{right:.1f} {down:.1f}" for right, down in corners) + "Z"


def _signed(z: float) -> str:
    """A shift with its sign, where it has one.

    >>> _signed(1.26), _signed(-0.04)
    ('+1.3', '0.0')
    """
    return "0.0" if round(z, 1) == 0 else f"{z:+.1f}"


def _size(width: int, values: Sequence[Any]) -> float:
    return max(2.0, min(4.5, 0.3 * (width - _left(width)) / len(values)))


def _left(width: int) -> float:
    return 88.0 if width >= WIDE else 74.0


def _dates(points: Sequence[Point], width: int) -> Callable[[date], float]:
    first, last = min(point.day for point in points), max(point.day for point in points)
    left, n_days = _left(width), (last - first).days + 1
    return lambda day: left + ((day - first).days + 0.5) / n_days * (width - left - _RIGHT)


def _date_labels(points: Iterable[Point], at: Callable[[date], float], y: float, width: int) -> list[str]:
    days = [point.day for point in points]
    first, last = min(days), max(days)
    places = max(1, int((width - _left(width)) // _DATE_WIDTH))
    every = math.ceil(((last - first).days + 1) / places)
    shown = [last - timedelta(days=back) for back in range(0, (last - first).days + 1, every)]
    return [_text(at(day), y, f"{day.day} {day:%b}", "tick") for day in reversed(shown)]


def _span(low: float, high: float) -> tuple[float, float]:
    """Ends of a scale around values: a little air, never so narrow that chance fills the chart.

    >>> _span(0.85, 0.85)
    (0.84, 0.86)
    """
    air = max(0.1 * (high - low), (_LEAST_SPAN - (high - low)) / 2)
    return round(low - air, 4), round(high + air, 4)


def _log(p_value: float | None) -> float:
    return math.log10(max(p_value or 0.0, 10**_LEAST_P))


def _text(x: float, y: float, text: str, kind: str, *, anchor: str = "middle") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: float, height: float, label: str, parts: Iterable[str]) -> str:
    kind = "wide" if width >= WIDE else "narrow"
    return (
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )
