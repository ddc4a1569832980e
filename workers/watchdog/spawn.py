"""What a rank does so that the witness of its node sees it end or hang."""

import contextlib
import faulthandler
import json
import os
import secrets
import select
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from mpi4py import MPI

from common.config import RunConfig
from common.host import host
from common.progress import OVER, PAGE_BYTES, STACK_SIGNAL, RankStatus
from common.run_files import FAILURE_NAME, LOG_NAME, PROGRESS_NAME
from ps.comm.collectives import allgather, bcast
from ps.comm.topology import Topology
from ps.coordinator.coordinator import Coordinator
from ps.text.terminal import warn

ROOT = Path(__file__).parent.parent.parent
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from workers.watchdog.watchdog import main; main()"


class WatchdogHandle:
    """Has this rank watched, from when the options are known until it has left MPI."""

    def __init__(self, rank_status: RankStatus) -> None:
        self.rank_status = rank_status
        self._name = PROGRESS_NAME
        self._events: IO[bytes] | None = None

    def open(self, topology: Topology, config: RunConfig) -> None:
        """Start the witness of each node. Collective. Without one (no Linux, no process left), ranks go unwatched.

        It learns of the run folder from the ranks' own memory, once there is one.
        """
        handle = self.rank_status.handle
        able = handle >= 0 and hasattr(os, "pidfd_open") and hasattr(select, "epoll")
        if able:
            faulthandler.register(STACK_SIGNAL, handle, all_threads=False)
        # a name of its own: witnesses of a job before may still write theirs
        self._name = f"{PROGRESS_NAME}-{bcast(topology.comm, secrets.token_hex(4))}"
        ranks = allgather(topology.local, [topology.comm.rank, os.getpid(), handle, self.rank_status.line])
        hosts = allgather(topology.comm, host())
        if topology.local.rank == 0 and able:
            self._start(topology, config, ranks, hosts)
        topology.local.Barrier()  # nobody goes on, and perhaps dies, unseen

    def report_to(self, lead: Coordinator | None, n_ranks: int) -> None:
        """Make the file by which the nodes' witnesses tell each other, and bring events to the log; at rank 0."""
        if lead is None:
            return
        with contextlib.suppress(OSError), (lead.folder / self._name).open("wb") as file:
            file.truncate(n_ranks * PAGE_BYTES)
        if self._events is not None:
            threading.Thread(target=_note, args=(self._events, lead), name="events", daemon=True).start()

    def _start(self, topology: Topology, config: RunConfig, ranks: list[list[int]], hosts: list[str]) -> None:
        orders = {
            "ranks": ranks,
            "hosts": hosts,
            "leaders": topology.leaders,
            "failure": FAILURE_NAME,
            "log": LOG_NAME,
            "progress": self._name,
            "stall_s": config.stall_seconds,
            "abort_s": config.abort_stall,
            "elastic": config.elastic,
            "path": [path for path in sys.path if path],
        }
        command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(ROOT)]
        out = subprocess.DEVNULL if topology.comm.rank else subprocess.PIPE
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out)
            assert process.stdin is not None
            with process.stdin:
                process.stdin.write(json.dumps(orders).encode())
            process.wait()  # it leaves a child that watches
        except OSError as error:
            warn(f"ranks on {host()} that die or hang will not be told of ({error})")
            return
        self._events = process.stdout

    def close(self) -> None:
        """Leave MPI; only now may this process end."""
        MPI.Finalize()
        self.rank_status.cells[OVER] = 1


def _note(events: IO[bytes], lead: Coordinator) -> None:
    """Bring to the log what the witness tells, as long as it lives."""
    for line in events:
        try:
            lead.event(**json.loads(line))
        except OSError as error:
            warn(f"{lead.log.path}: a stall is not in the log ({error.strerror})")
