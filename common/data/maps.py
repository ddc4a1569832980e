"""Maps .npy files into memory, so that the ranks of a node read one copy, whose pages the system may take back."""

import contextlib
import io
import math
import mmap
import os
import warnings
from pathlib import Path

import numpy as np

from common import memory
from common.arrays_file import HEADERS, LONGEST_HEADER, NUMBERS
from common.errors import DataError
from common.files import open_regular
from common.flat import Array

NEAR_BYTES = 1 << 16
"""Rows that lie no farther apart are read together."""
FEWEST_TOGETHER = 8
"""Rows on average, for telling the system of them to pay."""


def map_array(path: Path, kinds: str = NUMBERS, remedy: str = "write it again with numpy.save") -> Array:
    """Return the array of a ``.npy`` file, read only: a view of the file, of which nothing is copied.

    Only an array in Fortran's order is read and brought into C's: its rows are spread over the whole file.
    ``remedy``: what to do with a damaged one. Raises DataError, and MemoryLimitError; OSError where the file cannot be
    opened.
    """
    mapped = map_as_it_lies(path, kinds, remedy)
    if mapped.flags.c_contiguous:
        return mapped
    in_order = "the array in C's order: numpy.save(path, numpy.ascontiguousarray(x))"
    memory.check(f"data {path}", mapped.nbytes, 0, in_order)
    return np.ascontiguousarray(mapped)


def map_as_it_lies(path: Path, kinds: str = NUMBERS, remedy: str = "write it again with numpy.save") -> Array:
    """Return a view of the array of a ``.npy`` file, read only, in C's or Fortran's order; ``remedy``: see above.

    What the header claims is compared with the file's size before anything is allocated. Raises DataError; OSError
    where the file cannot be opened.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        begin = io.BytesIO(file.read(LONGEST_HEADER))  # no more of it, whatever length it claims
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                shape, fortran, dtype = HEADERS[np.lib.format.read_magic(begin)](begin)
        except Exception:  # of a dozen kinds, of which MemoryError says that brackets are too deep
            raise DataError(f"{path}: not an array of NumPy, or its header is damaged; {remedy}") from None
        if dtype.hasobject or dtype.kind not in kinds or not dtype.itemsize:
            takes = "it takes numbers" + ", or texts (of dtype str: y.astype(str))" * ("U" in kinds)
            raise DataError(f"{path}: holds {str(dtype)[:80]}; {takes}")
        offset, claimed = begin.tell(), math.prod(shape) * dtype.itemsize
        if any(n < 0 for n in shape) or offset + claimed != size:
            raise DataError(
                f"{path}: its header says {str(shape)[:80]} of {dtype}, which are {claimed:,} bytes, but "
                f"{size - offset:,} follow; the file is damaged or cut off; {remedy}"
            )
        if not claimed:
            return np.empty(shape, dtype)
        # a view of the plain kind: each slice of a memmap costs microseconds of Python
        return np.asarray(np.memmap(file, dtype, "r", offset, shape, "F" if fortran else "C"))


def map_of(array: Array) -> mmap.mmap | None:
    """Return the map whose memory an array shows; None if it lies in the memory of this process."""
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and isinstance(base.base, mmap.mmap):
            return base.base
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    return base if isinstance(base, mmap.mmap) else None


def read_ahead(array: Array, numbers: Array) -> None:
    """Tell the system which rows of a mapped array are read next, so that it fetches them meanwhile.

    Only where they lie together: a call for each of thousands of rows may take longer than reading them.
    """
    mapped = map_of(array)
    if mapped is None or not len(numbers) or not array.strides[0]:
        return
    ordered = np.sort(numbers).astype(np.int64)  # places in the file do not fit into 32 bits
    gaps = np.flatnonzero(np.diff(ordered) > max(1, NEAR_BYTES // array.strides[0]))
    if len(gaps) * FEWEST_TOGETHER > len(numbers):
        return
    begin, row = array.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data, array.strides[0]
    firsts = (begin + ordered[np.append(0, gaps + 1)] * row) // mmap.PAGESIZE * mmap.PAGESIZE
    ends = begin + (ordered[np.append(gaps, len(ordered) - 1)] + 1) * row
    with contextlib.suppress(OSError):  # it is advice
        for first, end in zip(firsts.tolist(), ends.tolist(), strict=True):
            _advise(mapped, first, end - first)


def _advise(mapped: mmap.mmap, start: int, n_bytes: int) -> None:
    mapped.madvise(mmap.MADV_WILLNEED, start, n_bytes)


def one_view(parts: list[Array]) -> Array | None:
    """Return a view of arrays of one map that lie one behind the other in it; None if these do not."""
    first, shared = parts[0], map_of(parts[0])
    ends = [part.ctypes.data + part.nbytes for part in parts]
    begins = [part.ctypes.data for part in parts]
    alike = all(part.dtype == first.dtype and part.flags.c_contiguous and map_of(part) is shared for part in parts)
    if shared is None or not alike or begins[1:] != ends[:-1]:
        return None
    offset = begins[0] - np.frombuffer(shared, np.uint8).ctypes.data
    count = sum(part.size for part in parts)
    return np.frombuffer(shared, first.dtype, count, offset).reshape(-1, *first.shape[1:])
