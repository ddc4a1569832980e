"""Parameters that every rank has, and an optimizer whose state is divided: each rank has that of its slice."""

import numpy as np

from common.flat import Flat
from common.nn.optimizers import Optimizer
from ps.comm.topology import Topology
from ps.sync.slices import BlockRange
from ps.sync.training_state import Allocate, SavedState, TrainingState, send_vectors


class ShardedState(TrainingState):
    """See TrainingState. The best parameters are remembered like the optimizer's state: each rank has its slice."""

    def __init__(
        self,
        topology: Topology,
        flat: Flat,
        optimizer: Optimizer,
        slices: list[slice],
        of_ranks: list[list[BlockRange]],
    ) -> None:
        """``slices``: by rank, where its slice lies in the vector; ``of_ranks``: the blocks of each."""
        self._slices, self._of_ranks = slices, of_ranks
        ranges = [slice(block.start, block.stop) for block in of_ranks[topology.comm.rank]]
        super().__init__(topology.comm, flat, optimizer, ranges)

    def restore_best(self) -> None:
        """See TrainingState. Every rank then sends the others its slice."""
        super().restore_best()
        for rank, where in enumerate(self._slices):
            send_vectors(self.comm, [self.flat.param_vector[where]], rank)

    def repair(self, odd_ranks: list[int]) -> None:
        """Give some ranks the parameters of the others. Collective.

        Their slices of the optimizer's state stay as they are: nobody else has a copy.
        """
        root = next(rank for rank in range(self.comm.size) if rank not in odd_ranks)
        send_vectors(self.comm, [self.flat.param_vector], root)

    def capture(self, allocate: Allocate = np.empty) -> SavedState | None:
        """See TrainingState. Rank 0 collects the slices."""
        vectors = {}
        for name, own_blocks in self.vectors():
            if self.comm.rank:
                for block in own_blocks:
                    self.comm.Ssend(block, 0)  # else rank 0 would have to keep what it is not yet ready for
                continue
            whole = vectors[name] = allocate(self.flat.n, self.flat.dtype)
            for block, where in zip(own_blocks, self.ranges, strict=True):
                whole[where] = block
            for rank in range(1, self.comm.size):
                for start, stop, _ in self._of_ranks[rank]:
                    self.comm.Recv(whole[start:stop], rank)
        if self.comm.rank:
            return None
        params = allocate(self.flat.n, self.flat.dtype)
        np.copyto(params, self.flat.param_vector)
        return SavedState(params, vectors, self.optimizer.counts())
