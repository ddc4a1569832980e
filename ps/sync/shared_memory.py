"""Memory that the ranks of a node share, and the barrier in it that they wait at."""

import ctypes
import errno
import mmap
import os
import platform
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from common.errors import RankwiseError
from common.flat import Array
from ps.comm.agreement import together
from ps.comm.topology import Topology

PAGE = 4096
HUGE_PAGE, MADV_HUGEPAGE = 2 << 20, 14
MADV_POPULATE_WRITE = 23
"""From Linux 5.14 on."""
SHM = Path("/dev/shm")
"""Where MPI libraries on Linux put memory that processes share."""
PAUSE_S = 5e-5
"""Between looks while another rank waits for a network, which takes long, and needs the processor."""
SPINS = 2000
"""Looks at a flag before the processor is offered to others: about 0.1 ms."""


class Windows:
    """Shared memory of one node, freed together: each ``allocate`` is one MPI window."""

    def __init__(self, topology: Topology, expected: int, instead: str = "--mode allreduce") -> None:
        """``expected``: bytes this rank will ask for, checked before any is touched. Collective; raises JobError.

        ``instead``: the option that does without.
        """
        self.topology, self.local, self._instead = topology, topology.local, instead
        self._windows: list[MPI.Win] = []
        total = np.array([expected], np.int64)
        self.local.Allreduce(MPI.IN_PLACE, total)
        together(topology.comm, lambda: self._check_room(int(total[0])))
        topology.on_free(self.close)

    def allocate(self, own: int, dtype: np.dtype[Any], touch: Sequence[slice] | None = None) -> list[Array]:
        """Return every local rank's vector of zeros, in rank order; ``own``: numbers in this rank's.

        ``touch``: ranges of rank 0's vector that this rank writes to first, for memory lies near the core that does;
        default: all of its own. Collective over all nodes. Raises JobError if /dev/shm has no room on one, naming what
        is needed.
        """
        n_bytes = -(-own * dtype.itemsize // PAGE) * PAGE
        lengths = np.empty((self.local.size, 2), np.int64)
        self.local.Allgather(np.array([own, n_bytes], np.int64), lengths)
        together(self.topology.comm, lambda: self._check_room(int(lengths[:, 1].sum())))
        window = together(self.topology.comm, lambda: self._window(n_bytes))
        vectors = []
        for rank, (n, _) in enumerate(lengths.tolist()):
            memory, _ = window.Shared_query(rank)
            vectors.append(np.asarray(memory, np.uint8)[: n * dtype.itemsize].view(dtype))
        mine = vectors[self.local.rank if touch is None else 0]
        _ask_for_huge_pages(mine)
        own_parts = [mine[where] for where in ((slice(None),) if touch is None else touch)]
        together(self.topology.comm, lambda: self._touch(own_parts))
        window.Sync()
        self.local.Barrier()
        return vectors

    def allocate_one(self, n: int, dtype: np.dtype[Any], touch: Sequence[slice] | None = None) -> Array:
        """Return a vector of zeros that all ranks of the node see. Collective; raises JobError like ``allocate``.

        ``touch``: the ranges that this rank works on; those of all ranks cover the vector. Default: rank 0 has all.
        """
        return self.allocate(0 if self.local.rank else n, dtype, touch)[0]

    def sync(self) -> None:
        """Order this rank's reads and writes of shared memory around this point (MPI-4.1, section 12.7)."""
        self._windows[0].Sync()

    def close(self) -> None:
        """Free all windows. Collective on the node."""
        for window in reversed(self._windows):
            window.Unlock_all()
            window.Free()
        self._windows.clear()

    def _window(self, n_bytes: int) -> MPI.Win:
        """Return a window of so many bytes of this rank. Collective on the node, whose ranks all fail if one does."""
        try:
            window = MPI.Win.Allocate_shared(n_bytes, 1, MPI.INFO_NULL, self.local)
        except MPI.Exception as error:
            raise RankwiseError(
                f"shared memory: the MPI library cannot make it ({error}); choose {self._instead}"
            ) from error
        window.Lock_all(MPI.MODE_NOCHECK)
        self._windows.append(window)
        return window

    def _touch(self, parts: Sequence[Array]) -> None:
        """Write to memory that nobody has touched. Another job may have taken what was free when it was looked at."""
        for part in parts:
            if not _take_pages(part):
                raise RankwiseError(
                    f"shared memory: no room is left in {SHM}; end what else uses it, give it more room, or choose "
                    f"{self._instead}"
                )
            part[...] = 0

    def _check_room(self, n_bytes: int) -> None:
        if not SHM.is_dir() or self.local.size == 1:  # alone, a rank gets private memory
            return
        free = shutil.disk_usage(SHM).free
        if n_bytes > free:
            raise RankwiseError(
                f"shared memory: this node needs {n_bytes / 1e6:.1f} MB in {SHM}, {free / 1e6:.1f} MB are free; give "
                f"it more room, or choose {self._instead}"
            )


def _ask_for_huge_pages(vector: Array) -> None:
    """Ask the system to use large pages for a long vector that nobody has touched yet.

    It does where /dev/shm is mounted with huge=advise. Vectors that a cache holds are no faster by it.
    """
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    start = -(-vector.ctypes.data // HUGE_PAGE) * HUGE_PAGE
    length = (vector.ctypes.data + vector.nbytes - start) // HUGE_PAGE * HUGE_PAGE
    if madvise is not None and length >= 2 * HUGE_PAGE:
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), MADV_HUGEPAGE)


def _take_pages(vector: Array) -> bool:
    """Say whether there is memory for a vector; where the system cannot tell, a write to it tells by a signal."""
    if not vector.nbytes:
        return True
    libc = ctypes.CDLL(None, use_errno=True)
    start = vector.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    length = vector.ctypes.data + vector.nbytes - start
    failed = libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), MADV_POPULATE_WRITE)
    return not failed or ctypes.get_errno() not in (errno.EFAULT, errno.ENOMEM)


class FlagBarrier:
    """A barrier of the ranks of a node in shared memory: one store, then looking until the others have stored.

    Dissemination barrier (Hensgen, Finkel & Manber 1988): in round k rank r signals rank r + 2^k and waits for rank
    r - 2^k; after log2(size) rounds each has heard of all, directly or not. Each flag has a cache line of its own.
    With more ranks than cores the processor is given away while waiting.
    """

    ROUNDS = 16
    STRIDE = 8  # int64 in a cache line

    def __init__(self, windows: Windows) -> None:
        local = windows.local
        flags = windows.allocate(self.ROUNDS * self.STRIDE, np.dtype(np.int64))
        views = [f.data for f in flags]
        n_rounds = (local.size - 1).bit_length()
        self._own = views[local.rank]
        self._rounds = [(k * self.STRIDE, views[(local.rank - (1 << k)) % local.size]) for k in range(n_rounds)]
        self._spins = 20 if windows.topology.oversubscribed else SPINS
        self._count = 0
        # only x86 keeps the order of stores by itself
        self._fence = None if platform.machine() in ("x86_64", "AMD64") else windows.sync

    def wait(self, pause_s: float = 0.0) -> None:
        """Return when all ranks of the node have come; ``pause_s``: how long to sleep between looks, if at all."""
        self._count = count = self._count + 1
        if self._fence:
            self._fence()
        own = self._own
        for at, other in self._rounds:
            own[at] = count
            if other[at] < count:
                self._look(other, at, count, pause_s)
        if self._fence:
            self._fence()

    def _look(self, other: memoryview, at: int, count: int, pause_s: float) -> None:
        for _ in range(self._spins):
            if other[at] >= count:
                return
        while other[at] < count:
            if pause_s:
                time.sleep(pause_s)
            else:
                os.sched_yield()
