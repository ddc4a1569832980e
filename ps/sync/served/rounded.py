"""Gradients that travel in pushes as bf16: ``--wire bf16``."""

import numpy as np

from common.flat import BLOCK, Array, blocks
from ps.sync.wires import EXACT
from ps.sync.wires.bf16 import from_bf16, to_bf16

PUSH_WIRES = (EXACT, "bf16")
"""In what form the gradient of a push may travel."""
HALF_BYTES = 2
"""Of a number as bf16."""


class RoundedGradient:
    """A gradient, (n,) of float32 or float64, and ``halves``, (n,) of uint16: the same as bf16.

    Rounding works in place, so a rank looks at what it sends: a number that bf16 has no room for is not finite there.
    """

    def __init__(self, grad: Array) -> None:
        self.halves = np.zeros(len(grad), np.uint16)
        longest = min(BLOCK, len(grad))
        single, self._work = np.zeros(longest, np.float32), np.zeros(longest, np.uint32)
        self._blocks = [
            (own, halves, own if own.dtype == np.float32 else single[: len(own)])
            for own, halves in zip(blocks(grad), blocks(self.halves), strict=True)
        ]

    def round(self) -> None:
        """Round the gradient to what the halves, which are written as well, can hold."""
        for own, halves, single in self._blocks:
            if single is not own:
                np.copyto(single, own, casting="same_kind")
            to_bf16(single, halves, self._work)
        self.unpack()

    def unpack(self) -> None:
        """Write the halves as the numbers of the gradient."""
        for own, halves, single in self._blocks:
            from_bf16(halves, single)
            if single is not own:
                np.copyto(own, single)
