"""Thrift's compact protocol, read only: as much of it as the headers of a Parquet file are written in.

For looking at a file before a library is let at it, so that everything is checked: every length against what is there,
and every depth. A struct becomes a dict from field number to value. Source: Apache Thrift, "Thrift Compact protocol
encoding" (doc/specs/thrift-compact-protocol.md).
"""

from typing import Any

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = range(1, 14)
# Of what has a fixed width; the truth of a field stands in its header, in a list it has a byte.
_WIDTHS = {_TRUE: 1, _FALSE: 1, _BYTE: 1, _DOUBLE: 8, _UUID: 16}
_MAX_DEPTH = 32  # Parquet's own headers nest six deep
_MAX_VARINT_BITS = 70

Struct = dict[int, Any]


class Malformed(ValueError):
    """These bytes are no struct, or it ends beyond them."""


def read_struct(data: bytes, position: int = 0) -> tuple[Struct, int]:
    """The struct that starts at a position, and where it ends; raises Malformed.

    >>> read_struct(bytes([0x15, 0x0E, 0x18, 0x02, 0x68, 0x69, 0x00]))
    ({1: 7, 2: b'hi'}, 7)
    """
    try:
        return _Reader(data).struct(position, 0)
    except IndexError as error:
        raise Malformed("ends too early") from error


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def struct(self, position: int, depth: int) -> tuple[Struct, int]:
        if depth > _MAX_DEPTH:
            raise Malformed("nested too deeply")
        fields: Struct = {}
        number = 0
        while header := self._data[position]:
            position += 1
            kind = header & 0x0F
            if header >> 4:
                number += header >> 4
            else:
                number, position = self._zigzag(position)
            if kind in (_TRUE, _FALSE):
                fields[number] = kind == _TRUE
            else:
                fields[number], position = self._value(kind, position, depth)
        return fields, position + 1

    def _value(self, kind: int, position: int, depth: int) -> tuple[Any, int]:
        if kind in (_I16, _I32, _I64):
            return self._zigzag(position)
        if kind == _BINARY:
            size, position = self._size(position)
            return self._data[position : position + size], position + size
        if kind == _STRUCT:
            return self.struct(position, depth + 1)
        if kind in (_LIST, _SET):
            return self._list(position, depth + 1)
        if kind == _MAP:
            return self._map(position, depth + 1)
        if (end := position + _WIDTHS.get(kind, 0)) > position:
            return self._data[position:end], self._within(end)
        raise Malformed(f"no type {kind}")

    def _list(self, position: int, depth: int) -> tuple[list[Any], int]:
        header = self._data[position]
        size, position = (header >> 4, position + 1) if header >> 4 < 15 else self._size(position + 1)  # noqa: PLR2004
        values = []
        for _ in range(size):
            value, position = self._value(header & 0x0F, position, depth)
            values.append(value)
        return values, position

    def _map(self, position: int, depth: int) -> tuple[list[Any], int]:
        size, position = self._size(position)
        pairs: list[Any] = []
        if not size:
            return pairs, position
        kinds, position = self._data[position], position + 1
        for _ in range(size):
            key, position = self._value(kinds >> 4, position, depth)
            value, position = self._value(kinds & 0x0F, position, depth)
            pairs.append((key, value))
        return pairs, position

    def _size(self, position: int) -> tuple[int, int]:
        """A length, of bytes or of values, each of which takes a byte at least."""
        size, position = self._varint(position)
        self._within(position + size)
        return size, position

    def _within(self, position: int) -> int:
        if position > len(self._data):
            raise Malformed("ends too early")
        return position

    def _zigzag(self, position: int) -> tuple[int, int]:
        value, position = self._varint(position)
        return (value >> 1) ^ -(value & 1), position

    def _varint(self, position: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = self._data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 (the highest bit says that more follows)
                return value, position
            shift += 7
            if shift > _MAX_VARINT_BITS:
                raise Malformed("a number without an end")
