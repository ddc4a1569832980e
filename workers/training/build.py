"""A mode with the memory, rows and clock it trains with; for a run, and for the trials that choose its mode."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from common.config import RunConfig
from common.data.dataset import Dataset
from common.data.loader import BatchLoader
from common.data.row_table import RowTable
from common.data.sampler import Joint, RowSampler
from common.data.stacked import Stacked
from common.data.ticket_loader import Loader, TicketLoader
from common.flat import Flat, fingerprint
from common.nn import custom_model
from common.nn.mlp import Mlp
from common.nn.models import Model
from common.rng import Stream, generator
from ps.comm.agreement import at_root, same_everywhere, together
from ps.comm.topology import Topology
from ps.metrics.sync_timer import SyncTimer
from ps.sync.modes import MODES
from ps.sync.served.synchronizer import ServedSync
from ps.sync.sum_ways import AUTO, has_effect
from ps.sync.synchronizer import Synchronizer, SyncSetup
from workers.training.memory_need import check_memory
from workers.training.task import Task


@dataclass(frozen=True, slots=True)
class TrainingParts:
    """What a mode needs to train: the synchroniser and the rows of each step."""

    mode: str
    sync: Synchronizer
    loader: Loader


def make_sampler(
    config: RunConfig, data: Dataset, n_ranks: int, joint: Joint | None = None, shares: tuple[float, ...] = ()
) -> RowSampler:
    """Return how the training rows are dealt to steps and ranks."""
    return RowSampler.of(config, len(data.train), n_ranks, joint, shares)


def assemble(
    mode: str,
    topology: Topology,
    task: Task,
    shares: tuple[float, ...] = (),
    kept_way: str = "",
    tick: Callable[[], object] = lambda: None,
) -> TrainingParts:
    """Build a mode and fill its parameters. ``shares``: see RowSampler; ``kept_way``, ``tick``: see SyncSetup.

    An algorithm that this mode cannot sum by is passed over, so that several modes may have one configuration.
    Collective; raises JobError.
    """
    config, rank = task.config, topology.comm.rank
    if not has_effect(config.sum_algorithm, MODES[mode].algorithms):
        config = replace(config, sum_algorithm=AUTO)
    check_memory(topology, task, mode)
    sampler = make_sampler(config, task.data, topology.comm.size, task.joint, shares)
    timer = SyncTimer(topology, sampler.steps_per_epoch)
    setup = SyncSetup(topology, task.model, config, timer, RowTable.of(sampler), kept_way=kept_way, tick=tick)
    sync = MODES[mode].build(setup)
    _initialise(topology, task, sync)
    return TrainingParts(mode, sync, make_loader(task, sync, sampler, rank))


def make_loader(task: Task, sync: Synchronizer, sampler: RowSampler, rank: int) -> Loader:
    """Return what deals a rank its batches."""
    data, model = task.data, task.model
    assert not isinstance(data.x, Stacked), "features are scaled by now"
    n_out = model.sizes[-1] if isinstance(model, Mlp) else data.n_classes or data.n_targets
    if isinstance(sync, ServedSync):
        total = sync.row_counts.total
        return TicketLoader(
            data.x, data.y, model.loss.encode, n_out, data.train, sampler, total, rank, weight=data.weight
        )
    joint = sampler.joint if sampler.splits_step else None
    return BatchLoader(
        data.x,
        data.y,
        model.loss.encode,
        n_out,
        sync.row_counts,
        lambda epoch: data.train[sampler.order(epoch, rank)],
        fixed=sampler.fixed,
        allocate=sync.allocate_rows,
        weight=data.weight,
        joint=(joint.epoch, sampler.joint_step, data.train[sampler.joint_rows(rank)]) if joint else None,
    )


def fill(config: RunConfig, data: Dataset, model: Model | Mlp, flat: Flat, rank: int) -> bool:
    """Write a rank's starting parameters; return whether ``init`` drew random numbers for them.

    Raises ConfigError where a class of the user's own fails.
    """
    initial = data.initial
    if initial is not None and {k: v.shape for k, v in initial.items()} == flat.shapes:
        for name, value in initial.items():
            flat.params[name][...] = value
        return False
    rng = generator(config.seed, Stream.INIT, rank)
    before = rng.bit_generator.state
    custom_model.attempt(config.model, "init()", lambda: model.init(flat.params, rng))
    return bool(rng.bit_generator.state != before)


def _initialise(topology: Topology, task: Task, sync: Synchronizer) -> None:
    """Fill the parameters: rank 0's everywhere, or with ``init = "per-rank"`` each rank's own."""
    comm, flat, config = topology.comm, sync.flat, task.config

    def act() -> None:
        fill(config, task.data, task.model, flat, comm.rank)

    if config.init == "per-rank":
        together(comm, act)
        return
    at_root(comm, act)
    sync.state.broadcast()
    digest = fingerprint(flat.param_vector).encode()
    same_everywhere(comm, digest, "initial parameters", "they were just broadcast: look for faulty memory or network")
