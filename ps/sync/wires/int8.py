"""Wire ``int8``: whole numbers from -127 to 127, in blocks of 1,024 with a scale each."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from common.flat import Array
from ps.sync.wires.coded import CodedWire

UNIT = 1024
"""Numbers that share a scale."""
MOST = np.float32(127)
TINY = np.finfo(np.float32).tiny


class Int8Wire(CodedWire):
    """Numbers x of a block whose largest is a, in absolute value, are sent as 127 x / a, rounded to nearest, and a.

    Of a block with a number that is not finite, a is not either, and so is what comes out. There is no error feedback,
    from which training gained nothing.
    """

    unit: ClassVar[int] = UNIT
    vectors: ClassVar[float] = 1.5

    def coded_bytes(self, n: int) -> int:
        """See CodedWire. A scale of float32 for each block, then its numbers."""
        return 4 * -(-n // UNIT) + n

    def encode(self, numbers: Array, codes: Array) -> None:
        """See CodedWire."""
        scales, whole = _parts(codes, len(numbers))
        sizes = np.abs(numbers, out=self._sizes[: len(numbers)])
        for block, scale in _blocks(sizes, scales):
            np.max(block, axis=1, out=scale)
        np.divide(scales, MOST, out=scales)
        scales[scales < TINY] = 0  # with fewer digits than others: quotients could be above 127
        divisors = self._divisors[: len(scales)]
        np.copyto(divisors, scales)
        divisors[divisors == 0] = np.inf
        for block, divisor in _blocks(numbers, divisors):
            np.divide(block, divisor[:, None], out=block)
        np.rint(numbers, out=numbers)
        np.copyto(whole, numbers, casting="unsafe")

    def decode(self, codes: Array, numbers: Array) -> None:
        """See CodedWire."""
        scales, whole = _parts(codes, len(numbers))
        np.copyto(numbers, whole)
        for block, scale in _blocks(numbers, scales):
            np.multiply(block, scale[:, None], out=block)

    def _make_room(self, longest: int) -> None:
        self._sizes = np.empty(longest, np.float32)
        self._divisors = np.empty(-(-longest // UNIT), np.float32)


def _parts(codes: Array, n: int) -> tuple[Array, Array]:
    """Return the scales and the whole numbers that lie in a message of n coded numbers."""
    return codes[: len(codes) - n].view(np.float32), codes[len(codes) - n :].view(np.int8)


def _blocks(vector: Array, scales: Array) -> Iterator[tuple[Array, Array]]:
    """Yield the whole blocks of a vector, a row each, with their scales; then the last one, if it is shorter."""
    whole = len(vector) // UNIT
    if whole:
        yield vector[: whole * UNIT].reshape(whole, UNIT), scales[:whole]
    if whole < len(scales):
        yield vector[whole * UNIT :].reshape(1, -1), scales[whole:]


WIRE = Int8Wire
