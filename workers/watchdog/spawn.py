"""What a rank does so that the watchdog of its node sees it end or hang."""

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
from common.files import create_new
from common.host import host
from common.job_signals import STACK_SIGNAL
from common.rank_status import FINISHED, PAGE_BYTES, RankStatus
from common.run_files import PROGRESS_NAME
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
        """Start the watchdog of each node. Collective. If it cannot start (no Linux, say), ranks are not watched.

        It learns of the run folder from the ranks' own memory, once there is one.
        """
        handle = self.rank_status.handle
        able = handle >= 0 and hasattr(os, "pidfd_open") and hasattr(select, "epoll")
        if able:
            faulthandler.register(STACK_SIGNAL, handle, all_threads=False)
        # a name of its own: watchdogs of an earlier job may still write to theirs
        self._name = f"{PROGRESS_NAME}-{bcast(topology.comm, secrets.token_hex(4))}"
        ranks = allgather(topology.local, [topology.comm.rank, os.getpid(), handle, self.rank_status.pipe])
        hosts = allgather(topology.comm, host())
        if topology.local.rank == 0 and able:
            self._start(topology, config, ranks, hosts)
        topology.local.Barrier()  # no rank continues, and perhaps dies, before it is watched

    def _start(self, topology: Topology, config: RunConfig, ranks: list[list[int]], hosts: list[str]) -> None:
        orders = {
            "ranks": ranks, "hosts": hosts, "leaders": topology.leaders, "progress": self._name,
            "stall_s": config.stall_seconds, "abort_s": config.abort_stall, "elastic": config.elastic,
            "path": [path for path in sys.path if path],
        }  # fmt: skip
        command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(ROOT)]
        out = subprocess.DEVNULL if topology.comm.rank else subprocess.PIPE
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out)
            assert process.stdin is not None
            with process.stdin:
                process.stdin.write(json.dumps(orders).encode())
            process.wait()  # it leaves a child that watches
        except OSError as error:
            warn(f"ranks on {host()} are not watched; if one dies or hangs, there will be no message ({error})")
            return
        self._events = process.stdout

    def report_to(self, coordinator: Coordinator | None, n_ranks: int) -> None:
        """Make the file that the nodes' watchdogs share, and begin to log their events; at rank 0."""
        if coordinator is None:
            return
        with contextlib.suppress(OSError), create_new(coordinator.folder / self._name) as file:
            file.truncate(n_ranks * PAGE_BYTES)
        if self._events is not None:
            threading.Thread(target=_log, args=(self._events, coordinator), name="events", daemon=True).start()

    def close(self) -> None:
        """Leave MPI; only now may this process end."""
        MPI.Finalize()
        self.rank_status.cells[FINISHED] = 1


def _log(events: IO[bytes], coordinator: Coordinator) -> None:
    """Log the watchdog's events as long as it lives."""
    for line in events:
        try:
            coordinator.event(**json.loads(line))
        except OSError as error:
            warn(f"{coordinator.log.path}: an event of the watchdog could not be written ({error.strerror})")
