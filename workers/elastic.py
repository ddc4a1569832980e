"""Going on without ranks that died, in the same job: for MPI libraries with user-level failure mitigation (ULFM).

Bland et al. 2013, "Post-failure recovery of MPI communication capability" (IJHPCA 27(3)): the survivors revoke the
communicators, so that nobody waits in them any more, shrink them to those alive, agree on where they are, and go on.
"""

import os
import time
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.errors import EXIT_USAGE, JobError
from common.feed import Feed
from common.host import host
from ps.coordinator import Coordinator
from ps.guard import at_root
from ps.messages import allgather, bcast
from ps.modes import AUTO, MODES
from ps.nodes import Nodes
from ps.reduce import MAX_BYTES
from ps.sync import EveryStep
from ps.timing import SyncTimer
from workers.assembly import deal, make_feed
from workers.describe import describe
from workers.job import Job
from workers.saving import Before
from workers.threads import limit_threads

DEATHS = (MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING, MPI.ERR_REVOKED)


def check_support(config: RunConfig) -> None:
    """Raise JobError, the same on all ranks, where ``--elastic`` cannot be."""
    reason = ""
    if MPI.get_vendor()[0] != "Open MPI":
        reason = f"needs Open MPI 5 started with mpirun --with-ft ulfm, and this is {MPI.get_vendor()[0]}"
    elif os.environ.get("OMPI_MCA_mpi_ft_enable", "").lower() not in ("1", "true"):
        reason = "needs Open MPI started with mpirun --with-ft ulfm"
    elif config.mode == AUTO or not MODES[config.mode].replicas:
        modes = ", ".join(name for name, mode in MODES.items() if mode.replicas)
        reason = f"goes with modes {modes}: in mode {config.mode} a dead rank takes its part of the memory along"
    elif config.rows == "shard" or config.init == "per-rank":
        reason = "goes with rows dealt anew and parameters that are the same on all ranks"
    if reason:
        raise JobError(
            f"elastic: {reason}; or let python -m workers.supervise -np N -- ... start the job again from its last "
            "checkpoint with the ranks that are left",
            EXIT_USAGE,
        )


def is_death(error: MPI.Exception) -> bool:
    """Say whether an error of MPI means that a rank died."""
    return error.Get_error_class() in DEATHS


@dataclass(frozen=True, slots=True)
class Place:
    """Where a survivor is: updates applied since the beginning, and the losses of all ranks in this epoch's."""

    updates: int
    loss_sum: float


def go_on(job: Job, nodes: Nodes) -> Nodes:
    """Leave the dead behind and put a job in order for those alive; return their nodes. Collective among them.

    Raises MPI.Exception if another one dies meanwhile, and JobError where nothing is left to go on with.
    """
    start, old = time.perf_counter(), job.comm
    sync = job.sync
    assert isinstance(sync, EveryStep)
    sync.revoke()
    for comm in (nodes.local, old):
        if not comm.Is_revoked():
            comm.Revoke()
    comm = cast("MPI.Intracomm", old.Shrink())
    comm.Set_errhandler(MPI.ERRORS_RETURN)
    old_ranks: list[int] = allgather(comm, job.rank_at_start)
    place = _agree(comm, sync, Place(job.updates(), sync.total_loss))
    new_nodes = Nodes(comm, job.config.ranks_per_node)
    _rebuild(job, new_nodes, place)
    dead = sorted(set(job.ranks) - set(old_ranks))
    hosts = [job.hosts[job.ranks.index(rank)] for rank in dead]
    facts = {
        "dead": dead,
        "hosts": hosts,
        "ranks_before": len(job.ranks),
        "ranks": comm.size,
        "epoch": job.origin.epoch,
        "step": job.saving.before.steps,
        "seconds": time.perf_counter() - start,
    }
    job.ranks, job.hosts = old_ranks, allgather(comm, host())
    _take_over(job, new_nodes, facts)
    return new_nodes


def _agree(comm: MPI.Intracomm, sync: EveryStep, own: Place) -> Place:
    """Bring all survivors to the state of those that are furthest; nobody is more than one update ahead.

    A rank may have had the sum, and updated, when others were told of the death instead.
    """
    places = [Place(*entry) for entry in allgather(comm, [own.updates, own.loss_sum])]
    furthest = max(range(comm.size), key=lambda rank: places[rank].updates)
    behind = own.updates < places[furthest].updates
    if any(place.updates < places[furthest].updates for place in places):
        vectors = [sync.flat.params, *(part for parts in sync.optimizer.state().values() for part in parts)]
        for vector in vectors:
            for start in range(0, len(vector), MAX_BYTES // vector.itemsize):
                comm.Bcast(vector[start : start + MAX_BYTES // vector.itemsize], furthest)
        counts = bcast(comm, sync.optimizer.counts(), furthest)
        if behind:
            sync.optimizer.restore(counts)
    return places[furthest]


def _rebuild(job: Job, nodes: Nodes, place: Place) -> None:
    """Deal the rows anew, and make what depends on the ranks."""
    comm, config, data = nodes.comm, job.config, job.data
    batches = deal(config, data, comm.size)
    counts = np.array([batches.counts(rank) for rank in range(comm.size)])
    timer = SyncTimer(nodes, batches.steps_per_epoch)
    sync = job.sync
    assert isinstance(sync, EveryStep)
    sync.move(nodes, timer, counts)
    steps = batches.steps_per_epoch
    epoch, done = divmod(place.updates, steps)
    if done == 0 and place.updates and not _is_recorded(job, comm, epoch):
        epoch, done = epoch - 1, steps  # what follows an epoch is still to be done
    rows = int(counts.sum(axis=0)[:done].sum())
    job.origin.epoch = epoch + 1
    job.saving.before = Before(done, rows, place.loss_sum) if done else Before()
    job.saving.move(comm)
    job.duties.comm = job.comm = comm
    job.timer = timer
    feed: Feed = make_feed(data, job.model, sync, batches, comm.rank)
    job.trainer.feed = feed
    job.trainer.applied = done
    sync.go_on_at(done % steps)


def _is_recorded(job: Job, comm: MPI.Intracomm, epoch: int) -> bool:
    """Say whether the log holds the record of an epoch. Collective."""

    def look() -> bool:
        if job.coordinator is not None:
            return job.coordinator.recorded >= epoch
        return Coordinator.recorded_in(job.folder()) >= epoch

    return bool(at_root(comm, look))


def _take_over(job: Job, nodes: Nodes, facts: dict[str, Any]) -> None:
    """Note in the log what happened; if the coordinator died, the lowest survivor is it from now on."""
    described = describe(nodes, job.config, job.data, job.model, job.sync.flat, limit_threads(nodes))

    def note() -> None:
        if job.coordinator is None:
            job.open_coordinator()
        job.lead().event("shrink", **facts, **described)
        job.lead().tell(
            f"Rank {', '.join(map(str, facts['dead']))} died on {', '.join(facts['hosts'])}; {facts['ranks']} ranks go on "
            f"at epoch {facts['epoch']}, step {facts['step'] + 1}, after {facts['seconds']:.3f} s."
        )

    at_root(nodes.comm, note)
