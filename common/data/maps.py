"""Arrays that are views of a mapped file, whose pages the ranks of a node share and the system may take back."""

import mmap

import numpy as np

from common import memory
from common.flat import Array


def map_of(array: Array) -> mmap.mmap | None:
    """Return the map whose memory an array shows; None if it lies in the memory of this process."""
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and isinstance(base.base, mmap.mmap):
            return base.base
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def behind(parts: list[Array]) -> Array:
    """Return arrays one behind the other: a view of their map if they lie so in it already, else a copy."""
    if len(parts) == 1:
        return parts[0]
    first, shared = parts[0], map_of(parts[0])
    ends = [part.ctypes.data + part.nbytes for part in parts]
    begins = [part.ctypes.data for part in parts]
    alike = all(part.dtype == first.dtype and part.flags.c_contiguous and map_of(part) is shared for part in parts)
    if shared is None or not alike or begins[1:] != ends[:-1]:
        return np.concatenate(parts)
    shape = (sum(map(len, parts)), *first.shape[1:])
    return np.lib.stride_tricks.as_strided(first, shape, first.strides, writeable=False)


def in_rows(what: str, array: Array) -> Array:
    """Return a mapped array so that each of its rows lies in one place of the file: as it is, or else a copy.

    Rows of an array in Fortran's order are spread over the whole file. Raises MemoryLimitError for ``what``.
    """
    if array.ndim < 2 or map_of(array) is None or array.strides[0] >= abs(array.strides[1]) * array.shape[1]:
        return np.asarray(array)
    memory.check(what, array.nbytes, 0, "an array in C's order, as numpy.ascontiguousarray makes it")
    return np.ascontiguousarray(array)
