"""Short jobs of a parameter server with random sleeps, bounds and stops, on all ranks: ``SEED JOBS``.

Every rank draws the same cases, and sleeps of its own. Of each job all tickets must have been used once, all ranks must
end with the same parameters, and none may be ahead of its bound. Prints how many there were.
"""

import random
import sys
import time

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.data.row_table import RowTable
from common.data.sampler import RowSampler
from common.data.ticket_loader import TicketLoader
from common.flat import ASK_STOP
from common.nn.functional import SoftmaxCrossEntropy
from common.nn.mlp import Mlp
from ps.comm.topology import Topology
from ps.metrics.sync_timer import SyncTimer
from ps.sync.modes import MODES
from ps.sync.served.messages import NO_TICKET
from ps.sync.served.synchronizer import ServedSync
from ps.sync.synchronizer import SyncSetup

comm = MPI.COMM_WORLD.Dup()
topology = Topology(comm)
cases, own = random.Random(int(sys.argv[1])), random.Random(int(sys.argv[1]) * 1000 + comm.rank)
ROWS, FEATURES, EPOCHS = 60, 5, 2
data = np.random.default_rng(0)
x = np.concatenate([data.standard_normal((ROWS, FEATURES)), np.ones((ROWS, 1))], axis=1)
y = data.integers(0, 3, ROWS)


def case() -> tuple[RunConfig, float, float, int]:
    """Draw options, the longest sleep, the chance of one, and in which of a rank's pushes it asks for a stop."""
    mode = cases.choice(["k-of-n", "async"])
    servers = cases.choice(["one", "one", "all"]) if mode == "async" else "one"
    config = RunConfig(
        mode=mode,
        wait_for=cases.randint(0, comm.size) if mode == "k-of-n" else 0,
        staleness=cases.choice(["0", "1", "2", "5", "inf"]) if mode == "async" else "3",
        order=cases.choice(["arrival", "arrival", "clock"]) if mode == "async" else "arrival",
        max_delay=cases.choice(["off", "off", "2"]) if mode == "async" and servers == "one" else "off",
        servers=servers,
        rows=cases.choice(["shuffle", "shard"]),
        batch_size=cases.choice([7, 20, 0]),
        hidden=(cases.choice([4, 3000]),),
        optimizer=cases.choice(["sgd", "momentum", "adam"]),
        learning_rate=0.01,
        dtype=cases.choice(["float32", "float64"]),
        wire=cases.choice(["float32", "bf16"]),
    )
    return config, cases.choice([0.0, 0.001, 0.01]), cases.random(), cases.choice([0, 0, 3])


def train(config: RunConfig, sleep_s: float, chance: float, stop_at: int) -> None:
    """Take all steps of a few epochs, or those up to a stop; check what came of it."""
    sampler = RowSampler.of(config, ROWS, comm.size)
    model = Mlp((FEATURES, *config.hidden, 3), "tanh", SoftmaxCrossEntropy())
    timer = SyncTimer(topology, sampler.steps_per_epoch)
    sync = MODES[config.mode].build(SyncSetup(topology, model, config, timer, RowTable.of(sampler)))
    assert isinstance(sync, ServedSync)
    if comm.rank == 0:
        model.init(sync.flat.params, np.random.default_rng(1))
    sync.state.broadcast()
    total = sync.row_counts.total
    features = x.astype(config.dtype)
    loader = TicketLoader(features, y, model.loss.encode, 3, np.arange(ROWS), sampler, total, comm.rank)
    steps, pushes = loader.steps, 0
    for epoch in range(1, EPOCHS + 1):
        loader.begin(epoch)
        done = rows = 0
        asked = 0
        while done < steps and not asked & ASK_STOP:
            sync.begin_round([0.01] * steps, done)
            while sync.ticket != NO_TICKET:
                batch = loader.batch(sync.ticket)
                loss = sync.backward(batch, 0.01, sample=False)
                if own.random() < chance:
                    time.sleep(own.random() * sleep_s)
                pushes += 1
                asked = sync.step(batch, loss, stop=pushes == stop_at, save=own.random() < 0.02, sample=False)
                rows += batch.n * sync.applied
            done = sync.steps_done
        figures = sync.epoch_figures()
        summed = np.array([rows])
        comm.Allreduce(MPI.IN_PLACE, summed)
        used = int(summed[0])
        assert used == int(total[:done].sum()), f"{config}: {used} rows in {done} steps"
        if config.mode == "async" and config.order == "arrival" and config.staleness not in ("0", "inf"):
            assert figures["clock_gap"] <= int(config.staleness) + 1, f"{config}: {figures}"
        others = np.empty_like(sync.flat.param_vector) if comm.rank else sync.flat.param_vector.copy()
        comm.Bcast(others)
        assert np.array_equal(others, sync.flat.param_vector), f"{config}: parameters differ"
        if asked & ASK_STOP:
            break
    sync.close()


jobs = int(sys.argv[2])
for _ in range(jobs):
    train(*case())
topology.close()
if comm.rank == 0:
    print("ok", jobs)
