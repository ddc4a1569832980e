"""Writes IDX files, as MNIST is shipped."""

import struct

from common.flat import Array


def idx(array: Array, *, kind: int = 8) -> bytes:
    """Return an array, by default of bytes, as an IDX file has it."""
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()
