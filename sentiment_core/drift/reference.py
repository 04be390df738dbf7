"""The reference of a model version: what its reviews look like when nothing has changed, and how far chance moves them.

Rows that the model has not learnt from, with the labels people gave, and two sets of axes computed from them once: the
topics of the texts together, and every other column by itself. On an axis reviews of one product vary by one and, for
topics, do not depend on each other; products vary by `between`. So the mean of n reviews in which products stand m
times each varies by 1/n + between * sum(m^2)/n^2, whatever the night: clustered or not, large or small. Kept as bytes,
read in milliseconds. Nothing here judges a night.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import linalg

from sentiment_core import schema
from sentiment_core.errors import Permanent

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

MAX_MISSING_SHARE = 0.1
"""A column with more missing values than this is left out; rows that lack a value in a judged column are not compared."""
# A column is cut at these quantiles of the reference: a handful of extraordinary reviews would outweigh a night.
_QUANTILES = (0.001, 0.999)
_TOPICS = schema.TOPICS.name
_BASIS = b"sentiment.basis"
_RIDGE = 1e-9
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
    """Axes on which reviews of one product vary by one."""

    mean: F64
    axes: F64
    """Centred values times this; columns are axes."""
    between: F64
    """How much products vary, of each axis."""

    def shift_of(self, values: F64) -> F64:
        """Where the mean of rows lies on the axes."""
        return np.asarray((values.mean(axis=0) - self.mean) @ self.axes)

    @property
    def total(self) -> F64:
        """How much one review of any product varies, of each axis."""
        return np.asarray(1 + self.between)


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Rows and axes."""

    rows: pa.Table
    """Columns of `schema.REFERENCE`, those without a value left out."""
    topics: Basis | None
    """None where the rows have no topics."""
    columns: Basis
    """One axis a column of `names`."""
    names: tuple[str, ...]
    """Columns that can be judged."""
    left_out: Mapping[str, str]
    """Columns that cannot, with the reason."""
    lows: F64
    highs: F64
    """Where the columns of `names` are cut."""
    spread: float
    """Sum of the squared shares of products in the rows; 1/n where every row is of another product."""
    group_size: float
    """Rows of the product that a row finds itself in, on average; 1 where products are not named."""

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, rows: pa.Table) -> "Reference":
        """Compute the axes of rows with columns of `schema.REFERENCE` (those of the lens may be missing)."""
        left_out = {name: reason for name in COLUMNS if (reason := _why_not(rows, name))}
        names = tuple(name for name in COLUMNS if name not in left_out)
        rows = complete_rows(rows, names)
        values = np.column_stack([values_of(rows, name) for name in names]) if names else np.zeros((len(rows), 0))
        lows, highs = np.quantile(values, _QUANTILES, axis=0) if len(rows) and names else (np.zeros(0), np.zeros(0))
        numbers = group_numbers(rows)
        sizes = np.bincount(numbers, minlength=1).astype(np.float64)
        n = max(len(rows), 1)
        spread = float(np.square(sizes).sum()) / n**2
        return cls(
            rows=rows,
            topics=_joint(topics_of(rows), numbers) if has_topics(rows) else None,
            columns=single(np.clip(values, lows, highs), numbers),
            names=names,
            left_out=left_out,
            lows=lows,
            highs=highs,
            spread=spread,
            group_size=spread * n,
        )

    def column_values(self, rows: pa.Table, name: str) -> F64:
        """A column of `names` on its scale, cut where the reference's ends."""
        place = self.names.index(name)
        return np.clip(values_of(rows, name), self.lows[place], self.highs[place])

    @cached_property
    def is_right(self) -> npt.NDArray[np.bool_]:
        """Of every row, whether the model's label is the one people gave."""
        return np.asarray(self.rows["label"].to_numpy() == self.rows["true_label"].to_numpy(), np.bool_)

    def split(self, share: float, *, seed: int) -> tuple["Reference", pa.Table]:
        """The reference of some products, and the rows of the others: quiet nights can be drawn from those.

        Args:
            share: of the products that make the reference.
            seed: which products these are.
        """
        numbers = group_numbers(self.rows)
        groups = np.random.default_rng(seed).permutation(int(numbers.max(initial=-1)) + 1)
        is_in = np.isin(numbers, groups[: round(share * len(groups))])
        return Reference.of(self.rows.filter(pa.array(is_in))), self.rows.filter(pa.array(~is_in))

    def to_bytes(self) -> bytes:
        """An Arrow IPC file of the rows, with the axes among its metadata."""
        arrays: dict[str, Any] = {"lows": self.lows, "highs": self.highs, "numbers": np.array([self.spread, self.group_size])}
        for name, basis in (("topics", self.topics), ("columns", self.columns)):
            if basis is not None:
                arrays |= {f"{name}_mean": basis.mean, f"{name}_axes": basis.axes, f"{name}_between": basis.between}
        packed = io.BytesIO()
        np.savez(packed, names=np.array(self.names), left_out=np.array(list(self.left_out.items())).reshape(-1, 2), **arrays)
        sink = pa.BufferOutputStream()
        table = self.rows.replace_schema_metadata({_BASIS: packed.getvalue()})
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
            packed = np.load(io.BytesIO(table.schema.metadata[_BASIS]), allow_pickle=False)
            return cls._unpack(table.replace_schema_metadata(None), packed)
        except (pa.ArrowInvalid, KeyError, TypeError, ValueError, OSError) as error:
            raise Permanent(
                "reference of a model version",
                expected="an Arrow IPC file with the axes of its columns",
                found=str(error),
                remedy="train the model anew: a run of the DAG retrain_model",
            ) from error

    @classmethod
    def _unpack(cls, rows: pa.Table, packed: Mapping[str, Any]) -> "Reference":
        found = {
            name: Basis(mean=packed[f"{name}_mean"], axes=packed[f"{name}_axes"], between=packed[f"{name}_between"])
            for name in ("topics", "columns")
            if f"{name}_mean" in packed
        }
        return cls(
            rows=rows,
            topics=found.get("topics"),
            columns=found["columns"],
            names=tuple(packed["names"].tolist()),
            left_out=dict(packed["left_out"].tolist()),
            lows=packed["lows"],
            highs=packed["highs"],
            spread=float(packed["numbers"][0]),
            group_size=float(packed["numbers"][1]),
        )


def values_of(rows: pa.Table, name: str) -> F64:
    """A column on the scale it is compared on; missing values are not a number."""
    if name == "is_positive":
        return np.asarray(rows[schema.LABEL.name].to_numpy(zero_copy_only=False) == "positive", np.float64)
    values = np.asarray(rows[name].to_numpy(zero_copy_only=False), np.float64)
    if name in _LOGARITHMS:
        return np.asarray(np.log1p(values))
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


def _why_not(rows: pa.Table, name: str) -> str:
    share = missing_share(rows, name)
    if share > MAX_MISSING_SHARE:
        return f"{share:.0%} of its values in the reference are missing"
    values = values_of(rows, name)
    values = values[np.isfinite(values)]
    return f"constant in the reference ({values[0]:g})" if np.ptp(values) <= _CONSTANT else ""


def _joint(values: F64, numbers: I64) -> Basis:
    """Axes of columns together: within a product they vary by one and do not depend on each other."""
    within, between = _components(values, numbers)
    ridge = _RIDGE * np.trace(within) / len(within) + np.finfo(float).tiny
    shares, axes = linalg.eigh(between, within + ridge * np.eye(len(within)))
    return Basis(mean=values.mean(axis=0), axes=axes, between=np.maximum(shares, 0))


def single(values: F64, numbers: I64) -> Basis:
    """Axes of columns each by itself."""
    mean = values.mean(axis=0) if len(values) else np.zeros(values.shape[1])
    parts = [tuple(float(part[0, 0]) for part in _components(column[:, np.newaxis], numbers)) for column in values.T]
    within = np.array([max(part[0], np.finfo(float).tiny) for part in parts])
    between = np.array([max(part[1], 0.0) for part in parts])
    return Basis(mean=mean, axes=np.diag(1 / np.sqrt(within)), between=between / within)


def _components(values: F64, numbers: I64) -> tuple[F64, F64]:
    """Covariances within and between groups, by the analysis of variance (Donner 1986); without groups all is within."""
    n, sizes = len(values), np.bincount(numbers, minlength=1).astype(np.float64)
    k = len(sizes)
    centred = values - values.mean(axis=0)
    if k in (1, n):
        return centred.T @ centred / max(n - 1, 1), np.zeros((values.shape[1],) * 2)
    sums = np.zeros((k, values.shape[1]))
    np.add.at(sums, numbers, centred)
    means = sums / sizes[:, np.newaxis]
    rest = centred - means[numbers]
    within = rest.T @ rest / (n - k)
    typical = (n - float(np.square(sizes).sum()) / n) / (k - 1)
    return within, ((means * sizes[:, np.newaxis]).T @ means / (k - 1) - within) / typical
