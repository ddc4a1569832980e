"""What all ranks do together when a step goes wrong: leave it out, repair those who differ, or end the job."""

from collections.abc import Callable
from typing import Any

from mpi4py import MPI

from common.config import RunConfig
from common.errors import JobError, NotFiniteError, StepError
from common.host import host
from common.progress import RankStatus
from ps.comm.agreement import at_root
from ps.comm.collectives import allgather
from ps.metrics.epoch_sums import EpochSums
from ps.sync.replica_check import compare
from ps.sync.synchronizer import Synchronizer
from workers.checkpoint.saving import Saving

MOST_TRIES = 3


class StepFaults:
    """The job's side of the training loop.

    ``not_finite``: returns what was not finite on this rank in the last step. ``event``: writes an event to the log, at
    rank 0.
    """

    def __init__(
        self, comm: MPI.Comm, config: RunConfig, sync: Synchronizer, saving: Saving, rank_status: RankStatus
    ) -> None:
        self.comm, self.config, self.sync, self.saving, self.rank_status = comm, config, sync, saving, rank_status
        self.not_finite: Callable[[], list[str]] = list
        self.event: Callable[..., None] = lambda what, **fields: None  # noqa: ARG005
        self.skipped = (0, 0, 0)
        """Epoch and step of the last one left out, and how many in a row that makes."""
        self._tries = (0, 0, 0)

    @property
    def due(self) -> bool:
        """Whether this rank asks for a checkpoint."""
        return self.saving.due

    def save(self, epoch: int, sums: EpochSums) -> None:
        """See Duties in workers/training/loop.py."""
        before = self.saving.seconds
        self.saving.save(epoch, sums)
        self.saving.in_loop_s += self.saving.seconds - before

    def recover(self, fault: StepError) -> bool:
        """See Duties in workers/training/loop.py. Collective; the same on all ranks."""
        self.sync.undo_begin()
        # a flipped bit can also make a number that is not finite
        if isinstance(fault, NotFiniteError) and not self._differing()[0]:
            self._leave_out()
            return False
        self.repair()
        return True

    def rebind(self, comm: MPI.Comm, skipped: tuple[int, int, int]) -> None:
        """Go on among other ranks, as if this rank had left out the same steps as they have."""
        self.comm, self.skipped, self._tries = comm, skipped, (0, 0, 0)

    def compare(self) -> None:
        """See that all ranks have the same parameters, or repair those who have not, as ``heal`` does. Collective."""
        if self._differing()[0]:
            self.repair()

    def _differing(self) -> tuple[dict[int, list[str]], bool]:
        return compare(self.comm, self.sync.flat, self.sync.copies) if self.config.init == "broadcast" else ({}, True)

    def repair(self) -> None:
        """Repair the ranks whose parameters differ from most. Collective; raises JobError where that may not be."""
        at = self.rank_status
        tries = self._tries[2] if self._tries[:2] == (at.epoch, at.step) else 0
        self._tries = (at.epoch, at.step, tries + 1)
        named, majority = self._differing()
        hosts = allgather(self.comm, host())
        text = "; ".join(f"rank {rank} on {hosts[rank]} in {', '.join(names)}" for rank, names in named.items())
        if self.config.heal and majority and tries < MOST_TRIES:
            self.sync.repair(sorted(named))
            fields = {"epoch": at.epoch, "step": at.step, "ranks": sorted(named)}
            self._note("heal", **fields, parameters={str(rank): names for rank, names in named.items()})
            return
        remedy = (
            "--heal repairs them from the majority" if majority and not self.config.heal else
            "with two ranks, or two halves, there is no majority to repair from" if not majority else
            "repairing did not help"
        )  # fmt: skip
        raise JobError(
            f"parameters: differ between ranks at {at}; odd ones: {text or 'not to be told any more'}; replicas that "
            "start equal and apply equal updates stay equal, so look for a faulty node or mixed library versions; "
            f"{remedy}"
        )

    def _leave_out(self) -> None:
        at = self.rank_status
        ranks = {str(rank): names for rank, names in enumerate(allgather(self.comm, self.not_finite())) if names}
        where = "; ".join(f"rank {rank}: {', '.join(names)}" for rank, names in ranks.items())
        where = where or "the sum over the ranks, or rate times gradient, though each rank's part is finite"
        remedy = "lower --learning-rate, set --clip, or look at the data of that rank"
        if self.config.nonfinite == "stop":
            raise JobError(
                f"not finite at epoch {at.epoch}, step {at.step}: {where}; all ranks stopped at this step; {remedy}, "
                "or leave such steps out with --nonfinite skip"
            )
        epoch, step, in_a_row = self.skipped
        last = step == self.saving.steps_per_epoch
        follows = (at.epoch, at.step) in ((epoch, step + 1), *([(epoch + 1, 1)] if last else []))
        again = (at.epoch, at.step) == (epoch, step)  # ranks died before all had left it out
        self.skipped = (at.epoch, at.step, in_a_row if again else in_a_row + 1 if follows else 1)
        self._note("skip", epoch=at.epoch, step=at.step, not_finite=ranks or {"": [where]})
        if self.skipped[2] >= self.config.nonfinite_most:
            raise JobError(
                f"not finite in {self.skipped[2]} steps in a row, up to epoch {at.epoch}, step {at.step}: {where}; "
                f"--nonfinite-most allows no more; {remedy}"
            )

    def _note(self, what: str, **fields: Any) -> None:
        def note() -> None:
            self.event(what, **fields)

        at_root(self.comm, note)
