"""A training job whose ranks die: ``dies_at.py RANK:EPOCH:STEP:PLACE[,...] [arguments of workers.run]``.

Ranks are numbered as at the start. A place is a phase of ``RankStatus``, or ``grouping``, ``moving`` or ``deciding``,
with step 0, or ``compute``, ``exchange`` or ``noting``, when what went wrong in a step comes to the log. With
`` by TERM`` or `` by a bug`` behind it, the rank does not die but has that happen.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from common.data.loader import Batch
from common.flat import Array
from common.nn.mlp import Backprop
from common.rank_status import RankStatus
from ps.comm import topology as grouping
from ps.comm.topology import Topology
from ps.coordinator.coordinator import Coordinator
from ps.logfile.records import Record
from ps.metrics.sync_timer import SyncTimer
from ps.sync.reduce_bcast import ReduceBcastWire
from ps.sync.send_recv import SendRecv
from ps.sync.wires import float32
from workers import run
from workers.training.step_faults import StepFaults
from workers.watchdog.spawn import WatchdogHandle

deaths = [(int(r), int(e), int(s), place) for r, e, s, place in (text.split(":") for text in sys.argv[1].split(","))]
del sys.argv[1]
positions: list[RankStatus] = []


def die(place: str, epoch: int, step: int = 0) -> None:
    """Do so, if it is this rank's turn."""
    from mpi4py import MPI

    own = MPI.COMM_WORLD.rank
    if (own, epoch, step, f"{place} by TERM") in deaths:
        os.kill(os.getpid(), signal.SIGTERM)
    if (own, epoch, step, f"{place} by a bug") in deaths:
        raise ValueError("this is the cause")
    if (own, epoch, step, place) in deaths:
        os.kill(os.getpid(), signal.SIGKILL)


def here(place: str) -> None:
    """Die at a part of a step."""
    if positions:
        die(place, positions[0].epoch, positions[0].step)


def forward(self: Backprop, batch: Batch, scale: float) -> float:
    """Die before the gradient is computed, in a step that is sampled or not."""
    here("compute")
    return plain_forward(self, batch, scale)


def reduced(self: ReduceBcastWire, vector: Array) -> None:
    """Sum as the mode does, and die when others may have the sum."""
    from mpi4py import MPI

    if self.comm.rank == 0:
        self.comm.Reduce(MPI.IN_PLACE, vector)
    else:
        self.comm.Reduce(vector, None)
    here("exchange")
    self.comm.Bcast(vector)


def served(self: SendRecv) -> None:
    """Die with receives and sends under way."""
    here("exchange")
    plain_serve(self)


def passed(comm: Any, chunks: Any) -> None:
    """Die when each rank has a part of the sum."""
    here("exchange")
    plain_pass(comm, chunks)


def cores() -> Any:
    """Die when some have some of the groups of a node."""
    if positions:
        die("grouping", positions[0].epoch)
    return plain_affinity()


def moved(self: SyncTimer, topology: Topology) -> None:
    """Die while the others put the job in order."""
    if hasattr(self, "topology"):
        die("moving", positions[0].epoch)
    plain_rebind(self, topology)


def judged(self: Coordinator, record: Record, *, reported: bool = False) -> dict[str, bool]:
    """Die when the epoch is in the log, and nobody knows."""
    die("deciding", record["epoch"])
    return plain_judge(self, record, reported=reported)


def noted(self: StepFaults, what: str, **fields: Any) -> None:
    """Die when some others have put a step that went wrong in order."""
    here("noting")
    plain_note(self, what, **fields)


def opened(self: WatchdogHandle, *arguments: Any) -> None:
    """Begin to look for the places, now that all ranks train."""
    plain_open(self, *arguments)
    positions.append(self.rank_status)


def enter(self: RankStatus, phase: str) -> None:
    """Die where a phase begins."""
    plain_enter(self, phase)
    if positions:
        die(phase, self.epoch)


plain_enter = RankStatus.enter
plain_forward, plain_serve, plain_rebind = Backprop.forward, SendRecv.sum, SyncTimer.rebind
plain_judge: Callable[..., dict[str, bool]] = Coordinator.judge
plain_affinity: Callable[[], Any] = vars(grouping)["affinity"]
plain_pass: Callable[[Any, Any], None] = vars(float32)["pass_around"]
plain_open, plain_note = WatchdogHandle.open, StepFaults._note
RankStatus.enter = enter  # type: ignore[method-assign]
Backprop.forward, SendRecv.sum, SyncTimer.rebind = forward, served, moved  # type: ignore[method-assign]
vars(grouping)["affinity"] = cores
vars(float32)["pass_around"] = passed
StepFaults._note = noted  # type: ignore[method-assign]
ReduceBcastWire.sum, Coordinator.judge, WatchdogHandle.open = reduced, judged, opened  # type: ignore[method-assign,assignment]
sys.exit(run.main())
