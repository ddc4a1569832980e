"""The table of sync modes: a new mode is a class, in a file of its own where it is large, and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from common.config import RunConfig
from common.flat import Array
from common.nn.mlp import Mlp
from common.nn.models import Model
from ps.comm.topology import Topology
from ps.metrics.sync_timer import SyncTimer
from ps.sync.factors import factors
from ps.sync.reducers import Allreduce, ReduceBcast, SendRecv
from ps.sync.replicated import ReplicatedSync
from ps.sync.shared import SharedSync
from ps.sync.synchronizer import Synchronizer

Build = Callable[[Topology, Model | Mlp, RunConfig, SyncTimer, Array], Synchronizer]


@dataclass(frozen=True, slots=True)
class Mode:
    """How a mode is made, what it is, and whether each rank has parameters of its own."""

    build: Build
    help: str
    replicas: bool = True


MODES: dict[str, Mode] = {
    "allreduce": Mode(partial(ReplicatedSync, Allreduce), "one MPI_Allreduce, all ranks alike"),
    "reduce-bcast": Mode(partial(ReplicatedSync, ReduceBcast), "MPI_Reduce to rank 0, MPI_Bcast back"),
    "send-recv": Mode(partial(ReplicatedSync, SendRecv), "point to point through rank 0, in pipelined chunks"),
    "shared": Mode(SharedSync, "one copy of the parameters a node, each rank updates its slice", replicas=False),
    "factors": Mode(factors, "as shared; large layers' gradients are formed from inputs and deltas", replicas=False),
}
AUTO = "auto"
"""Stands for the fastest of the table, tried at the start (workers/training/auto_mode.py)."""
HELP = {**{name: mode.help for name, mode in MODES.items()}, AUTO: "tries them at the start and takes the fastest"}
