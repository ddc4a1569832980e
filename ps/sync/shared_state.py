"""Parameters and optimizer in memory that the ranks of a node share: one copy a node, each rank has its slices."""

import numpy as np
from mpi4py import MPI

from common.checksum import check
from common.flat import Flat
from common.nn.optimizers import Optimizer
from ps.comm.topology import Topology
from ps.sync.shared_memory import FlagBarrier
from ps.sync.slices import Layout
from ps.sync.training_state import Allocate, SavedState, TrainingState


class SharedState(TrainingState):
    """See TrainingState. A node remembers the best parameters once, like the optimizer's state."""

    def __init__(
        self,
        topology: Topology,
        flat: Flat,
        optimizer: Optimizer,
        layout: Layout,
        barrier: FlagBarrier,
        between: dict[int, MPI.Comm],
    ) -> None:
        """``between``: for each of this rank's slice numbers, the owners of those slices on all nodes, if several."""
        self.topology, self.layout, self.barrier, self.between = topology, layout, barrier, between
        self.me = topology.local.rank
        self._own = [s for s in layout.slices if s.owner == self.me]
        ranges = [slice(block.start, block.stop) for block in layout.blocks(self.me)]
        super().__init__(topology.comm, flat, optimizer, ranges)
        self.copies = topology.leaders

    def broadcast(self) -> None:
        """Send rank 0's parameters to the other nodes, whose leaders own slice 0 as it does."""
        if 0 in self.between:
            self.between[0].Bcast(self.flat.param_vector)
        self.barrier.wait()

    def restore_best(self) -> None:
        """See TrainingState. When it returns, the other ranks' slices are back too."""
        super().restore_best()
        self.barrier.wait()

    def checksum(self) -> tuple[int, bool]:
        """See TrainingState. Each rank of the node looks at its own slices. Collective."""
        found = [check(self.flat.param_vector[s.start : s.stop], s.start) for s in self._own]
        total = np.array([sum(own for own, _ in found) % 2**64], np.uint64)
        self.topology.local.Allreduce(MPI.IN_PLACE, total)
        return int(total[0]) >> 16, all(finite for _, finite in found)

    def repair(self, odd_ranks: list[int]) -> None:
        """See TrainingState. The owners of each slice on all nodes repair each other's."""
        for number, comm in self.between.items():
            wrong = np.empty(comm.size, np.bool_)
            comm.Allgather(np.array([self.comm.rank in odd_ranks]), wrong)
            root = int(np.flatnonzero(~wrong)[0])
            for i, where in enumerate(self.ranges):
                if any(s.number == number and s.start <= where.start < s.stop for s in self._own):
                    state = (own_blocks[i] for own_blocks in self.optimizer.state().values())
                    for vector in (self.flat.param_vector[where], *state):
                        comm.Bcast(vector.reshape(-1), root)
        self.barrier.wait()

    def capture(self, allocate: Allocate = np.empty) -> SavedState | None:
        """See TrainingState. What goes with the parameters lies with the ranks of rank 0's node, each its slices."""
        local, here = self.topology.local, self.topology.leaders[self.comm.rank] == 0
        vectors = {}
        for name, own_blocks in self.vectors() if here else ():
            if self.me:
                for block in own_blocks:  # none is near what one message may hold
                    local.Send(block.reshape(-1), 0)
                continue
            whole = vectors[name] = allocate(self.flat.n, self.flat.dtype)
            for block, where in zip(own_blocks, self.ranges, strict=True):
                whole[where] = block.reshape(-1)
            for rank in range(1, local.size):
                for start, stop, _ in self.layout.blocks(rank):
                    local.Recv(whole[start:stop], rank)
        if self.comm.rank:
            return None
        params = allocate(self.flat.n, self.flat.dtype)
        np.copyto(params, self.flat.param_vector)
        return SavedState(params, vectors, self.optimizer.counts())
