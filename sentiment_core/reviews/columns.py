"""Raw columns of whatever type into the types of the schema, noting row by row what does not fit.

Works on whole columns; Python sees single rows only where something is wrong with them. What a value has to
satisfy beyond its type (a length, a range) is the business of `validate` and `labels`.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiment_core import schema
from sentiment_core.domain import Reject
from sentiment_core.policy import Reading
from sentiment_core.reviews.rows import Column, RawRows, readable_id, shown, to_raw

_ZONE = r"(Z|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?)"
_ISO_TIME = rf"^[1-9][0-9]{{3}}-[0-9]{{2}}-[0-9]{{2}}([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{{1,9}})?)?{_ZONE}?)?$"
_ZONED = rf"[T ].*{_ZONE}$"
_RATING = r"^[1-5](\.0*)?$"
TIME_EXPECTED = "a time such as 2026-11-01T13:45:00Z"
RATING_EXPECTED = "a whole number from 1 to 5"
# Above this a float no longer tells whole numbers apart.
MAX_WHOLE_FLOAT = float(1 << 53)
_MIN_SECONDS = int(datetime(1, 1, 1, tzinfo=UTC).timestamp())
_MAX_SECONDS = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


class Findings:
    """What is wrong with which row of a batch: the first finding of each column."""

    def __init__(self) -> None:
        self.by_row: dict[int, dict[str, str]] = {}

    def note(
        self, bad: pa.Array, column: str, message: Callable[[int], str] | str, rows: "np.ndarray[Any, Any] | None" = None
    ) -> None:
        """Note a message for every row that `bad` marks; it says what was expected and what was found.

        Where only some rows have been looked at, `rows` are their places; the message takes the place among them.
        """
        for index in pc.indices_nonzero(bad).to_pylist():
            text = message if isinstance(message, str) else message(index)
            row = index if rows is None else int(rows[index])
            self.by_row.setdefault(row, {}).setdefault(column, f"{column}: {text}")

    def is_good(self, n_rows: int) -> pa.Array:
        """A mask of the rows with no finding."""
        mask = np.ones(n_rows, dtype=bool)
        mask[list(self.by_row)] = False
        return pa.array(mask)

    def rejects(self, rows: RawRows, limits: Reading) -> tuple[Reject, ...]:
        """The rows with findings, and those that were broken from the start, in the order of the object."""
        judged = [
            Reject(
                row_number=int(rows.numbers[index]),
                review_id=readable_id(value_at(rows.column("review_id"), index), limits),
                reason="; ".join(reasons.values()),
                raw=to_raw({name: value_at(column, index) for name, column in rows.columns.items()}, limits),
            )
            for index, reasons in self.by_row.items()
        ]
        return tuple(sorted((*judged, *rows.rejects), key=lambda reject: reject.row_number))


def value_at(column: pa.Array, index: int) -> Any:
    """One value as Python has it; bytes where it is not valid text, text where Python has no such time."""
    scalar = column[index]
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.cast(pa.large_binary(), safe=False).as_py()
    except (ValueError, OverflowError, KeyError):  # a year 12000, nanoseconds, a time zone that nobody knows
        return f"{scalar.value} {getattr(scalar.type, 'unit', 'days')} since 1970"


def fits(column: Column, kind: pa.DataType) -> bool:
    """Whether values of an Arrow type can be read as the column at all."""
    if pa.types.is_dictionary(kind):
        return fits(column, kind.value_type)
    if pa.types.is_null(kind) or is_text(kind):
        return True
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    match column.kind:
        case "identifier":
            return bool(is_number and not (pa.types.is_decimal(kind) and kind.scale))
        case "rating":
            return bool(is_number)
        case "time":
            return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))
        case other:
            return bool(other in ("any", "label") and not pa.types.is_nested(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether values of an Arrow type are strings, or bytes that may be one."""
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(kind) for test in tests) or _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def strings(rows: RawRows, name: str, findings: Findings) -> pa.Array:
    """A column as large strings; whole numbers become their digits, what is not valid UTF-8 a finding and null."""
    array = rows.column(name)
    if pa.types.is_floating(array.type):
        return _whole_numbers(array, name, findings)
    if not is_text(array.type):
        return array.cast(pa.large_string())
    try:
        # Strings too: a Parquet file may call bytes a string without being true to it.
        return array.cast(pa.large_binary()).cast(pa.large_string())
    except pa.ArrowInvalid:
        values = [_decode(value) for value in array.cast(pa.large_binary()).to_pylist()]
        is_bad = pa.array([isinstance(value, bytes) for value in values])
        findings.note(is_bad, name, lambda index: f"expected valid UTF-8, found the bytes {shown(values[index])}")
        return pa.array([None if isinstance(value, bytes) else value for value in values], pa.large_string())


def string_buffers(array: pa.LargeStringArray) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
    """Offsets (one more than values) and bytes of a column of large strings, as they lie in memory.

    >>> [part.tolist() for part in string_buffers(pa.array(["no", "a", "b"], pa.large_string()).slice(1))]
    [[0, 1, 2], [97, 98]]
    """
    _, places, data = array.buffers()
    offsets = np.frombuffer(places, np.int64)[array.offset : array.offset + len(array) + 1] if places else np.zeros(1, np.int64)
    offsets = offsets if len(offsets) else np.zeros(1, np.int64)
    content = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]] if data else np.zeros(0, np.uint8)
    return offsets - offsets[0], content


def _decode(value: bytes | None) -> str | bytes | None:
    """The text, or where it is none the bytes from its first mistake on."""
    try:
        return value if value is None else value.decode("utf-8")
    except UnicodeDecodeError as error:
        return bytes(error.object[error.start : error.start + 8])


def _whole_numbers(array: pa.Array, name: str, findings: Findings) -> pa.Array:
    array = _without_nan(array.cast(pa.float64()))
    is_whole = pc.and_(pc.equal(array, pc.floor(array)), pc.less(pc.abs(array), MAX_WHOLE_FLOAT))
    findings.note(pc.invert(is_whole), name, lambda index: f"expected a string or a whole number, found {array[index].as_py()}")
    return pc.if_else(is_whole, array, None).cast(pa.int64()).cast(pa.large_string())


def _without_nan(array: pa.Array) -> pa.Array:
    # pandas writes a missing number as NaN.
    return pc.if_else(pc.is_nan(array), None, array)


def ratings(rows: RawRows, name: str, findings: Findings) -> pa.Array:
    """A column as int8 between 1 and 5; empty and NaN count as null, anything else is a finding."""
    array = rows.column(name)
    if is_text(array.type):
        array = _trimmed(rows, name, findings)
        is_good = pc.match_substring_regex(array, _RATING)
        digits = pc.if_else(is_good, pc.utf8_slice_codeunits(array, 0, 1), None)
    else:
        array = _without_nan(array.cast(pa.float64(), safe=False))
        is_good = pc.is_in(array, pa.array([1.0, 2.0, 3.0, 4.0, 5.0]))
        digits = pc.if_else(is_good, array, None)
    is_bad = pc.and_(pc.is_valid(array), pc.invert(is_good))
    findings.note(is_bad, name, lambda index: f"expected {RATING_EXPECTED}, found {shown(array[index].as_py())}")
    return digits.cast(pa.int8())


def times(rows: RawRows, name: str, findings: Findings) -> pa.Array:
    """A column as UTC timestamps in microseconds; naive ones mean UTC, empty ones null, others are a finding."""
    raw = rows.column(name)
    if is_text(raw.type):
        raw = _trimmed(rows, name, findings)
        result = _parsed(raw)
    else:
        result = _in_microseconds(raw)
    is_bad = pc.and_(pc.is_valid(raw), pc.is_null(result))
    findings.note(is_bad, name, lambda index: f"expected {TIME_EXPECTED}, found {shown(value_at(raw, index))}")
    return result


def _trimmed(rows: RawRows, name: str, findings: Findings) -> pa.Array:
    array = pc.utf8_trim_whitespace(strings(rows, name, findings))
    return pc.if_else(pc.equal(array, ""), None, array)


def _parsed(array: pa.Array) -> pa.Array:
    looks_right = pc.match_substring_regex(array, _ISO_TIME)
    is_zoned = pc.match_substring_regex(array, _ZONED)
    zoned = pc.if_else(pc.and_(looks_right, is_zoned), array, None)
    naive = pc.if_else(pc.and_(looks_right, pc.invert(is_zoned)), array, None)
    try:
        # In UTC a time of the year 9999 may be one of the year 10000, which Python does not know.
        return _in_microseconds(pc.coalesce(zoned.cast(schema.TIMESTAMP), naive.cast(pa.timestamp("us")).cast(schema.TIMESTAMP)))
    except pa.ArrowInvalid:
        # A 30th of February, or nanoseconds: one such value spoils the cast of all.
        candidates = pc.if_else(looks_right, array, None).to_pylist()
        return pa.array([_parse_one(value) for value in candidates], schema.TIMESTAMP)


def _parse_one(value: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value or "")
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _in_microseconds(array: pa.Array) -> pa.Array:
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("s" if array.type == pa.date32() else "ms"))
    if pa.types.is_null(array.type):
        return array.cast(schema.TIMESTAMP)
    seconds = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[array.type.unit]
    ticks = array.cast(pa.int64())
    lowest, highest = (max(-(1 << 63), min((1 << 63) - 1, edge * seconds)) for edge in (_MIN_SECONDS, _MAX_SECONDS))
    is_sane = pc.and_(pc.greater_equal(ticks, lowest), pc.less(ticks, highest))
    # safe=False cuts nanoseconds off instead of refusing them; nothing that is left can overflow.
    return pc.if_else(is_sane, array, None).cast(schema.TIMESTAMP, safe=False)
