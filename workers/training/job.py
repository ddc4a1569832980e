"""One training job as every rank runs it: epoch by epoch, then leave together."""

import signal
from dataclasses import asdict
from typing import Any

import numpy as np
from mpi4py import MPI

from common.data.row_table import RowTable
from common.data.scaling import Rows
from common.errors import EXIT_OK, EXIT_STOPPED
from common.ranges import signals
from common.rank_status import EPOCH, STOPPING
from common.wording import count
from ps.comm.agreement import at_root
from ps.comm.collectives import allgather
from ps.coordinator.seat import CoordinatorSeat
from ps.metrics.epoch_sums import DoneBefore, EpochSums
from ps.metrics.rank_row import RankRow
from ps.text.terminal import say
from workers.checkpoint.checkpointing import Checkpointing
from workers.checkpoint.held_copy import HeldCopy
from workers.checkpoint.job_state import JobState
from workers.launch import fault_spec
from workers.launch.process import Context
from workers.training import early_copy, fault_injection
from workers.training.build import TrainingParts, make_loader, make_sampler
from workers.training.early_copy import EarlyCopy
from workers.training.epoch_totals import StepCount, totals_of
from workers.training.final_scores import FinalScores
from workers.training.membership import Membership
from workers.training.step_faults import StepFaults
from workers.training.task import Task
from workers.training.ticket_loop import trainer_for

DEATH_NOTES_S = 1.0
"""How long to wait at the job's end for what the watchdogs have seen of ranks that died."""


class Job:
    """What a rank holds during training; ``train`` continues from where ``state`` is.

    ``totals``, ``membership``: what all ranks did of the epoch, and who takes part; only with ``--elastic``.
    """

    def __init__(
        self,
        context: Context,
        task: Task,
        parts: TrainingParts,
        state: JobState,
        seat: CoordinatorSeat,
        threads: tuple[int, str],
    ) -> None:
        """``threads``: BLAS threads of this rank, and who set them. Collective with ``--elastic``."""
        self.comm, self.stop, self.rank_status = context.comm, context.stop, context.rank_status
        self.task, self.config, self.data = task, task.config, task.data
        self.state, self.seat, self.sync, self.threads = state, seat, parts.sync, threads
        comm, config, steps, saved = self.comm, self.config, parts.loader.steps, parts.sync.state
        done = state.offset + (state.epoch - 1) * steps + state.before.steps
        step = fault_injection.place(fault_spec.of_job(config.inject, comm.size), parts.sync, comm.rank, done)
        early = early_copy.is_possible(saved, config.init)
        count_steps = StepCount(step, state, saved.optimizer, self.rank_status.cells) if early else None
        self.totals = count_steps or (totals_of(step, parts.sync) if config.elastic else None)
        self.membership = Membership.of_all(comm) if config.elastic else None
        self.checkpointing = Checkpointing(
            comm, config, saved, steps, state, seat, self.rank_status.tick, HeldCopy(self.rank_status.copy),
            mode=parts.mode, data_sha256=self.data.sha256, target=self.data.target_facts(),
            scaling=self.data.x_scaling.arrays(), sum_way=lambda: (parts.sync.facts()["sum"] or {}).get("way", ""),
        )  # fmt: skip
        self.step_faults = StepFaults(comm, config, saved, steps, state, seat, self.rank_status)
        self.trainer = trainer_for(parts.sync)(
            task, parts.loader, self.totals or step, self.stop, self.rank_status, self.step_faults, self.checkpointing
        )
        if count_steps is not None:
            context.stop.listen(EarlyCopy(self.checkpointing, count_steps, self._describe_stop).note)
        self.row = RankRow(len(parts.sync.flat.shapes))

    def rebind(self, comm: MPI.Intracomm) -> None:
        """Belong to other ranks from here on; what the job consists of is rebound one by one."""
        self.comm = comm

    def collect_death_notes(self, wait_s: float) -> None:
        """Bring what was seen of ranks that died to the log, at rank 0; wait so long for what is missing."""
        if self.membership is not None and self.seat.coordinator is not None:
            self.membership.collect_death_notes(self.seat.coordinator, wait_s)

    def train(self) -> int:
        """Run all epochs; return the exit code. Raises JobError."""
        # an overflow is found in the sums and reported once, with its place: NumPy need not warn on every rank
        with np.errstate(all="ignore"):
            return self._train()

    def _train(self) -> int:
        state = self.state
        while state.code is None and not state.over and state.epoch <= self.config.epochs:
            if state.decision is None:
                sums = self.trainer.run_epoch(state.epoch, state.before.steps)
                if sums.stopped:
                    self._stopped(sums)
                    continue
                state.decision = self._close_epoch(sums)
            self._after_epoch(state.decision)
        if state.code is None:
            state.over = True
            if state.best_kept:
                self.sync.state.restore_best()
            self.rank_status.enter("final test")
            self.rank_status.cells[EPOCH] = 0
            self._finish("ok", EXIT_OK, self._test())
        assert state.code is not None
        return state.code

    def _after_epoch(self, decision: dict[str, Any]) -> None:
        if decision["diverged"]:
            self.step_faults.repair()
        self.keep_best(decision)
        if decision.get("shares"):
            self._deal(tuple(decision["shares"]))
        self.trainer.sample(decision.get("sample_rate", 0.0))
        self.rank_status.enter("checkpoint")
        sums = self.trainer.sums
        self.state.over = decision["stop"]
        self.checkpointing.after_epoch(sums, last=self.state.over or self.state.epoch == self.config.epochs)
        if decision["signalled"] and not self.state.over:
            self._stopped(sums, closed=True)
        else:
            self.begin(self.state.epoch + 1)

    def _deal(self, shares: tuple[float, ...]) -> None:
        """Take other parts of each step's rows from the next epoch on."""
        self.state.shares = shares
        sampler = make_sampler(self.config, self.data, self.comm.size, self.task.joint, shares)
        self.sync.recount(RowTable.of(sampler))
        self.trainer.rebind(make_loader(self.task, self.sync, sampler, self.comm.rank))

    def keep_best(self, decision: dict[str, Any]) -> None:
        """Remember the parameters if they are the best so far and may be wanted."""
        if self.config.patience and decision["improved"]:
            self.sync.state.snapshot_best()
            self.state.best_kept = True

    def begin(self, epoch: int, before: DoneBefore | None = None) -> None:
        """Be in an epoch, of which ``before`` is done."""
        self.state.begin(epoch, before)
        self.trainer.begin(self.state.before.steps)
        if self.totals is not None:
            self.totals.begin()

    def _close_epoch(self, sums: EpochSums) -> dict[str, Any]:
        """Hand in this rank's figures; return what the coordinator decided. Collective."""
        state = self.state
        self.rank_status.enter("evaluation")
        evaluated = self.trainer.validate(self._own(self.data.validation))
        self.rank_status.enter("end of epoch")
        measures = self.sync.meter.close_epoch()
        checksum, finite = self.sync.state.checksum()
        figures = {
            **sums.figures(), **evaluated, **measures.figures, **self.trainer.loader.close_epoch(),
            **self.checkpointing.close_epoch(), **self.sync.epoch_figures(),
            "sent_bytes": self.sync.sent_in(sums.steps - sums.first), "fingerprint": checksum, "finite": finite,
            "signal": self.stop.signal, "watchdogs": self.rank_status.new_watchdogs(),
        }  # fmt: skip
        apart = ("sync_s", "sampling_s", "input_s", "checkpoint_in_loop_s")
        figures["compute_s"] = figures["loop_s"] - sum(figures[name] for name in apart)
        table = self.row.gather(self.comm, figures)
        facts = {
            "epoch": state.epoch,
            "steps": sums.steps - sums.first,
            "before": asdict(state.before) if state.before != DoneBefore() else None,
            "skipped": sums.skipped,
            "sampled_steps": [k + 1 for k in measures.sampled],
            "traced_steps": [k + 1 for k in measures.traced],
            "learning_rate": sums.learning_rate,
        }
        begin_s = float(measures.align(np.array([sums.begin_s]))[0])

        def close() -> dict[str, Any]:
            assert table is not None
            self.rank_status.enter("writing the log")
            self.checkpointing.look()
            self.collect_death_notes(0.0)
            coordinator = self.seat.here()
            decision = coordinator.epoch(table, facts, begin_s)
            state.decision = {**decision, "signalled": bool(table["signal"].any())}
            if self.totals is not None:  # who becomes the coordinator needs what this one knows
                state.decision["memory"] = coordinator.memory()
            return state.decision  # also kept at once: a rank may die before the others have received it

        decision: dict[str, Any] = at_root(self.comm, close)
        return decision

    def _stopped(self, sums: EpochSums, *, closed: bool = False) -> None:
        epoch, steps = self.state.epoch, sums.steps
        self.rank_status.enter("checkpoint")
        self.rank_status.cells[STOPPING] = 1
        signalled = allgather(self.comm, self.stop.signal)
        asked = {str(rank): signal.Signals(number).name for rank, number in enumerate(signalled) if number}
        described = self._describe_stop(epoch, steps, asked)
        self.checkpointing.save_for_stop(sums, described, closed=closed)

        def note() -> None:
            self.seat.here().display.close()
            self.seat.event("stop", **described["event"])
            who = signals(asked)
            say(f"Stopped on request after epoch {epoch}, step {steps} ({who}); all ranks stopped after the same step.")

        at_root(self.comm, note)
        self._finish("stopped", EXIT_STOPPED, {"stopped_epoch": epoch, "stopped_step": steps})

    def _describe_stop(self, epoch: int, steps: int, signals: dict[str, str]) -> dict[str, Any]:
        """Return what the log is to say of a stop: the event, and at rank 0 the end."""
        coordinator, facts = self.seat.coordinator, {"stopped_epoch": epoch, "stopped_step": steps}
        end = None if coordinator is None else coordinator.end_record("stopped", **facts)
        return {"event": {"epoch": epoch, "step": steps, "signals": signals}, "end": end}

    def _test(self) -> dict[str, Any]:
        """Return loss, metric and all scores over the test rows."""
        n = len(self.data.test)
        scores = FinalScores(self.task)
        loss_sum, counted = self.trainer.evaluate(self._own(self.data.test), scores.note)
        sums = np.array([loss_sum, self.trainer.score.of("test", counted)])
        self.comm.Allreduce(MPI.IN_PLACE, sums)
        result = scores.result(self.comm)
        coordinator = self.seat.coordinator
        if not n or coordinator is None:
            return {"test_loss": None, "test_metric": None}
        sums[0] *= coordinator.metric.unit
        if not np.isfinite(sums).all():
            say(f"Test: the loss over {count(n, 'row')} is not finite.")
            return {"test_loss": None, "test_metric": None}
        value = coordinator.metric.of("test", float(sums[1]), n)
        return {"test_loss": float(sums[0] / n), "test_metric": value, "test": result}

    def _own(self, rows: Rows) -> Rows:
        """Return those of the rows of an evaluation that this rank takes."""
        return rows[self.comm.rank :: self.comm.size]

    def _finish(self, status: str, code: int, facts: dict[str, Any]) -> None:
        """Save what the run leaves behind, at rank 0."""
        self.rank_status.enter("saving")
        self.checkpointing.close()

        def save() -> None:
            from common.nn import model_facts  # these are loaded before training, see load_for_rank_0
            from ps.coordinator import outputs

            self.rank_status.enter("writing the model")
            self.collect_death_notes(DEATH_NOTES_S)
            unsaved, tick = self.checkpointing.failed, self.rank_status.tick
            coordinator = self.seat.here()
            extras = model_facts.extras(self.config, self.data, coordinator.facts)
            outputs.save(coordinator, self.sync.flat, extras, status, unsaved, facts, tick)
            self.state.code = code
            self.checkpointing.held.saved()

        at_root(self.comm, save)
        self.state.code = code
