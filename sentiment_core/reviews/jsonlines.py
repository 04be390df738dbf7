"""Rows of JSON lines: one line, one object; a line that is none is one reject.

What is clean is read by the block (`jsonblocks`); here is what it means line by line, and how to go on after a bad one.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from sentiment_core.domain import Reject
from sentiment_core.reviews.columns import MAX_WHOLE_FLOAT
from sentiment_core.reviews.jsonblocks import MAX_NAMES, Block, Types, parse_lines
from sentiment_core.reviews.rows import Column, RawRows, Request, UnreadableObject, broken_row, readable_id, shown

# Half a character: JSON can spell it, no encoding can hold it.
_SURROGATE = re.compile("[\ud800-\udfff]")
_BOM = b"\xef\xbb\xbf"
# Names of ignored columns that are remembered, so as to count each once; a file that makes up names is not followed.
_MAX_IGNORED = 10_000
# Below this the json module is done before Arrow has begun.
_MIN_BYTES = 1 << 15
_KINDS = {dict: "an object", list: "a list", bool: "a boolean", str: "a string", int: "a number", float: "a number"}


def read_json_lines(stream: BinaryIO, request: Request) -> Iterator[RawRows]:
    """The rows; blank lines are none. Raises UnreadableObject for an object without a byte."""
    reader = _Reader(request)
    for block in _whole_lines(stream, request):
        for piece in _pieces(block, request.limits.batch_rows):
            rows = reader.take(piece)
            if len(rows.numbers) or rows.rejects:
                yield rows


def _whole_lines(stream: BinaryIO, request: Request) -> Iterator[bytes]:
    """The lines, a block at a time; of one that is too long only so much that its length shows."""
    is_skipping, rest = False, b""
    block = stream.read(request.block_bytes)
    if not block:
        raise UnreadableObject(request.key, expected="JSON lines", found="an empty object (0 bytes)")
    while len(block) < len(_BOM) and (more := stream.read(request.block_bytes)):
        block += more
    block = block.removeprefix(_BOM)
    while True:
        if is_skipping:
            _, newline, block = block.partition(b"\n")
            is_skipping = not newline
        end = block.rfind(b"\n") + 1
        lines = b"".join([rest, memoryview(block)[:end]]) if end else b""
        rest = block[end:] if end else rest + block
        if len(rest) > request.max_row_bytes:
            lines, rest, is_skipping = lines + rest, b"", True
        if lines:
            yield lines
        block = stream.read(request.block_bytes)
        if not block:
            break
    if rest:
        yield rest


def _pieces(block: bytes, n_lines: int) -> Iterator[pa.Buffer]:
    """The block in parts of so many lines, none of them copied."""
    breaks = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))[n_lines - 1 :: n_lines] + 1
    buffer = pa.py_buffer(block)
    for start, end in pairwise([0, *breaks.tolist(), len(block)]):
        if start < end:
            yield buffer.slice(start, end - start)


@dataclass
class _Reader:
    request: Request
    n_rows: int = 0
    ignored: set[str] = field(default_factory=set)
    types: Types = field(default_factory=dict)

    def take(self, piece: pa.Buffer) -> RawRows:
        """Decode some lines, together if they are clean."""
        is_long = piece.size >= _MIN_BYTES and len(self.ignored) < MAX_NAMES
        block = parse_lines(piece, self.request, self.types) if is_long else None
        return self.take_lines(piece.to_pybytes().split(b"\n")) if block is None else self.take_block(block)

    def take_block(self, block: Block) -> RawRows:
        """Number the rows of a clean block."""
        if len(self.ignored) < _MAX_IGNORED:
            self.ignored |= block.ignored
        self.n_rows += block.n_rows
        return RawRows(
            numbers=np.arange(self.n_rows - block.n_rows, self.n_rows),
            columns=block.columns,
            n_ignored_columns=min(len(self.ignored), _MAX_IGNORED),
        )

    def take_lines(self, lines: list[bytes]) -> RawRows:
        """Decode lines one by one."""
        asked = {column.name for column in self.request.columns}
        numbers: list[int] = []
        objects: list[dict[str, Any]] = []
        kept: list[bytes] = []
        rejects: list[Reject] = []
        for line in lines:
            if not line or line.isspace():
                continue
            value = self._decode(line)
            if isinstance(value, dict):
                numbers.append(self.n_rows)
                # No more than is asked for: a line of some megabytes can hold millions of empty lists.
                objects.append({name: _flat(value[name]) for name in asked & value.keys()})
                kept.append(line)
                if not asked.issuperset(value) and len(self.ignored) < _MAX_IGNORED:
                    self.ignored.update(value.keys() - asked)
            else:
                rejects.append(broken_row(self.n_rows, line, value, self.request.limits))
            self.n_rows += 1
        columns, problems = self._columns(objects)
        limits = self.request.limits
        for index, problem in problems.items():
            # The line is JSON itself. Past the limit nothing of it is kept, and a character takes at most four bytes.
            raw = kept[index][: 4 * limits.raw_chars].decode("utf-8", errors="ignore")[: limits.raw_chars]
            review_id = readable_id(objects[index].get("review_id"), limits)
            rejects.append(Reject(row_number=numbers[index], review_id=review_id, reason=problem, raw=raw))
        is_good = np.ones(len(objects), dtype=bool)
        is_good[list(problems)] = False
        mask = pa.array(is_good)
        return RawRows(
            numbers=np.asarray(numbers, dtype=np.int64)[is_good],
            columns={name: array.filter(mask) for name, array in columns.items()},
            rejects=tuple(rejects),
            n_ignored_columns=min(len(self.ignored), _MAX_IGNORED),
        )

    def _decode(self, line: bytes) -> dict[str, Any] | str:
        """The object, or what is wrong with the line."""
        if len(line) > self.request.max_row_bytes:
            return f"expected at most {self.request.max_row_bytes:,} bytes, found more"
        try:
            value = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            return f"expected valid UTF-8, found {shown(line[error.start : error.start + 8])} at byte {error.start}"
        except RecursionError:
            return "expected a JSON object, found one nested too deeply"
        except MemoryError:
            return "expected a JSON object, found one that takes too much memory"
        except ValueError as error:
            return f"expected a JSON object, found {shown(line.strip())} ({error})"
        return value if isinstance(value, dict) else f"expected a JSON object, found {_kind(value)}"

    def _columns(self, objects: list[dict[str, Any]]) -> tuple[dict[str, pa.Array], dict[int, str]]:
        """The asked columns, and by row what no column can hold."""
        columns: dict[str, pa.Array] = {}
        problems: dict[int, str] = {}
        for column in self.request.columns:
            values = [item.get(column.name) for item in objects]
            try:
                columns[column.name] = pa.array(values, pa.large_string())
            except (pa.ArrowException, UnicodeEncodeError):
                columns[column.name] = pa.array(_as_texts(values, column, problems), pa.large_string())
        return columns, problems


def _flat(value: Any) -> Any:
    """A value without what is in it: only of which kind it is will be told."""
    return type(value)() if isinstance(value, dict | list) else value


def _as_texts(values: list[Any], column: Column, problems: dict[int, str]) -> list[str | None]:
    """Values as the texts that `columns` reads, noting what is none."""
    texts = [_as_text(value, column) for value in values]
    for index, (value, text) in enumerate(zip(values, texts, strict=True)):
        if text is None and value is not None and not _is_nan(value):
            expected = "a time as a string" if column.kind == "time" else "a string of valid text"
            found = shown(value) if isinstance(value, int | float | str) else _kind(value)
            problems.setdefault(index, f"{column.name}: expected {expected}, found {found}")
    return texts


def _as_text(value: Any, column: Column) -> str | None:
    if isinstance(value, str):
        return value if value.isascii() or not _SURROGATE.search(value) else None
    if isinstance(value, bool):
        return str(value).lower() if column.kind == "label" else None
    if column.kind not in ("identifier", "rating", "any", "label"):
        return None
    if isinstance(value, float) and column.kind == "identifier":
        return str(int(value)) if value.is_integer() and abs(value) < MAX_WHOLE_FLOAT else None
    return str(value) if isinstance(value, int | float) and not _is_nan(value) else None


def _is_nan(value: Any) -> bool:
    # json.dumps writes a missing number as NaN.
    return isinstance(value, float) and math.isnan(value)


def _kind(value: Any) -> str:
    return "null" if value is None else _KINDS[type(value)]
