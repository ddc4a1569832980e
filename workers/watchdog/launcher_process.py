"""The launcher of a job as the watchdog of its node sees it: one that ends takes the ranks along."""

import os
import select
import signal
import time
from contextlib import suppress

from common.launcher_output import NO_READER, hold_streams, output_fault, print_past_launcher
from common.process_table import descendants, read_process
from workers.watchdog.rank_process import killed_by

FOREGROUND = ("mpirun", "mpiexec", "mpiexec.hydra", "prterun", "orterun")
"""Launchers that a user or a script waits for."""
HELPERS = ("prted", "orted", "hydra_pmi_proxy")
"""What launchers start on each node, and who ends with them; slurmd looks after its own."""
PROXY = "hydra_"
"""How the names of MPICH's own helpers on each node begin, which end with the launcher."""
IDLE_S = 5.0
"""How long a launcher may take to end when its job has failed and nothing runs below it any more."""
FORCED_S = 1.0
"""The same, where it would wait for a host that no longer answers."""
IDLE_LOOK_S = 0.2
TERMINATE_S = 3.0


class Launcher:
    """The process that started the ranks, if it is on this node.

    ``process``: a pidfd, -1 if it cannot be watched. ``ended``: it has.
    """

    def __init__(self, pid: int, name: str) -> None:
        self.pid, self.name = pid, name
        self.ended = False
        self.process = -1
        try:
            self.process = os.pidfd_open(pid)
        except OSError:  # it is gone, or of another user
            return
        hold_streams(pid)

    def register(self, epoll: select.epoll) -> None:
        """Have the end of the process reported by an epoll object."""
        if self.process >= 0:
            epoll.register(self.process, select.EPOLLIN | select.EPOLLONESHOT)

    def note_end(self) -> None:
        """Note that the process has ended."""
        self.ended = True

    def kill(self) -> None:
        """End the process at once, if a user or a script waits for it."""
        if self.process >= 0 and self.name in FOREGROUND:
            with suppress(OSError):
                signal.pidfd_send_signal(self.process, signal.SIGKILL)

    def is_gone(self) -> bool:
        """Say whether the process was watched and has ended."""
        return self.process >= 0 and self.name in FOREGROUND and self._has_ended(0)

    def end_if_idle(self, *, forced: bool = False) -> None:
        """End the launcher of a failed job if it stays though nothing is left for it to wait for.

        Open MPI's was seen to, rarely, after a rank had died: it keeps its user and the allocation waiting.
        One that has anything below it, on this node or through ssh or srun on another, or is stopped, is left alone.
        ``forced``: not that either, nor its helpers on each node: a host no longer answers, and they would wait for it.
        """
        if self.process < 0 or self.name not in (*FOREGROUND, *(HELPERS if forced else ())):
            return
        patience = FORCED_S if forced else IDLE_S
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if self._has_ended(IDLE_LOOK_S) or not (forced or self._is_idle()):
                return
        if self.name in FOREGROUND:
            print_past_launcher(
                f"rankwise: {self.name} (process {self.pid}) was still there {patience:.0f} s after all its ranks were "
                "gone; the watchdog ended it\n"
            )
        helpers = _helpers_below(self.pid) if self.name in HELPERS else []
        with suppress(OSError):
            if not forced:  # to which it might answer by an exit code of 0
                signal.pidfd_send_signal(self.process, signal.SIGTERM)
            if forced or not self._has_ended(TERMINATE_S):
                signal.pidfd_send_signal(self.process, signal.SIGKILL)
        for helper in helpers:  # one may have another of its kind below it
            with suppress(OSError):
                signal.pidfd_send_signal(helper, signal.SIGKILL)

    def _has_ended(self, wait_s: float) -> bool:
        return bool(select.select([self.process], [], [], wait_s)[0])

    def _is_idle(self) -> bool:
        launcher = read_process(self.pid)
        below = (process for process in descendants(self.pid).values() if not process.ended)
        return launcher is not None and not launcher.stopped and all(p.name.startswith(PROXY) for p in below)

    def describe_end(self, where: str) -> str:
        """Return the message of its end if it ended for it could not write; ``where``: a rank was. Nothing if not.

        That it ended before a rank is not enough: a process that is killed gives back its memory first, which may take.
        """
        fault = output_fault(1, "\n") if self.ended else ""
        if fault == NO_READER:  # of an output that ended with it, nobody need read on
            fault = NO_READER if killed_by(self.process) == "SIGPIPE" else ""
        name = f"{self.name} (process {self.pid}), which started the ranks,"
        why = f"its standard output cannot be written ({fault})"
        return fault and f"{name} ended and took them along: {why}; that was {where}"


def _helpers_below(pid: int) -> list[int]:
    """Return pidfds of the launcher's helpers below a process."""
    found = []
    for process in descendants(pid).values():
        if process.name in HELPERS:
            with suppress(OSError):
                found.append(os.pidfd_open(process.pid))
    return found
