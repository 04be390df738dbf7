"""Where things are drawn: the layout of the trend chart and of the verdicts' marks, as plain numbers.

Geometry only, pure functions over nights; templates draw it as SVG and the style sheet colours it. A verdict has a
shape of its own beside its colour, so that nobody has to tell colours apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from sentiment_core.store.overview import NightRow

_LEFT, _RIGHT, _TOP = 46, 20, 24
_VOLUME_HEIGHT, _SHARE_HEIGHT, _BETWEEN = 84, 104, 44
_SHARE_TOP = _TOP + _VOLUME_HEIGHT + _BETWEEN
_LABEL_WIDTH = 84  # pixels a date needs below the axis, with air around it


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Bar:
    """A night's volume."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Mark:
    """A night's positive share, in the shape of its verdict."""

    path: str
    verdict: str
    title: str


@dataclass(frozen=True)
class Trend:
    """A chart of volume (bars, above) and positive share (a line, below) over the same dates; lengths in pixels."""

    width: int
    height: int
    left: int
    right: float
    volume_bottom: float
    share_top: float
    share_bottom: float
    bars: tuple[Bar, ...]
    line: str
    marks: tuple[Mark, ...]
    volume_ticks: tuple[Tick, ...]
    share_ticks: tuple[Tick, ...]
    date_ticks: tuple[Tick, ...]


def draw_trend(nights: Sequence[NightRow], *, width: int) -> Trend:
    """Lay out nights (any order, at least one) on a chart `width` pixels wide; missing dates stay empty."""
    nights = sorted(nights, key=lambda night: night.window_date)
    first, last = nights[0].window_date, nights[-1].window_date
    right = width - _RIGHT
    step = (right - _LEFT) / ((last - first).days + 1)
    top = round_up(max(night.n_reviews for night in nights))
    low, high = share_range([night.positive_share for night in nights if night.positive_share is not None])

    def x(day: date) -> float:
        return _LEFT + ((day - first).days + 0.5) * step

    def y_share(share: float) -> float:
        return _SHARE_TOP + (high - share) / (high - low) * _SHARE_HEIGHT

    bar_width = max(1.0, min(step * 0.7, 36.0))
    bars = []
    for night in nights:
        height = _VOLUME_HEIGHT * night.n_reviews / top
        title = f"{_day(night.window_date)}: {night.n_reviews:,} reviews"
        bars.append(Bar(x(night.window_date) - bar_width / 2, _TOP + _VOLUME_HEIGHT - height, bar_width, height, title))
    points = [
        (night, x(night.window_date), y_share(night.positive_share)) for night in nights if night.positive_share is not None
    ]
    size = max(3.5, min(step * 0.3, 6.0))
    return Trend(
        width=width,
        height=_SHARE_TOP + _SHARE_HEIGHT + 26,
        left=_LEFT,
        right=right,
        volume_bottom=_TOP + _VOLUME_HEIGHT,
        share_top=_SHARE_TOP,
        share_bottom=_SHARE_TOP + _SHARE_HEIGHT,
        bars=tuple(bars),
        line=_line(points),
        marks=tuple(
            Mark(
                mark(night.verdict or "none", at, y, size * (0.7 if night.verdict == "quiet" else 1)),
                night.verdict or "none",
                f"{_day(night.window_date)}: {night.positive_share:.1%} positive",
            )
            for night, at, y in points
        ),
        volume_ticks=tuple(Tick(_TOP + _VOLUME_HEIGHT * (1 - part), short(top * part)) for part in (0, 0.5, 1)),
        share_ticks=tuple(Tick(y_share(share), f"{share:.0%}") for share in (low, (low + high) / 2, high)),
        date_ticks=_date_ticks(first, last, x, places=int((right - _LEFT) // _LABEL_WIDTH)),
    )


def _line(points: Sequence[tuple[NightRow, float, float]]) -> str:
    """A path through nights that follow each other; where dates are missing it starts anew."""
    path, previous = "", None
    for night, at, y in points:
        follows = previous is not None and (night.window_date - previous).days == 1
        path += f"{'L' if follows else 'M'}{at:.1f} {y:.1f}"
        previous = night.window_date
    return path


def _date_ticks(first: date, last: date, x, *, places: int) -> tuple[Tick, ...]:  # noqa: ANN001 (the function above)
    every = math.ceil(((last - first).days + 1) / max(places, 1))
    days = [last - timedelta(days=back) for back in range(0, (last - first).days + 1, every)]
    return tuple(Tick(x(day), _day(day)) for day in reversed(days))


def _day(day: date) -> str:
    return f"{day.day} {day:%b}"


def mark(verdict: str, x: float, y: float, r: float) -> str:
    """The shape of a verdict, or of a model's state, around a point, as an SVG path: circle, triangle, diamond, cross, ring.

    >>> mark("retrain", 10, 10, 5)
    'M10.0 3.5L16.5 10.0L10.0 16.5L3.5 10.0Z'
    """
    if verdict == "warn":
        corners = [(x, y - 1.2 * r), (x + 1.2 * r, y + r), (x - 1.2 * r, y + r)]
    elif verdict in ("retrain", "champion"):
        corners = [(x, y - 1.3 * r), (x + 1.3 * r, y), (x, y + 1.3 * r), (x - 1.3 * r, y)]
    elif verdict in ("quarantine", "refused"):
        a, b = 0.6 * r, 1.3 * r
        turns = [(-b, -b + a), (-b + a, -b), (0, -a), (b - a, -b), (b, -b + a), (a, 0)]
        corners = [(x + dx, y + dy) for dx, dy in [*turns, *[(-dx, -dy) for dx, dy in turns]]]
    else:
        arc = f"a{r:.1f} {r:.1f} 0 1 0 "
        return f"M{x - r:.1f} {y:.1f}{arc}{2 * r:.1f} 0{arc}{-2 * r:.1f} 0Z"
    return "M" + "L".join(f"{at:.1f} {down:.1f}" for at, down in corners) + "Z"


@dataclass(frozen=True)
class Strip:
    """A row of dots, one a fold, with their mean; all strips of a table have one scale."""

    dots: tuple[float, ...]
    mean: float
    title: str


def draw_strip(values: Sequence[float], ends: tuple[float, float], *, width: float) -> Strip | None:
    """Where the dots of a recipe lie between the ends of the scale; None without values.

    >>> draw_strip([0.2, 0.4], (0.2, 0.6), width=100)
    Strip(dots=(4.0, 50.0), mean=27.0, title='0.2000, 0.4000')
    """
    if not values:
        return None
    least, most = ends
    places = [4 + (value - least) / ((most - least) or 1) * (width - 8) for value in (*values, sum(values) / len(values))]
    return Strip(tuple(round(x, 1) for x in places[:-1]), round(places[-1], 1), ", ".join(f"{value:.4f}" for value in values))


def round_up(count: float) -> int:
    """The next number that reads well at the top of an axis.

    >>> [round_up(count) for count in (0, 7, 1540, 41_000)]
    [2, 8, 2000, 50000]
    """
    if count <= 2:  # noqa: PLR2004 (an axis needs a middle)
        return 2
    power = 10 ** math.floor(math.log10(count))
    return next(int(step * power) for step in (1, 2, 4, 5, 6, 8, 10) if step * power >= count)


def share_range(shares: Sequence[float]) -> tuple[float, float]:
    """Ends of the share's axis: multiples of a tenth around the data, at least two tenths apart, within [0, 1].

    >>> share_range([0.78, 0.81]), share_range([]), share_range([1.0])
    ((0.7, 0.9), (0.0, 1.0), (0.8, 1.0))
    """
    if not shares:
        return 0.0, 1.0
    low, high = math.floor(min(shares) * 10), math.ceil(max(shares) * 10)
    while high - low < 2 or (high - low) % 2:  # noqa: PLR2004 (the tick in the middle is a whole tenth too)
        if high < 10:  # noqa: PLR2004
            high += 1
        else:
            low -= 1
    return low / 10, high / 10


def short(count: float) -> str:
    """A count in the room an axis has.

    >>> [short(count) for count in (0, 750, 1500, 20_000, 2_500_000)]
    ['0', '750', '1.5k', '20k', '2.5M']
    """
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:g}{letter}"
    return f"{count:g}"
