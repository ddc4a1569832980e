"""What training a model takes of memory in one process, worked out and checked before any of it is taken."""

import math

import numpy as np

from common import memory
from common.config import RunConfig
from common.data.loader import AHEAD_BYTES
from common.flat import N_SLOTS
from common.nn.activations import ACTIVATIONS
from common.nn.mlp import Mlp
from common.nn.optimizers import RULES
from ps.comm.agreement import together
from ps.comm.topology import Topology
from ps.sync import wires
from ps.sync.modes import AUTO, MODES, exact
from ps.sync.served.rounded import HALF_BYTES
from workers.training.loop import EVALUATION_ROWS
from workers.training.task import Task


def check_memory(topology: Topology, task: Task, mode: str) -> None:
    """Raise JobError, on all ranks, where a mode would take more memory than a process may. Collective.

    ``auto``: where each of the modes that it may choose would.
    """

    def check() -> None:
        n = sum(math.prod(shape) for shape in task.model.shapes().values())
        modes = exact() if mode == AUTO else [mode]
        needs = {name: vector_bytes(topology, task.config, name, n) for name in modes}
        least = min(needs, key=lambda name: needs[name])
        vectors, of_step, data = needs[least], _of_step(topology, task), task.data.x.nbytes + task.data.y.nbytes
        what = f"model of {n:,} parameters, with {task.config.optimizer} in mode {least}"
        memory.check(what, 0, vectors + of_step + data, "a smaller model or --batch-size")

    together(topology.comm, check)


def vector_bytes(topology: Topology, config: RunConfig, mode: str, n: int) -> int:
    """Return the bytes of ``n`` parameters, packet, and optimizer's state; what ranks share is divided among them."""
    states = len(RULES[config.optimizer].names) + bool(config.patience)  # and the best parameters so far
    of_mode, size = MODES[mode], topology.comm.size
    spread = of_mode.serves and config.servers == "all"
    if of_mode.divides_state or spread:  # and room for the slice that comes from the rank before
        own = n + n * (states + 1) // size
    else:
        own = n * (1 + states) // (1 if of_mode.replicas else topology.local.size)
    more = n * of_mode.more_vectors(config)
    rounded = 0
    compensated = config.delay_compensation != "off"
    if of_mode.serves and config.simulate_delay:  # those before, and the one that the gradient is of
        more += n * (config.simulate_delay + 1 + compensated)
    elif of_mode.serves:
        served = n // size if spread else n * (topology.comm.rank == 0)
        # the server's own, a push and a reply for each other rank, and what each rank was given
        more += served * (1 + 2 * (size - 1) + size * compensated)
        rounded = (n + served * (size - 1)) * HALF_BYTES if config.wire != wires.EXACT else 0
    elif of_mode.wires:
        more += round(n * wires.find(config.wire).vectors)
    return (own + N_SLOTS + n + more) * np.dtype(config.dtype).itemsize + rounded


def _of_step(topology: Topology, task: Task) -> int:
    """Return the bytes of what is held of rows: features copied ahead, and layers' outputs, also of an evaluation."""
    config, model, columns = task.config, task.model, task.data.x.shape[1] + 1
    n_train, item = len(task.data.train), np.dtype(config.dtype).itemsize
    rows = -(-min(config.batch_size or n_train, n_train) // topology.comm.size)
    numbers = max(rows * columns, min(AHEAD_BYTES // item, n_train // topology.comm.size * columns))
    if isinstance(model, Mlp):
        outputs = sum(model.sizes[1:])
        for part in (task.data.validation, task.data.test):
            numbers += min(EVALUATION_ROWS, len(part) // topology.comm.size) * outputs
        kept = 3 if ACTIVATIONS[model.activation_name].needs_input else 2
        numbers += rows * (kept * sum(n + 1 for n in model.sizes[1:-1]) + model.sizes[-1])
    return int(numbers * item)
