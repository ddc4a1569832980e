"""Going on without ranks that died, in the same job: for MPI libraries with user-level failure mitigation (ULFM).

Bland et al. 2013, "Post-failure recovery of MPI communication capability" (IJHPCA 27(3)): the survivors revoke the
communicators, so that nobody waits in them any more, shrink them to those alive, agree on where they are, and go on.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from mpi4py import MPI

from common.errors import JobError
from common.flat import Array, blocks
from common.host import host
from common.progress import SPARED
from ps.comm.agreement import at_root
from ps.comm.collectives import MAX_BYTES, allgather, bcast
from ps.comm.topology import Topology
from ps.metrics.epoch_sums import Before
from ps.sync.replicated import ReplicatedSync
from workers.elastic.failover import Membership, lead_on
from workers.training import fault_injection
from workers.training.build import deal, make_loader
from workers.training.environment import header_facts
from workers.training.epoch_totals import EpochTotals
from workers.training.job import Job

MOST_IN_VAIN = 3
"""So often it is tried to go on with the same ranks: an error of MPI need not come of a death."""


def train(job: Job) -> int:
    """Train as ``job.train`` does, whoever dies; return the exit code. Raises JobError, and what is no death."""
    survivors = Survivors(job)
    fine, in_vain = all(survivors.all_through(act) for act in (survivors.announce, job.train)), 0
    while not fine:
        size = job.comm.size
        # one after the other, and each only if all survivors have come through the one before
        acts = survivors.shrink, survivors.copy_from_furthest, survivors.find_nodes, survivors.rebuild, job.train
        fine = all(survivors.all_through(act) for act in acts)
        in_vain = in_vain + 1 if job.comm.size == size else 0
        if not fine and in_vain > MOST_IN_VAIN:
            raise JobError(
                f"elastic: MPI reports errors again and again, but no death: {survivors.error or 'on other ranks'}"
            )
    assert job.code is not None
    return job.code


@dataclass(frozen=True, slots=True)
class RankProgress:
    """How far a survivor is, as plain values; see Job.

    ``rank``: its number at the job's start. ``skipped``: see Duties.
    """

    rank: int
    over: bool
    epoch: int
    before: list[float]
    """Of the epoch: steps that are done, and their rows and sum of losses of all ranks."""
    decision: dict[str, Any] | None
    last: dict[str, Any]
    code: int | None
    skipped: list[int]

    @property
    def order(self) -> tuple[bool, bool, int, float, bool]:
        """What is larger of a rank that is further."""
        return self.code is not None, self.over, self.epoch, self.before[0], self.decision is not None


class Survivors:
    """The ranks of a job that are alive.

    ``places``: where each survivor is. ``copies``: what this one lacks of the parameters and the optimizer's state.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.own_rank = job.comm.rank
        self.membership = Membership(list(range(job.comm.size)), allgather(job.comm, host()), time.time())
        job.collect_death_notes = lambda wait_s: self.membership.collect_death_notes(job.lead(), wait_s)
        self.places: list[RankProgress] = []
        self.topology = job.timer.topology
        self.error: MPI.Exception | None = None
        self.copies: list[Array] = []
        self.counts: dict[str, int] = {}

    @property
    def furthest(self) -> int:
        """The first rank that is as far as any."""
        return max(range(len(self.places)), key=lambda rank: self.places[rank].order)

    @property
    def sync(self) -> ReplicatedSync:
        """The job's synchroniser."""
        assert isinstance(self.job.sync, ReplicatedSync)
        return self.job.sync

    @property
    def totals(self) -> EpochTotals:
        """The job's account of the epoch."""
        assert self.job.totals is not None
        return self.job.totals

    def all_through(self, act: Callable[[], object]) -> bool:
        """Do something together; say, the same on all survivors, whether all came to its end.

        Raises JobError if all of them meet the same fault; where some have met a death instead, it is all to do again.
        """
        fine, fault = True, None
        try:
            act()
        except JobError as error:
            fault = error
        except MPI.Exception as error:
            if not self._is_death(error):
                raise
            fine, self.error = False, error
            for comm in self._in_use():
                comm.Revoke()
        fine = self._agree(fine=fine)
        if fault is not None and fine:
            raise fault
        return fine and fault is None

    def _agree(self, *, fine: bool) -> bool:
        try:
            return bool(self.job.comm.Agree(int(fine)))
        except MPI.Exception as error:
            if not self._is_death(error):
                raise
            return False

    def _is_death(self, error: MPI.Exception) -> bool:
        """Say whether an error of MPI comes of a rank's death; one of waiting for several messages does not tell."""
        deaths = MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING, MPI.ERR_REVOKED
        return error.Get_error_class() in deaths or any(
            comm.Is_revoked() or comm.Get_failed().Get_size() for comm in self._in_use()
        )

    def _in_use(self) -> list[MPI.Comm]:
        return [self.job.comm, self.topology.local, self.sync.exchanges_in]

    def announce(self) -> None:
        """Let the witnesses know that a death is no end from here on. Collective.

        Nobody does before all ranks are where ``all_through`` sees to them.
        """
        allgather(self.job.comm, 0)
        self.job.rank_status.cells[SPARED] = 1

    def shrink(self) -> None:
        """Leave the dead behind, and tell each other how far each is. Collective among the survivors."""
        job, totals = self.job, self.totals
        self.membership.noticed = time.perf_counter()
        job.rank_status.cells[SPARED] = 1  # some may have come to that
        job.trainer.sums.steps = job.trainer.done
        job.rank_status.phase = "going on without the dead"
        job.comm = job.comm.Shrink()
        if totals.begun:
            job.sync.undo_begin()
            totals.begun = False
        before = job.saving.before
        done = [job.trainer.done, before.rows + totals.rows, before.loss_sum + totals.loss_sum]
        own = RankProgress(
            self.own_rank, job.over, job.epoch, done, job.decision, job.last, job.code, list(job.step_faults.skipped)
        )
        self.places = [RankProgress(**place) for place in allgather(job.comm, asdict(own))]

    def copy_from_furthest(self) -> None:
        """Get the parameters and the optimizer's state from the furthest, if this rank is behind. Collective.

        Nobody is more than one update ahead: a rank may have had a sum when others were told of a death instead. What
        comes is only put in its place once all have it, for the furthest may die meanwhile.
        """
        self.copies, comm, optimizer = [], self.job.comm, self.sync.optimizer
        per_epoch, root = self.job.trainer.loader.steps, self.furthest
        updates = [(place.epoch - 1) * per_epoch + place.before[0] for place in self.places]
        if self.places[root].over or min(updates) == updates[root]:
            return
        behind = updates[comm.rank] < updates[root]
        vectors = [np.empty_like(vector) for vector in self._state()] if behind else self._state()
        for vector in vectors:
            for piece in blocks(vector, MAX_BYTES // vector.itemsize):
                comm.Bcast(piece, root)
        self.counts = bcast(comm, optimizer.counts(), root)
        if behind:
            self.copies = vectors

    def _state(self) -> list[Array]:
        return [
            self.sync.flat.param_vector,
            *(part for parts in self.sync.optimizer.state().values() for part in parts),
        ]

    def find_nodes(self) -> None:
        """Learn anew who shares a node. Collective; an act of its own, for until its end only some have the groups."""
        self.topology = Topology(cast("MPI.Intracomm", self.job.comm), self.job.config.ranks_per_node)

    def rebuild(self) -> None:
        """Be where the furthest are, and make anew what depends on the ranks. Collective."""
        job, config, data = self.job, self.job.config, self.job.data
        comm = cast("MPI.Intracomm", job.comm)
        place = self.places[self.furthest]
        self._adopt(place)
        job.timer.rebind(self.topology)
        batches = deal(config, data, comm.size)
        self.sync.rebind(comm, np.array([batches.counts(rank) for rank in range(comm.size)]))
        self.sync.seek(int(place.before[0]) % job.trainer.loader.steps)
        fault_injection.seek(self.totals.inner, (place.epoch - 1) * job.trainer.loader.steps + int(place.before[0]))
        job.saving.rebind(comm)
        epoch, step, in_a_row = place.skipped
        job.step_faults.rebind(comm, (epoch, step, in_a_row))
        job.trainer.loader = make_loader(data, job.model, job.sync, batches, comm.rank)
        if job.code is None:
            facts = header_facts(self.topology, config, data, job.model, job.sync.flat, job.threads)
            alive = [place.rank for place in self.places]
            job.code, job.decision = at_root(comm, lambda: lead_on(job, self.membership, alive, facts))
            self.membership.ranks = alive
        if not job.over:  # else some have put the best parameters back
            job.step_faults.compare()

    def _adopt(self, place: RankProgress) -> None:
        """Be where another rank is."""
        job = self.job
        for vector, copy in zip(self._state(), self.copies, strict=False):
            np.copyto(vector, copy)
        if self.copies:
            self.sync.optimizer.restore(self.counts)
        if place.last["epoch"] > job.last["epoch"]:
            job.keep(place.last)  # as the others did, who have begun the next epoch since, but made no update
        steps, rows, loss_sum = place.before
        job.begin(place.epoch, Before(int(steps), int(rows), loss_sum))
        job.over, job.decision, job.last, job.code = place.over, place.decision, place.last, place.code
        if job.decision is not None:
            job.decision = {**job.decision, "diverged": False}  # that is looked for anew
