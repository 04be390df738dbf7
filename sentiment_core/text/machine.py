"""What numba does not offer and the kernel needs: loads of 8 and 64 bytes, bit counts, prefetching.

Each is a few instructions of LLVM, written once here. Nothing here knows of texts. Callers answer for the bounds: a
load reads as many bytes as its name says from the index on.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_LANES = ir.VectorType(_I8, 64)
N_CLASSES = 9
"""What `classify64` gives, in order: word, space, upper, letter, wide, continuation, less-than, greater-than, apostrophe."""


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return cgutils.get_item_pointer(context, builder, signature.args[0], array, [arguments[1]], wraparound=False)


@intrinsic
def load_u64(_typing: Any, data: Any, index: Any) -> Any:
    """Eight bytes of a uint8 array from an index on, as one little-endian integer."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.bitcast(_pointer(context, builder, signature, arguments), _I64.as_pointer())
        return builder.load(place, align=1)

    return types.uint64(data, index), code


@intrinsic
def prefetch(_typing: Any, data: Any, index: Any) -> Any:
    """Ask for the cache line of an element that will be read soon."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.bitcast(_pointer(context, builder, signature, arguments), _I8.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # read, keep in all levels, data
        builder.call(ask, [place, ir.Constant(_I32, 0), ir.Constant(_I32, 3), ir.Constant(_I32, 1)])
        return context.get_dummy_value()

    return types.void(data, index), code


@intrinsic
def lowest_bit(_typing: Any, _mask: Any) -> Any:
    """Place of the lowest bit that is set; 64 when none is."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), code


@intrinsic
def n_bits(_typing: Any, _mask: Any) -> Any:
    """How many bits are set."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), code


@intrinsic
def classify64(_typing: Any, data: Any, index: Any) -> Any:
    """Masks over 64 bytes, one bit a byte, of the ASCII classes that `N_CLASSES` lists; wide is every byte from 0x80 on."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.bitcast(_pointer(context, builder, signature, arguments), _LANES.as_pointer())
        block = builder.load(place, align=1)

        def all_lanes(value: int) -> Any:
            return ir.Constant(_LANES, [value] * 64)

        def within(lanes: Any, first: int, last: int) -> Any:  # one subtraction and one comparison, unsigned
            return builder.icmp_unsigned("<=", builder.sub(lanes, all_lanes(first)), all_lanes(last - first))

        def equal(value: int) -> Any:
            return builder.icmp_unsigned("==", block, all_lanes(value))

        letter = within(builder.or_(block, all_lanes(0x20)), ord("a"), ord("z"))
        word = builder.or_(letter, builder.or_(within(block, ord("0"), ord("9")), equal(ord("_"))))
        # What str.isspace says of ASCII: tab to carriage return, the four separators, blank.
        space = builder.or_(builder.or_(within(block, 9, 13), within(block, 0x1C, 0x1F)), equal(ord(" ")))
        masks = [
            word,
            space,
            within(block, ord("A"), ord("Z")),
            letter,
            builder.icmp_unsigned(">=", block, all_lanes(0x80)),
            within(block, 0x80, 0xBF),
            equal(ord("<")),
            equal(ord(">")),
            equal(ord("'")),
        ]
        return context.make_tuple(builder, signature.return_type, [builder.bitcast(mask, _I64) for mask in masks])

    return types.UniTuple(types.uint64, N_CLASSES)(data, index), code
