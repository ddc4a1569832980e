"""What the watchdogs do about a stall: collect stacks, report who is late, and end the job after a while."""

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.files import read_small, write_bytes
from common.rank_status import StatusRow
from workers.watchdog.rank_process import STACK_S, RankProcess
from workers.watchdog.stall import Stall, describe_hang, describe_stall, find_stall, who_hangs

STACKS_S = 5.0
"""How long to wait for the stacks of ranks on other nodes."""
MAX_STACKS, MAX_ASKED = 8, 64
"""Of a job where all ranks wait for each other: stacks that are shown, and those that are looked at."""
MAX_STACK = 1 << 16
"""Characters of one that comes from another node."""
Act = Callable[[str, dict[str, Any]], None]
"""Is called with a message and an event."""
UNKNOWN = StatusRow(finished=1)
"""In place of the row of a rank on another node of which nothing is known yet."""


class StallDetector:
    """Notices stalls: at the hub, or in all watchdogs where they see the same in a file.

    ``began``: when the stall was noticed, 0 if there is none. ``late``: whose stacks are of interest then.
    """

    def __init__(
        self, orders: dict[str, Any], ranks: Mapping[int, RankProcess], rows: Sequence[StatusRow], tell: Act, end: Act
    ) -> None:
        """``orders``: see spawn.py. ``ranks``: of this node. ``rows``: of all ranks, kept up to date by the caller.

        ``tell`` prints a message and brings an event to rank 0; ``end`` ends the job.
        """
        self.hosts, self.leaders = orders["hosts"], orders["leaders"]
        self.stall_s, self.abort_s = float(orders["stall_s"]), float(orders["abort_s"])
        self.ranks, self.rows, self.tell, self.end = ranks, rows, tell, end
        self.began = 0.0
        self.late: list[int] = []
        self._reported: dict[str, Any] = {}
        """The event of the stall, once this watchdog has reported it."""
        self._stacks: dict[int, str] = {}
        """Of late ranks: those of this node, and what has been read of others."""

    def look(self, now: float, folder: Path | None, silent: set[int], known: set[int], *, leads: bool) -> None:
        """Look at the rows. ``folder``: the run folder, once there is one. ``silent``: see ``find_stall``.

        ``known``: ranks of which one knows; others may be what all of these wait for. ``leads``: whether to report.
        """
        all_known = len(known) == len(self.rows)
        rows = self.rows if all_known else [row if n in known else UNKNOWN for n, row in enumerate(self.rows)]
        stall = find_stall(rows, self.stall_s, silent) if self.stall_s else None
        if stall is None or not (all_known or stall.ranks):
            self._end_stall(now, folder)
            return
        late = list(stall.ranks)[:MAX_STACKS] or list(range(len(rows)))[:MAX_ASKED]
        self.began, self.late = self.began or now, late
        if not self._reported:
            self._collect_stacks(late, folder)
        if not leads:
            return
        hangs = {} if stall.ranks else who_hangs(self._stacks)
        if hangs:
            stall = replace(stall, ranks=tuple(hangs))
            text = describe_hang(stall, self.hosts, hangs)
        else:
            text = describe_stall(stall, self.rows, self.hosts, silent)
        if not self._reported and (self._stacks.keys() >= set(late) or now - self.began > STACKS_S):
            shown = (list(hangs) or late)[:MAX_STACKS]
            self._report(stall, text, {str(rank): self._stacks[rank] for rank in shown if self._stacks.get(rank)})
        if self._reported and self.abort_s and stall.seconds >= self.abort_s * max(1.0, stall.limit_s / self.stall_s):
            event = {**self._reported, "what": "abort", "seconds": stall.seconds}
            self.end(f"{text}; the job is ended (--abort-stall)", event)

    def _report(self, stall: Stall, text: str, stacks: dict[str, str]) -> None:
        late = [self.rows[rank] for rank in stall.ranks]
        goal = stall.front or late[0]
        self._reported = {
            "what": "stall", "ranks": list(stall.ranks), "hosts": [self.hosts[rank] for rank in stall.ranks],
            "epoch": goal.epoch, "step": goal.step, "phase": (late or [goal])[0].phase, "seconds": stall.seconds,
            "message": text,
        }  # fmt: skip
        message = "\n".join([text, *(f"rank {rank}: {stack}" for rank, stack in stacks.items())])
        self.tell(message, {**self._reported, "stacks": stacks})

    def _end_stall(self, now: float, folder: Path | None) -> None:
        """Report the end of a stall that was reported, if there is one, and forget it."""
        if self._reported:
            seconds = self._reported["seconds"] + now - self.began
            event = {"what": "stall-over", "ranks": self._reported["ranks"], "seconds": seconds}
            self.tell(f"training continues after a stall of {seconds:.0f} s", event)
        for rank in self._stacks.keys() & self.ranks.keys():
            with contextlib.suppress(OSError):
                _stack_file(folder, rank).unlink()
        self.began, self.late, self._reported, self._stacks = 0.0, [], {}, {}

    def take_stacks(self, late: list[int]) -> dict[int, str]:
        """Return the stacks of those late ranks that are here, each once."""
        asked = {
            rank: self.ranks[rank].ask_for_stack() for rank in late if rank in self.ranks and rank not in self._stacks
        }
        if asked:
            time.sleep(STACK_S)
        stacks = {rank: self.ranks[rank].read_stack(start) for rank, start in asked.items()}
        self._stacks |= stacks
        return stacks

    def forget_stacks(self) -> None:
        """Forget what was taken, where the hub says that there is no stall any more."""
        self._stacks = {}

    def add_stacks(self, stacks: Any, allowed: Collection[int]) -> None:
        """Take stacks of ranks on another node, by rank, as its watchdog has sent them."""
        for rank in allowed if isinstance(stacks, dict) else ():
            if isinstance(stack := stacks.get(str(rank)), str):
                self._stacks.setdefault(rank, stack[:MAX_STACK])

    def _collect_stacks(self, late: list[int], folder: Path | None) -> None:
        """Take the stacks of this node's late ranks, and show them to the other watchdogs in files; read theirs.

        That of a process that is stopped or does not answer is empty.
        """
        new = [rank for rank in late if rank not in self._stacks]
        self.take_stacks(new)
        for rank in new:
            with contextlib.suppress(OSError):
                if rank in self.ranks:
                    stack = self._stacks[rank].encode(errors="replace")
                    write_bytes(_stack_file(folder, rank), stack, sync=False)
                else:
                    self._stacks[rank] = read_small(_stack_file(folder, rank), own=True).decode("utf-8", "replace")


def _stack_file(folder: Path | None, rank: int) -> Path:
    """Return the file of a rank's stack. Raises FileNotFoundError before there is a run folder."""
    if folder is None:
        raise FileNotFoundError("no run folder yet")
    return folder / f"stack-{rank}.txt"
