"""How code is compiled here, and what numba does not offer: loads of 8 and 64 bytes, bit counts, prefetching.

Each of the latter is a few instructions of LLVM, written once here. Nothing here knows of texts. Callers answer for the
bounds: a load reads as many bytes as its name says from the index on.

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

import numpy as np
from llvmlite import binding, ir
from numba import config, njit, types
from numba.core import caching, cgutils
from numba.extending import intrinsic

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_LANES = ir.VectorType(_I8, 64)
N_CLASSES = 9
"""What `classify64` gives, in order: word, space, upper, letter, wide, continuation, less-than, greater-than, apostrophe."""

_ZERO, _ONE = np.uint64(0), np.uint64(1)


def _nearness() -> int:
    """Which caches a line is asked into, as LLVM counts: 0 the first alone, 3 all.

    AMD's Zen keeps a line of the first kind out of the second cache, where it would push out what every text needs. Others
    drop it altogether when the first cache is full, also one that the next text needs again: on an Intel Xeon (480 MB
    of third cache, AMX), scoring took twice as long with 0 as with 3 (a million terms 323 and 160 ms, 100,000 177 and 113).
    """
    try:
        return 0 if binding.get_host_cpu_name().startswith("znver") else 3
    except RuntimeError:  # LLVM cannot tell
        return 3


_NEARNESS = _nearness()

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


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return cgutils.get_item_pointer(context, builder, signature.args[0], array, [arguments[1]], wraparound=False)


def spread(builder: Any, value: Any, n: int) -> Any:
    """A vector of n times the same value."""
    lanes = ir.VectorType(value.type, n)
    one = builder.insert_element(ir.Constant(lanes, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, ir.Constant(lanes, ir.Undefined), ir.Constant(ir.VectorType(_I32, n), [0] * n))


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
        # To read; data.
        builder.call(ask, [place, ir.Constant(_I32, 0), ir.Constant(_I32, _NEARNESS), ir.Constant(_I32, 1)])
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


@intrinsic
def match8(_typing: Any, data: Any, index: Any, _shift: Any, _wanted: Any) -> Any:
    """Of eight uint64 from an index on (a cache line): which equal `_wanted` when shifted to the right by `_shift`, and which are 0."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = ir.VectorType(_I64, 8)
        place = builder.bitcast(_pointer(context, builder, signature, arguments), lanes.as_pointer())
        entries = builder.load(place, align=8)
        equal = builder.icmp_unsigned(
            "==", builder.lshr(entries, spread(builder, arguments[2], 8)), spread(builder, arguments[3], 8)
        )
        empty = builder.icmp_unsigned("==", entries, ir.Constant(lanes, [0] * 8))
        masks = [builder.zext(builder.bitcast(mask, _I8), _I64) for mask in (equal, empty)]
        return context.make_tuple(builder, signature.return_type, masks)

    return types.UniTuple(types.uint64, 2)(data, index, types.uint64, types.uint64), code


@intrinsic
def match4(_typing: Any, data: Any, index: Any, _n_bits: Any, _tag: Any) -> Any:
    """Of four pairs of uint64 from an index on (a cache line): which carry a tag, and which carry 0; bits 0, 2, 4 and 6.

    A pair carries the tag's lowest `_n_bits` bits as its first number's lowest, the rest as its second's.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = ir.VectorType(_I64, 8)
        place = builder.bitcast(_pointer(context, builder, signature, arguments), lanes.as_pointer())
        n_bits, tag = arguments[2:]
        mask = builder.sub(builder.shl(ir.Constant(_I64, 1), n_bits), ir.Constant(_I64, 1))
        entries = builder.and_(builder.load(place, align=8), spread(builder, mask, 8))
        firsts, seconds = spread(builder, builder.and_(tag, mask), 8), spread(builder, builder.lshr(tag, n_bits), 8)
        in_turn = ir.Constant(ir.VectorType(_I32, 8), [0, 9, 2, 11, 4, 13, 6, 15])
        wanted = builder.shuffle_vector(firsts, seconds, in_turn)
        masks = []
        for value in (wanted, ir.Constant(lanes, [0] * 8)):
            equal = builder.zext(builder.bitcast(builder.icmp_unsigned("==", entries, value), _I8), _I64)
            both = builder.and_(equal, builder.lshr(equal, ir.Constant(_I64, 1)))
            masks.append(builder.and_(both, ir.Constant(_I64, 0b01010101)))
        return context.make_tuple(builder, signature.return_type, masks)

    return types.UniTuple(types.uint64, 2)(data, index, types.uint64, types.uint64), code


@compiled(is_inlined=True)
def bit(mask: Any, i: int) -> bool:  # pragma: no cover
    """Whether the i-th bit of an array of uint64 is set."""
    return (mask[i >> 6] >> np.uint64(i & 63)) & _ONE != _ZERO
