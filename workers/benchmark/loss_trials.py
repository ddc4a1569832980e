"""Trainings of one mode after another until the validation loss is low enough, timed from the same start."""

import math
import time
from typing import Any, NoReturn, cast

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.errors import EXIT_STOPPED, JobError, NotFiniteError
from common.flat import Array
from common.rank_status import EPOCH, RankStatus
from ps.comm.agreement import together
from ps.comm.collectives import allgather
from ps.comm.topology import Topology
from ps.coordinator.metric import Metric
from ps.metrics.loss_comparison import crossing
from workers.benchmark import machine
from workers.benchmark.runner import Workload, closing
from workers.benchmark.variants import Variant
from workers.launch import fault_spec
from workers.training import fault_injection
from workers.training.build import assemble
from workers.training.loop import Trainer
from workers.training.task import Task
from workers.training.ticket_loop import trainer_for


class DivergedError(JobError):
    """A loss or gradient of a trial that is not finite, on all ranks."""


class NoRecovery:
    """In place of StepFaults: what goes wrong ends the trial."""

    def recover(self, fault: Exception, _: object) -> NoReturn:
        """Raise what the trial is to end with."""
        if isinstance(fault, NotFiniteError):
            raise DivergedError("loss or gradient is not finite")
        raise JobError("parameters differ between ranks; look for a faulty node")

    def leave_out(self, _: list[str], steps: int = 1) -> NoReturn:  # noqa: ARG002
        """Raise what the trial is to end with."""
        raise DivergedError("loss or gradient is not finite")


class NoCheckpoints:
    """In place of Checkpointing: none is due."""

    due = False


class LossTrials:
    """Trains variants to a loss over the validation rows; each from its first step, on the clock of the slowest rank.

    Evaluations are not on the clock.
    """

    def __init__(self, work: Workload, goal: float, rank_status: RankStatus) -> None:
        """``goal``: of the mean loss, in the target's unit. Collective; raises JobError."""
        self.work, self.goal, self.rank_status = work, goal, rank_status
        comm = work.topology.comm
        self.faults = together(comm, lambda: fault_spec.of_job(work.config.inject, comm.size))
        self.data = fault_injection.skew(self.faults, work.data, work.config, comm.size)

    def run(self, variant: Variant) -> dict[str, Any]:
        """Train; return the fields of the record, but for round and place. Collective; raises JobError."""
        training = Training(self.work, self.goal, variant.config)
        try:
            with closing(self.work.topology) as stack:
                task = Task(variant.config, self.data, self.work.model)
                parts = assemble(variant.config.mode, self.work.topology, task, tick=self.rank_status.tick)
                stack.callback(parts.sync.close)
                comm = self.work.topology.comm
                sync = fault_injection.place(self.faults, parts.sync, comm.rank, 0)
                trainer = trainer_for(parts.sync)(
                    task, parts.loader, sync, self.work.stop, self.rank_status, cast("Any", NoRecovery()),
                    cast("Any", NoCheckpoints()),
                )  # fmt: skip
                training.evaluate(trainer)
                for epoch in range(1, variant.config.epochs + 1):
                    training.train(trainer, epoch)
                    training.sent(parts.sync.sent_in(trainer.sums.steps))
                    parts.sync.meter.close_epoch()
                    parts.sync.epoch_figures()
                    if not training.evaluate(trainer):
                        break
        except DivergedError:
            training.diverged = True
        return {"mode": variant.name, **training.figures()}


class Training:
    """What a trial has come to; the same on all ranks."""

    def __init__(self, work: Workload, goal: float, config: RunConfig) -> None:
        self.work, self.goal, self.config = work, goal, config
        self.seconds, self.rows, self.losses = [0.0], [0], list[float]()
        self.metric: float | None = None
        self.sent_bytes, self.diverged = 0, False
        self.topology: Topology = work.topology

    def train(self, trainer: Trainer, epoch: int) -> None:
        """Train an epoch on the clock. Collective; raises JobError on all ranks where one was asked to stop."""
        comm = self.topology.comm
        comm.Barrier()
        start = time.perf_counter()
        with np.errstate(all="ignore"):
            sums = trainer.run_epoch(epoch)
        seconds = machine.slowest(comm, time.perf_counter() - start)
        rows = int(machine.reduced(comm, float(sums.rows), MPI.SUM))
        if machine.reduced(comm, float(sums.stopped), MPI.MAX):
            raise JobError("stopped by a signal; nothing was saved", EXIT_STOPPED)
        self.seconds.append(self.seconds[-1] + seconds)
        self.rows.append(self.rows[-1] + rows)

    def sent(self, own: int) -> None:
        """Add what this rank sent in an epoch."""
        self.sent_bytes += own

    def evaluate(self, trainer: Trainer) -> bool:
        """Take the loss over all validation rows; return whether to train on. Collective; raises DivergedError."""
        comm, trainer.status.cells[EPOCH] = self.topology.comm, 0
        trainer.status.enter("evaluation")
        rows = self.work.data.validation
        with np.errstate(all="ignore"):
            loss_sum, counted = trainer.evaluate(rows[comm.rank :: comm.size])
        sums: Array = np.array([loss_sum, trainer.score.of("validation", counted)])
        comm.Allreduce(MPI.IN_PLACE, sums)
        score = trainer.score
        loss = float(sums[0]) * score.unit / len(rows)
        if not math.isfinite(loss):
            raise DivergedError("the validation loss is not finite")
        self.losses.append(loss)
        self.metric = Metric(score.varies(), score.unit, score.mixed).of("validation", float(sums[1]), len(rows))
        return loss > self.goal

    def figures(self) -> dict[str, Any]:
        """Return the record's fields. Collective."""
        n = len(self.losses)  # one that diverged has no loss of its last epoch
        if not n:
            raise JobError("the validation loss is not finite before training; look at the rows for validation")
        seconds, rows = self.seconds[:n], self.rows[:n]
        reached = crossing(self.goal, self.losses, seconds)
        rows_to = crossing(self.goal, self.losses, rows)
        sent = allgather(self.topology.comm, self.sent_bytes)
        hosts = dict.fromkeys(self.topology.leaders, 0)
        for leader, own in zip(self.topology.leaders, sent, strict=True):
            hosts[leader] += own
        most = max(hosts.values())
        return {
            "epochs": n - 1,
            "seconds": seconds[-1],
            "seconds_to_loss": reached,
            "rows_to_loss": rows_to,
            "host_bytes_to_loss": None if rows_to is None else most * rows_to / max(rows[-1], 1),
            "rows_per_s": rows[-1] / seconds[-1] if n > 1 else None,
            "diverged": self.diverged,
            "loss": self.losses[-1],
            "metric": self.metric,
            "sent_bytes": sent,
            "curve_s": seconds,
            "curve_rows": rows,
            "curve_loss": self.losses,
        }
