"""The project's own side: the ordinary training loop of a mode, on rows and weights that all peers get."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import workers  # noqa: F401  # before NumPy, as the training process imports it
from workers.launch.mpi import start_mpi

comm = start_mpi().Dup()

import numpy as np  # noqa: E402

from common.config import RunConfig  # noqa: E402
from common.data.loader import Batch, BatchLoader, RowCounts  # noqa: E402
from common.data.row_table import RowTable  # noqa: E402
from common.errors import StepError  # noqa: E402
from common.nn.functional import MeanSquaredError, SoftmaxCrossEntropy  # noqa: E402
from common.nn.mlp import Mlp  # noqa: E402
from common.rank_status import RankStatus  # noqa: E402
from ps.comm.topology import Topology  # noqa: E402
from ps.metrics.epoch_sums import EpochSums  # noqa: E402
from ps.metrics.sync_timer import SyncTimer  # noqa: E402
from ps.sync.modes import MODES  # noqa: E402
from ps.sync.shared import SharedSync, Work  # noqa: E402
from ps.sync.synchronizer import SyncSetup  # noqa: E402
from tests.benchmarks.work import SUMS, Layers, Task, measure, time_sums  # noqa: E402
from workers.launch.blas_threads import limit_threads  # noqa: E402
from workers.training.loop import Trainer  # noqa: E402
from workers.training.task import Task as TrainingTask  # noqa: E402

NOTHING: Any = None
NO_DATA: Any = SimpleNamespace(weight=None)
"""Rows come from the loader, and none has a weight."""


class Nothing:
    """Nobody asks to stop, or for a checkpoint."""

    signal = 0
    due = False

    def save_in_loop(self, sums: EpochSums) -> None:
        """Never asked for."""

    def recover(self, fault: StepError, not_finite: Callable[[], list[str]]) -> bool:
        """End."""
        raise fault


class Training:
    """One mode on one workload."""

    def __init__(self, task: Task, topology: Topology) -> None:
        work = self.work = task.work
        self.config = RunConfig(
            mode=task.variant, optimizer="sgd", learning_rate=work.rate, batch_size=work.batch, dtype="float32"
        )
        self.model = Mlp(work.sizes, "relu", MeanSquaredError() if work.linear else SoftmaxCrossEntropy())
        self.timer = SyncTimer(topology, work.epoch)
        share = work.batch // comm.size
        counts = RowTable.of_counts(np.full((comm.size, work.epoch), share))
        self.sync = MODES[task.variant].build(SyncSetup(topology, self.model, self.config, self.timer, counts))
        if comm.rank == 0:
            for (w, b), (weights, bias) in zip(self.model.layers, task.layers(), strict=True):
                self.sync.flat.params[w][...] = weights
                self.sync.flat.params[b][...] = bias
        self.sync.state.broadcast()
        x, y = task.rows(comm.rank, comm.size)
        self.rows = np.ones((x.shape[0] * share, x.shape[2] + 1), np.float32)
        self.rows[:, :-1] = x.reshape(-1, x.shape[2])
        self.y = y.reshape(-1, *y.shape[2:])
        # A feed's number of steps is fixed, so the warm-up has one of its own.
        self.trainers = {n: self._trainer(n, share) for n in {work.warmup, work.epoch}}

    def _trainer(self, steps: int, share: int) -> Trainer:
        counts = RowCounts._make(column[:steps] for column in self.sync.row_counts)
        order = np.resize(np.arange(len(self.rows)), steps * share)
        loader = BatchLoader(
            self.rows, self.y, self.model.loss.encode, self.work.sizes[-1], counts, lambda epoch: order, fixed=True,
            allocate=self.sync.allocate_rows,
        )  # fmt: skip
        task, nothing = TrainingTask(self.config, NO_DATA, self.model), cast("Any", Nothing())
        return Trainer(task, loader, self.sync, nothing, RankStatus(), nothing, nothing)

    def run(self, steps: int) -> None:
        """Take steps by whole epochs; fewer, at the start, one by one, none of them sampled, as in a long epoch."""
        if steps not in self.trainers and steps % self.work.epoch:
            for _, batch in zip(range(steps), self.trainers[self.work.epoch].loader.epoch(1), strict=False):
                loss_sum = self.sync.backward(batch, self.work.rate, sample=False)
                self.sync.step(batch, loss_sum, stop=False, sample=False)
            self.timer.resize(self.work.epoch)
            return
        length = steps if steps in self.trainers else self.work.epoch
        for _ in range(steps // length):
            self.trainers[length].run_epoch(1)
            self.timer.resize(self.work.epoch)  # what closing an epoch does, without its messages and log
            self.sync.meter.step_times.close_epoch()
            self.sync.meter.contributions.close_epoch()

    def layers(self) -> Layers:
        """Return the parameters now."""
        p = self.sync.flat.params
        return [(p[w], p[b]) for w, b in self.model.layers]


def sums(task: Task, topology: Topology) -> None:
    """Time the sum of a vector in mode ``shared``: with the update of parameters that belongs to it there, and alone.

    Alone, slices of the sum stay in their owners' packets, as where an update needs the whole gradient first.
    """
    results = {}
    for n, count in SUMS.items():
        model = Mlp((n - 1, 1), "relu", MeanSquaredError())
        timer = SyncTimer(topology, count)
        config = RunConfig(mode="shared", optimizer="sgd", learning_rate=1.0, batch_size=comm.size, dtype="float32")
        sync = MODES["shared"].build(
            SyncSetup(topology, model, config, timer, RowTable.of_counts(np.ones((comm.size, 1), np.int64)))
        )
        assert isinstance(sync, SharedSync)
        sync.flat.grad_vector[:] = 1
        sync.state.optimizer.begin(1.0)
        one = np.ones((1, 1), np.float32)
        batch = Batch(one, one, one, one, comm.size, True, one, 0, 0)
        sync._work[batch] = Work(NOTHING, sync.sums)

        def add(sync: SharedSync = sync, batch: Batch = batch, timer: SyncTimer = timer) -> None:
            sync.step(batch, 0.0, stop=False, sample=False)
            timer.resize(len(timer.arrived))

        def alone(sync: SharedSync = sync) -> None:
            sync.barrier.wait()
            for block in sync.blocks:
                np.copyto(block.own, block.total())
            sync.barrier.wait()

        results[str(n)] = time_sums(add, count, comm.Barrier)
        assert (sync.flat.param_vector % comm.size == 0).all(), "a sum is wrong"
        sync.flat.grad_vector[:] = 0  # which summing again and again in place leaves as it is
        results[f"alone {n}"] = time_sums(alone, count, comm.Barrier)
        sync.close()
    task.report(comm.rank, us=results)


def main() -> None:
    """Do what the runner asks for."""
    task = Task.given()
    topology = Topology(comm)
    limit_threads(topology)
    if task.name == "sums":
        sums(task, topology)
        return
    training = Training(task, topology)
    measure(
        task, training.run, training.layers, versions={"numpy": np.__version__}, rank=comm.rank, barrier=comm.Barrier
    )
    comm.Barrier()  # rank 0 reads the parameters for the loss until here
    training.sync.close()


if __name__ == "__main__":
    main()
