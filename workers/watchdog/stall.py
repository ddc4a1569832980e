"""Stalls: whether no rank makes progress, and which ones the others wait for, from the rows of all ranks."""

import math
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from common.ranges import first_of, named_hosts, ranges, ranks_on
from common.rank_status import ENDED, FINAL_PHASES, OUTSIDE, STOPPED, WAITING, StatusRow

LONGEST_STEPS = 10
"""A stall takes at least so many times the longest step so far."""
OUTSIDE_FACTOR = 5
"""And so many times longer outside of the training loop and in the first step: evaluating and writing give no sign."""


WAITS_IN = ("/ps/sync/", "/ps/comm/", "/ps/metrics/", "/mpi4py/")
"""Where the innermost line of a rank's stack is that waits for the others: whatever exchanges something."""


@dataclass(frozen=True, slots=True)
class Stall:
    """No rank makes progress.

    ``ranks``: those that have not come to where the others wait; none if all wait for each other. ``seconds``: since
    the last progress of one of these (or of any). ``limit_s``: after how many this is a stall. ``front``: the row of a
    rank that waits for the others, if any does.
    """

    ranks: tuple[int, ...]
    seconds: float
    limit_s: float
    front: StatusRow | None


def _place(row: StatusRow) -> tuple[float, float]:
    """Return a key that orders places where ranks wait as all ranks pass them."""
    final = row.at == OUTSIDE and row.phase in FINAL_PHASES
    return (math.inf if final else row.epoch, math.inf if row.at == OUTSIDE else row.at)


def find_stall(rows: Sequence[StatusRow], stall_s: float, silent: Container[int] = ()) -> Stall | None:
    """Return the stall if no rank has made progress for ``stall_s`` seconds (more where steps are slow), else None.

    ``silent``: ranks whose rows are old because their watchdog does not answer; they are named only if no other rank
    is late. The end of a process is no stall.
    """
    running = [rank for rank, row in enumerate(rows) if not row.finished]
    if not running or any(rows[rank].state == ENDED for rank in running):
        return None
    waiting = [rank for rank in running if rows[rank].is_waiting]
    front = max((rows[rank] for rank in waiting), key=_place, default=None)
    arrived = {rank for rank in waiting if front is not None and _place(rows[rank]) == _place(front)}
    late = [r for r in running if r not in arrived or rows[r].state == STOPPED or r in silent]
    late = [rank for rank in late if rank not in silent] or late
    # out of step (ps/sync/served/) ranks wait in several steps: not for each other, where one computes
    late = [rank for rank in late if not rows[rank].is_waiting or rows[rank].state == STOPPED] or late
    # a stopped process is reason enough: others may wait for it without saying so, or in the step before
    late = [rank for rank in late if rows[rank].state == STOPPED] or late
    judged = late or running
    limit_s = max(stall_s, LONGEST_STEPS * max(row.longest_ms for row in rows) / 1000)
    if any(rows[rank].at == OUTSIDE or not rows[rank].longest_ms for rank in judged):
        limit_s *= OUTSIDE_FACTOR
    if min(rows[rank].age_ms for rank in running) < 1000 * limit_s:
        return None
    return Stall(tuple(late), min(rows[rank].age_ms for rank in judged) / 1000, limit_s, front)


def who_hangs(stacks: Mapping[int, str]) -> dict[int, str]:
    """Return the ranks that are not where the others wait, and where they are, by their stacks.

    For ranks that all say they are at the same exchange, but one of which may have got stuck on its way in or out.
    Nobody, unless the stacks of others show that these do wait.
    """
    found = {rank: re.search(r'File "(.+?)", line (\d+) in (.+)', stack) for rank, stack in stacks.items()}
    lines = {rank: line.groups() for rank, line in found.items() if line}
    elsewhere = {
        rank: f"{path.rpartition('/')[2]}, line {number}, {function}"
        for rank, (path, number, function) in lines.items()
        if not any(room in path for room in WAITS_IN)
    }
    return elsewhere if len(elsewhere) < len(lines) else {}


def describe_hang(stall: Stall, hosts: Sequence[str], hangs: Mapping[int, str]) -> str:
    """Return the message about ranks that hang while all say that they wait; ``hangs``: see ``who_hangs``."""
    goal = _goal(stall.front) if stall.front else "any further"
    named = first_of(f"rank {rank} on {hosts[rank]} hangs in {where}" for rank, where in hangs.items())
    return f"{named}; the other ranks wait for it at {goal}, for {stall.seconds:.0f} s"


def describe_stall(stall: Stall, rows: Sequence[StatusRow], hosts: Sequence[str], silent: Container[int] = ()) -> str:
    """Return the message about a stall."""
    if not stall.ranks:
        goal = _goal(stall.front) if stall.front else "any further"
        return f"all ranks wait for each other at {goal}, for {stall.seconds:.0f} s: the network, or a deadlock"
    named = ranks_on(stall.ranks, [hosts[rank] for rank in stall.ranks])
    verb = "has" if len(stall.ranks) == 1 else "have"
    phase = rows[stall.ranks[0]].phase
    if stall.front is None:
        text = f"{named} {verb} made no progress for {stall.seconds:.0f} s, phase: {phase}"
    else:
        goal = _goal(stall.front)
        text = f"{named} {verb} not arrived at {goal}, last phase: {phase}, {stall.seconds:.0f} s ago"
    if stopped := [rank for rank in stall.ranks if rows[rank].state == STOPPED]:
        text += f"; the process of rank {ranges(stopped)} is stopped by a signal (state T; kill -CONT continues it)"
    mute = sorted({hosts[rank] for rank in stall.ranks if rank in silent})
    return f"{text}; no sign of life from {named_hosts(mute)}" if mute else text


def _goal(front: StatusRow) -> str:
    if front.step:
        return f"step {front.step} of epoch {front.epoch}"
    if front.phase == WAITING:
        return "the start of training"
    return f"the end of epoch {front.epoch}" if front.phase == "end of epoch" else "the end of the run"
