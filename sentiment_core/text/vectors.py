"""Selections: eight or sixteen tokens or terms at once, those that are wanted moved together, with AVX-512.

The kernel's loops over tokens and terms decide about each what nobody foretells; a processor that guesses at branches, or
waits for a store before the next load, takes several times as long for them. Each function here is so many turns of one of
those loops, as vector instructions of LLVM. They need a processor that moves chosen elements of a vector together
(`CAN_SELECT`); for all others the kernel has the loop itself, and both give the same.

Arrays are written from an index on, always by a whole vector: what lies behind the chosen elements is overwritten.
Nothing here knows more of texts than the layout of the kernel's arrays.
"""

from typing import Any

from llvmlite import binding, ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from sentiment_core.text.machine import spread


def _features() -> dict[str, bool]:
    """What this processor can do; nothing where LLVM cannot tell."""
    try:
        return dict(binding.get_host_cpu_features())
    except RuntimeError:
        return {}


# Where LLVM would take a selection apart into branches, a loop without any is quicker.
CAN_SELECT = (config.CPU_NAME, config.CPU_FEATURES, bool(config.ENABLE_AVX)) == (None, None, True) and all(
    _features().get(name) for name in ("avx512f", "avx512dq", "avx512bw", "avx512vbmi2")
)
"""Whether this processor moves chosen elements of a vector together."""

# Of the hash: 2^64 / golden ratio, which spreads consecutive keys (Knuth, 6.4), and the finaliser of splitmix64
# (Steele et al. 2014).
GOLD, MIX1, MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

_I1, _I8, _I32, _I64 = (ir.IntType(width) for width in (1, 8, 32, 64))
_BYTES, _NARROW, _WIDE = ir.VectorType(_I8, 64), ir.VectorType(_I32, 16), ir.VectorType(_I64, 8)
_EIGHT_NARROW = ir.VectorType(_I32, 8)
_i64, _u64 = types.int64, types.uint64


class _Code:
    """What the intrinsics have in common: arguments by their place, loads, gathers and selections of whole vectors."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.context, self.builder, self.signature, self.arguments = context, builder, signature, arguments

    def number(self, place: int) -> Any:
        return self.arguments[place]

    def array(self, place: int) -> Any:
        """Where the array at a place of the arguments begins."""
        return self.context.make_array(self.signature.args[place])(self.context, self.builder, self.arguments[place]).data

    def all(self, value: Any, kind: Any = _WIDE) -> Any:
        """A vector of one value in every lane: a Python integer or one of the function's own."""
        if isinstance(value, int):
            return ir.Constant(kind, [value] * kind.count)
        return spread(self.builder, self.builder.trunc(value, kind.element) if value.type != kind.element else value, kind.count)

    def load(self, array: int, index: Any, kind: Any) -> Any:
        place = self.builder.gep(self.array(array), [index])
        return self.builder.load(self.builder.bitcast(place, kind.as_pointer()), align=kind.element.width // 8)

    def store(self, values: Any, array: int, index: Any) -> None:
        place = self.builder.gep(self.array(array), [index])
        align = values.type.element.width // 8
        self.builder.store(values, self.builder.bitcast(place, values.type.as_pointer()), align=align)

    def gather(self, begin: Any, places: Any, scale: int, chosen: Any = None) -> Any:
        """The elements at places (times a scale, in bytes) behind an address; zeros where they are not chosen."""
        kind = places.type
        chosen = self.all(1, ir.VectorType(_I1, kind.count)) if chosen is None else chosen
        form = "qpq" if kind.element == _I64 else "dpi"
        call = self._function(f"llvm.x86.avx512.mask.gather.{form}.512", kind, [kind, _I8.as_pointer(), kind, chosen.type, _I32])
        begin = self.builder.bitcast(begin, _I8.as_pointer())
        return self.builder.call(call, [ir.Constant(kind, None), begin, places, chosen, ir.Constant(_I32, scale)])

    def scatter(self, values: Any, begin: Any, places: Any, chosen: Any) -> None:
        """The chosen of sixteen int32 to places behind an address; of several for one place the last stays."""
        arguments = [_I8.as_pointer(), chosen.type, _NARROW, _NARROW, _I32]
        call = self._function("llvm.x86.avx512.mask.scatter.dpi.512", ir.VoidType(), arguments)
        begin = self.builder.bitcast(begin, _I8.as_pointer())
        self.builder.call(call, [begin, chosen, places, values, ir.Constant(_I32, 4)])

    def pairs(self, addresses: list[Any]) -> tuple[Any, Any]:
        """The two integers of 64 bits behind each of eight addresses: the first of all, and the second of all.

        Eight loads that are put together: a gather takes several times as long on processors that make it of small steps.
        """
        b, twin = self.builder, ir.VectorType(_I64, 2)
        parts = [b.load(b.bitcast(address, twin.as_pointer()), align=1) for address in addresses]
        while len(parts) > 2:
            parts = [self._chained(left, right) for left, right in zip(parts[::2], parts[1::2], strict=True)]
        first, second = (ir.Constant(ir.VectorType(_I32, 8), list(range(side, 16, 2))) for side in (0, 1))
        return b.shuffle_vector(*parts, first), b.shuffle_vector(*parts, second)

    def _chained(self, left: Any, right: Any) -> Any:
        n = 2 * left.type.count
        return self.builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(_I32, n), list(range(n))))

    def together(self, values: Any, chosen: Any) -> Any:
        """The chosen elements of a vector, moved to its beginning."""
        kind = values.type
        name = f"llvm.x86.avx512.mask.compress.v{kind.count}i{kind.element.width}"
        return self.builder.call(self._function(name, kind, [kind, kind, chosen.type]), [values, ir.Constant(kind, None), chosen])

    def put(self, values: Any, chosen: Any, array: int, index: Any) -> Any:
        """The chosen elements into an array from an index on; returns how many."""
        self.store(self.together(values, chosen), array, index)
        return self.count(chosen)

    def count(self, chosen: Any) -> Any:
        return self.builder.zext(self.builder.ctpop(self.builder.bitcast(chosen, ir.IntType(chosen.type.count))), _I64)

    def bits(self, chosen: Any) -> Any:
        return self.builder.zext(self.builder.bitcast(chosen, ir.IntType(chosen.type.count)), _I64)

    def chosen(self, bits: Any) -> Any:
        return self.builder.bitcast(self.builder.trunc(bits, _I8), ir.VectorType(_I1, 8))

    def result(self, values: list[Any]) -> Any:
        return self.context.make_tuple(self.builder, self.signature.return_type, values)

    def _function(self, name: str, result: Any, arguments: list[Any]) -> Any:
        return cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, arguments), name)


@intrinsic
def put_places(_typing: Any, _mask: Any, _base: Any, out: Any, at: Any) -> Any:
    """The places of a mask's bits, each plus a base, into an int32 array; returns how many. Writes 32, or 64 where more are set."""

    def code(*given: Any) -> Any:
        c = _Code(*given)
        b, mask = c.builder, c.number(0)
        places = c.together(ir.Constant(_BYTES, list(range(64))), b.bitcast(mask, ir.VectorType(_I1, 64)))

        def put(quarter: int) -> None:
            which = ir.Constant(_NARROW, list(range(16 * quarter, 16 * quarter + 16)))
            part = b.zext(b.shuffle_vector(places, ir.Constant(_BYTES, ir.Undefined), which), _NARROW)
            c.store(b.add(part, c.all(c.number(1), _NARROW)), 2, b.add(c.number(3), ir.Constant(_I64, 16 * quarter)))

        put(0)
        put(1)
        n = b.ctpop(mask)
        with b.if_then(b.icmp_unsigned(">", n, ir.Constant(_I64, 32)), likely=False):
            put(2)
            put(3)
        return n

    return _i64(_u64, _i64, out, at), code


@intrinsic
def put_below(_typing: Any, values: Any, index: Any, _limit: Any, out: Any, at: Any) -> Any:
    """Of 16 int32 from an index on, those from 0 to below a limit into another array; returns how many."""

    def code(*given: Any) -> Any:
        c = _Code(*given)
        found = c.load(0, c.number(1), _NARROW)
        return c.put(found, c.builder.icmp_unsigned("<", found, c.all(c.number(2), _NARROW)), 3, c.number(4))

    return _i64(values, index, _i64, out, at), code


@intrinsic
def put_square(_typing: Any, ids: Any, index: Any, _bits: Any, square: Any, out: Any, at: Any) -> Any:
    """What a square of 2^bits rows and columns holds for 16 pairs of int32 from an index on, less 1; returns how many.

    A pair is two neighbours, row and column; one whose place holds 0, or that lies outside the square, is left out.
    """

    def code(*given: Any) -> Any:
        c = _Code(*given)
        b = c.builder
        row, column = (c.load(0, b.add(c.number(1), ir.Constant(_I64, k)), _NARROW) for k in (0, 1))
        size = b.shl(ir.Constant(_I64, 1), c.number(2))
        is_inside = b.icmp_unsigned("<", b.or_(row, column), c.all(size, _NARROW))
        found = c.gather(c.array(3), b.or_(b.shl(row, c.all(c.number(2), _NARROW)), column), 4, is_inside)
        is_some = b.icmp_unsigned("!=", found, c.all(0, _NARROW))
        return c.put(b.sub(found, c.all(1, _NARROW)), is_some, 4, c.number(5))

    return _i64(ids, index, _i64, square, out, at), code


@intrinsic
def put_known(
    _typing: Any, ids: Any, index: Any, _is_three: Any, _least: Any, _id_bits: Any, _factor: Any, _mask: Any, _shift: Any,
    bits: Any, out: Any, at: Any,
) -> Any:  # fmt: skip
    """Of the hashed keys of 8 runs of ids, those whose bit in a filter is set; returns how many.

    The k-th run is two int32 from index + k on (three where `_is_three` is 1); its key their ids + 1, `_id_bits` each, times
    a factor and under a mask; its bit that of the number key >> `_shift`. A run with a negative id has none, nor has one
    whose first two ids, bits put together, are below `_least`.
    """

    def code(*given: Any) -> Any:
        c = _Code(*given)
        b = c.builder
        ids = [b.sext(c.load(0, b.add(c.number(1), ir.Constant(_I64, k)), _EIGHT_NARROW), _WIDE) for k in range(3)]
        first, second, third = (b.add(value, c.all(1)) for value in ids)
        is_three = c.all(b.trunc(c.number(2), _I1), ir.VectorType(_I1, 8))
        pairs = b.or_(b.shl(first, c.all(c.number(4))), second)
        keys = b.select(is_three, b.or_(b.shl(pairs, c.all(c.number(4))), third), pairs)
        keys = b.and_(b.mul(keys, c.all(c.number(5))), c.all(c.number(6)))
        numbers = b.lshr(keys, c.all(c.number(7)))
        words = c.gather(c.array(8), b.lshr(numbers, c.all(6)), 8)
        is_set = b.icmp_unsigned("!=", b.and_(b.lshr(words, b.and_(numbers, c.all(63))), c.all(1)), c.all(0))
        is_pair = b.icmp_signed(">=", b.or_(ids[0], ids[1]), c.all(c.number(3)))
        is_run = b.and_(is_pair, b.or_(b.icmp_signed(">=", ids[2], c.all(0)), b.not_(is_three)))
        return c.put(keys, b.and_(is_run, is_set), 9, c.number(10))

    return _i64(ids, index, _i64, _i64, _u64, _u64, _u64, _u64, bits, out, at), code


def _slots(c: _Code) -> tuple[Any, Any, Any, Any, Any]:
    """Of sixteen hits: columns, numbers, which there are, slots, and a value for the slot less the number; see `write_slots`."""
    b, bits = c.builder, c.all(c.number(5), _NARROW)
    columns = c.load(0, c.number(1), _NARROW)
    own = b.add(c.all(c.number(1), _NARROW), ir.Constant(_NARROW, list(range(16))))
    is_there = b.icmp_unsigned("<", own, c.all(c.number(2), _NARROW))
    h = b.mul(columns, c.all(c.number(4), _NARROW))
    return columns, own, is_there, b.lshr(h, b.sub(c.all(32, _NARROW), bits)), b.shl(h, bits)


@intrinsic
def write_slots(_typing: Any, hits: Any, index: Any, _n_hits: Any, slots: Any, _factor: Any, _bits: Any) -> Any:
    """Sixteen turns of the first loop of `kernel._settle`."""

    def code(*given: Any) -> Any:
        c = _Code(*given)
        _, own, is_there, slot, rest = _slots(c)
        c.scatter(c.builder.or_(rest, own), c.array(3), slot, is_there)
        return c.context.get_dummy_value()

    return types.void(hits, index, _i64, slots, _u64, _u64), code


@intrinsic
def read_slots(
    _typing: Any, hits: Any, index: Any, _n_hits: Any, slots: Any, _factor: Any, _bits: Any, distinct: Any, n_distinct: Any,
    again: Any, n_again: Any, left: Any, _n_left: Any,
) -> Any:  # fmt: skip
    """Sixteen turns of the second loop of `kernel._settle`; which are distinct (as bits), how many were met again, and are left."""

    def code(*given: Any) -> Any:
        c = _Code(*given)
        b = c.builder
        columns, own, is_there, slot, rest = _slots(c)
        last = b.xor(c.gather(c.array(3), slot, 4, is_there), rest)
        n_slots = b.shl(c.all(1, _NARROW), c.all(c.number(5), _NARROW))
        is_same = b.and_(is_there, b.icmp_unsigned("<", last, n_slots))
        is_last = b.and_(is_there, b.icmp_unsigned("==", last, own))
        c.put(columns, is_last, 6, c.number(7))
        return c.result([
            c.bits(is_last),
            c.put(last, b.and_(is_same, b.not_(is_last)), 8, c.number(9)),
            c.put(columns, b.and_(is_there, b.not_(is_same)), 10, c.number(11)),
        ])  # fmt: skip

    counts = types.Tuple([_u64, _i64, _i64])
    return counts(hits, index, _i64, slots, _u64, _u64, distinct, n_distinct, again, n_again, left, _i64), code


@intrinsic
def hash8(
    _typing: Any, data: Any, _begin: Any, starts: Any, ends: Any, index: Any, _n: Any, classes: Any, _fold: Any, _seed: Any,
    out: Any,
) -> Any:  # fmt: skip
    """What the memo knows eight tokens by (`kernel._token_hash`), those numbered from an index on, into the same place of `out`.

    Returns which of them are words, and which are longer than the 16 bytes that are looked at (both as bits; a token beyond
    the n-th is neither). 16 bytes from each token's beginning on are read, also from those behind the n-th on.
    """

    def code(*given: Any) -> Any:
        c = _Code(*given)
        b, index = c.builder, c.number(4)
        own = b.add(c.all(index), ir.Constant(_WIDE, list(range(8))))
        is_there = b.icmp_signed("<", own, c.all(c.number(5)))
        first = b.select(is_there, b.zext(c.load(2, index, _EIGHT_NARROW), _WIDE), c.all(0))
        n = b.select(is_there, b.sub(b.zext(c.load(3, index, _EIGHT_NARROW), _WIDE), first), c.all(1))
        classes = c.gather(c.array(6), b.lshr(first, c.all(6)), 8)
        is_word = b.trunc(b.lshr(classes, b.and_(first, c.all(63))), ir.VectorType(_I1, 8))
        fold = b.select(is_word, c.all(c.number(7)), c.all(0))
        text = b.gep(c.array(0), [c.number(1)])

        def begin(k: int) -> Any:
            return b.zext(b.load(b.gep(c.array(2), [b.add(index, ir.Constant(_I64, k))])), _I64)

        fronts, backs = c.pairs([b.gep(text, [begin(k)]) for k in range(8)])

        def clipped(value: Any, least: int, most: int) -> Any:
            value = b.select(b.icmp_signed("<", value, c.all(most)), value, c.all(most))
            return b.select(b.icmp_signed(">", value, c.all(least)), value, c.all(least))

        def folded(value: Any) -> Any:
            return b.or_(value, b.lshr(b.and_(b.not_(value), fold), c.all(2)))

        def mixed(value: Any, factor: int) -> Any:
            return b.mul(b.xor(value, b.lshr(value, c.all(31))), c.all(factor))

        unwanted = b.shl(b.sub(c.all(8), clipped(n, 0, 8)), c.all(3))
        front = b.and_(fronts, b.lshr(c.all(-1), unwanted))
        # Half the shift twice: a shift by all 64 bits is undefined.
        half = b.shl(b.sub(clipped(n, 8, 16), c.all(8)), c.all(2))
        wanted = b.sub(b.shl(b.shl(c.all(1), half), half), c.all(1))
        back = b.and_(backs, wanted)
        h = b.xor(b.mul(n, c.all(GOLD)), c.all(c.number(8)))
        h = b.mul(b.xor(h, folded(front)), c.all(MIX1))
        h = b.mul(b.xor(b.xor(h, b.lshr(h, c.all(31))), folded(back)), c.all(MIX2))
        h = b.or_(mixed(h, GOLD), c.all(1))
        c.store(b.xor(h, b.select(is_word, c.all(0), c.all(GOLD))), 9, index)
        is_long = b.icmp_signed(">", n, c.all(16))
        return c.result([c.bits(b.and_(is_word, is_there)), c.bits(b.and_(is_long, is_there))])

    masks = types.UniTuple(_u64, 2)
    return masks(data, _i64, starts, ends, index, _i64, classes, _u64, _u64, out), code


@intrinsic
def recall8(_typing: Any, memo: Any, hashes: Any, index: Any, _slot_bits: Any, _tag: Any, out: Any) -> Any:
    """`kernel._recall` of eight hashes from an index on, into the same place of `out`; returns which are not known, as bits."""

    def code(*given: Any) -> Any:
        c = _Code(*given)
        b, index = c.builder, c.number(2)
        slot_bits, tag = c.all(c.number(3)), c.all(c.number(4))
        h = c.load(1, index, _WIDE)
        wanted = b.and_(b.shl(h, slot_bits), tag)
        found = c.all(0)
        shift = b.sub(ir.Constant(_I64, 64), c.number(3))

        def pair(k: int) -> Any:
            one = b.load(b.gep(c.array(1), [b.add(index, ir.Constant(_I64, k))]))
            return b.gep(c.array(0), [b.shl(b.lshr(one, shift), ir.Constant(_I64, 1))])

        for entry in c.pairs([pair(k) for k in range(8)]):
            is_it = b.icmp_unsigned("==", b.and_(b.xor(entry, wanted), tag), c.all(0))
            found = b.or_(found, b.select(is_it, b.and_(entry, b.not_(tag)), c.all(0)))
        c.store(found, 5, index)
        return c.bits(b.icmp_unsigned("==", found, c.all(0)))

    return _u64(memo, hashes, index, _u64, _u64, out), code


@intrinsic
def put_ids(
    _typing: Any, found: Any, index: Any, _there: Any, _words: Any, _id_mask: Any, _stop: Any, ids: Any, at: Any
) -> Any:  # fmt: skip
    """The word ids in eight entries of the memo from an index on, but for stop words, into an int32 array.

    Which entries there are, and which are words, is given as bits. Returns how many ids there were, and how many of the
    words are unknown.
    """

    def code(*given: Any) -> Any:
        c = _Code(*given)
        b = c.builder
        entries = c.load(0, c.number(1), _WIDE)
        is_stop = b.icmp_unsigned("!=", b.and_(entries, c.all(c.number(5))), c.all(0))
        is_kept = b.and_(c.chosen(c.number(2)), b.not_(is_stop))
        numbers = b.sub(b.and_(entries, c.all(c.number(4))), c.all(2))
        is_unknown = b.and_(b.and_(is_kept, c.chosen(c.number(3))), b.icmp_signed("<", numbers, c.all(0)))
        # Chosen as they are and narrowed afterwards: eight narrow lanes would ask for AVX-512VL as well.
        c.store(b.trunc(c.together(numbers, is_kept), _EIGHT_NARROW), 6, c.number(7))
        return c.result([c.count(is_kept), c.count(is_unknown)])

    counts = types.UniTuple(_i64, 2)
    return counts(found, index, _u64, _u64, _u64, _u64, ids, at), code
