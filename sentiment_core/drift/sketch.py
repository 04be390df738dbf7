"""Sketches: what is kept of an object's scored rows, so that a date can be judged without reading the object again.

A sketch holds the number of rows, moments of the drift columns, and a sample: the rows whose identities have the
smallest hashes. Such a sample is uniform, does not depend on order or batch size, and the samples of any number of
objects merge into the sample of all of them (bottom-k or KMV sketch; Cohen and Kaplan, "Summarizing data using
bottom-k sketches", PODC 2007). Memory is bounded by the sample size plus one batch.

What a column means, how samples are compared and where sketches are stored is not known here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentiment_core import schema
from sentiment_core.errors import Permanent

HASH_MAX = 2**64 - 1
# Below this zstd saves nothing and costs a millisecond, which is most of a tiny object's sketch.
_MIN_COMPRESSED = 64
_NUMERIC = tuple(field.name for field in schema.DRIFT_NUMERIC)
_LABEL = schema.LABEL.name
_CARRIED = tuple(dict.fromkeys((*schema.DRIFT_COLUMNS, schema.CONFIDENCE.name)))
_OBJECT_ID = pa.field(schema.OBJECT_ID.name, pa.int64())
_HASH = pa.field("hash", pa.uint64(), nullable=False)
SAMPLE = pa.schema(
    [
        _OBJECT_ID,
        _HASH,
        *(schema.SCORED_BATCH.field(name) for name in ("row_number", "review_id", "product_id", *_CARRIED)),
        *(pa.field(field.name, field.arrow) for field in (*schema.LENS_NUMERIC, schema.TOPICS)),
    ]
)
"""Columns of a sample. object_id is null until the object is known: the sketcher sees rows, not objects. What the lens sees
is null where the model has none."""
_TAKEN = pa.schema(list(SAMPLE)[: -len(schema.LENS_COLUMNS)])
"""What a sample is made of while rows come: without what the lens will see in their texts."""
_MOST_HELD = 1.2
"""Rows that are held until those no longer wanted are dropped, in samples: seldom enough that sorting and copying cost little."""
_TEXTS_AT_A_TIME = 512
"""Texts that the lens looks at together: what a whole sample is counted in would take 150 MB."""

Hashes = npt.NDArray[np.uint64]
Moments = dict[str, dict[str, Any]]
Lens = Callable[[pa.LargeStringArray], dict[str, pa.Array]]


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """What is kept of the rows of one review_date."""

    n: int
    """Rows summed up here."""
    moments: Moments
    """By numeric column {n, sum, sumsq} of its finite values; under "label" the number of rows by label."""
    sample: pa.Table
    """Columns of SAMPLE by (hash, object_id), one row an identity and object."""
    limit: int = HASH_MAX
    """The sample has every row whose hash is at most this: what makes samples of unequal density merge fairly."""

    @property
    def review_ids(self) -> list[str]:
        """Ids of the sampled rows."""
        ids: list[str] = self.sample["review_id"].to_pylist()
        return ids

    def keep(self, current: Mapping[str, int]) -> pa.Table:
        """The sampled rows that are current; `current` maps a review_id to the object that holds its current row."""
        ids, objects = self.sample["review_id"].to_pylist(), self.sample["object_id"].to_pylist()
        is_current = [
            object_id is not None and current.get(key) == object_id for key, object_id in zip(ids, objects, strict=True)
        ]
        return self.sample.filter(pa.array(is_current, pa.bool_()))

    def to_bytes(self) -> bytes:
        """The sample with its limit as an Arrow IPC stream; n and moments travel as columns beside it."""
        table = self.sample.drop_columns(["object_id"]).replace_schema_metadata({"limit": str(self.limit)})
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd" if table.num_rows >= _MIN_COMPRESSED else None)
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        content: bytes = sink.getvalue().to_pybytes()
        return content

    @classmethod
    def from_bytes(cls, content: bytes, *, n: int, moments: Moments, object_id: int | None = None) -> "Sketch":
        """The inverse of `to_bytes`; raises Permanent for bytes that are not a sample of this version."""
        try:
            table = pa.ipc.open_stream(pa.py_buffer(content)).read_all()
            limit = int(table.schema.metadata[b"limit"])
            table = table.add_column(0, _OBJECT_ID, pa.array([object_id] * table.num_rows, pa.int64()))
            for name in schema.LENS_COLUMNS:  # kept by an earlier version of the product, which had no lens
                if name not in table.column_names:
                    table = table.append_column(SAMPLE.field(name), pa.nulls(table.num_rows, SAMPLE.field(name).type))
            sample = table.replace_schema_metadata(None).cast(SAMPLE)
        except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
            raise Permanent(
                f"drift sketch of object {object_id}",
                expected="an Arrow IPC stream with the columns of a sample",
                found=str(error),
                remedy="score the object again with `force`",
            ) from error
        return cls(n=n, moments=moments, sample=sample, limit=limit)


def merge(sketches: Iterable[Sketch], *, size: int) -> Sketch:
    """The sketch of all rows together; order and grouping do not matter. Of no sketches: an empty one."""
    n, moments, sample, limit = 0, _no_moments(), SAMPLE.empty_table(), HASH_MAX
    for sketch in sketches:
        n += sketch.n
        moments = _add_moments(moments, sketch.moments)
        rows = pa.concat_tables([sample, sketch.sample])
        places, limit = _smallest(rows, min(limit, sketch.limit), size)
        sample = rows.take(pa.array(places)).combine_chunks()
    return Sketch(n=n, moments=moments, sample=sample, limit=limit)


class Limits:
    """What the samples of several objects need not hold: hashes above the limit of all of them together, by date.

    A hash above it cannot be among the smallest of the date, so that objects read later sample less and the lens looks at
    no more rows than it must. For one thread.
    """

    def __init__(self, size: int) -> None:
        """`size` is how many rows the sample of a date holds at most."""
        self._size = size
        self._hashes: dict[date, Hashes] = {}

    def of(self, day: date) -> int:
        """The largest hash that may still be among the smallest of a date."""
        hashes = self._hashes.get(day)
        return HASH_MAX if hashes is None or len(hashes) < self._size else int(hashes[-1])

    def note(self, sketches: Mapping[date, Sketch]) -> None:
        """Take an object's sketches into account, once they are sure to be kept."""
        for day, sketch in sketches.items():
            known = self._hashes.get(day, np.zeros(0, np.uint64))
            self._hashes[day] = np.unique(np.concatenate([known, sketch.sample["hash"].to_numpy()]))[: self._size]


class Sketcher:
    """Sums up the scored batches of one object by review_date, in one pass."""

    def __init__(self, size: int, *, lens: Lens | None = None, limits: Limits | None = None) -> None:
        """Begin with nothing.

        Args:
            size: how many rows the sample of a date holds at most.
            lens: what gives the columns of the lens for texts; without it they are null.
            limits: of the objects before this one.
        """
        if size < 1:
            raise ValueError(f"a sample holds at least one row, not {size}")
        self._size, self._lens, self._limits = size, lens, limits or Limits(size)
        self._dates: dict[date, _Taking] = {}

    def add(self, scored: pa.Table, texts: pa.Array | None = None) -> None:
        """Take a batch with the columns of `schema.SCORED_BATCH`, and the texts of its rows where there is a lens."""
        days = scored["review_date"]
        found = pc.unique(days).to_pylist()
        for day in found:
            rows, own = scored, texts if self._lens else None
            if len(found) > 1:
                is_own = pc.equal(days, pa.scalar(day, pa.date32()))
                rows, own = scored.filter(is_own), own.filter(is_own.combine_chunks()) if own is not None else None
            taking = self._dates.setdefault(day, _Taking(day, self._size, self._limits.of(day)))
            taking.add(rows, own)

    def sketches(self) -> dict[date, Sketch]:
        """What has been taken so far, by review_date; the lens looks at the texts that are in a sample now."""
        return {day: taking.sketch(self._lens) for day, taking in self._dates.items()}


class _Taking:
    """A sketch of one date while its rows come: its candidates, and their texts in the same order."""

    def __init__(self, day: date, size: int, limit: int) -> None:
        self._day, self._size, self._limit = day, size, limit
        self._n, self._moments = 0, _no_moments()
        self._rows: list[pa.Table] = []
        self._texts: list[pa.LargeStringArray] = []
        self._n_held = self._n_settled = 0

    def add(self, rows: pa.Table, texts: pa.LargeStringArray | None) -> None:
        self._n += len(rows)
        self._moments = _add_moments(self._moments, _moments(rows))
        hashes = hash_identities(rows["review_id"], self._day)
        may_enter = np.flatnonzero(hashes <= np.uint64(self._limit))
        if not len(may_enter):
            return
        self._rows.append(_candidates(rows, hashes, may_enter))
        if texts is not None:
            self._texts.append(texts.take(pa.array(may_enter)))
        self._n_held += len(may_enter)
        if self._n_held > _MOST_HELD * self._size:
            self._settle()

    def sketch(self, lens: Lens | None) -> Sketch:
        sample = self._settle()
        seen = {name: pa.nulls(len(sample), SAMPLE.field(name).type) for name in schema.LENS_COLUMNS}
        if lens and self._texts:
            parts = [lens(texts) for texts in self._texts]
            seen = {name: pa.concat_arrays([part[name] for part in parts]) for name in schema.LENS_COLUMNS}
        order = pa.array(np.argsort(sample["hash"].to_numpy(), kind="stable"))
        for name in schema.LENS_COLUMNS:
            sample = sample.append_column(SAMPLE.field(name), seen[name])
        return Sketch(n=self._n, moments=self._moments, sample=sample.take(order).combine_chunks(), limit=self._limit)

    def _settle(self) -> pa.Table:
        """Drop what cannot be in the sample any more; rows and texts stay in the order in which they came."""
        if self._n_held > self._n_settled or not self._rows:
            rows = pa.concat_tables(self._rows or [_TAKEN.empty_table()])
            places, self._limit = _smallest(rows, self._limit, self._size)
            places.sort()
            self._rows = [rows.take(pa.array(places)).combine_chunks()]
            self._texts = _kept(self._texts, places)
            self._n_held = self._n_settled = len(places)
        return self._rows[0]


def _kept(texts: list[pa.LargeStringArray], places: npt.NDArray[np.int64]) -> list[pa.LargeStringArray]:
    """Of many texts those at ascending places, some together; the list is emptied meanwhile, so that few stand there twice."""
    kept: list[pa.LargeStringArray] = []
    pieces: list[pa.LargeStringArray] = []
    texts.reverse()
    first = 0
    while texts:
        chunk = texts.pop()
        begin, end = np.searchsorted(places, [first, first + len(chunk)])
        pieces.append(chunk.take(pa.array(places[begin:end] - first)))
        first += len(chunk)
        if not texts or sum(map(len, pieces)) >= _TEXTS_AT_A_TIME:
            kept.append(pa.concat_arrays(pieces))
            pieces = []
    return kept


def _candidates(rows: pa.Table, hashes: Hashes, places: npt.NDArray[np.int64]) -> pa.Table:
    """Some rows with the columns of _TAKEN."""
    taken = rows.select([name for name in _TAKEN.names if name not in ("object_id", "hash")]).take(pa.array(places))
    taken = taken.add_column(0, _HASH, pa.array(hashes[places], pa.uint64()))
    return taken.add_column(0, _OBJECT_ID, pa.nulls(len(places), pa.int64())).cast(_TAKEN)


def hash_identities(review_ids: pa.ChunkedArray | pa.Array, day: date) -> Hashes:
    """64-bit hashes of (review_date, review_id); the same on every machine and in every version of Python.

    A sum of the id's UTF-8 bytes times fixed pseudo-random odd weights modulo 2^64 (multilinear hashing, Lemire and
    Kaser 2014), mixed by the finaliser of SplitMix64; byte by byte of all ids at once.

    >>> [int(value) % 1000 for value in hash_identities(pa.array(["a", "b", ""]), date(2026, 11, 1))]
    [546, 194, 812]
    """
    if isinstance(review_ids, pa.ChunkedArray):
        review_ids = review_ids.combine_chunks()
    review_ids = review_ids.cast(pa.large_string())
    _, offsets_buffer, data_buffer = review_ids.buffers()
    first = review_ids.offset
    offsets = np.frombuffer(offsets_buffer, np.int64)[first : first + len(review_ids) + 1]
    text, starts, lengths = np.frombuffer(data_buffer or b"", np.uint8), offsets[:-1], np.diff(offsets)
    sums = np.zeros(len(lengths), np.uint64)
    longest = int(lengths.max(initial=0))
    shortest = int(lengths.min(initial=longest))
    rows: Any = slice(None)
    for place, weight in enumerate(_mix(np.arange(1, longest + 1, dtype=np.uint64)) | np.uint64(1)):
        if place >= shortest:
            rows = np.flatnonzero(lengths > place)
        sums[rows] += (text[starts[rows] + place] + np.uint64(1)) * weight
    return _mix(sums + _mix(np.full(1, day.toordinal(), np.uint64)))


def _mix(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _smallest(sample: pa.Table, limit: int, size: int) -> tuple[npt.NDArray[np.int64], int]:
    """Places of the rows with the smallest hashes, about `size` of them by hash, and the limit up to which they are all there.

    Within an object the last row of an identity stands for it, as it does when the object is published. Rows of
    several objects that share an identity stay together, so that the current one can be picked later.
    """
    hashes = sample["hash"].to_numpy()
    order = np.argsort(hashes)
    if (hashes[order[1:]] == hashes[order[:-1]]).any():
        rows, objects = sample["row_number"].to_numpy(), pc.fill_null(sample["object_id"], -1).to_numpy()
        order = np.lexsort((-rows, objects, hashes))
        is_first = np.ones(len(order), np.bool_)
        is_first[1:] = (np.diff(hashes[order]) != 0) | (np.diff(objects[order]) != 0)
        order = order[is_first]
    order = order[: np.searchsorted(hashes[order], np.uint64(limit), side="right")]
    if len(order) > size:
        limit = int(hashes[order[size - 1]])
        order = order[hashes[order] <= np.uint64(limit)]
    return order, limit


def _no_moments() -> Moments:
    return {name: {"n": 0, "sum": 0.0, "sumsq": 0.0} for name in _NUMERIC} | {_LABEL: {}}


def _moments(rows: pa.Table) -> Moments:
    moments = _no_moments()
    for name in _NUMERIC:
        values = rows[name].to_numpy().astype(np.float64)
        values = values[np.isfinite(values)]
        moments[name] = {"n": len(values), "sum": float(values.sum()), "sumsq": float(np.square(values).sum())}
    counts = pc.value_counts(rows[_LABEL]).to_pylist()
    moments[_LABEL] = {entry["values"]: entry["counts"] for entry in counts}
    return moments


def _add_moments(left: Moments, right: Moments) -> Moments:
    names = left.keys() | right.keys()
    return {name: _add(left.get(name, {}), right.get(name, {})) for name in sorted(names)}


def _add(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    return {key: left.get(key, 0) + right.get(key, 0) for key in sorted(left.keys() | right.keys())}
