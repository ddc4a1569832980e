"""The training loop of a rank that takes tickets: modes in which each goes on as soon as its own part is done."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from mpi4py import MPI

from common.data.loader import Batch
from common.data.ticket_loader import TicketLoader
from common.flat import ASK_SAVE, ASK_STOP
from common.nn import schedules
from common.rank_status import AT, COMPUTE, EPOCH, EXCHANGE, N_PHASES
from ps.metrics.epoch_sums import EpochSums
from ps.metrics.preemption import Preemption
from ps.sync.served.messages import NO_TICKET
from ps.sync.served.server import ASK_FAULT, ASK_SHRINK
from ps.sync.served.synchronizer import ServedSync
from ps.sync.synchronizer import Synchronizer
from workers.training.loop import Trainer


class TicketTrainer(Trainer):
    """Runs epochs in rounds, at whose end all ranks have the same parameters and all steps so far are done.

    An epoch is one round, unless a stop, a checkpoint or a push that is not finite ends it early; then another round
    follows. ``served``: the synchroniser itself, which deals the tickets; ``sync`` may be what stands before it.
    """

    loader: TicketLoader

    def __init__(self, served: ServedSync, *parts: Any) -> None:
        """``parts``: see Trainer."""
        super().__init__(*parts)
        self.served = served
        self._culprit: list[str] = []
        """What was not finite in a push of this rank in the round."""

    def run_epoch(self, epoch: int, done: int = 0) -> EpochSums:
        """See Trainer."""
        self.begin(done)
        sums, loader, status, served = self.sums, self.loader, self.status, self.served
        rates = schedules.learning_rates(self.config, epoch, loader.steps)
        status.cells[EPOCH] = epoch
        preempted, start = Preemption.now(), time.perf_counter()
        loader.begin(epoch)
        while sums.steps < loader.steps and not sums.stopped:
            asked = self._round(rates, sums.steps)
            sums.steps = served.steps_done
            if asked & ASK_SHRINK:
                raise MPI.Exception(MPI.ERR_PROC_FAILED)  # as all of them would meet it in whatever they do together
            if asked & ASK_FAULT:
                self._note_fault()
            sums.stopped = bool(asked & ASK_STOP)
            if asked & ASK_SAVE and not sums.stopped:
                status.enter("checkpoint")
                self.checkpointing.save_in_loop(sums)
        sums.begin_s, sums.loop_s = start, time.perf_counter() - start
        sums.preemption = Preemption.now() - preempted
        if self.data.weight is None:
            sums.weight = float(sums.rows)
        sums.learning_rate = rates[sums.steps - 1]
        status.enter("end of epoch")
        return sums

    def _round(self, rates: list[float], first: int) -> int:
        """Take tickets until there are no more; return what any rank asked for."""
        served, loader, cells = self.served, self.loader, self.status.cells
        backward, step, stop, checkpointing = self.sync.backward, self.sync.step, self.stop, self.checkpointing
        served.begin_round(rates, first)
        asked = 0
        while served.ticket != NO_TICKET:
            k = served.ticket // served.comm.size
            cells[AT] = at = N_PHASES * k
            batch = loader.batch(served.ticket)
            cells[AT] = at + COMPUTE
            self.loss_sum = loss = backward(batch, rates[k], sample=False)
            cells[AT] = at + EXCHANGE
            asked = step(batch, loss, stop=stop.signal != 0, save=checkpointing.due, sample=False)
            if served.not_finite_now:
                self._culprit = served.not_finite_now
            elif served.applied:  # else another rank has been dealt these rows
                self._add(batch, loss)
        cells[AT] = N_PHASES * served.steps_done
        return asked

    def _add(self, batch: Batch, loss: float) -> None:
        sums, n = self.sums, batch.n
        sums.loss_sum += loss
        sums.rows += n
        if n and batch.weight is not None:
            sums.weight += float(batch.weight.sum(dtype="f8"))

    def _note_fault(self) -> None:
        """Say together what was not finite, and go on without it or end the job. Raises JobError."""
        culprit, self._culprit = self._culprit, []
        self.status.cells[AT] = N_PHASES * (self.served.fault - 1)
        self.step_faults.leave_out(culprit)
        self.sums.skipped += 1


def trainer_for(sync: Synchronizer) -> Callable[..., Trainer]:
    """Return what makes the training loop of a mode."""
    return partial(TicketTrainer, sync) if isinstance(sync, ServedSync) else Trainer
