"""How code is compiled here, and what numba does not offer: loads of 8 and 64 bytes, bit counts, prefetching, selecting.

Each of the latter is a few instructions of LLVM, written once here. Nothing here knows of texts. Callers answer for the
bounds: a load reads, and a selection writes, as many bytes as its docstring says from the index on. Selections need a
processor with AVX-512 (`CAN_SELECT`); who uses them has a loop for the others.

What is compiled is kept on disk. numba looks only at a function's own file to see whether it is out of date, and
functions of several files are compiled into one; so the folder's name is a digest of all of them, and code that has
changed is never run in its old form. It lies in the user's cache: clones, and the copies that travel with models, share it.
"""

import hashlib
import os
from collections.abc import Callable
from fcntl import LOCK_EX, flock
from functools import cache
from pathlib import Path
from typing import Any, overload

from llvmlite import binding, ir
from numba import config, njit, types
from numba.core import caching, cgutils
from numba.extending import intrinsic

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_LANES = ir.VectorType(_I8, 64)
# Of the hash: 2^64 / golden ratio, which spreads consecutive keys (Knuth, 6.4), and the finaliser of splitmix64
# (Steele et al. 2014).
GOLD, MIX1, MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
N_CLASSES = 9
"""What `classify64` gives, in order: word, space, upper, letter, wide, continuation, less-than, greater-than, apostrophe."""

# Where LLVM would take a selection apart into branches, a loop without any is quicker.
CAN_SELECT = (config.CPU_NAME, config.CPU_FEATURES, bool(config.ENABLE_AVX)) == (None, None, True) and all(
    binding.get_host_cpu_features().get(name) for name in ("avx512f", "avx512dq", "avx512bw", "avx512vbmi2")
)
"""Whether this processor moves chosen elements of a vector together."""

type Function = Callable[..., Any]


@overload
def compiled(function: Function) -> Function: ...
@overload
def compiled(*, is_inlined: bool = False, allocates: bool = False) -> Callable[[Function], Function]: ...
def compiled(function: Function | None = None, *, is_inlined: bool = False, allocates: bool = False) -> Any:
    """Numba's njit without the GIL, kept on disk.

    Args:
        function: what is decorated.
        is_inlined: into its callers: a call that hands over tuples of arrays costs more than most of what is done here.
        allocates: makes arrays. Others do without counting references, which takes four fifths of the time away.
    """

    def decorate(chosen: Function) -> Function:
        if _folder() is None:
            return njit(chosen, nogil=True, _nrt=allocates, forceinline=is_inlined)
        # Its own place for our functions only; other users of numba in this process keep theirs.
        before, config.CACHE_LOCATOR_CLASSES = config.CACHE_LOCATOR_CLASSES, f"{__name__}._Place"
        try:
            done = njit(chosen, nogil=True, cache=True, _nrt=allocates, forceinline=is_inlined)
        finally:
            config.CACHE_LOCATOR_CLASSES = before
        _one_at_a_time(done._cache._cache_file)  # noqa: SLF001  # numba offers no other way to it
        return done

    return decorate if function is None else decorate(function)


class _Place(caching.UserProvidedCacheLocator):  # type: ignore[misc]  # numba has no types
    """Where compiled code of a function lies: not by the file's path, so that clones of the same sources share it."""

    @classmethod
    def from_function(cls, function: Function, file: str) -> "_Place":
        return cls(function, file)

    def get_cache_path(self) -> str:
        return str(_folder())

    def get_source_stamp(self) -> str:
        # Not the file's time, which differs from clone to clone: the folder's name is a digest of the sources.
        return Path(self.get_cache_path()).name


def _one_at_a_time(file: caching.IndexDataCacheFile) -> None:
    """Two processes that compile a function for different arguments at once must not give their code one name."""
    save = file.save

    def save_alone(key: Any, data: Any) -> None:
        with (Path(file._cache_path) / "lock").open("a") as lock:  # noqa: SLF001
            flock(lock, LOCK_EX)
            save(key, data)

    file.save = save_alone


@cache
def _folder() -> Path | None:
    """Where compiled code is kept; None where nothing can be written, and every process compiles for itself."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for parent in (home / "sentiment-batch", Path(__file__).parent / "__pycache__"):
        folder = parent / f"compiled-{digest}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)  # in use: set-up removes what no process has asked for in a long time
        except OSError:
            continue
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any, place: int = 0) -> Any:
    array = context.make_array(signature.args[place])(context, builder, arguments[place])
    return cgutils.get_item_pointer(context, builder, signature.args[place], array, [arguments[place + 1]], wraparound=False)


def _spread(builder: Any, value: Any, n: int) -> Any:
    """A vector of n times the same."""
    lanes = ir.VectorType(value.type, n)
    one = builder.insert_element(ir.Constant(lanes, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, ir.Constant(lanes, ir.Undefined), ir.Constant(ir.VectorType(_I32, n), [0] * n))


def _load(builder: Any, place: Any, lanes: Any, align: int = 1) -> Any:
    return builder.load(builder.bitcast(place, lanes.as_pointer()), align=align)


def _together(builder: Any, values: Any, chosen: Any, way: str = "compress") -> Any:
    """The chosen elements of a vector, moved to its beginning; or its first ones to the chosen places (`expand`)."""
    kind = ir.FunctionType(values.type, [values.type, values.type, chosen.type])
    size, bits = values.type.count, values.type.element.width
    move = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.avx512.mask.{way}.v{size}i{bits}")
    return builder.call(move, [values, ir.Constant(values.type, None), chosen])


def _how_many(builder: Any, chosen: Any) -> Any:
    """Elements that are chosen, as int64."""
    return builder.zext(builder.ctpop(builder.bitcast(chosen, ir.IntType(chosen.type.count))), _I64)


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
        builder.call(ask, [place, ir.Constant(_I32, 0), ir.Constant(_I32, 0), ir.Constant(_I32, 1)])
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
        block = _load(builder, _pointer(context, builder, signature, arguments), _LANES)

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


@intrinsic
def match8(_typing: Any, data: Any, index: Any, _shift: Any, _wanted: Any) -> Any:
    """Of eight uint64 from an index on (a cache line): which equal `_wanted` when shifted to the right by `_shift`, and which are 0."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = ir.VectorType(_I64, 8)
        entries = _load(builder, _pointer(context, builder, signature, arguments), lanes, align=8)
        equal = builder.icmp_unsigned("==", builder.lshr(entries, _spread(builder, arguments[2], 8)), _spread(builder, arguments[3], 8))
        empty = builder.icmp_unsigned("==", entries, ir.Constant(lanes, [0] * 8))
        masks = [builder.zext(builder.bitcast(mask, _I8), _I64) for mask in (equal, empty)]
        return context.make_tuple(builder, signature.return_type, masks)

    return types.UniTuple(types.uint64, 2)(data, index, types.uint64, types.uint64), code


@intrinsic
def put_places(_typing: Any, _mask: Any, _base: Any, out: Any, index: Any) -> Any:
    """The places of the bits of a uint64, each plus a base, into an int32 array from an index on; returns how many.

    Writes 32 elements, 64 where more bits are set.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        chosen = builder.bitcast(arguments[0], ir.VectorType(ir.IntType(1), 64))
        places = _together(builder, ir.Constant(_LANES, list(range(64))), chosen)
        base = _spread(builder, builder.trunc(arguments[1], _I32), 16)
        lanes = ir.VectorType(_I32, 16)
        target = _pointer(context, builder, signature, arguments, 2)

        def put(quarter: int) -> None:
            which = ir.Constant(lanes, list(range(16 * quarter, 16 * quarter + 16)))
            part = builder.shuffle_vector(places, ir.Constant(_LANES, ir.Undefined), which)
            place = builder.gep(target, [ir.Constant(_I64, 16 * quarter)])
            builder.store(
                builder.add(builder.zext(part, lanes), base), builder.bitcast(place, lanes.as_pointer()), align=4
            )

        put(0)
        put(1)
        n = builder.ctpop(arguments[0])
        with builder.if_then(builder.icmp_unsigned(">", n, ir.Constant(_I64, 32)), likely=False):
            put(2)
            put(3)
        return n

    return types.int64(types.uint64, types.int64, out, index), code


@intrinsic
def put_below(_typing: Any, values: Any, index: Any, _limit: Any, out: Any, out_index: Any) -> Any:
    """Of 16 int32 from an index on, those from 0 to below a limit into another array; returns how many. Writes 16 elements."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = ir.VectorType(_I32, 16)
        found = _load(builder, _pointer(context, builder, signature, arguments), lanes, align=4)
        chosen = builder.icmp_unsigned("<", found, _spread(builder, builder.trunc(arguments[2], _I32), 16))
        place = builder.bitcast(_pointer(context, builder, signature, arguments, 3), lanes.as_pointer())
        builder.store(_together(builder, found, chosen), place, align=4)
        return _how_many(builder, chosen)

    return types.int64(values, index, types.int64, out, out_index), code


@intrinsic
def put_known(  # noqa: PLR0917
    _typing: Any, ids: Any, index: Any, _is_three: Any, _id_bits: Any, _factor: Any, _mask: Any, _shift: Any, bits: Any, first: Any,
    out: Any, out_index: Any,
) -> Any:  # fmt: skip
    """Of the keys of 8 runs of ids, those whose bit is set; returns how many. Writes 8 elements.

    The k-th run is two int32 from index + k on (three where `_is_three` is 1); its key their ids + 1, `_id_bits` each, times a factor and under a mask; its bit that of the number key >> `_shift` in `bits` (from
    `first` on). A run with a negative id has none.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        narrow, lanes = ir.VectorType(_I32, 8), ir.VectorType(_I64, 8)
        begin = _pointer(context, builder, signature, arguments)
        id_bits, factor, mask, shift = (_spread(builder, value, 8) for value in arguments[3:7])
        one, none = ir.Constant(lanes, [1] * 8), ir.Constant(lanes, [0] * 8)

        def number(k: int) -> Any:
            found = _load(builder, builder.gep(begin, [ir.Constant(_I64, k)]), narrow, align=4)
            return builder.zext(builder.add(found, ir.Constant(narrow, [1] * 8)), lanes)

        def is_some(value: Any) -> Any:
            return builder.icmp_unsigned("!=", value, none)

        a, b, c = number(0), number(1), number(2)
        is_three = _spread(builder, builder.trunc(arguments[2], ir.IntType(1)), 8)
        pairs = builder.or_(builder.shl(a, id_bits), b)
        keys = builder.select(is_three, builder.or_(builder.shl(pairs, id_bits), c), pairs)
        keys = builder.and_(builder.mul(keys, factor), mask)
        numbers = builder.lshr(keys, shift)
        table = builder.bitcast(_pointer(context, builder, signature, arguments, 7), _I8.as_pointer())
        kind = ir.FunctionType(lanes, [lanes, _I8.as_pointer(), lanes, ir.VectorType(ir.IntType(1), 8), _I32])
        gather = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.mask.gather.qpq.512")
        words = builder.lshr(numbers, ir.Constant(lanes, [6] * 8))
        every = ir.Constant(ir.VectorType(ir.IntType(1), 8), [1] * 8)
        found = builder.call(gather, [none, table, words, every, ir.Constant(_I32, 8)])
        found = builder.and_(builder.lshr(found, builder.and_(numbers, ir.Constant(lanes, [63] * 8))), one)
        chosen = builder.and_(builder.and_(is_some(a), is_some(b)), is_some(found))
        chosen = builder.and_(chosen, builder.select(is_three, is_some(c), every))
        place = builder.bitcast(_pointer(context, builder, signature, arguments, 9), lanes.as_pointer())
        builder.store(_together(builder, keys, chosen), place, align=8)
        return _how_many(builder, chosen)

    u64 = types.uint64
    return types.int64(ids, index, types.int64, u64, u64, u64, u64, bits, first, out, out_index), code


@intrinsic
def settle(  # noqa: PLR0917
    _typing: Any, hits: Any, index: Any, _n_hits: Any, slots: Any, _factor: Any, _shift: Any, distinct: Any, n_distinct: Any,
    places: Any, again: Any, n_again: Any, _n_left: Any,
) -> Any:  # fmt: skip
    """Sixteen turns of the loop of `kernel._count_distinct` at once; returns how many were distinct, met again, and left.

    All arrays are int32; 16 elements of each are written.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes, flags = ir.VectorType(_I32, 16), ir.VectorType(ir.IntType(1), 16)
        numbers = ir.Constant(lanes, list(range(16)))

        def spread(value: Any) -> Any:
            return _spread(builder, builder.trunc(value, _I32), 16)

        def begin(place: int) -> Any:
            array = context.make_array(signature.args[place])(context, builder, arguments[place])
            return array.data

        def at(place: int, index: Any) -> Any:
            return builder.bitcast(builder.gep(begin(place), [index]), lanes.as_pointer())

        def gather(place: int, wanted: Any, chosen: Any) -> Any:
            kind = ir.FunctionType(lanes, [lanes, _I8.as_pointer(), lanes, flags, _I32])
            call = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.mask.gather.dpi.512")
            table = builder.bitcast(begin(place), _I8.as_pointer())
            return builder.call(call, [ir.Constant(lanes, None), table, wanted, chosen, ir.Constant(_I32, 4)])

        def put(place: int, index: Any, values: Any, chosen: Any) -> Any:
            builder.store(_together(builder, values, chosen), at(place, index), align=4)
            return _how_many(builder, chosen)

        columns = builder.load(at(0, arguments[1]), align=4)
        own = builder.add(spread(arguments[1]), numbers)
        is_there = builder.icmp_unsigned("<", own, spread(arguments[2]))
        slot = builder.lshr(builder.mul(columns, spread(arguments[4])), spread(arguments[5]))
        last = gather(3, slot, is_there)
        is_same = builder.and_(is_there, builder.icmp_unsigned("==", gather(0, last, is_there), columns))
        is_last = builder.and_(is_there, builder.icmp_unsigned("==", last, own))
        ranks = builder.add(_together(builder, numbers, is_last, "expand"), spread(arguments[7]))
        builder.store(ranks, at(8, arguments[1]), align=4)
        counts = [
            put(6, arguments[7], columns, is_last),
            put(9, arguments[10], last, builder.and_(is_same, builder.not_(is_last))),
            put(0, arguments[11], columns, builder.and_(is_there, builder.not_(is_same))),
        ]
        return context.make_tuple(builder, signature.return_type, counts)

    i64 = types.int64
    return types.UniTuple(i64, 3)(
        hits, i64, i64, slots, types.uint64, types.uint64, distinct, i64, places, again, i64, i64
    ), code


@intrinsic
def hash8(  # noqa: PLR0917
    _typing: Any, data: Any, _begin: Any, starts: Any, ends: Any, index: Any, _n: Any, classes: Any, _fold: Any, _seed: Any,
    out: Any,
) -> Any:  # fmt: skip
    """`kernel._hashed` of the tokens numbered from an index on, eight of them, written to `out`.

    Returns which of them are words, and which are longer than the 16 bytes that are looked at (both as bits; a token beyond the
    n-th is neither). 16 bytes from each token's beginning on are read.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        narrow, lanes, flags = ir.VectorType(_I32, 8), ir.VectorType(_I64, 8), ir.VectorType(ir.IntType(1), 8)

        def all_lanes(value: int) -> Any:
            return ir.Constant(lanes, [value] * 8)

        def begin(place: int) -> Any:
            return context.make_array(signature.args[place])(context, builder, arguments[place]).data

        def numbers(place: int) -> Any:
            found = _load(builder, builder.gep(begin(place), [arguments[4]]), narrow, align=4)
            return builder.zext(found, lanes)

        def gather(table: Any, wanted: Any, scale: int) -> Any:
            kind = ir.FunctionType(lanes, [lanes, _I8.as_pointer(), lanes, flags, _I32])
            call = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.mask.gather.qpq.512")
            table = builder.bitcast(table, _I8.as_pointer())
            return builder.call(call, [all_lanes(0), table, wanted, ir.Constant(flags, [1] * 8), ir.Constant(_I32, scale)])

        def least(one: Any, other: Any) -> Any:
            return builder.select(builder.icmp_signed("<", one, other), one, other)

        def mixed(value: Any, factor: int) -> Any:
            return builder.mul(builder.xor(value, builder.lshr(value, all_lanes(31))), all_lanes(factor))

        own = builder.add(_spread(builder, arguments[4], 8), ir.Constant(lanes, list(range(8))))
        is_there = builder.icmp_signed("<", own, _spread(builder, arguments[5], 8))
        first = builder.select(is_there, numbers(2), all_lanes(0))
        n = builder.select(is_there, builder.sub(numbers(3), first), all_lanes(1))
        is_word = gather(begin(6), builder.lshr(first, all_lanes(6)), 8)
        is_word = builder.trunc(builder.lshr(is_word, builder.and_(first, all_lanes(63))), flags)
        fold = builder.select(is_word, _spread(builder, arguments[7], 8), all_lanes(0))
        text = builder.gep(begin(0), [arguments[1]])

        def folded(value: Any) -> Any:
            return builder.or_(value, builder.lshr(builder.and_(builder.not_(value), fold), all_lanes(2)))

        front = gather(text, first, 1)
        bits = builder.shl(least(n, all_lanes(8)), all_lanes(3))
        front = builder.and_(front, builder.lshr(all_lanes(-1), builder.sub(all_lanes(64), bits)))
        back = gather(text, builder.add(first, all_lanes(8)), 1)
        # Half the shift twice: a shift by 64 is undefined.
        half = builder.shl(builder.sub(least(builder.select(builder.icmp_signed(">", n, all_lanes(8)), n, all_lanes(8)),
                                             all_lanes(16)), all_lanes(8)), all_lanes(2))
        back = builder.and_(back, builder.sub(builder.shl(builder.shl(all_lanes(1), half), half), all_lanes(1)))
        h = builder.xor(builder.mul(n, all_lanes(GOLD)), _spread(builder, arguments[8], 8))
        h = builder.mul(builder.xor(h, folded(front)), all_lanes(MIX1))
        h = builder.xor(h, builder.lshr(h, all_lanes(31)))
        h = builder.mul(builder.xor(h, folded(back)), all_lanes(MIX2))
        h = builder.or_(mixed(h, GOLD), all_lanes(1))
        h = builder.xor(h, builder.select(is_word, all_lanes(0), all_lanes(GOLD)))
        builder.store(h, builder.bitcast(builder.gep(begin(9), [arguments[4]]), lanes.as_pointer()), align=8)
        is_long = builder.icmp_signed(">", n, all_lanes(16))
        masks = [
            builder.zext(builder.bitcast(builder.and_(mask, is_there), _I8), _I64) for mask in (is_word, is_long)
        ]
        return context.make_tuple(builder, signature.return_type, masks)

    i64, u64 = types.int64, types.uint64
    return types.UniTuple(u64, 2)(data, i64, starts, ends, i64, i64, classes, u64, u64, out), code


@intrinsic
def recall8(_typing: Any, memo: Any, hashes: Any, index: Any, _bits: Any, _tag: Any, out: Any) -> Any:
    """`kernel._recall` of eight hashes from an index on, written to the same place of `out`; returns which are not known, as bits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes, flags = ir.VectorType(_I64, 8), ir.VectorType(ir.IntType(1), 8)
        none, bits, tag = ir.Constant(lanes, [0] * 8), _spread(builder, arguments[3], 8), _spread(builder, arguments[4], 8)
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        h = _load(builder, _pointer(context, builder, signature, arguments, 1), lanes, align=8)
        slot = builder.shl(builder.lshr(h, builder.sub(ir.Constant(lanes, [64] * 8), bits)), ir.Constant(lanes, [4] * 8))
        wanted = builder.and_(builder.shl(h, bits), tag)
        found = none
        for side in (0, 1):
            kind = ir.FunctionType(lanes, [lanes, _I8.as_pointer(), lanes, flags, _I32])
            gather = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.mask.gather.qpq.512")
            table = builder.bitcast(builder.gep(array.data, [ir.Constant(_I64, side)]), _I8.as_pointer())
            entry = builder.call(gather, [none, table, slot, ir.Constant(flags, [1] * 8), ir.Constant(_I32, 1)])
            is_it = builder.icmp_unsigned("==", builder.and_(builder.xor(entry, wanted), tag), none)
            found = builder.or_(found, builder.select(is_it, builder.and_(entry, builder.not_(tag)), none))
        place = builder.gep(context.make_array(signature.args[5])(context, builder, arguments[5]).data, [arguments[2]])
        builder.store(found, builder.bitcast(place, lanes.as_pointer()), align=8)
        return builder.zext(builder.bitcast(builder.icmp_unsigned("==", found, none), _I8), _I64)

    return types.uint64(memo, hashes, types.int64, types.uint64, types.uint64, out), code


@intrinsic
def put_ids(  # noqa: PLR0917
    _typing: Any, found: Any, index: Any, _there: Any, _words: Any, _id_mask: Any, _stop: Any, ids: Any, n_ids: Any
) -> Any:
    """The ids in eight entries of the memo from an index on, but for those with a flag, into an int32 array; writes 8 elements.

    Returns how many there were, and how many of those that are words (as bits) are unknown.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes, flags, narrow = ir.VectorType(_I64, 8), ir.VectorType(ir.IntType(1), 8), ir.VectorType(_I32, 8)
        none = ir.Constant(lanes, [0] * 8)

        def chosen(value: Any) -> Any:
            return builder.bitcast(builder.trunc(value, _I8), flags)

        entries = _load(builder, _pointer(context, builder, signature, arguments), lanes, align=8)
        is_stop = builder.icmp_unsigned("!=", builder.and_(entries, _spread(builder, arguments[5], 8)), none)
        is_kept = builder.and_(chosen(arguments[2]), builder.not_(is_stop))
        numbers = builder.sub(builder.and_(entries, _spread(builder, arguments[4], 8)), ir.Constant(lanes, [2] * 8))
        is_unknown = builder.and_(builder.and_(is_kept, chosen(arguments[3])), builder.icmp_signed("<", numbers, none))
        place = builder.gep(context.make_array(signature.args[6])(context, builder, arguments[6]).data, [arguments[7]])
        # The 256-bit form needs AVX-512VL; lanes of 64 bits are compressed first.
        together = builder.trunc(_together(builder, numbers, is_kept), narrow)
        builder.store(together, builder.bitcast(place, narrow.as_pointer()), align=4)
        counts = [_how_many(builder, is_kept), _how_many(builder, is_unknown)]
        return context.make_tuple(builder, signature.return_type, counts)

    i64, u64 = types.int64, types.uint64
    return types.UniTuple(i64, 2)(found, i64, u64, u64, u64, u64, ids, i64), code
