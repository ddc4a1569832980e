"""Training that continues without ranks that died, for MPI libraries with user-level failure mitigation (ULFM).

Bland et al. 2013, "Post-failure recovery of MPI communication capability" (IJHPCA 27(3)): the survivors revoke the
communicators, so that nobody waits in them any more, shrink them to those alive, agree on where they are, and continue.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import NoReturn, cast

import numpy as np
from mpi4py import MPI

from common.data.row_table import RowTable
from common.errors import JobError
from common.flat import Array
from common.rank_status import EXPENDABLE
from ps.comm.agreement import at_root
from ps.comm.collectives import allgather, bcast
from ps.comm.topology import Topology
from ps.metrics.epoch_sums import DoneBefore
from ps.sync.replicated import ReplicatedSync
from ps.sync.served.synchronizer import ServedSync
from ps.sync.training_state import send_vectors
from workers.checkpoint.job_state import JobState
from workers.elastic.failover import membership_of, take_stock
from workers.training.build import make_loader, make_sampler
from workers.training.environment import header_facts
from workers.training.fault_injection import FaultySync
from workers.training.job import Job

MOST_IN_VAIN = 3
"""Attempts to continue with the same ranks: an error of MPI need not come from a death."""

SERVER_S = 20.0
"""How long to wait for the watchdog of a server that died to end the job."""


def train(job: Job) -> int:
    """Train as ``job.train`` does, whoever dies; return the exit code. Raises JobError, and what is no death."""
    survivors = Survivors(job)
    allgather(job.comm, 0)  # until all are here, a death ends the job
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
    assert job.state.code is not None
    return job.state.code


def _order(state: JobState) -> tuple[bool, bool, int, float, bool]:
    """Return what is larger of a rank that is further."""
    return state.code is not None, state.over, state.epoch, state.before.steps, state.decision is not None


class Survivors:
    """The ranks of a job that are alive.

    ``alive``: their numbers at the job's start. ``states``: how far each is. ``copies``: what this one lacks of the
    parameters and the optimizer's state.
    """

    def __init__(self, job: Job) -> None:
        assert isinstance(job.sync, ReplicatedSync | ServedSync)
        assert job.totals is not None
        self.job, self.sync, self.totals = job, job.sync, job.totals
        self.own_rank = job.comm.rank
        self.membership = membership_of(job)
        self.topology = job.sync.meter.timer.topology
        self.alive: list[int] = []
        self.states: list[JobState] = []
        self.error: MPI.Exception | None = None
        self.copies: list[Array] = []
        self.counts: dict[str, int] = {}

    @property
    def furthest(self) -> int:
        """The first rank that is as far as any."""
        return max(range(len(self.states)), key=lambda rank: _order(self.states[rank]))

    def all_through(self, act: Callable[[], object]) -> bool:
        """Do something together; say, the same on all survivors, whether all came to its end.

        Raises JobError if all of them meet the same fault; where some have met a death instead, everything is to be
        done again.
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
        """Say whether an error of MPI comes from a rank's death; one of waiting for several messages does not tell."""
        deaths = MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING, MPI.ERR_REVOKED
        return error.Get_error_class() in deaths or any(
            comm.Is_revoked() or comm.Get_failed().Get_size() for comm in self._in_use()
        )

    def _in_use(self) -> list[MPI.Comm]:
        return [self.job.comm, self.topology.local, self.sync.exchanges_in]

    def announce(self) -> None:
        """Let the watchdogs know that a death is no end from here on. Collective.

        Nobody does before all ranks are where ``all_through`` sees to them.
        """
        allgather(self.job.comm, 0)
        self.job.rank_status.cells[EXPENDABLE] = self.sync.expendable

    def shrink(self) -> None:
        """Leave the dead behind, and find out how far each survivor is. Collective among the survivors."""
        job, totals, state = self.job, self.totals, self.job.state
        self.membership.notice_death()
        job.rank_status.cells[EXPENDABLE] = self.sync.expendable  # a death may come before all ranks are here
        steps = job.trainer.leave_loop("continuing without the dead")
        # 0: equal, or not known since somebody has died here before
        share = state.shares[job.comm.rank] if len(state.shares) == job.comm.size else 0.0
        job.rebind(cast("MPI.Intracomm", job.comm.Shrink()))
        if totals.abandon_step():
            self.sync.state.optimizer.undo_begin()
        steps -= self.sync.take_back()
        done = DoneBefore(steps, state.before.rows + totals.rows, state.before.loss_sum + totals.loss_sum)
        own = {**asdict(state), "before": asdict(done)}
        found = allgather(job.comm, [self.own_rank, own, share, self.sync.expendable])
        self.alive = [rank for rank, *_ in found]
        self.states = [JobState.from_dict(state) for _, state, *_ in found]
        shares = tuple(share for *_, share, _ in found)
        state.shares = shares if all(shares) else ()
        if isinstance(self.sync, ServedSync) and all(expendable for *_, expendable in found):
            self._end_without_server()

    def _end_without_server(self) -> NoReturn:
        """End where the parameters are lost with the rank that had them; its watchdog says so, and ends the job."""
        time.sleep(SERVER_S)
        raise JobError("elastic: rank 0 died, which had the parameters; continue from a checkpoint with --resume")

    def copy_from_furthest(self) -> None:
        """Get the parameters and the optimizer's state from the furthest, if this rank is behind. Collective.

        Nobody is more than one update ahead: a rank may have had a sum when others met a death instead. What comes is
        only put in its place once all have it, for the furthest may die meanwhile.
        """
        self.copies, comm, state = [], self.job.comm, self.sync.state
        per_epoch, root = self.job.trainer.loader.steps, self.furthest
        updates = [(state.epoch - 1) * per_epoch + state.before.steps for state in self.states]
        if self.states[root].over or min(updates) == updates[root]:
            return
        behind = updates[comm.rank] < updates[root]
        vectors = [np.empty_like(vector) for vector in state.live_vectors()] if behind else state.live_vectors()
        send_vectors(comm, vectors, root)
        self.counts = bcast(comm, state.optimizer.counts(), root)
        if behind:
            self.copies = vectors

    def find_nodes(self) -> None:
        """Find again who shares a node. Collective; an act of its own, for until its end only some have the groups."""
        self.topology = Topology(self.job.comm, self.job.config.ranks_per_node)

    def rebuild(self) -> None:
        """Be where the furthest are, and rebind what depends on the ranks. Collective."""
        job, task, comm, place = self.job, self.job.task, self.job.comm, self.states[self.furthest]
        self._adopt(place)
        sampler, per_epoch = (
            make_sampler(task.config, task.data, comm.size, task.joint, job.state.shares),
            job.trainer.loader.steps,
        )
        self.sync.rebind(self.topology, RowTable.of(sampler))
        self.sync.seek(place.before.steps % per_epoch)
        if isinstance(self.totals.inner, FaultySync):
            self.totals.inner.count_from(place.offset + (place.epoch - 1) * per_epoch + place.before.steps)
        job.checkpointing.rebind(comm)
        job.step_faults.rebind(comm)
        job.trainer.rebind(make_loader(task, job.sync, sampler, comm.rank))
        if job.state.code is None:
            facts = header_facts(self.topology, task, job.sync.flat, job.threads)
            job.state.code, job.state.decision = at_root(comm, lambda: take_stock(job, self.alive, facts))
            self.membership.remove(set(self.membership.ranks) - set(self.alive))
        if not job.state.over:  # else some have put the best parameters back
            job.step_faults.compare()

    def _adopt(self, place: JobState) -> None:
        """Be where another rank is."""
        job, state = self.job, self.job.state
        for vector, copy in zip(self.sync.state.live_vectors(), self.copies, strict=False):
            np.copyto(vector, copy)
        if self.copies:
            self.sync.state.optimizer.restore(self.counts)
        if place.last["epoch"] > state.last["epoch"]:
            job.keep_best(place.last)  # as the others did, who have begun the next epoch since, but made no update
        job.begin(place.epoch, place.before)
        # divergence is looked for again, and shares were those of all who lived
        decision = None if place.decision is None else {**place.decision, "diverged": False, "shares": ()}
        state.over, state.decision, state.last, state.code = place.over, decision, place.last, place.code
        state.skipped = place.skipped
