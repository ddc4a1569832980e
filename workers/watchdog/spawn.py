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
from common.host import boot_id, eldest_launcher, host
from common.job_signals import STACK_SIGNAL
from common.process_table import read_process
from common.rank_status import FINISHED, PAGE_BYTES, RankStatus
from common.run_files import PROGRESS_NAME
from common.wording import listed
from ps.comm.collectives import allgather, bcast, meet
from ps.comm.topology import Topology
from ps.coordinator.seat import CoordinatorSeat
from ps.text.terminal import warn

if TYPE_CHECKING:
    import socket

    from ps.coordinator.coordinator import Coordinator

ROOT = Path(__file__).parent.parent.parent
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from workers.watchdog.process import main; main()"
MOST_ENDED = 5
"""Watchdogs of a node: who ends so many means it."""
START_S = 60.0
"""How long another rank of the node may take to start one."""
LOOK_S = 0.05
APPEARS_S = 2.0
"""How long it may take until a new file is seen on another host."""
MOST_NAMED = 8
"""Hosts in a message."""


class WatchdogHandle:
    """Has this rank watched, from when the options are known until it has left MPI."""

    def __init__(self, rank_status: RankStatus, seat: CoordinatorSeat) -> None:
        """``seat``: where events go, if this rank is the coordinator."""
        self.rank_status, self.seat = rank_status, seat
        self._name = PROGRESS_NAME
        self._orders: dict[str, Any] = {}
        self._hosts: list[str] = []
        self._listener: socket.socket | None = None
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
        places = allgather(topology.comm, [host(), self._listen(topology) if able else None])
        self._hosts = [name for name, _ in places]
        self._orders = {
            "ranks": allgather(topology.local, own), "hosts": self._hosts, "lost": [], "gone": [],
            "star": self._star(topology, places), "leaders": topology.leaders, "progress": self._name,
            "stall_s": config.stall_seconds,
            "abort_s": config.abort_stall, "elastic": config.elastic, "path": [path for path in sys.path if path],
            "launcher": eldest_launcher(),
        }  # fmt: skip
        if topology.local.rank == 0 and able and (fault := self._start()):
            self._not_watched(fault)
        meet(topology.local)  # no rank continues, and perhaps dies, before it is watched
        if able and self._is_watched():
            threading.Thread(target=self._watch_watchdog, name="watchdog", daemon=True).start()

    def _listen(self, topology: Topology) -> list[Any] | None:
        """Return where the watchdog of this node can be called, at its lowest rank: addresses, port, machine's boot id.

        The socket is made here, so that the others know the port before that process is there.
        """
        if topology.count == 1 or topology.local.rank:
            return None
        from common.addresses import own_addresses
        from workers.watchdog.listener import listen

        here = topology.here == topology.comm.size  # nodes are pretended
        try:
            self._listener = listen(0, here=here)
        except OSError:
            return [[], 0, ""]
        addresses = ["127.0.0.1"] if here else own_addresses()
        return [addresses, self._listener.getsockname()[1], boot_id() or ""]

    def _star(self, topology: Topology, places: list[Any]) -> dict[str, Any] | None:
        """Return what a watchdog has to know to call the others; None on one node. Collective."""
        if topology.count == 1:
            return None
        places = [place or [[], 0, ""] for rank, (_, place) in enumerate(places) if topology.leaders[rank] == rank]
        return {
            "places": [addresses for addresses, *_ in places], "ports": [port for _, port, _ in places],
            "clocks": [clock for *_, clock in places], "listener": -1,
            "token": bcast(topology.comm, secrets.token_hex(32)), "here": topology.here == topology.comm.size,
        }  # fmt: skip

    def _start(self) -> str:
        """Start the watchdog of this node; return why it could not be."""
        command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(ROOT)]
        import subprocess  # on one rank of a node

        handles = []
        if self._listener is not None:  # another watchdog takes the same port itself
            handles = [self._listener.fileno()]
            self._orders["star"]["listener"] = handles[0]
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=handles)
            assert process.stdin is not None
            assert process.stdout is not None
            with process.stdin:
                process.stdin.write(json.dumps(self._orders).encode())
            if process.wait():  # else it has left a child that watches
                return process.stdout.read().decode(errors="replace") or f"exit code {process.returncode}"
        except OSError as error:
            return str(error)
        finally:
            if self._listener is not None:
                self._listener.close()
                self._listener = None
                self._orders["star"]["listener"] = -1
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

    def report_to(self, coordinator: "Coordinator | None", topology: Topology) -> None:
        """Find out which hosts see the run folder, and begin to log the watchdogs' events, at rank 0. Collective."""
        if coordinator is not None:
            with contextlib.suppress(OSError), create_new(coordinator.folder / self._name) as file:
                file.truncate(topology.comm.size * PAGE_BYTES)
        if topology.count > 1:
            self._find_unshared(coordinator, topology)
        self._may_log.set()

    def _find_unshared(self, coordinator: "Coordinator | None", topology: Topology) -> None:
        """Find out, and say, which hosts do not see the run folder: they lack the file that rank 0 has just made."""
        folder, seen = self.rank_status.folder, True
        made = bcast(topology.comm, coordinator is not None and (coordinator.folder / self._name).exists())
        if made and topology.local.rank == 0 and topology.comm.rank:
            seen = folder is not None and _appears(folder / self._name)
        seen = bcast(topology.local, seen)
        if not seen:
            self.rank_status.note_not_shared()
        leads = topology.local.rank == 0
        without = [self._hosts[r] for r, lacks in enumerate(allgather(topology.comm, leads and not seen)) if lacks]
        if without and coordinator is not None:
            message = (
                f"{listed(without, MOST_NAMED)} {'does' if len(without) == 1 else 'do'} not see the run folder "
                f"{coordinator.folder}; what happens there is told to {host()} by the watchdogs"
            )
            coordinator.event("folder-not-shared", hosts=without, message=message)
            warn(message)

    def tidy(self) -> None:
        """Remove the file of the nodes' watchdogs, at the coordinator, whose training is over.

        Of several watchdogs none knows for sure that it is the last.
        """
        if self.seat.coordinator is not None:
            with contextlib.suppress(OSError):
                (self.seat.coordinator.folder / self._name).unlink()

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


def _appears(file: Path) -> bool:
    """Say whether a file can be seen from here; a network file system may take a moment to show it."""
    until = time.monotonic() + APPEARS_S
    while not file.exists():
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_S)
    return True


def _lives(pid: int) -> bool:
    process = read_process(pid)
    return process is not None and not process.ended
