"""One contiguous vector each for parameters and for what a step exchanges, with named views into both."""

import hashlib
import itertools
import math
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from common.named_views import NamedViews, read_only

Array = NDArray[Any]
Views = Mapping[str, Array]


class Slot(IntEnum):
    """Status slots at the head of a packet, which are summed over the ranks like the gradient."""

    LOSS_SUM = 0
    STOP = 1
    SAVE = 2
    PRINT = 3
    """The first of three: ps/sync/replica_check.py."""


ASK_STOP, ASK_SAVE = 1, 2
"""What a rank may ask all ranks for in a step, as bits."""
N_SLOTS = 16
"""Status slots in front of the gradient: 16 keep the gradient on a 64-byte boundary in float32 and float64."""
LINE_BYTES = 64
BLOCK = 1 << 14
"""Elements worked on at a time where a vector is passed through several operations: they stay in the core's cache."""


class Flat:
    """Parameters and gradient packet of a model.

    ``param_vector``: (n,), ``packet``: (16 + n,) = [status | grad_vector], both of ``dtype``. They are made here, or
    given: zeros in memory that ranks of a node share. ``params`` and ``grads``: views of both by name, in the model's
    order, no copies; ``fixed_params``: the same for those who only read. ``slices``: where each parameter lies in a
    vector. The status is at the head because backward finishes the gradient from its end: a mode that sends early
    starts there, and the status, complete last, goes with the last chunk.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        dtype: np.dtype[Any],
        params: Array | None = None,
        packet: Array | None = None,
    ) -> None:
        self.shapes = dict(shapes)
        self.dtype = np.dtype(dtype)
        self.slices = self.layout(shapes)
        self.n = sum(math.prod(shape) for shape in shapes.values())
        self.param_vector = aligned(self.n, self.dtype) if params is None else params
        self.packet = aligned(N_SLOTS + self.n, self.dtype) if packet is None else packet
        self.status = numbers(self.packet[:N_SLOTS])
        self.grad_vector = self.packet[N_SLOTS:]
        self.params = self.views(self.param_vector)
        self.fixed_params = NamedViews("params", {name: read_only(view) for name, view in self.params.items()})
        self.grads = self.views(self.grad_vector, "grads")

    @staticmethod
    def layout(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, slice]:
        """Return where each parameter of these shapes lies in the vector."""
        stops = list(itertools.accumulate(math.prod(shape) for shape in shapes.values()))
        return {name: slice(*ends) for name, *ends in zip(shapes, [0, *stops], stops, strict=False)}

    @property
    def names(self) -> list[str]:
        """Names of the parameters, in forward order."""
        return list(self.shapes)

    def views(self, vector: Array, called: str = "params") -> NamedViews:
        """Return named views into any (n,) vector that is laid out like the parameters."""
        arrays = {name: vector[self.slices[name]].reshape(shape) for name, shape in self.shapes.items()}
        return NamedViews(called, arrays)

    def joined(self, vector: Array, w: str, b: str) -> Array:
        """Return weights (n_in, n_out) and the bias (n_out,) that follows them as one view (n_in + 1, n_out)."""
        n_out = self.shapes[b][0]
        return vector[self.slices[w].start : self.slices[b].stop].reshape(-1, n_out)


def aligned(n: int, dtype: np.dtype[Any]) -> Array:
    """Return n zeros that start on a cache line."""
    raw = np.zeros(n * dtype.itemsize + LINE_BYTES, dtype=np.uint8)
    shift = -raw.ctypes.data % LINE_BYTES
    return raw[shift : shift + n * dtype.itemsize].view(dtype)


def numbers(vector: Array) -> "memoryview[float]":
    """Return a view for reading and writing single numbers, which takes half of the time that NumPy takes."""
    return cast("memoryview[float]", vector.data)


def blocks(vector: Array, most: int = BLOCK) -> list[Array]:
    """Cut a vector into views of at most ``most`` elements: blocks for the cache, or the chunks of messages."""
    return [vector[i : i + most] for i in range(0, len(vector), most)]


def fingerprint(vector: Array) -> str:
    """Return the SHA-256 of a vector's bytes, as hexadecimal digits."""
    return hashlib.sha256(vector.view(np.uint8).data).hexdigest()
