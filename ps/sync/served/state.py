"""What a parameter server trains: parameters, which all ranks have, and an optimizer's state at rank 0."""

import numpy as np

from common.flat import Array
from ps.comm.collectives import bcast
from ps.sync.served.compensation import MEAN_SQUARE
from ps.sync.training_state import BEST, SavedState, TrainingState, send_vectors


class ServedState(TrainingState):
    """The optimizer of rank 0 has blocks in the server's own parameters, those of the others have none.

    A checkpoint of a run without adaptive compensation lacks its mean squares, which then begin at 0.
    """

    optional = frozenset({MEAN_SQUARE})

    def vectors(self) -> list[tuple[str, list[Array]]]:
        """See TrainingState. Elsewhere than at rank 0 there is nothing of the optimizer."""
        return super().vectors() if self.comm.rank == 0 else []

    def live_vectors(self) -> list[Array]:
        """See TrainingState. What all ranks have: the parameters."""
        return [self.flat.param_vector]

    def load(self, saved: SavedState | None) -> None:
        """See TrainingState."""
        if saved is not None:
            np.copyto(self.flat.param_vector, saved.params)
        self.broadcast()
        if bcast(self.comm, saved is not None and BEST in saved.vectors):
            self.snapshot_best()
            whole = np.empty_like(self.flat.param_vector) if saved is None else saved.vectors[BEST]
            send_vectors(self.comm, [whole], 0)
            for block, where in zip(self._best, self.ranges, strict=True):
                np.copyto(block, whole[where])
        if saved is not None:
            for name, own_blocks in self.optimizer.state().items():
                if name not in saved.vectors:
                    continue
                for block, where in zip(own_blocks, self.ranges, strict=True):
                    np.copyto(block, saved.vectors[name][where].reshape(block.shape))
            self.optimizer.restore(saved.counts)
