"""What a model gets right on parts of the held-out rows, and on which parts a candidate is worse than the champion.

A mean hides a part that has become bad. Rows are cut by length, by source and by product; both models of a comparison
have been scored on the same rows. No scoring, no limits: those are the policy's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import binomtest

_QUARTILES = (0.25, 0.5, 0.75)
# Products, or sources, that are looked at by themselves; of more, each would hold too few rows to say anything.
_LARGEST = 8
_LEVEL = 0.95
Labels = Sequence[str] | npt.NDArray[np.str_]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A part of the rows and what a model got right of it."""

    column: str
    """`length`, `source` or `product`."""
    name: str
    """Which part, in words."""
    n: int
    accuracy: float
    low: float
    high: float
    """Wilson's interval of 95 % around the accuracy."""


@dataclass(frozen=True, kw_only=True)
class SliceComparison:
    """Two models on one part of the rows."""

    column: str
    name: str
    n: int
    champion: float
    candidate: float
    """Accuracies."""
    n_won: int
    n_lost: int
    """Rows that only the candidate, and only the champion, got right."""
    p_value: float
    """One-sided exact McNemar test that the candidate is worse, corrected by Holm for the number of slices."""


def figures_by_slice(rows: pa.Table, labels: Labels, decided: Labels) -> tuple[Slice, ...]:
    """Accuracy on every part.

    Args:
        rows: held-out rows with columns text, source and product_id.
        labels: what people said, one a row.
        decided: what the model said, in the same words.

    A column that does not tell the rows apart (one source only) is left out.

    >>> rows = pa.table({"text": ["a", "bb", "ccc", "dddd"], "source": ["x", "x", "y", "y"], "product_id": ["p"] * 4})
    >>> [(part.name, part.accuracy) for part in figures_by_slice(rows, ["1"] * 4, ["1", "0", "1", "1"]) if part.column == "source"]
    [('x', 0.5), ('y', 1.0)]
    """
    is_right = np.asarray(labels) == np.asarray(decided)
    _check(rows, is_right)
    return tuple(_figures(column, name, is_right[mask]) for column, name, mask in _slices(rows))


def masks_by_slice(rows: pa.Table) -> dict[str, Mask]:
    """By name, which rows belong to each part; see `figures_by_slice`.

    >>> rows = pa.table({"text": ["a", "b"], "source": pa.array(["web", None]), "product_id": ["p", "p"]})
    >>> {name: mask.tolist() for name, mask in masks_by_slice(rows).items()}
    {'source web': [True, False], 'source without a source': [False, True]}
    """
    return {f"{column} {name}": mask for column, name, mask in _slices(rows)}


def compare_slices(
    rows: pa.Table, labels: Labels, champion: Labels, candidate: Labels, *, min_rows: int
) -> tuple[SliceComparison, ...]:
    """Both models on every part of at least `min_rows` rows; see `figures_by_slice` for the arguments.

    Smaller parts are not tested, so that they do not weaken the test of the others.
    """
    labels = np.asarray(labels)
    theirs, ours = labels == np.asarray(champion), labels == np.asarray(candidate)
    _check(rows, theirs, ours)
    parts = [part for part in _slices(rows) if part[2].sum() >= min_rows]
    won = [int((ours & ~theirs)[mask].sum()) for _, _, mask in parts]
    lost = [int((theirs & ~ours)[mask].sum()) for _, _, mask in parts]
    p_values = holm([_p_worse(*pair) for pair in zip(won, lost, strict=True)])
    return tuple(
        SliceComparison(
            column=column,
            name=name,
            n=int(mask.sum()),
            champion=float(theirs[mask].mean()),
            candidate=float(ours[mask].mean()),
            n_won=n_won,
            n_lost=n_lost,
            p_value=p_value,
        )
        for (column, name, mask), n_won, n_lost, p_value in zip(parts, won, lost, p_values, strict=True)
    )


def lost_slices(
    rows: pa.Table, labels: Labels, champion: Labels, candidate: Labels, *, alpha: float, min_rows: int
) -> tuple[SliceComparison, ...]:
    """The parts on which the candidate is worse at level `alpha`, whatever their number; the surest loss first."""
    compared = compare_slices(rows, labels, champion, candidate, min_rows=min_rows)
    return tuple(sorted((part for part in compared if part.p_value <= alpha), key=lambda part: part.p_value))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number: the smallest counts n times, the next n - 1 times (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    so_far = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        so_far = max(so_far, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = so_far
    return corrected


def _p_worse(n_won: int, n_lost: int) -> float:
    return float(binomtest(n_lost, n_won + n_lost, 0.5, alternative="greater").pvalue) if n_won + n_lost else 1.0


def _figures(column: str, name: str, is_right: Mask) -> Slice:
    interval = binomtest(int(is_right.sum()), len(is_right)).proportion_ci(_LEVEL, method="wilson")
    return Slice(
        column=column,
        name=name,
        n=len(is_right),
        accuracy=float(is_right.mean()),
        low=float(interval.low),
        high=float(interval.high),
    )


def _check(rows: pa.Table, *is_right: Mask) -> None:
    for values in is_right:
        if values.shape != (len(rows),):
            raise ValueError(f"expected one label a row, found labels of shape {values.shape} for {len(rows)} rows")


def _slices(rows: pa.Table) -> Iterator[tuple[str, str, Mask]]:
    """Column, name and mask of every part; the parts of a column cover all rows without overlap."""
    for column, parts in (
        ("length", list(_by_length(rows["text"]))),
        ("source", list(_by_value(rows["source"], "without a source"))),
        ("product", list(_by_value(rows["product_id"], "without a product"))),
    ):
        if len(parts) > 1:
            for name, mask in parts:
                yield column, name, mask


def _by_length(texts: Any) -> Iterator[tuple[str, Mask]]:
    lengths = pc.utf8_length(texts).to_numpy()
    if not len(lengths):
        return
    ends = np.unique(np.quantile(lengths, _QUARTILES, method="lower")).tolist()
    for first, last in zip([None, *ends], [*ends, None], strict=True):
        mask = (lengths > (first if first is not None else -1)) & (lengths <= (last if last is not None else np.inf))
        if mask.any():
            yield _length_name(first, last), mask


def _length_name(first: int | None, last: int | None) -> str:
    if first is None:
        return f"up to {last:,} characters"
    return f"over {first:,} characters" if last is None else f"{first + 1:,} to {last:,} characters"


def _by_value(column: Any, without: str) -> Iterator[tuple[str, Mask]]:
    """The largest groups by themselves, rows without a value as one, and the rest together."""
    values = np.array([value if value is not None else without for value in column.to_pylist()], dtype=object)
    names, places, counts = np.unique(values.astype(str), return_inverse=True, return_counts=True)
    largest = sorted(range(len(names)), key=lambda place: (-counts[place], names[place]))
    # One more than the largest is not "the rest": it has a name of its own.
    alone = largest if len(largest) <= _LARGEST + 1 else largest[:_LARGEST]
    for place in alone:
        yield str(names[place]), places == place
    if len(alone) < len(largest):
        yield f"the other {len(largest) - len(alone):,}", ~np.isin(places, alone)
