"""What all ranks do together when a step goes wrong: leave it out, repair those who differ, or end the job."""

from collections.abc import Callable
from typing import Any

from mpi4py import MPI

from common.config import RunConfig
from common.errors import JobError, NotFiniteError, StepError
from common.host import host
from common.ranges import first_of
from common.rank_status import RankStatus
from common.wording import count
from ps.comm.agreement import at_root
from ps.comm.collectives import allgather
from ps.coordinator.seat import CoordinatorSeat
from ps.sync.training_state import TrainingState
from workers.checkpoint.job_state import JobState

MOST_TRIES = 3
"""Repairs of one step before the job is ended."""


class StepFaults:
    """Recovers from steps that went wrong, the same way on all ranks."""

    def __init__(
        self,
        comm: MPI.Comm,
        config: RunConfig,
        state: TrainingState,
        steps_per_epoch: int,
        job_state: JobState,
        seat: CoordinatorSeat,
        rank_status: RankStatus,
    ) -> None:
        self.comm, self.config, self.state, self.steps_per_epoch = comm, config, state, steps_per_epoch
        self.job_state, self.seat, self.rank_status = job_state, seat, rank_status
        self._tries = (0, 0, 0)
        """Epoch and step of the last one that was repaired, and how often."""

    def recover(self, fault: StepError, not_finite: Callable[[], list[str]]) -> bool:
        """Say whether to take the step again, or else to leave it out. Collective; the same on all ranks.

        ``not_finite``: returns what was not finite on this rank in the step. Raises JobError where training must end.
        """
        self.state.optimizer.undo_begin()
        # a flipped bit can also make a number that is not finite
        if isinstance(fault, NotFiniteError) and not self._differing()[0]:
            self.leave_out(not_finite(), fault.steps)
            return False
        self.repair()
        return True

    def rebind(self, comm: MPI.Comm) -> None:
        """Continue among other ranks."""
        self.comm, self._tries = comm, (0, 0, 0)

    def compare(self) -> None:
        """See that all ranks have the same parameters, or repair those who have not. Collective."""
        if self._differing()[0]:
            self.repair()

    def _differing(self) -> tuple[dict[int, list[str]], bool]:
        return self.state.compare() if self.config.init == "broadcast" else ({}, True)

    def repair(self) -> None:
        """Repair the ranks whose parameters differ from most. Collective; raises JobError where that may not be."""
        at = self.rank_status
        tries = self._tries[2] if self._tries[:2] == (at.epoch, at.step) else 0
        self._tries = (at.epoch, at.step, tries + 1)
        named, majority = self._differing()
        hosts = allgather(self.comm, host())
        text = first_of(f"rank {rank} on {hosts[rank]} in {', '.join(names)}" for rank, names in named.items())
        if self.config.heal and majority and tries < MOST_TRIES:
            self.state.repair(sorted(named))
            parameters = {str(rank): names for rank, names in named.items()}
            self._note("heal", ranks=sorted(named), parameters=parameters)
            return
        remedy = (
            "--heal repairs them from the majority" if majority and not self.config.heal else
            "with two ranks, or two halves, there is no majority to repair from" if not majority else
            "repairing did not help"
        )  # fmt: skip
        raise JobError(
            f"parameters: not the same on all ranks at {at}; different on {text or 'an unknown rank'}; replicas that "
            "start equal and apply equal updates stay equal, so look for a faulty node or mixed library versions; "
            f"{remedy}"
        )

    def leave_out(self, own: list[str], steps: int = 1) -> None:
        """Note that steps were left out, or end the job. Collective; ``own``: what was not finite on this rank."""
        at = self.rank_status
        first = at.step - steps + 1
        ranks = {str(rank): names for rank, names in enumerate(allgather(self.comm, own)) if names}
        where = first_of(f"rank {rank}: {', '.join(names)}" for rank, names in ranks.items())
        where = where or "the sum over the ranks, or rate times gradient, though each rank's part is finite"
        where_to = f" (also with --resume {at.folder}, from the last checkpoint)" if at.folder else ""
        remedy = f"lower --learning-rate or set --clip{where_to}, or look at the data of that rank"
        if self.config.nonfinite == "stop":
            raise JobError(
                f"not finite at epoch {at.epoch}, step {at.step}: {where}; all ranks stopped at this step; {remedy}, "
                "or leave such steps out with --nonfinite skip"
            )
        epoch, step, in_a_row = self.job_state.skipped
        last = step == self.steps_per_epoch
        follows = (at.epoch, first) in ((epoch, step + 1), *([(epoch + 1, 1)] if last else []))
        again = (at.epoch, at.step) == (epoch, step)  # ranks died before all had left it out
        in_a_row = in_a_row if again else in_a_row + 1 if follows else 1
        self.job_state.skipped = (at.epoch, at.step, in_a_row)
        self._note("skip", not_finite=ranks or {"": [where]})
        if in_a_row >= self.config.nonfinite_most:
            raise JobError(
                f"not finite in {count(in_a_row, 'step')} in a row, up to epoch {at.epoch}, step {at.step}: {where}; "
                f"that is as many as --nonfinite-most allows; {remedy}"
            )

    def _note(self, what: str, **fields: Any) -> None:
        at = self.rank_status
        at_root(self.comm, lambda: self.seat.event(what, epoch=at.epoch, step=at.step, **fields))
