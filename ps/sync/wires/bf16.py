"""Wire ``bf16``: the upper half of each float32, rounded to nearest, ties to even: by integer shifts."""

import math
from typing import ClassVar

import numpy as np

from common.flat import BLOCK, Array
from ps.sync.wires.coded import CodedWire

NAN = np.uint16(0x7FC0)


def to_bf16(numbers: Array, halves: Array, work: Array) -> None:
    """Round float32 numbers (n,) to bf16 in ``halves``, (n,) of uint16; ``work``: (n or ``BLOCK``,) of uint32."""
    bits = numbers.view(np.uint32)
    for a in range(0, len(bits), BLOCK):
        part, out = bits[a : a + BLOCK], halves[a : a + BLOCK]
        block = work[: len(part)]
        np.right_shift(part, 16, out=block)
        np.bitwise_and(block, 1, out=block)
        np.add(block, 0x7FFF, out=block)  # half of the last place, less one where that is even
        np.add(block, part, out=block)
        np.right_shift(block, 16, out=block)
        np.copyto(out, block, casting="unsafe")
        own = numbers[a : a + BLOCK]
        if not math.isfinite(own.dot(own)):
            out[np.isnan(own)] = NAN  # whose digits could carry over, and leave a zero


def from_bf16(halves: Array, numbers: Array) -> None:
    """Write bf16 numbers (n,) of uint16 as float32 ones (n,)."""
    bits = numbers.view(np.uint32)
    np.copyto(bits, halves)
    np.left_shift(bits, 16, out=bits)


class Bf16Wire(CodedWire):
    """Two bytes a number, of which 8 bits are the exponent of float32: nothing overflows or vanishes."""

    vectors: ClassVar[float] = 2.0

    def coded_bytes(self, n: int) -> int:
        """See CodedWire."""
        return 2 * n

    def encode(self, numbers: Array, codes: Array) -> None:
        """See CodedWire."""
        to_bf16(numbers, codes.view(np.uint16), self._work)

    def decode(self, codes: Array, numbers: Array) -> None:
        """See CodedWire."""
        from_bf16(codes.view(np.uint16), numbers)

    def _make_room(self, longest: int) -> None:
        self._work = np.empty(min(longest, BLOCK), np.uint32)


WIRE = Bf16Wire
