"""One training job as every rank runs it: epoch by epoch, then leave together."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.data.dataset import Dataset, Rows
from common.errors import EXIT_OK, EXIT_STOPPED
from common.flat import Array
from common.nn.mlp import Mlp
from common.nn.models import Model
from common.progress import RankStatus
from ps.comm.agreement import at_root
from ps.comm.collectives import allgather
from ps.coordinator import outputs
from ps.coordinator.coordinator import Coordinator
from ps.metrics import rank_row
from ps.metrics.epoch_sums import Before, EpochSums
from ps.metrics.sync_timer import SyncTimer, SyncTimes
from ps.sync.synchronizer import Synchronizer
from ps.text.record_lines import named_metric
from ps.text.stdout import say
from workers.checkpoint.resume import Origin
from workers.checkpoint.saving import Saving
from workers.launch import signals
from workers.training.epoch_totals import EpochTotals
from workers.training.loop import Trainer
from workers.training.step_faults import StepFaults

WORD_S = 1.0
"""How long to wait at the job's end for what the witnesses have seen of ranks that died."""


@dataclass(slots=True)
class Job:
    """What a rank holds during training, and how far it is: ``train`` goes on from there.

    ``scaling``: what was taken off the features and what they were divided by. ``threads``: BLAS threads
    of this rank, and who set them. ``sync_facts``: what the log says of the mode. ``coordinator``: rank 0 only.
    """

    comm: MPI.Comm
    config: RunConfig
    data: Dataset
    scaling: tuple[Array, Array]
    model: Model | Mlp
    trainer: Trainer
    sync: Synchronizer
    timer: SyncTimer
    stop: signals.StopFlag
    rank_status: RankStatus
    threads: tuple[int, str]
    sync_facts: dict[str, Any]
    origin: Origin
    saving: Saving
    step_faults: StepFaults
    coordinator: Coordinator | None = None
    row: Array = field(init=False)
    """What this rank hands to the coordinator at an epoch's end."""
    epoch: int = field(init=False)
    decision: dict[str, Any] | None = None
    """What was decided at the end of ``epoch``, if that has been reached."""
    last: dict[str, Any] = field(init=False)
    """What was decided at the end of the epoch before, and which that was."""
    totals: EpochTotals | None = None
    """What all ranks did of the epoch; only where ranks may die and the others go on (workers/elastic/survivors.py)."""
    collect_death_notes: Callable[[float], None] = field(default=lambda wait_s: None)  # noqa: ARG005
    """At rank 0: bring what was seen of ranks that died to the log, and wait so long for what is missing."""
    kept: bool = field(init=False)
    """Whether the best parameters are remembered."""
    over: bool = field(init=False)
    """Whether all epochs are done."""
    code: int | None = None
    """The exit code, once all is saved."""

    def __post_init__(self) -> None:
        origin = self.origin
        self.epoch, self.kept, self.over = origin.epoch, origin.kept, origin.stopped_early(self.config)
        self.last = {"epoch": origin.epoch - 1, "improved": False, "memory": origin.memory}
        self.row = np.zeros(1, rank_row.row_type(len(self.sync.flat.shapes)))

    def own(self, part: Rows) -> Rows:
        """Return this rank's share of the rows of an evaluation."""
        return part[self.comm.rank :: self.comm.size]

    def lead(self) -> Coordinator:
        """Return the coordinator; only for what runs at rank 0."""
        assert self.coordinator is not None
        return self.coordinator

    def train(self) -> int:
        """Run all epochs; return the exit code. Raises JobError."""
        # an overflow is found in the sums and reported once, with its place: NumPy need not warn on every rank
        with np.errstate(all="ignore"):
            return self._train()

    def _train(self) -> int:
        while self.code is None and not self.over and self.epoch <= self.config.epochs:
            if self.decision is None:
                sums = self.trainer.run_epoch(self.epoch, self.saving.before.steps)
                if sums.stopped:
                    self._stopped(sums)
                    continue
                self.decision = self._close_epoch(self.epoch, sums)
            self._after_epoch(self.decision)
        if self.code is None:
            self.over = True
            if self.kept:
                self.sync.restore_best()
            self.rank_status.phase, self.rank_status.epoch = "final test", 0
            self._finish("ok", EXIT_OK, self._test())
        assert self.code is not None
        return self.code

    def _after_epoch(self, decision: dict[str, Any]) -> None:
        if decision["diverged"]:
            self.step_faults.repair()
        self.keep(decision)
        self.rank_status.phase = "checkpoint"
        sums = self.trainer.sums
        self.saving.after_epoch(self.epoch, sums)
        self.over = decision["stop"]
        if decision["signalled"] and not self.over:
            self._stopped(sums, closed=True)
        else:
            self.begin(self.epoch + 1)

    def keep(self, decision: dict[str, Any]) -> None:
        """Remember the parameters if they are the best so far and may be wanted."""
        if self.config.patience and decision["improved"]:
            self.sync.snapshot_best()
            self.kept = True

    def begin(self, epoch: int, before: Before | None = None) -> None:
        """Be in an epoch, of which ``before`` is done."""
        if self.decision is not None:
            self.last = {**self.decision, "epoch": self.epoch}
        self.epoch, self.decision = epoch, None
        self.saving.before = before = before or Before()
        self.trainer.sums = EpochSums(first=before.steps, steps=before.steps)
        if self.totals is not None:
            self.totals.begin()

    def _close_epoch(self, epoch: int, sums: EpochSums) -> dict[str, Any]:
        self.rank_status.phase = "evaluation"
        start = self.timer.clock()
        validation = self.trainer.evaluate(self.own(self.data.validation))
        evaluation_s = self.timer.clock() - start
        self.rank_status.phase = "end of epoch"
        times = self.timer.close_epoch()
        sampled = self._fill_row(sums, times, (*validation, evaluation_s))
        table = rank_row.gather(self.comm, self.row)
        before = self.saving.before
        facts = {
            "steps": sums.steps - sums.first,
            "before": dataclasses.asdict(before) if before.steps else None,
            "skipped": sums.skipped,
            "sampled_steps": [k + 1 for k in sampled],
            "learning_rate": sums.learning_rate,
        }
        begin_s = float(times.align(np.array([sums.begin_s]))[0])

        def close() -> dict[str, Any]:
            assert table is not None
            self.rank_status.phase = "writing the log"
            self.saving.look()
            self.collect_death_notes(0.0)
            decision = self.lead().epoch(epoch, table, facts, len(self.data.validation), begin_s)
            self.decision = {**decision, "signalled": bool(table["signal"].any())}
            if self.totals is not None:  # who becomes the coordinator needs what this one knows
                self.decision["memory"] = self.lead().memory()
            return self.decision  # also kept at once: a rank may die while the others are told

        decision: dict[str, Any] = at_root(self.comm, close)
        return decision

    def _fill_row(self, sums: EpochSums, times: SyncTimes, evaluation: tuple[float, int, float]) -> list[int]:
        """Bring an epoch's figures together and begin those of the next; return the sampled steps. Collective.

        ``evaluation``: sum of losses, rows classified right and seconds of the validation.
        """
        sync, loader, saving, row = self.sync, self.trainer.loader, self.saving, self.row
        checksum, finite = sync.check_parameters()
        sampled, numbers, lines = sync.step_times.close_epoch()
        row["moments"][0, : len(sampled), :-1] = times.align(lines)
        row["moments"][0, : len(sampled), -1] = times.last[numbers]
        values: dict[str, Any] = {
            "rows": sums.rows,
            "loss_sum": sums.loss_sum,
            "validation_loss_sum": evaluation[0],
            "validation_correct": evaluation[1],
            "preemptions": sums.preemptions,
            "loop_s": sums.loop_s,
            "input_s": loader.input_s,
            "compute_s": sums.loop_s - times.sync_s - sync.sampling_s - loader.input_s - saving.in_loop_s,
            "reduce_s": sync.reduce_s,
            "wait_s": times.wait_s,
            "transfer_s": times.transfer_s,
            "sync_s": times.sync_s,
            "sync_median_s": times.sync_median_s,
            "wait_median_s": times.wait_median_s,
            "transfer_median_s": times.transfer_median_s,
            "sampling_s": sync.sampling_s,
            "evaluation_s": evaluation[2],
            "checkpoint_s": saving.seconds,
            "sent_bytes": sync.sent_bytes,
            "fingerprint": checksum,
            "signal": self.stop.signal,
            "finite": finite,
            **sync.meter.close_epoch(),
        }
        for name, value in values.items():
            row[name] = value
        sync.sampling_s = sync.reduce_s = loader.input_s = saving.seconds = saving.in_loop_s = 0.0
        return sampled

    def _stopped(self, sums: EpochSums, *, closed: bool = False) -> None:
        epoch, steps = self.epoch, sums.steps
        self.rank_status.phase = "checkpoint"
        self.saving.save(epoch, sums, closed=closed, wait=True)
        signalled = allgather(self.comm, self.stop.signal)
        asked = {str(rank): signals.name(number) for rank, number in enumerate(signalled) if number}

        def note() -> None:
            self.lead().event("stop", epoch=epoch, step=steps, signals=asked)
            who = ", ".join(f"{name} on rank {rank}" for rank, name in asked.items())
            say(f"Stopped on request after epoch {epoch}, step {steps} ({who}); all ranks stopped after the same step.")

        at_root(self.comm, note)
        self._finish("stopped", EXIT_STOPPED, {"stopped_epoch": epoch, "stopped_step": steps})

    def _test(self) -> dict[str, Any]:
        """Return loss and metric over the test rows."""
        n = len(self.data.test)
        sums = np.array(self.trainer.evaluate(self.own(self.data.test)), np.float64)
        self.comm.Allreduce(MPI.IN_PLACE, sums)
        if not n or self.coordinator is None:
            return {"test_loss": None, "test_metric": None}
        if not np.isfinite(sums).all():
            say(f"Test: the loss over the {n} rows is not finite.")
            return {"test_loss": None, "test_metric": None}
        metric = self.coordinator.metric_of("test", float(sums[0]), float(sums[1]), n)
        say(f"Test: loss {sums[0] / n:.4g}, {named_metric(self.coordinator.metric, metric)} ({n} rows)")
        return {"test_loss": float(sums[0] / n), "test_metric": metric}

    def _finish(self, status: str, code: int, facts: dict[str, Any]) -> None:
        """Save what the run leaves behind, at rank 0."""
        self.rank_status.phase = "saving"
        self.saving.close()

        def save() -> None:
            self.rank_status.phase = "writing the model"
            self.collect_death_notes(WORD_S)
            outputs.save(
                self.lead(), self.sync.flat, self.scaling, status, self.saving.failed, facts, self.rank_status.tick
            )
            self.code = code

        at_root(self.comm, save)
        self.code = code
