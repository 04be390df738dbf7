"""Pictures for a run: confusion matrix, calibration, precision and recall, out of plain numbers.

Matplotlib without pyplot: nothing global, so that threads of a server may draw at once. What the numbers are is the
business of `model`; where the pictures go that of `tracking`.
"""

import io
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by everybody; a class has the same one in every picture.
_COLOURS = {"negative": "#d55e00", "neutral": "#7d7d86", "positive": "#0072b2"}
_OTHER, _INK, _MUTED, _EDGE = "#009e73", "#18181b", "#5d5d66", "#e3e3e8"
_DPI = 144
_WHITE_FROM = 0.55


def draw(curves: Mapping[str, Any]) -> dict[str, bytes]:
    """PNG files by name.

    Args:
        curves: `classes`; `confusion` (rows: true, columns: predicted); `reliability`, a list of bins of equal mass with
            confidence, accuracy and n; `precision_recall`, by class a list of points with recall and precision.
            What is missing, or has no rows, is not drawn.
    """
    pictures = {}
    if any(map(any, curves.get("confusion") or ())):
        pictures["confusion.png"] = _png(_confusion(curves["confusion"], curves["classes"]))
    if curves.get("reliability"):
        pictures["calibration.png"] = _png(_calibration(curves["reliability"]))
    if any((curves.get("precision_recall") or {}).values()):
        pictures["precision_recall.png"] = _png(_precision_recall(curves["precision_recall"]))
    return pictures


def _confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> "Figure":
    figure, axes = _figure(4.6, 4.2)
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, (numbers, parts) in enumerate(zip(counts, shares, strict=True)):
        for column, (count, share) in enumerate(zip(numbers, parts, strict=True)):
            colour = "white" if share > _WHITE_FROM else _INK
            axes.text(column, row - 0.07, f"{share:.1%}", ha="center", va="center", color=colour, size=12)
            axes.text(column, row + 0.13, f"{count:,}", ha="center", va="center", color=colour, size=9)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes, rotation=90, va="center")
    axes.tick_params(length=0)
    axes.set(xlabel="model says", ylabel="people say")
    axes.set_title(f"Held-out reviews: {sum(map(sum, counts)):,}", loc="left")
    return figure


def _calibration(bins: Sequence[Mapping[str, float]]) -> "Figure":
    figure, axes = _figure(5.2, 4.6)
    filled = [part for part in bins if part["n"]]
    confidence, accuracy = ([part[name] for part in filled] for name in ("confidence", "accuracy"))
    low = max(0.0, math.floor(10 * min(*confidence, *accuracy)) / 10 - 0.05)
    axes.plot([low, 1], [low, 1], color=_MUTED, linewidth=1, linestyle=(0, (4, 3)))
    # Two standard errors: a bin whose bar reaches the line may be as far from it by chance.
    errors = [2 * math.sqrt(share * (1 - share) / part["n"]) for share, part in zip(accuracy, filled, strict=True)]
    axes.errorbar(
        confidence, accuracy, yerr=errors, fmt="o", markersize=5, color=_COLOURS["positive"], elinewidth=1, ecolor="#9fc3dd"
    )
    axes.set(xlim=(low, 1.01), ylim=(low, 1.01), xlabel="confidence of the label", ylabel="share that is right")
    axes.set_title(f"Calibration: {sum(int(part['n']) for part in filled):,} reviews, {len(filled)} bins", loc="left")
    axes.grid(color=_EDGE, linewidth=0.8)
    return figure


def _precision_recall(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> "Figure":
    figure, axes = _figure(5.2, 4.6)
    for name, curve in curves.items():
        if not curve:
            continue
        points = sorted(((point["recall"], point["precision"]) for point in curve), key=lambda point: (point[0], -point[1]))
        points = [(0.0, points[0][1]), *points]
        recall, precision = zip(*points, strict=True)
        axes.plot(
            recall,
            precision,
            color=_COLOURS.get(name, _OTHER),
            linewidth=1.8,
            label=f"{name}, mean precision {_area(points):.3f}",
        )
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title("Precision and recall by class", loc="left")
    axes.grid(color=_EDGE, linewidth=0.8)
    axes.legend(loc="lower left", frameon=False)
    return figure


def _area(points: Sequence[tuple[float, float]]) -> float:
    """Average precision, as scikit-learn sums it up.

    >>> round(_area([(0.0, 1.0), (0.5, 1.0), (1.0, 0.5)]), 3)
    0.75
    """
    return sum((right - left) * height for (left, _), (right, height) in pairwise(points))


def _figure(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_EDGE)
    axes.tick_params(colors=_MUTED, labelsize=9)
    axes.title.set(size=11, color=_INK)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(size=10, color=_MUTED)
    axes.set_axisbelow(True)
    return figure, axes


def _png(figure: "Figure") -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="png", metadata={"Software": None})
    return sink.getvalue()
