"""The tokenise-and-hash limit: how quick any scorer that looks at every word could be on this machine.

Code of its own, so that nobody improves the ratio by slowing the limit; it shares nothing with the product's kernel.
It finds the words [A-Za-z0-9_]+ of every text, folds their case, hashes each to 64 bits and xors the hashes: what has
to be done before a dictionary can be asked, and nothing else. No n-grams, no look-up, no weights.

64 bytes are compared at once and make one bit each (AVX-512 or AVX2, as LLVM finds it); where the bits change, words
begin and end, and those places are walked with count-trailing-zeros. A word of up to 8 bytes is one load, a longer one
a load for every 8 bytes, the last of which overlaps. On two cores of an EPYC of the Zen 5 kind one core makes about
1,500 MB/s.
"""

import numpy as np
import pyarrow as pa
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

BLOCK = 64
FOLD = np.uint64(0x2020202020202020)  # the bit that tells upper from lower case, in every byte
FIRST = np.uint64(0x9E3779B97F4A7C15)
SECOND = np.uint64(0xC2B2AE3D27D4EB4F)

# Typed once: numba takes mixed signedness for floating point.
_0, _1, _3, _8, _29, _32, _63, _64 = (np.uint64(number) for number in (0, 1, 3, 8, 29, 32, 63, 64))


@intrinsic
def _word_bits(_context, _address):
    """One bit for each of the 64 bytes at an address: set where it belongs to a word."""

    def generate(_context, builder, _signature, arguments):
        vector = ir.VectorType(ir.IntType(8), BLOCK)
        every = lambda byte: ir.Constant(vector, [byte] * BLOCK)  # noqa: E731
        loaded = builder.load(builder.inttoptr(arguments[0], vector.as_pointer()))
        loaded.align = 1
        folded = builder.or_(loaded, every(0x20))
        is_letter = builder.icmp_unsigned("<", builder.sub(folded, every(ord("a"))), every(26))
        is_digit = builder.icmp_unsigned("<", builder.sub(loaded, every(ord("0"))), every(10))
        is_underscore = builder.icmp_unsigned("==", loaded, every(ord("_")))
        return builder.bitcast(builder.or_(builder.or_(is_letter, is_digit), is_underscore), ir.IntType(64))

    return types.uint64(types.uint64), generate


@intrinsic
def _load(_context, _address):
    """The 8 bytes at an address."""

    def generate(_context, builder, _signature, arguments):
        loaded = builder.load(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()))
        loaded.align = 1
        return loaded

    return types.uint64(types.uint64), generate


@intrinsic
def _lowest(_context, _bits):
    """Place of the lowest bit that is set; one is."""

    def generate(_context, builder, _signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@njit(inline="always")
def _hash(at, length):
    word = _load(at) | FOLD
    if length < _8:
        word &= (_1 << (length << _3)) - _1
    mixed = word * FIRST
    done = _8
    while length > done:
        place = min(done, length - _8)
        mixed = ((mixed ^ (mixed >> _32)) * SECOND) ^ ((_load(at + place) | FOLD) * FIRST)
        done += _8
    mixed ^= length
    return mixed ^ (mixed >> _29)


@njit(nogil=True)
def _walk(address, offsets):
    """Number of words and xor of their hashes; reads up to 71 bytes past the last offset."""
    n_words, total = _0, _0
    for text in range(len(offsets) - 1):
        at, end = address + np.uint64(offsets[text]), address + np.uint64(offsets[text + 1])
        began, carried = _0, _0
        while at < end:
            bits = _word_bits(at)
            if end - at < _64:
                bits &= (_1 << (end - at)) - _1
            edges = bits ^ ((bits << _1) | carried)
            carried = bits >> _63
            while edges:
                place = at + _lowest(edges)
                edges &= edges - _1
                if began:
                    total ^= _hash(began, place - began)
                    n_words += _1
                    began = _0
                else:
                    began = place
            at += _64
        if began:
            total ^= _hash(began, end - began)
            n_words += _1
    return n_words, total


class Texts:
    """Texts as the walk wants them: the Arrow buffer with room behind it, and the offsets."""

    def __init__(self, texts: pa.LargeStringArray) -> None:
        self.offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
        first, last = int(self.offsets[0]), int(self.offsets[-1])
        self.offsets = self.offsets - first
        self._bytes = np.zeros(last - first + 2 * BLOCK, np.uint8)
        if last > first:
            self._bytes[: last - first] = np.frombuffer(texts.buffers()[2], np.uint8)[first:last]

    def walk(self) -> tuple[int, int]:
        """Number of words, and the xor of their hashes."""
        n_words, total = _walk(np.uint64(self._bytes.ctypes.data), self.offsets)
        return int(n_words), int(total)
