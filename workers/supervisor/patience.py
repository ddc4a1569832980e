"""How long an attempt may take that neither ends nor trains: a launcher may wait for a node for ever."""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from common.process_table import descendants
from common.run_files import FAILURE_NAME, STARTING_NAME
from common.start_state import GUARD
from common.start_words import DEFAULT_LIMIT_S, LIMIT, read_limit
from workers.launch.hosts import LaunchHost

PROBE_S = 10.0
"""Between two questions whether the hosts are still there, until ranks have started; two in a row must say no."""
TIMES = 3.0
"""Where no rank runs on this machine, a start may take so many times as long as a rank without a sign of life."""
FAILED_S = 60.0
"""What a launcher may take to end once the job has said of what it died."""


def ranks_start() -> bool:
    """Say whether ranks below this process are being started: their guards end a start that takes too long."""
    return any(process.name.startswith(GUARD) and not process.ended for process in descendants(os.getpid()).values())


class Patience:
    """Watches one attempt through its run folder; ``reason`` says why it was given up, if it was.

    ``lost``: returns those of the attempt's hosts that are no longer there. ``guarded``: whether ranks here see to
    their start themselves. ``started``: whether rank 0 has said otherwise that all have: it may see another folder.
    """

    def __init__(
        self,
        folder: Path,
        hosts: Sequence[LaunchHost],
        lost: Callable[..., Sequence[LaunchHost]],
        guarded: Callable[[], bool] = ranks_start,
        started: Callable[[], bool] = bool,
    ) -> None:
        """Leave the file that rank 0 takes away; without it, where none can be written, there is no limit."""
        self._mark, self._failure = folder / STARTING_NAME, folder / FAILURE_NAME
        self._hosts, self._lost, self._guarded, self._started = hosts, lost, guarded, started
        self._waited_s = self._failed_s = 0.0
        self._asked_at_s = PROBE_S
        self._missed: set[LaunchHost] = set()
        self._before = self._failed()
        self.reason = ""
        self._limit_s = DEFAULT_LIMIT_S
        with contextlib.suppress(ValueError):  # the job refuses it
            self._limit_s = read_limit(os.environ.get(LIMIT, str(DEFAULT_LIMIT_S)))
        self._made = [place for place in (folder, *folder.parents) if not place.exists()]
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            self._mark.touch()

    def overdue(self, seconds: float) -> bool:
        """Say whether to end the attempt, ``seconds`` after the last look."""
        if self._mark.exists() and not self._started():
            self._waited_s += seconds
            self.reason = self._not_started()
        elif (failed := self._failed()) and failed != self._before:
            self._failed_s += seconds
        return bool(self.reason) or self._failed_s >= FAILED_S

    def over(self) -> None:
        """Take the file away if no rank did, and the folders that were made for it if nothing else is in them."""
        with contextlib.suppress(OSError):
            self._mark.unlink(missing_ok=True)
            for place in self._made:
                place.rmdir()

    def _not_started(self) -> str:
        if self._waited_s >= self._asked_at_s:
            self._asked_at_s = self._waited_s + PROBE_S
            lost = self._lost(self._hosts, never=False)
            again, self._missed = [host for host in lost if host in self._missed], set(lost)
            if names := ", ".join(host.name for host in again):
                return f"{names}: down, or does not answer any more, and no rank has started"
        if self._limit_s and self._waited_s >= TIMES * self._limit_s and not self._guarded():
            return f"no rank had started after {self._waited_s:.0f} s ({TIMES:g} times {LIMIT})"
        return ""

    def _failed(self) -> tuple[int, int] | None:
        """Return which failure the run folder tells of."""
        try:
            found = self._failure.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns
