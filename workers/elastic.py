"""Going on without ranks that died, in the same job: for MPI libraries with user-level failure mitigation (ULFM).

Bland et al. 2013, "Post-failure recovery of MPI communication capability" (IJHPCA 27(3)): the survivors revoke the
communicators, so that nobody waits in them any more, shrink them to those alive, agree on where they are, and go on.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NoReturn, cast

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.errors import EXIT_ERROR, EXIT_OK, EXIT_STOPPED, EXIT_USAGE, JobError
from common.flat import Array, blocks
from common.host import host
from common.progress import OVER
from ps.coordinator import Coordinator, say
from ps.guard import Position, at_root
from ps.log import LogReader, Record
from ps.messages import allgather, bcast
from ps.modes import AUTO, MODES
from ps.nodes import Nodes
from ps.reduce import MAX_BYTES
from ps.sync import EveryStep
from workers.assembly import deal, make_feed
from workers.describe import describe
from workers.job import Job
from workers.saving import Before
from workers.setup import appoint

ENABLED = "OMPI_MCA_mpi_ft_enable"
"""Set by ``mpirun --with-ft ulfm``."""
LOCK_S = 10.0
"""How long to wait for the lock on the log of a process that has died."""
EXIT_CODES = {"ok": EXIT_OK, "stopped": EXIT_STOPPED}


def check_support(config: RunConfig) -> None:
    """Raise JobError, the same on all ranks, where a job cannot go on without a rank."""
    reason = ""
    if MPI.get_vendor()[0] != "Open MPI":
        reason = f"needs Open MPI 5, started with mpirun --with-ft ulfm; this is {MPI.get_vendor()[0]}"
    elif os.environ.get(ENABLED, "").lower() not in ("1", "true"):
        reason = "needs mpirun --with-ft ulfm"
    elif config.mode == AUTO or not MODES[config.mode].replicas:
        modes = ", ".join(name for name, mode in MODES.items() if mode.replicas)
        reason = f"goes with modes {modes}; in mode {config.mode} a dead rank may take parameters along"
    elif config.rows == "shard":
        reason = "goes with rows shuffle; with fixed shards the steps of fewer ranks would be others"
    elif config.init == "per-rank":
        reason = "goes with init broadcast; parameters must be the same on all ranks"
    if reason:
        raise JobError(
            f"elastic: {reason}; on any MPI, and with any options, python -m workers.supervise -np N -- ... starts a "
            "job again from its last checkpoint",
            EXIT_USAGE,
        )


def train(job: Job) -> int:
    """Train as ``job.train`` does, whoever dies; return the exit code. Raises JobError, and what is no death."""
    crew = Crew(job)
    fine = crew.all_through(job.train)
    while not fine:
        # one after the other, and each only if all survivors have come through the one before
        fine = all(crew.all_through(act) for act in (crew.shrink, crew.fetch, crew.rebuild, job.train))
    assert job.code is not None
    return job.code


def leave(position: Position, code: int) -> NoReturn:
    """End this process, whose work is done, without MPI_Finalize.

    That waits for all processes of the job, and in Open MPI 5.0.11, now and then, for dead ones too.
    """
    position.cells[OVER] = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a survivor is, as plain values; see Job. ``rank``: its number at the job's start."""

    rank: int
    over: bool
    epoch: int
    before: list[float]
    """Of the epoch: steps that are done, and their rows and sum of losses of all ranks."""
    decision: dict[str, Any] | None
    last: dict[str, Any]
    code: int | None

    @property
    def order(self) -> tuple[bool, bool, int, float, bool]:
        """What is larger of a rank that is further."""
        return self.code is not None, self.over, self.epoch, self.before[0], self.decision is not None

    @property
    def update(self) -> tuple[bool, int, float]:
        """What is larger of a rank that has made one more update."""
        return self.over, self.epoch, self.before[0]


class Crew:
    """The ranks of a job that are alive.

    ``ranks``: those of the present communicator, as they were numbered at the job's start. ``hosts``: by that number.
    ``places``: where each survivor is. ``copies``: what this one lacks of the parameters and the optimizer's state.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.own_rank = job.comm.rank
        self.ranks = list(range(job.comm.size))
        self.hosts: list[str] = allgather(job.comm, host())
        self.began, self.noticed = time.time(), 0.0
        self.places: list[Place] = []
        self.copies: list[Array] = []
        self.counts: dict[str, int] = {}

    @property
    def furthest(self) -> int:
        """The first rank that is as far as any."""
        return max(range(len(self.places)), key=lambda rank: self.places[rank].order)

    @property
    def sync(self) -> EveryStep:
        """The job's synchroniser."""
        assert isinstance(self.job.sync, EveryStep)
        return self.job.sync

    def all_through(self, act: Callable[[], object]) -> bool:
        """Do something together; say, the same on all survivors, whether all came to its end."""
        fine = True
        try:
            act()
        except MPI.Exception as error:
            if not self._is_death(error):
                raise
            fine = False
            for comm in self._in_use():
                comm.Revoke()
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
        return [self.job.comm, self.job.timer.nodes.local, self.sync.exchanges_in]

    def shrink(self) -> None:
        """Leave the dead behind, and tell each other how far each is. Collective among the survivors."""
        job, ledger = self.job, self.job.ledger
        assert ledger is not None
        self.noticed = time.perf_counter()
        job.trainer.sums.steps = job.trainer.done
        job.position.phase = "going on without the dead"
        job.comm = job.comm.Shrink()
        if ledger.begun:
            job.sync.withdraw()
            ledger.begun = False
        before = job.saving.before
        done = [job.trainer.done, before.rows + ledger.rows, before.loss_sum + ledger.loss_sum]
        own = Place(self.own_rank, job.over, job.epoch, done, job.decision, job.last, job.code)
        self.places = [Place(**place) for place in allgather(job.comm, asdict(own))]

    def fetch(self) -> None:
        """Get the parameters and the optimizer's state from the furthest, if this rank is behind. Collective.

        Nobody is more than one update ahead: a rank may have had a sum when others were told of a death instead. What
        comes is only put in its place once all have it, for the furthest may die meanwhile.
        """
        self.copies, comm, optimizer = [], self.job.comm, self.sync.optimizer
        updates, root = [place.update for place in self.places], self.furthest
        if self.job.over or min(updates) == updates[root]:
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
        return [self.sync.flat.params, *(part for parts in self.sync.optimizer.state().values() for part in parts)]

    def rebuild(self) -> None:
        """Be where the furthest are, and make anew what depends on the ranks. Collective."""
        job, config, data = self.job, self.job.config, self.job.data
        comm = cast("MPI.Intracomm", job.comm)
        place = self.places[self.furthest]
        self._adopt(place)
        nodes = Nodes(comm, config.ranks_per_node)
        job.timer.move(nodes)
        batches = deal(config, data, comm.size)
        self.sync.move(comm, np.array([batches.counts(rank) for rank in range(comm.size)]))
        self.sync.go_on_at(int(place.before[0]) % job.trainer.feed.steps)
        job.saving.move(comm)
        job.duties.comm = comm
        job.trainer.feed = make_feed(data, job.model, job.sync, batches, comm.rank)
        if job.code is None:
            facts = describe(nodes, config, data, job.model, job.sync.flat, job.threads)
            job.code, job.decision = at_root(comm, lambda: self._lead(facts))
        self.ranks = [place.rank for place in self.places]

    def _adopt(self, place: Place) -> None:
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

    def _lead(self, facts: dict[str, Any]) -> list[Any]:
        """At rank 0: note what happened, as the coordinator, which this rank may not have been.

        Return the exit code and the epoch's decision, as far as they are known now.
        """
        job, outcome = self.job, [self.job.code, self.job.decision]
        if job.coordinator is None:
            outcome = take_over(job, facts, self.began)
        lead = job.lead()
        lead.recall({}, facts)
        if outcome[0] is not None:
            return outcome
        alive = [place.rank for place in self.places]
        dead = [rank for rank in self.ranks if rank not in alive]
        hosts = [self.hosts[rank] for rank in dead]
        steps, seconds = job.saving.before.steps, time.perf_counter() - self.noticed
        lead.event(
            "shrink", dead=dead, hosts=hosts, epoch=job.epoch, step=steps, ranks_before=len(self.ranks),
            ranks=len(alive), seconds=seconds, **facts,
        )  # fmt: skip
        named = ", ".join(f"{rank} on {name}" for rank, name in zip(dead, hosts, strict=True))
        where = "the final test" if job.over else f"epoch {job.epoch}, after step {steps}"
        say(f"Going on without rank {named}: {len(alive)} ranks, at {where}; recovered in {1000 * seconds:.0f} ms.")
        return outcome


def take_over(job: Job, facts: dict[str, Any], began: float) -> list[Any]:
    """Become the coordinator in place of one that died; return what its last records say: exit code and decision.

    ``facts``: what the header would say now. ``began``: when training began, as a Unix time.
    """
    lead = _open(job)
    memory = (job.decision or job.last)["memory"]
    lead.recall(memory, facts)
    lead.started -= time.time() - memory.get("at", began)
    record, status = _last_words(lead)
    lead.last = record or {}
    code, decision = EXIT_CODES.get(status, EXIT_ERROR) if status else None, job.decision
    if decision is None and record is not None and record["epoch"] == job.epoch:  # nobody was told
        lead.noise.update(sum(record["noise_trace"].values()), sum(record["noise_gradient_sq"].values()))
        decision = {**lead.judge(record), "diverged": False, "signalled": False, "memory": lead.memory()}
    return [code, decision]


def _open(job: Job) -> Coordinator:
    """Go on with the log, once the dead process's lock on it is gone."""
    assert job.position.folder is not None
    until = time.monotonic() + LOCK_S
    while True:
        try:
            return appoint(job, job.position.folder, resumed=True)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(LOCK_S / 100)


def _last_words(lead: Coordinator) -> tuple[Record | None, str]:
    """Return the last epoch's record of this job, and the status if the log has come to its end."""
    last, status = None, ""
    for entry in LogReader(lead.log.path).entries():
        if entry.kind == "epoch":
            last = entry
        elif entry.kind == "event" and entry.record()["what"] == "resume":
            last = None  # of what follows, nothing is there yet
        status = str(entry.record()["status"]) if entry.kind == "end" else ""
    return last.record() if last else None, status
