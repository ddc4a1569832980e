"""The launcher of a job as the watchdog of its node sees it: one that ends takes the ranks along."""

import os
import select

from common.launcher_output import NO_READER, hold_streams, output_fault
from workers.watchdog.rank_process import killed_by


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
