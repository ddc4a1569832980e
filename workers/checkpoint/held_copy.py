"""The copy that a checkpoint is written from, in memory that outlives the rank: its watchdog can write it out, too.

A file in memory (``RankStatus.copy``): a page with ``HEAD``, the vectors, and a msgpack map that says what they are.
The head is written last, so a copy is whole or not there.
"""

import contextlib
import mmap
import os
import threading
from typing import Any, NamedTuple

import msgpack
import numpy as np

from common.flat import Array
from common.rank_status import COPY_HEAD, PAGE_BYTES, SAVED, TO_SAVE, copy_head
from workers.checkpoint.checkpoint_file import Snapshot

INLINE_BYTES = 1 << 20
"""Smaller arrays (how the data are scaled) are in the map itself."""
ALIGN = mmap.ALLOCATIONGRANULARITY


class Region(NamedTuple):
    """A vector in the file: its memory, which is kept so that no other gets its address, and where it lies there."""

    memory: Array
    address: int
    offset: int
    n_bytes: int


class HeldCopy:
    """Memory for the copies of a state of training, one at a time. Used by rank 0 and the thread that saves."""

    def __init__(self, handle: int) -> None:
        """``handle``: the file; -1 where the system has none, and copies are this process's own."""
        self._handle = handle
        self._mutex = threading.Lock()
        self._regions: list[Region] = []
        self._free: list[Region] = []
        self._end = PAGE_BYTES
        self._about: dict[str, Any] = {}

    def allocate(self, n: int, dtype: np.dtype[Any]) -> Array:
        """Return memory for a vector: in the file, or where that cannot grow, this process's own."""
        n_bytes = max(1, n * dtype.itemsize)
        for region in self._free:
            if (len(region.memory), region.memory.dtype) == (n, dtype):
                self._free = [other for other in self._free if other is not region]
                self._regions.append(region)
                return region.memory
        offset = -(-self._end // ALIGN) * ALIGN
        try:
            os.ftruncate(self._handle, offset + n_bytes)
            memory = mmap.mmap(self._handle, n_bytes, offset=offset)
        except (OSError, ValueError):
            return np.empty(n, dtype)
        vector = np.frombuffer(memory, dtype, n)
        self._regions.append(Region(vector, vector.ctypes.data, offset, n_bytes))
        self._end = offset + n_bytes
        return vector

    def recycle(self) -> None:
        """Give up vectors that are not held; the next ones lie in the same memory, which is faster than new one."""
        self._free, self._regions = [*self._free, *self._regions], []

    def hold(self, snapshot: Snapshot, **more: Any) -> None:
        """Let the watchdog write a snapshot, whose vectors have been allocated here, if this rank is gone before.

        ``more``: plain values that it is to know.
        """
        arrays = {name: self._place(array) for name, array in snapshot.arrays.items()}
        if None in arrays.values():
            return
        with self._mutex:
            self._about = {"step": snapshot.step, "about": snapshot.about, "arrays": arrays, **more}
            self._write()

    def add(self, of_step: int | None = None, **more: Any) -> None:
        """Let the watchdog know more, unless the copy is not held; one that has been written is none the less.

        ``of_step``: only if that is the copy's.
        """
        with self._mutex:
            if self._about and of_step in (None, self._about.get("step")):
                self._about |= more
                self._write()

    def written(self, file: str) -> None:
        """Say that the vectors are in a file, and give their memory back, but not in a job that stops.

        There the watchdog must know of the stop at every moment, and the memory goes soon.
        """
        with self._mutex:
            kept: dict[str, Any] = {name: value for name, value in self._about.items() if name in ("n_records", "stop")}
            if "stop" not in kept:
                self._clear()
            self._about = {"file": file, **kept}
            if "stop" in kept:
                self._write()

    def saved(self) -> None:
        """Leave nothing to the watchdog: all is in the run folder. That a job has stopped is no death, even so."""
        if "stop" in self._about:
            self.add(saved=True)
        else:
            self.clear()

    def clear(self) -> None:
        """Leave nothing to the watchdog."""
        with self._mutex:
            self._clear()

    def _clear(self) -> None:
        self._about, self._regions, self._free, self._end = {}, [], [], PAGE_BYTES
        with contextlib.suppress(OSError):
            os.pwrite(self._handle, bytes(COPY_HEAD.size), 0)
            os.ftruncate(self._handle, PAGE_BYTES)

    def _place(self, array: Array) -> list[Any] | None:
        """Say where the watchdog finds an array; None if it cannot."""
        kind, address = [array.dtype.str, list(array.shape)], array.ctypes.data
        for region in self._regions:
            if region.address <= address and address + array.nbytes <= region.address + region.n_bytes:
                return [*kind, region.offset + address - region.address]
        return [*kind, array.tobytes()] if array.nbytes <= INLINE_BYTES else None

    def _write(self) -> None:
        text = msgpack.packb(self._about)
        with contextlib.suppress(OSError):
            os.pwrite(self._handle, text, self._end)
            stop = SAVED if "saved" in self._about else TO_SAVE if "stop" in self._about else 0
            os.pwrite(self._handle, COPY_HEAD.pack(self._end, len(text), stop), 0)
            self._end += len(text)  # the next one does not touch it: the process may end meanwhile


def read_held(handle: int) -> tuple[Snapshot | None, dict[str, Any]]:
    """Return what a rank that is gone has left to write, if anything, and what else it said, {} if nothing."""
    offset, length, _ = copy_head(handle)
    if not offset:
        return None, {}
    said: dict[str, Any] = msgpack.unpackb(os.pread(handle, length, offset))
    places = said.pop("arrays", None)
    if places is None:
        return None, said
    whole = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
    arrays = {
        name: np.ndarray(shape, dtype, *((place,) if isinstance(place, bytes) else (whole, place)))
        for name, (dtype, shape, place) in places.items()
    }
    return Snapshot(said.pop("step"), arrays, said.pop("about")), said
