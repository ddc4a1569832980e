"""What the witnesses do when no rank goes on: ask for stacks, say who is late, and end the job after a while."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.progress import StatusRow
from common.run_files import say
from workers.watchdog import stall_rules
from workers.watchdog.stall_rules import Stall

if TYPE_CHECKING:
    from workers.watchdog.watchdog import Watchdog

SILENT_S = 15.0
"""After so long without a look by another node's witness, its rows are not to be trusted."""
STACKS_S = 5.0
"""How long to wait for the stacks of ranks on other nodes."""
OVER = StatusRow(over=1)
MOST_STACKS = 8
"""Of a job where all ranks wait for each other."""


class StallDetector:
    """Notices stalls, in a witness. All witnesses see the same; the one of the lowest node that answers speaks."""

    def __init__(self, witness: "Watchdog", stall_s: float, abort_s: float) -> None:
        """``stall_s``, ``abort_s``: after how many seconds to say so, and to end the job; 0: never."""
        self.witness = witness
        self.stall_s, self.abort_s = stall_s, abort_s
        self.began = 0.0
        """When the stall was noticed, 0 if there is none."""
        self.told: dict[str, Any] = {}
        """The event of the stall, once this witness has told it."""
        self.stacks: dict[int, str] = {}
        """Of this node's late ranks; the speaker finds those of other nodes in files."""

    def look(self, now: float) -> None:
        """Look at the rows."""
        witness = self.witness
        silent = {number for number, (_, heard) in witness.heard.items() if now - heard > SILENT_S}
        shared = witness.run_folder.folder is not None
        rows = witness.rows if shared else [row if i in witness.ranks else OVER for i, row in enumerate(witness.rows)]
        stall = stall_rules.find_stall(rows, self.stall_s, silent) if self.stall_s else None
        # before there is a folder nobody knows of other nodes, for which all ranks of this one may wait
        if stall is None or not (shared or stall.ranks or len(witness.ranks) == len(rows)):
            self._over(now)
            return
        if not self.began:
            self.began = now
            self._write_stacks(stall)
        if shared and min(witness.ranks) != min(set(witness.leaders) - silent, default=-1):
            return
        if not self.told and self._all_there(stall, now):
            self._announce(stall, silent)
        if self.told and self.abort_s and stall.seconds >= self.abort_s * max(1.0, stall.limit_s / self.stall_s):
            text = stall_rules.describe_stall(stall, witness.rows, witness.hosts, silent)
            event = {**self.told, "what": "abort", "seconds": stall.seconds}
            witness.end(f"rankwise: {text}; the job is ended (--abort-stall)", event)

    def _over(self, now: float) -> None:
        if self.told:
            seconds = self.told["seconds"] + now - self.began
            say(f"rankwise: training goes on after {seconds:.0f} s")
            self.witness.tell({"what": "stall-over", "ranks": self.told["ranks"], "seconds": seconds})
        for number in self.stacks if self.witness.run_folder.folder is not None else ():
            with contextlib.suppress(OSError):
                self._stack_file(number).unlink()
        self.began, self.told, self.stacks = 0.0, {}, {}

    def _write_stacks(self, stall: Stall) -> None:
        """Ask for the stacks of this node's late ranks, and leave them in the run folder, where the speaker finds them.

        That of a process that is stopped or does not answer is empty.
        """
        witness = self.witness
        for number in set(self._asked(stall)) & witness.ranks.keys():
            self.stacks[number] = stack = witness.ranks[number].stack()
            with contextlib.suppress(OSError):
                if witness.run_folder.folder is not None:
                    self._stack_file(number).write_text(stack, encoding="utf-8")

    def _asked(self, stall: Stall) -> list[int]:
        return list(stall.ranks or range(len(self.witness.rows)))[:MOST_STACKS]

    def _stack_file(self, number: int) -> Path:
        return self.witness.run_folder.path("failure").with_name(f"stack-{number}.txt")

    def _all_there(self, stall: Stall, now: float) -> bool:
        """Say whether the stacks are all written, or need not be waited for any longer."""
        asked = set(self._asked(stall)) - self.stacks.keys()
        there = not asked or (
            self.witness.run_folder.folder is not None and all(self._stack_file(n).exists() for n in asked)
        )
        return there or now - self.began > STACKS_S

    def _stack(self, number: int) -> str:
        if number in self.stacks or self.witness.run_folder.folder is None:
            return self.stacks.get(number, "")
        try:
            return self._stack_file(number).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _announce(self, stall: Stall, silent: set[int]) -> None:
        witness = self.witness
        found = {number: self._stack(number) for number in self._asked(stall)}
        stacks = {str(number): stack for number, stack in found.items() if stack}
        text = stall_rules.describe_stall(stall, witness.rows, witness.hosts, silent)
        late = [witness.rows[number] for number in stall.ranks]
        goal = stall.front or late[0]
        self.told = {
            "what": "stall",
            "ranks": list(stall.ranks),
            "hosts": [witness.hosts[number] for number in stall.ranks],
            "epoch": goal.epoch,
            "step": goal.step,
            "phase": (late or [goal])[0].phase,
            "seconds": stall.seconds,
            "message": text,
        }
        say("\n".join([f"rankwise: {text}", *(f"rank {number}: {stack}" for number, stack in stacks.items())]))
        witness.tell({**self.told, "stacks": stacks})
