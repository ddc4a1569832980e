"""What mode ``local`` trains: parameters of this rank, those that all ranks have in common, and the outer momentum."""

from collections.abc import Callable, Sequence

import numpy as np
from mpi4py import MPI

from common.files import do_nothing
from common.flat import Array, Flat, blocks
from common.nn.optimizers import Optimizer
from ps.comm.collectives import MAX_BYTES
from ps.sync.training_state import Allocate, SavedState, TrainingState

OUTER_VELOCITY = "outer_velocity"


class LocalState(TrainingState):
    """The parameters are this rank's own between averages; all that is saved or compared is of an average.

    ``common``: (n,), the parameters w after the last average, the same on all ranks. ``velocity``: (n,), that of the
    outer momentum; empty without. ``averages_moments``: whether ranks have different optimizer states at an average, of
    which a checkpoint gets the mean. ``repaired``: called when ranks have been repaired.
    """

    optional = frozenset({OUTER_VELOCITY})

    def __init__(
        self,
        comm: MPI.Intracomm,
        flat: Flat,
        optimizer: Optimizer,
        ranges: Sequence[slice],
        *,
        outer_momentum: bool,
        averages_moments: bool,
    ) -> None:
        super().__init__(comm, flat, optimizer, ranges)
        self.common = np.zeros_like(flat.param_vector)
        self.velocity = np.zeros(flat.n if outer_momentum else 0, flat.dtype)
        self.averages_moments = averages_moments
        self.repaired: Callable[[], object] = do_nothing

    def broadcast(self) -> None:
        """See TrainingState."""
        super().broadcast()
        np.copyto(self.common, self.flat.param_vector)

    def repair(self, odd_ranks: list[int]) -> None:
        """See TrainingState. The parameters are those of the last average then."""
        super().repair(odd_ranks)
        self.repaired()

    def reset_optimizer(self) -> None:
        """Forget momentum and moments, and how many steps they are of."""
        for own_blocks in self.optimizer.state().values():
            for block in own_blocks:
                block.fill(0)
        self.optimizer.restore(dict.fromkeys(self.optimizer.counts(), 0))

    def live_vectors(self) -> list[Array]:
        """See TrainingState."""
        return [*super().live_vectors(), self.common, *([self.velocity] if len(self.velocity) else [])]

    def vectors(self) -> list[tuple[str, list[Array]]]:
        """See TrainingState."""
        outer = [self.velocity[where] for where in self.ranges]
        return [*super().vectors(), *([(OUTER_VELOCITY, outer)] if len(self.velocity) else [])]

    def capture(self, allocate: Allocate = np.empty) -> SavedState | None:
        """See TrainingState. Right after an average only, when the gradient's memory is free."""
        saved = super().capture(allocate)
        if not self.averages_moments:
            return saved
        mean = self.flat.grad_vector
        for name, own_blocks in self.optimizer.state().items():
            for block, where in zip(own_blocks, self.ranges, strict=True):
                np.multiply(block, 1 / self.comm.size, out=mean[where])
            for chunk in blocks(mean, MAX_BYTES // mean.itemsize):
                self.comm.Allreduce(MPI.IN_PLACE, chunk)
            if saved is not None:
                np.copyto(saved.vectors[name], mean)
        return saved

    def load(self, saved: SavedState | None) -> None:
        """See TrainingState. A checkpoint of another mode has no outer velocity, which then begins at 0."""
        if saved is not None and OUTER_VELOCITY not in saved.vectors:
            saved.vectors[OUTER_VELOCITY] = np.zeros(self.flat.n, self.flat.dtype)
        super().load(saved)
        np.copyto(self.common, self.flat.param_vector)
