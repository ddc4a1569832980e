"""What a rank does so that the watchdog of its node sees it end or hang."""

import contextlib
import faulthandler
import fcntl
import json
import os
import secrets
import select
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mpi4py import MPI

from common.config import RunConfig
from common.files import create_new
from common.host import eldest_launcher, host
from common.job_signals import STACK_SIGNAL
from common.process_table import read_process
from common.rank_status import FINISHED, PAGE_BYTES, RankStatus
from common.run_files import PROGRESS_NAME
from ps.comm.collectives import allgather, bcast, meet
from ps.comm.topology import Topology
from ps.coordinator.seat import CoordinatorSeat
from ps.text.terminal import warn

if TYPE_CHECKING:
    from ps.coordinator.coordinator import Coordinator

ROOT = Path(__file__).parent.parent.parent
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from workers.watchdog.watchdog import main; main()"
MOST_ENDED = 5
"""Watchdogs of a node: who ends so many means it."""
START_S = 60.0
"""How long another rank of the node may take to start one."""
LOOK_S = 0.05


class WatchdogHandle:
    """Has this rank watched, from when the options are known until it has left MPI."""

    def __init__(self, rank_status: RankStatus, seat: CoordinatorSeat) -> None:
        """``seat``: where events go, if this rank is the coordinator."""
        self.rank_status, self.seat = rank_status, seat
        self._name = PROGRESS_NAME
        self._orders: dict[str, Any] = {}
        self._may_log = threading.Event()
        self._closing = False

    def open(self, topology: Topology, config: RunConfig) -> None:
        """Start the watchdog of each node. Collective. If it cannot start (no Linux, say), ranks are not watched.

        It learns of the run folder from the ranks' own memory, once there is one.
        """
        status = self.rank_status
        able = status.handle >= 0 and hasattr(os, "pidfd_open") and hasattr(select, "epoll")
        if able:
            faulthandler.register(STACK_SIGNAL, status.handle, all_threads=False)
        # a name of its own: watchdogs of an earlier job may still write to theirs
        self._name = f"{PROGRESS_NAME}-{bcast(topology.comm, secrets.token_hex(4))}"
        own = [topology.comm.rank, os.getpid(), status.handle, status.pipe, status.copy]
        self._orders = {
            "ranks": allgather(topology.local, own), "hosts": allgather(topology.comm, host()), "lost": [],
            "gone": [], "leaders": topology.leaders, "progress": self._name, "stall_s": config.stall_seconds,
            "abort_s": config.abort_stall, "elastic": config.elastic, "path": [path for path in sys.path if path],
            "launcher": eldest_launcher(),
        }  # fmt: skip
        if topology.local.rank == 0 and able and (fault := self._start()):
            self._not_watched(fault)
        meet(topology.local)  # no rank continues, and perhaps dies, before it is watched
        if able and self._is_watched():
            threading.Thread(target=self._watch_watchdog, name="watchdog", daemon=True).start()

    def _start(self) -> str:
        """Start the watchdog of this node; return why it could not be."""
        command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(ROOT)]
        import subprocess  # on one rank of a node

        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert process.stdin is not None
            assert process.stdout is not None
            with process.stdin:
                process.stdin.write(json.dumps(self._orders).encode())
            if process.wait():  # else it has left a child that watches
                return process.stdout.read().decode(errors="replace") or f"exit code {process.returncode}"
        except OSError as error:
            return str(error)
        threading.Thread(target=self._log, args=(process.stdout,), name="events", daemon=True).start()
        return ""

    def _is_watched(self) -> bool:
        """Say whether a watchdog holds its lock on this rank's memory."""
        try:
            fcntl.flock(self.rank_status.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self.rank_status.handle, fcntl.LOCK_UN)
        return False

    def _watch_watchdog(self) -> None:
        """Wait for the end of the watchdog, and see to it that there is another one.

        Nothing runs while it lives: the kernel wakes this thread when the watchdog's lock is gone.
        """
        for _ in range(MOST_ENDED):
            fcntl.flock(self.rank_status.handle, fcntl.LOCK_EX)
            fcntl.flock(self.rank_status.handle, fcntl.LOCK_UN)
            if not self._await_another():
                return
        if self._is_first():
            self._not_watched(f"its watchdog has been ended {MOST_ENDED} times")

    def _await_another(self) -> bool:
        """Start another watchdog, or wait until another rank of the node has; return whether there is one."""
        until = time.monotonic() + START_S
        while not self._closing and time.monotonic() < until:
            if self._is_first():
                return self._start_another()
            time.sleep(LOOK_S)
            if self._is_watched():
                return True
        return False

    def _is_first(self) -> bool:
        """Say whether this is the first rank of the node that is alive."""
        first: int = next(process[1] for process in self._orders["ranks"] if _lives(process[1]))
        return first == os.getpid()

    def _start_another(self) -> bool:
        orders = self._orders
        living = [process for process in orders["ranks"] if _lives(process[1])]
        left = "lost" if orders["elastic"] else "gone"
        orders[left] += [process[0] for process in orders["ranks"] if process not in living]
        orders["ranks"] = living
        if fault := self._start():
            self._not_watched(f"its watchdog is gone, and another cannot be started: {fault}")
            return False
        warn(f"the watchdog of {host()} was gone, killed perhaps; another one watches its ranks now")
        self.rank_status.note_new_watchdog()
        return True

    def _not_watched(self, why: str) -> None:
        warn(f"ranks on {host()} are not watched; if one dies or hangs, there will be no message ({why})")

    def report_to(self, coordinator: "Coordinator | None", n_ranks: int) -> None:
        """Make the file that the nodes' watchdogs share, and begin to log their events; at rank 0."""
        if coordinator is not None:
            with contextlib.suppress(OSError), create_new(coordinator.folder / self._name) as file:
                file.truncate(n_ranks * PAGE_BYTES)
        self._may_log.set()

    def close(self) -> None:
        """Leave MPI; only now may this process end."""
        self._closing = True
        MPI.Finalize()
        self.rank_status.cells[FINISHED] = 1

    def _log(self, events: IO[bytes]) -> None:
        """Log the watchdog's events as long as it lives; where the coordinator is another rank, nobody needs them."""
        self._may_log.wait()
        for line in events:
            try:
                self.seat.event(**json.loads(line))
            except OSError as error:
                warn(f"{self.rank_status.folder}: an event of the watchdog could not be written ({error.strerror})")


def _lives(pid: int) -> bool:
    process = read_process(pid)
    return process is not None and not process.ended
