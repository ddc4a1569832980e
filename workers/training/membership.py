"""Who takes part in a job whose ranks may die, and what the watchdogs have seen of those who did."""

import contextlib
import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mpi4py import MPI

from common.files import open_own
from common.host import host
from common.rank_status import ENDED, LOST, PAGE_BYTES, StatusRow
from common.run_files import PROGRESS_NAME, death_notes
from ps.comm.collectives import allgather

if TYPE_CHECKING:
    from ps.coordinator.coordinator import Coordinator

LOOK_S = 0.01
"""Between two looks for what the watchdogs have seen of the dead."""


@dataclass(slots=True)
class Membership:
    """Who takes part. Ranks are numbered as at the job's start.

    ``ranks``: those alive as far as the log knows. ``hosts``: by that number. ``began``: when the job was built, as a
    Unix time. ``noticed``: when this rank met the last death, on the clock of ``time.perf_counter``.
    ``reported``: whose death is in the log as the watchdog saw it; only the coordinator knows.
    """

    ranks: list[int]
    hosts: list[str]
    began: float
    noticed: float = 0.0
    reported: set[int] = field(default_factory=set)

    @classmethod
    def of_all(cls, comm: MPI.Comm) -> "Membership":
        """Return all ranks, now. Collective."""
        return cls(list(range(comm.size)), allgather(comm, host()), time.time())

    def remove(self, dead: Collection[int], reported: Collection[int] = ()) -> None:
        """Take out ranks that have died. ``reported``: whose death is in the log."""
        self.ranks = [rank for rank in self.ranks if rank not in dead]
        self.reported.update(reported)

    def notice_death(self) -> None:
        """Keep the time at which this rank met a death."""
        self.noticed = time.perf_counter()

    def collect_death_notes(self, coordinator: "Coordinator", wait_s: float) -> None:
        """Bring what the watchdogs have seen of the dead to the log; wait so long for those who say nothing yet."""
        until = time.monotonic() + wait_s
        while True:
            for path, event in death_notes(coordinator.folder):
                if event["rank"] not in self.reported:  # else the coordinator before died between the two
                    coordinator.event(**event)
                self.reported.add(event["rank"])
                with contextlib.suppress(OSError):
                    path.unlink()
            silent = set(range(len(self.hosts))) - set(self.ranks) - self.reported
            if not silent or time.monotonic() > until:
                break
            time.sleep(LOOK_S)
        _mark_lost(coordinator.folder, silent)


def _mark_lost(folder: Path, ranks: set[int]) -> None:
    """Let the watchdogs know of the dead whose own says nothing, perhaps because their node is gone as a whole."""
    for path in folder.glob(f"{PROGRESS_NAME}-*") if ranks else ():
        with contextlib.suppress(OSError), open_own(path) as file:
            for rank in ranks:
                os.pwrite(file.fileno(), StatusRow(finished=LOST, state=ENDED).pack(), rank * PAGE_BYTES)
