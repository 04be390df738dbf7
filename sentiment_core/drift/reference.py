"""The reference of a model version: what its reviews look like when nothing has changed, and how far chance moves them.

Rows that the model has not learnt from, with the labels people gave, and how their columns and topics vary: within a
product and between products. On the axes of a `Basis` reviews of one product vary by one, products by `between`, and axes
do not depend on each other. So the mean of n reviews in which products stand m times each varies by 1/n + between *
sum(m^2)/n^2, whatever the night: clustered or not, large or small. Kept as bytes, read in milliseconds. Nothing here
judges a night.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import linalg

from sentiment_core import schema
from sentiment_core.errors import Permanent
from sentiment_core.policy import Drift

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_TOPICS = schema.TOPICS.name
_REST = b"sentiment.variation"
_ARRAYS = ("lows", "highs", "mean", "within", "between")
_RIDGE = 1e-6
# Lengths differ by factors, not by differences; shares of rare characters have a long tail.
_LOGARITHMS = ("n_chars", "n_words", "n_sentences")
_ROOTS = ("upper_share", "non_letter_share", "negation_share")
COLUMNS = (
    "p_positive", "is_positive", "confidence", "n_chars", "n_words", "n_sentences", "upper_share", "non_letter_share",
    "surprise", "strange_share", "distinct_share", "negation_share",
)  # fmt: skip
"""Columns that are judged one by one. `is_positive`: whether the label is positive."""
_CONSTANT = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Basis:
    """Axes on which reviews of one product vary by one, and do not depend on each other."""

    chosen: I64
    """Which of the reference's values it is made of."""
    axes: F64
    """Shifts of those values times this; columns are axes."""
    between: F64
    """How much products vary, of each axis."""

    def place(self, shift: F64) -> F64:
        """Where a shift of all values lies on the axes."""
        return np.asarray(shift[self.chosen] @ self.axes)

    @property
    def total(self) -> F64:
        """How much one review of any product varies, of each axis."""
        return np.asarray(1 + self.between)


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Rows, and how they vary. Values are the columns of `names` on their scales, then the topics."""

    rows: pa.Table
    """Columns of `schema.REFERENCE`, those without a value left out."""
    names: tuple[str, ...]
    """Columns that can be judged."""
    left_out: Mapping[str, str]
    """Columns that cannot, with the reason."""
    lows: F64
    highs: F64
    """Where the columns of `names` are cut."""
    mean: F64
    within: F64
    """Covariance of the values of one product's reviews."""
    between: F64
    """Covariance of products."""
    spread: float
    """Sum of the squared shares of products in the rows; 1/n where every row is of another product."""

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, rows: pa.Table, limits: Drift) -> "Reference":
        """Compute how rows vary; columns of `schema.REFERENCE` (those of the lens may be missing).

        Rows that lack a value in a column that can be judged are left out.
        """
        left_out = {name: reason for name in COLUMNS if (reason := _why_not(rows, name, limits))}
        names = tuple(name for name in COLUMNS if name not in left_out)
        rows = complete_rows(rows, names)
        columns = np.column_stack([values_of(rows, name) for name in names]) if names else np.zeros((len(rows), 0))
        cuts = (limits.column_cut, 1 - limits.column_cut)
        lows, highs = np.quantile(columns, cuts, axis=0) if columns.size else (np.zeros(len(names)),) * 2
        values = np.clip(columns, lows, highs)
        if has_topics(rows):
            values = np.hstack([values, topics_of(rows)])
        numbers = group_numbers(rows)
        within, between = components(values, numbers)
        return cls(
            rows=rows,
            names=names,
            left_out=left_out,
            lows=lows,
            highs=highs,
            mean=values.mean(axis=0) if len(values) else np.zeros(values.shape[1]),
            within=within,
            between=between,
            spread=float(np.square(np.bincount(numbers, minlength=1) / max(len(rows), 1)).sum()),
        )

    @property
    def n_topics(self) -> int:
        """0 where the rows have no topics."""
        return len(self.mean) - len(self.names)

    @property
    def group_size(self) -> float:
        """Rows of the product that a row finds itself in, on average; 1 where products are not named."""
        return self.spread * len(self.rows)

    def means(self, rows: pa.Table, names: Sequence[str]) -> F64:
        """Of rows that are complete in `names`, how far their mean lies from the reference's; not a number for other values."""
        shift = np.full(len(self.mean), np.nan)
        for place, name in enumerate(self.names):
            if name in names:
                shift[place] = np.clip(values_of(rows, name), self.lows[place], self.highs[place]).mean() - self.mean[place]
        if self.n_topics and has_topics(rows):
            shift[len(self.names) :] = topics_of(rows).mean(axis=0) - self.mean[len(self.names) :]
        return shift

    def single(self, names: Sequence[str]) -> Basis:
        """An axis for each of these columns by itself."""
        chosen = np.array([self.names.index(name) for name in names], np.int64)
        within = np.maximum(np.diag(self.within)[chosen], np.finfo(float).tiny)
        between = np.maximum(np.diag(self.between)[chosen], 0) / within
        return Basis(chosen=chosen, axes=np.diag(1 / np.sqrt(within)), between=between)

    def joint(self, names: Sequence[str], *, with_topics: bool) -> Basis:
        """Axes of these columns, and of the topics, together."""
        chosen = [self.names.index(name) for name in names]
        return _joint(self, tuple(chosen + (list(range(len(self.names), len(self.mean))) if with_topics else [])))

    @cached_property
    def is_right(self) -> npt.NDArray[np.bool_]:
        """Of every row, whether the model's label is the one people gave."""
        is_right = pc.equal(self.rows["label"], self.rows["true_label"])
        return np.asarray(is_right.to_numpy(zero_copy_only=False), np.bool_)

    def split(self, share: float, limits: Drift, *, seed: int) -> tuple["Reference", pa.Table]:
        """The reference of some products, and the rows of the others: quiet nights can be drawn from those.

        Args:
            share: of the products that make the reference.
            limits: section [drift] of the policy.
            seed: which products these are.
        """
        numbers = group_numbers(self.rows)
        groups = np.random.default_rng(seed).permutation(int(numbers.max(initial=-1)) + 1)
        is_in = np.isin(numbers, groups[: round(share * len(groups))])
        return Reference.of(self.rows.filter(pa.array(is_in)), limits), self.rows.filter(pa.array(~is_in))

    def to_bytes(self) -> bytes:
        """An Arrow IPC file of the rows, with the rest among its metadata."""
        packed = io.BytesIO()
        np.savez(
            packed,
            names=np.array(self.names, np.str_),
            left_out=np.array(list(self.left_out.items()), np.str_).reshape(-1, 2),
            spread=np.array(self.spread),
            **{name: getattr(self, name) for name in _ARRAYS},
        )
        sink = pa.BufferOutputStream()
        table = self.rows.replace_schema_metadata({_REST: packed.getvalue()})
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        content: bytes = sink.getvalue().to_pybytes()
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> "Reference":
        """The inverse of `to_bytes`.

        Raises:
            Permanent: for bytes that are no reference.
        """
        try:
            table = pa.ipc.open_file(pa.py_buffer(content)).read_all()
            packed = np.load(io.BytesIO(table.schema.metadata[_REST]), allow_pickle=False)
            return cls(
                rows=table.replace_schema_metadata(None),
                names=tuple(packed["names"].tolist()),
                left_out=dict(packed["left_out"].tolist()),
                spread=float(packed["spread"]),
                **{name: packed[name] for name in _ARRAYS},
            )
        except (pa.ArrowInvalid, KeyError, TypeError, ValueError, OSError, zipfile.BadZipFile) as error:
            raise Permanent(
                "reference of a model version",
                expected="an Arrow IPC file with the covariances of its columns",
                found=str(error),
                remedy="train the model anew: a run of the DAG retrain_model",
            ) from error


def values_of(rows: pa.Table, name: str) -> F64:
    """A column on the scale it is compared on; missing values are not a number."""
    if name == "is_positive":
        return np.asarray(pc.equal(rows[schema.LABEL.name], "positive").to_numpy(zero_copy_only=False), np.float64)
    values = np.asarray(rows[name].to_numpy(zero_copy_only=False), np.float64)
    if name in _LOGARITHMS:
        return np.asarray(np.log1p(np.where(values > -1, values, np.nan)))
    return np.asarray(np.sqrt(np.maximum(values, 0))) if name in _ROOTS else values


def has_topics(rows: pa.Table) -> bool:
    """Whether every row has its place among the topics."""
    return _TOPICS in rows.column_names and len(rows) > 0 and rows[_TOPICS].null_count == 0


def topics_of(rows: pa.Table) -> F64:
    """Rows by topics."""
    column = rows[_TOPICS].combine_chunks()
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float64).reshape(len(rows), -1)


def group_numbers(rows: pa.Table) -> I64:
    """0, 1, ... by product; a row without a product stands alone."""
    if schema.PRODUCT_ID.name not in rows.column_names:
        return np.arange(len(rows))
    products = rows[schema.PRODUCT_ID.name].combine_chunks()
    codes: I64 = products.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    is_alone = codes < 0
    codes[is_alone] = codes.max(initial=-1) + 1 + np.arange(is_alone.sum())
    return codes


def complete_rows(rows: pa.Table, names: tuple[str, ...]) -> pa.Table:
    """The rows that have a finite value in every one of these columns, and a place among the topics where rows have."""
    is_complete = np.ones(len(rows), np.bool_)
    for name in names:
        is_complete &= np.isfinite(values_of(rows, name))
    if _TOPICS in rows.column_names and 0 < rows[_TOPICS].null_count < len(rows):
        is_complete &= rows[_TOPICS].is_valid().to_numpy()
    return rows if is_complete.all() else rows.filter(pa.array(is_complete))


def missing_share(rows: pa.Table, name: str) -> float:
    """Share of the rows that have no finite value in a column; 1 where there is no such column."""
    wanted = schema.LABEL.name if name == "is_positive" else name
    if wanted not in rows.column_names or not len(rows):
        return 1.0
    if name == "is_positive":
        return float(rows[wanted].null_count / len(rows))
    return float(1 - np.isfinite(values_of(rows, name)).mean())


def _why_not(rows: pa.Table, name: str, limits: Drift) -> str:
    share = missing_share(rows, name)
    if share > limits.most_missing:
        return f"{share:.0%} of its values in the reference are missing"
    values = values_of(rows, name)
    values = values[np.isfinite(values)]
    return f"constant in the reference ({values[0]:g})" if np.ptp(values) <= _CONSTANT else ""


@lru_cache(maxsize=16)
def _joint(reference: Reference, chosen: tuple[int, ...]) -> Basis:
    places = np.array(chosen, np.int64)
    within, between = (part[np.ix_(places, places)] for part in (reference.within, reference.between))
    # Columns are of very different sizes: brought to one they can be told from rounding.
    units = np.sqrt(np.maximum(np.diag(within), np.finfo(float).tiny))
    within, between = within / np.outer(units, units), between / np.outer(units, units)
    shares, axes = linalg.eigh(between, within + _RIDGE * np.eye(len(within)))
    return Basis(chosen=places, axes=axes / units[:, np.newaxis], between=np.maximum(shares, 0))


def components(values: F64, numbers: I64) -> tuple[F64, F64]:
    """Covariances within and between groups, by the analysis of variance (Donner 1986); without groups all is within."""
    n, sizes = len(values), np.bincount(numbers, minlength=1).astype(np.float64)
    k = len(sizes)
    centred = values - values.mean(axis=0) if n else values
    if k in (1, n):
        return centred.T @ centred / max(n - 1, 1), np.zeros((values.shape[1],) * 2)
    sums = np.zeros((k, values.shape[1]))
    np.add.at(sums, numbers, centred)
    means = sums / sizes[:, np.newaxis]
    rest = centred - means[numbers]
    within = rest.T @ rest / (n - k)
    typical = (n - float(np.square(sizes).sum()) / n) / (k - 1)
    return within, ((means * sizes[:, np.newaxis]).T @ means / (k - 1) - within) / typical
