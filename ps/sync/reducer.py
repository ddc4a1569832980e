"""What a way to sum a packet over the ranks is, for modes in which every rank then updates all parameters."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.flat import Array, blocks
from ps.comm.collectives import MAX_BYTES
from ps.comm.topology import Topology
from ps.sync.wire import shared_out
from ps.sync.wires.error_buffer import ErrorBuffer


class Reducer:
    """Sums one packet in place; all ranks end with the same values. Made once per run.

    Here: once the packet is complete, in as few chunks as MPI can count. ``comm``: where it exchanges. ``early``:
    whether ``ready`` does anything. ``sent_bytes``: payload this rank hands to MPI in one step, and
    ``exact_ratio`` times as much in ``sum_exactly``. ``error``: what this rank has not sent, with a wire that feeds it
    back, on all ranks. ``lossy``: its sums are not exact. Making and closing one are collective.
    """

    early = False
    error: ErrorBuffer | None = None
    exact_ratio = 1.0
    lossy = False

    def __init__(self, comm: MPI.Comm, packet: Array) -> None:
        self.comm = comm
        self.chunks = blocks(packet, MAX_BYTES // packet.itemsize)
        self.sent_bytes = packet.nbytes

    @classmethod
    def allocate(cls, topology: Topology, config: RunConfig, n: int, dtype: np.dtype[Any]) -> Any:  # noqa: ARG003
        """Return memory for a packet of ``n`` numbers, with its attribute ``packet``, if it must lie anywhere."""
        return None

    @classmethod
    def make(
        cls,
        topology: Topology,
        packet: Array,
        config: RunConfig,  # noqa: ARG003
        memory: Any,  # noqa: ARG003
        kept: str = "",  # noqa: ARG003
        tick: Callable[[], object] = lambda: None,  # noqa: ARG003
        shapes: Mapping[str, tuple[int, ...]] | None = None,  # noqa: ARG003
    ) -> "Reducer":
        """Return the reducer that a run takes. ``memory``: see ``allocate``; ``kept``, ``tick``: see ``choose``.

        ``shapes``: of the parameters whose gradient it is, for wires that need them. Collective; raises JobError.
        """
        return cls(topology.comm, packet)

    def between_bytes(self, topology: Topology) -> int:
        """Return the payload that this rank sends to other nodes in one step, where there are several.

        Here: see ``shared_out``.
        """
        return shared_out(self.sent_bytes, topology.leaders, topology.comm.rank)

    def facts(self) -> dict[str, Any] | None:
        """Return what the log says of how it sums, if there was a choice."""
        return None

    def ready(self, start: int) -> None:
        """Take notice that ``packet[start:]`` is final for this step; later calls never have a larger start."""

    def sum(self) -> None:
        """Sum the packet, which is now final as a whole; ``ready`` may not have been called for it."""
        raise NotImplementedError

    def sum_exactly(self) -> None:
        """Sum the packet as if there were no wire that shortens it, which then does not notice."""
        self.sum()

    def accept(self) -> None:
        """Take notice that the last sum is applied, on all ranks: what it has not sent is the error from here on."""

    def close(self) -> None:
        """Give back what MPI holds; nothing may be under way."""
