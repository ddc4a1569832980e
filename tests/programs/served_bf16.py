"""On every rank: a parameter server moves by the sum of rounded gradients, and is sent half of their bytes.

What ranks have computed is rounded here in another way, and summed by MPI. Prints ``ok``.
"""

import itertools
from typing import Any

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.data.row_table import RowTable
from common.data.sampler import RowSampler
from common.data.ticket_loader import TicketLoader
from common.errors import NotFiniteError
from common.flat import N_SLOTS, Array
from common.nn.functional import SoftmaxCrossEntropy
from common.nn.mlp import Mlp
from ps.comm.topology import Topology
from ps.metrics.sync_timer import SyncTimer
from ps.sync.modes import MODES
from ps.sync.served.synchronizer import ServedSync
from ps.sync.synchronizer import SyncSetup

comm = MPI.COMM_WORLD.Dup()
topology = Topology(comm)
ROWS, FEATURES, RATE = 60, 5, 0.5
HIDDEN = 4000
"""So that a push has several chunks and blocks."""
data = np.random.default_rng(0)
x = np.concatenate([data.standard_normal((ROWS, FEATURES)), np.ones((ROWS, 1))], axis=1)
y = data.integers(0, 3, ROWS)


def rounded(vector: Array) -> Array:
    """Return the nearest numbers of 8 significant bits."""
    digits, power = np.frexp(vector.astype(np.float32))
    result: Array = np.ldexp(np.rint(digits * 256) / 256, power).astype(vector.dtype)
    return result


def train(options: dict[str, Any], dtype: str) -> None:
    """Take a few steps of all ranks; see what they made of the parameters, and what was sent."""
    waits = comm.size if options["mode"] == "k-of-n" else 0
    config = RunConfig(
        wire="bf16", dtype=dtype, batch_size=20, hidden=(HIDDEN,), optimizer="sgd", wait_for=waits, **options
    )
    sampler = RowSampler.of(config, ROWS, comm.size)
    model = Mlp((FEATURES, HIDDEN, 3), "tanh", SoftmaxCrossEntropy())
    timer = SyncTimer(topology, sampler.steps_per_epoch)
    sync = MODES[config.mode].build(SyncSetup(topology, model, config, timer, RowTable.of(sampler)))
    assert isinstance(sync, ServedSync)
    if comm.rank == 0:
        model.init(sync.flat.params, np.random.default_rng(1))
    sync.state.broadcast()
    expected = sync.flat.param_vector.copy()
    total = sync.row_counts.total
    loader = TicketLoader(x.astype(dtype), y, model.loss.encode, 3, np.arange(ROWS), sampler, total, comm.rank)
    loader.begin(1)
    grad = sync.flat.grad_vector
    for step in range(loader.steps):
        batch = loader.batch(step * comm.size + comm.rank)
        loss = sync.backward(batch, RATE, sample=False)
        own = rounded(grad)
        assert not np.array_equal(own, grad)
        comm.Allreduce(MPI.IN_PLACE, own)
        expected -= RATE * own
        sync.step(batch, loss, stop=False, sample=False)
        rtol, atol = (1e-10, 1e-13) if dtype == "float64" else (1e-5, 1e-6)
        np.testing.assert_allclose(sync.flat.param_vector, expected, rtol=rtol, atol=atol)
    head, item, others = N_SLOTS * grad.itemsize, grad.itemsize, comm.size - 1
    sent = comm.allgather(sync.sent_in(loader.steps))
    if options.get("servers") == "all":
        assert sum(sent) == loader.steps * others * (2 * comm.size * head + sync.flat.n * (2 + item))
    else:
        assert sent[0] == loader.steps * others * (head + sync.flat.n * item)
        assert set(sent[1:]) <= {loader.steps * (head + 2 * sync.flat.n)}

    loss = sync.backward(batch, RATE, sample=False)
    if comm.rank == others:
        grad[0] = np.finfo(np.float32).max  # finite, but not as bf16
    try:
        with np.errstate(all="ignore"):
            sync.step(batch, loss, stop=False, sample=False)
    except NotFiniteError:
        assert bool(sync.not_finite_now) == (comm.rank == others)
    else:
        raise AssertionError("a number too large was applied")
    np.testing.assert_allclose(sync.flat.param_vector, expected, rtol=rtol, atol=atol)
    sync.close()


CASES: tuple[dict[str, Any], ...] = (
    {"mode": "k-of-n"},
    {"mode": "async", "staleness": "0"},
    {"mode": "async", "staleness": "0", "servers": "all"},
)
for options, dtype in itertools.product(CASES, ("float32", "float64")):
    train(options, dtype)
topology.close()
if comm.rank == 0:
    print("ok")
