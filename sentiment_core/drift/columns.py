"""What is compared, column by column: on which scale, which columns can be judged, and how far chance alone moves them.

Reviews of one product resemble each other, so a night about few products strays further from the reference than its
number of rows suggests. `effective_size` takes that back: a night of n reviews counts as the number of unrelated
reviews that would vary as much. Limits and p-values below are in those terms.

Nothing here decides anything: the verdict is read from Evidently's tests (`reports`), the words are `verdict`'s.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from sentiment_core import policy, schema

Floats = npt.NDArray[np.float64]

MAX_MISSING_SHARE = 0.1
"""A column with more missing values than this is left out; rows that lack a value in a judged column are not compared."""

# Lengths differ by factors, not by differences; shares of rare characters have a long tail in which a few shouting
# reviews would outweigh everybody else. The share of unknown words is near normal as it is.
_SCALES: dict[str, tuple[str, Callable[[Floats], Floats]]] = {
    "n_chars": ("log n_chars", np.log1p),
    "n_words": ("log n_words", np.log1p),
    "upper_share": ("sqrt upper_share", np.sqrt),
    "non_letter_share": ("sqrt non_letter_share", np.sqrt),
}


@dataclass(frozen=True, kw_only=True)
class ColumnTest:
    """How one column is compared, for Evidently to carry out."""

    name: str
    """The column, as everywhere else."""
    display: str
    """Its name on the scale it is compared on."""
    is_numeric: bool
    method: str
    """Evidently's name of the statistic: wasserstein (in standard deviations of the reference) or jensenshannon."""
    threshold: float
    """The statistic from which the column counts as drifted."""
    p_value: float
    """Probability of a difference like this by chance, from this column alone."""
    reference_mean: float
    """Mean of the column as it is, not on the scale; share of positive labels for the label."""
    current_mean: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two tables ready to be compared: no value missing, columns on their scales under their display names."""

    tests: tuple[ColumnTest, ...]
    left_out: dict[str, str]
    """Columns that cannot be judged, with the reason."""
    reference: pa.Table
    current: pa.Table


def prepare(reference: pa.Table, current: pa.Table, limits: policy.Drift) -> Comparison:
    """Choose the columns that can be judged, put both sides on their scales and set a limit for each column."""
    left_out = {name: reason for name in schema.DRIFT_COLUMNS if (reason := _why_not(name, reference, current))}
    judged = [name for name in schema.DRIFT_COLUMNS if name not in left_out]
    reference, current = (_complete_rows(table, judged) for table in (reference, current))
    tests = tuple(_plan(name, reference, current, limits) for name in judged) if len(reference) and len(current) else ()
    scaled = (pa.table({test.display: _scaled(table, test.name) for test in tests}) for table in (reference, current))
    return Comparison(tests=tests, left_out=left_out, reference=next(scaled), current=next(scaled))


def effective_size(groups: pa.Array, within_group: float) -> float:
    """How many unrelated rows vary as much as these, by Kish's design effect 1 + (m - 1) * within_group.

    m is the size of the group a row finds itself in, on average; a row without a group stands alone; `within_group`
    is the intraclass correlation. Leslie Kish, "Survey Sampling" (1965), 5.4.

    >>> effective_size(pa.array(["a", "a", "b", "b"]), 1.0), effective_size(pa.array(["a", "a", None, None]), 0.0)
    (2.0, 4.0)
    """
    n = len(groups)
    sizes = np.bincount(_group_numbers(groups), minlength=1)
    return n / (1 + (float(np.square(sizes).sum()) / n - 1) * within_group)


def intraclass_correlation(values: Floats, groups: pa.Array) -> float:
    """How alike the values of one group are, in [0, 1]: the analysis-of-variance estimator (Donner 1986).

    >>> round(intraclass_correlation(np.array([1.0, 1.0, 5.0, 5.0]), pa.array(["a", "a", "b", "b"])), 3)
    1.0
    """
    numbers = _group_numbers(groups)
    sizes = np.bincount(numbers).astype(np.float64)
    n, k = len(values), len(sizes)
    if k in (1, n):
        return 0.0
    means = np.bincount(numbers, weights=values) / sizes
    between = float((sizes * np.square(means - values.mean())).sum()) / (k - 1)
    within = float(np.square(values - means[numbers]).sum()) / (n - k)
    typical_size = (n - float(np.square(sizes).sum()) / n) / (k - 1)
    total = between + (typical_size - 1) * within
    return min(1.0, max(0.0, (between - within) / total)) if total > 0 else 0.0


def _why_not(name: str, reference: pa.Table, current: pa.Table) -> str:
    """Why a column cannot be judged; empty when it can. One that is constant tonight only is judged: that is news."""
    for side, table in (("reference", reference), ("night", current)):
        if name not in table.column_names:
            return f"missing from the {side}"
        share = 1 - _is_present(table, name).mean() if len(table) else 1.0
        if share > MAX_MISSING_SHARE:
            return f"{share:.0%} of its values in the {side} are missing"
    values = _values(reference, name)[_is_present(reference, name)]
    return f"constant in the reference ({values[0]})" if np.all(values == values[0]) else ""


def _is_numeric(name: str) -> bool:
    return name != schema.LABEL.name


def _values(table: pa.Table, name: str) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = table[name].to_numpy().astype(np.float64 if _is_numeric(name) else object)
    return values


def _is_present(table: pa.Table, name: str) -> npt.NDArray[np.bool_]:
    is_present: npt.NDArray[np.bool_] = table[name].is_valid().to_numpy()
    if _is_numeric(name):
        is_present = is_present & np.isfinite(_values(table, name))
    return is_present


def _complete_rows(table: pa.Table, names: Iterable[str]) -> pa.Table:
    is_complete = np.ones(len(table), np.bool_)
    for name in names:
        is_complete &= _is_present(table, name)
    return table if is_complete.all() else table.filter(pa.array(is_complete))


def _scaled(table: pa.Table, name: str) -> npt.NDArray[Any]:
    _, scale = _SCALES.get(name, (name, lambda values: values))
    return scale(_values(table, name)) if _is_numeric(name) else _values(table, name)


def _groups(table: pa.Table) -> pa.Array:
    if schema.PRODUCT_ID.name not in table.column_names:
        return pa.nulls(len(table), pa.string())
    return table[schema.PRODUCT_ID.name].combine_chunks()


def _group_numbers(groups: pa.Array) -> npt.NDArray[np.int64]:
    """0, 1, ... by group; every null is a group of its own."""
    codes: npt.NDArray[np.int64] = groups.dictionary_encode().indices.fill_null(-1).to_numpy().astype(np.int64)
    is_alone = codes < 0
    codes[is_alone] = codes.max(initial=-1) + 1 + np.arange(is_alone.sum())
    return codes


def _plan(name: str, reference: pa.Table, current: pa.Table, limits: policy.Drift) -> ColumnTest:
    is_numeric = _is_numeric(name)
    old, new = _scaled(reference, name), _scaled(current, name)
    groups = _groups(reference), _groups(current)
    sizes = _effective_sizes(old if is_numeric else _most_alike_label(old, groups[0]), groups)
    chance = limits.noise_multiple * float(np.sqrt((1 / sizes).sum()))
    return ColumnTest(
        name=name,
        display=_SCALES[name][0] if name in _SCALES else name,
        is_numeric=is_numeric,
        method="wasserstein" if is_numeric else "jensenshannon",
        # A shift of z standard errors is a Wasserstein distance of about z * sqrt(1/n + 1/R) and, for two labels, a
        # Jensen-Shannon distance of about that over sqrt(8).
        threshold=max(limits.numeric_threshold, chance) if is_numeric else max(limits.categorical_threshold, chance / np.sqrt(8)),
        p_value=_compare_distributions(old, new, groups) if is_numeric else _compare_shares(old, new, sizes),
        reference_mean=_mean(reference, name),
        current_mean=_mean(current, name),
    )


def _effective_sizes(old: Floats, groups: tuple[pa.Array, pa.Array]) -> Floats:
    """Effective sizes of reference and night. How alike products are is learnt from the reference: drift would pass for it."""
    within_group = intraclass_correlation(old, groups[0])
    return np.array([effective_size(side, within_group) for side in groups])


def _most_alike_label(labels: npt.NDArray[Any], groups: pa.Array) -> Floats:
    """Whether a row has the label in which rows of one product are most alike, as 0 and 1."""
    indicators = [(labels == label).astype(np.float64) for label in sorted(set(labels))]
    return max(indicators, key=lambda indicator: intraclass_correlation(indicator, groups))


def _compare_distributions(old: Floats, new: Floats, groups: tuple[pa.Array, pa.Array]) -> float:
    """The p-value of Kolmogorov-Smirnov, with the effective sizes for the share of rows below the place of the largest gap."""
    gap = stats.ks_2samp(old, new, method="asymp")
    old_size, new_size = _effective_sizes((old <= gap.statistic_location).astype(np.float64), groups)
    return float(stats.kstwobign.sf(gap.statistic * np.sqrt(old_size * new_size / (old_size + new_size))))


def _compare_shares(old: npt.NDArray[Any], new: npt.NDArray[Any], sizes: Floats) -> float:
    """The p-value of chi-squared, with the effective sizes in place of the numbers of rows."""
    labels = sorted(set(old) | set(new))
    shares = np.array([[np.mean(side == label) for label in labels] for side in (old, new)])
    return float(stats.chi2_contingency(shares * sizes[:, np.newaxis], correction=False).pvalue)


def _mean(table: pa.Table, name: str) -> float:
    values = _values(table, name)
    return float(values.mean()) if _is_numeric(name) else float(np.mean(values == "positive"))
