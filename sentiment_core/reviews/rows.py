"""What a reader of a format is asked for, and what it gives: rows as they were sent, numbered, not yet judged.

The common ground of `parquet`, `delimited` and `jsonlines` below `formats`. No format and no rule of a column here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from sentiment_core.domain import Reject
from sentiment_core.errors import Permanent
from sentiment_core.policy import Reading

# Bytes taken at a time. Larger blocks are not quicker; with the rows they become, a block costs about four times this.
BLOCK_BYTES = 8 << 20
_MAX_SHOWN = 42


class UnreadableObject(Permanent):
    """The object as a whole cannot be read; none of its rows counts."""

    def __init__(self, key: str, *, expected: str, found: str) -> None:
        super().__init__(f"object {key}", expected=expected, found=found, remedy="correct the file and deliver it again")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column that the contract names."""

    name: str
    kind: Literal["text", "identifier", "rating", "time", "any", "label"]
    """any: carried along as it came, numbers of JSON as their digits; label: the same, true and false too."""
    is_required: bool = False


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to take out of an object."""

    key: str
    columns: tuple[Column, ...]
    limits: Reading
    any_of: tuple[str, ...] = ()
    """Of these columns at least one has to be there."""
    block_bytes: int = BLOCK_BYTES

    @property
    def max_row_bytes(self) -> int:
        """No valid row is longer: a character takes at most twelve bytes, as a JSON surrogate pair."""
        return 12 * self.limits.max_text_chars + (1 << 20)

    def check_width(self, n_columns: int) -> None:
        """Raise UnreadableObject for more columns than the limits allow."""
        if n_columns > self.limits.max_columns:
            raise UnreadableObject(self.key, expected=f"at most {self.limits.max_columns:,} columns", found=f"{n_columns:,}")

    def place(self, names: Sequence[str]) -> dict[str, int]:
        """Where the asked columns stand among the object's; raises UnreadableObject naming what is missing or double."""
        self.check_width(len(names))
        asked = [column.name for column in self.columns]
        found = ", ".join(shown(name) for name in names[:20]) or "no columns"
        for name in asked:
            if names.count(name) > 1:
                raise UnreadableObject(self.key, expected=f"one column {name}", found=f"{names.count(name)} of them")
        missing = [column.name for column in self.columns if column.is_required and column.name not in names]
        if missing:
            raise UnreadableObject(self.key, expected=f"a column {' and a column '.join(missing)}", found=found)
        if self.any_of and not set(self.any_of) & set(names):
            raise UnreadableObject(self.key, expected=f"a column {' or '.join(self.any_of)}", found=found)
        return {name: names.index(name) for name in asked if name in names}


@dataclass(frozen=True, kw_only=True)
class RawRows:
    """Consecutive rows of an object as sent, and those among them that no column can hold."""

    numbers: "np.ndarray[Any, np.dtype[np.int64]]"
    """Place of each row in the object, from 0, counting the rejects too."""
    columns: dict[str, pa.Array]
    """The asked columns that are there, of whatever Arrow type they came in."""
    rejects: tuple[Reject, ...] = ()
    n_ignored_columns: int = 0

    def column(self, name: str) -> pa.Array:
        """A column, all nulls where the object has none."""
        return self.columns.get(name, pa.nulls(len(self.numbers)))


def broken_row(number: int, raw: bytes, reason: str, limits: Reading) -> Reject:
    """The reject of a row that could not be taken apart."""
    # One character takes at most four bytes, so that a long row is not decoded whole.
    text = raw[: 4 * limits.raw_chars].decode("utf-8", errors="backslashreplace")
    return Reject(row_number=number, review_id=None, reason=f"row: {reason}", raw=to_raw(text, limits))


def to_raw(value: Any, limits: Reading) -> str:
    """A value as JSON, cut; NULs, lone surrogates and invalid bytes are escaped, so that it can be stored anywhere."""
    return json.dumps(_plain(value, limits.raw_chars), ensure_ascii=False, default=str)[: limits.raw_chars]


def _plain(value: Any, max_chars: int) -> Any:
    if isinstance(value, dict):
        return {_plain(name, max_chars): _plain(item, max_chars) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, max_chars) for item in value]
    if isinstance(value, bytes):
        return value[: 4 * max_chars].decode("utf-8", errors="backslashreplace")[:max_chars]
    if isinstance(value, str):
        return value[:max_chars].encode("utf-8", errors="backslashreplace").decode("utf-8")
    return value


def readable_id(value: Any, limits: Reading) -> str | None:
    """The id of a rejected row as it can be stored: cut, and with escapes for what does not print."""
    if value is None or isinstance(value, dict | list):
        return None
    text = value[: 4 * limits.max_id_chars].decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[: limits.max_id_chars]) or None


def shown(value: Any) -> str:
    """A value in a message: short and printable, whatever it holds.

    >>> shown("a text that is much too long to be shown whole in a message")
    "'a text that is much too long to be sho..."
    """
    text = repr(value[:_MAX_SHOWN] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
