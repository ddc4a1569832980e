"""Whom the others wait for, from the rows of all ranks."""

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass

from common.progress import ENDED, EXCHANGE, LAST, MEETINGS, N_PARTS, OUTSIDE, STOPPED, WAITING, StatusRow

LONGEST_STEPS = 10
"""A stall is at least so many times the longest step so far."""
OUTSIDE_FACTOR = 5
"""And so many times longer outside of the training loop and in the first step: evaluating and writing give no sign."""
Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Stall:
    """Nobody goes on.

    ``ranks``: those that have not come to where the others wait; nobody if all wait for each other. ``seconds``: since
    the last of these (or of all) went on. ``limit_s``: after how many this is a stall. ``front``: the row of one
    that waits, if any does.
    """

    ranks: tuple[int, ...]
    seconds: float
    limit_s: float
    front: StatusRow | None


def is_waiting(row: StatusRow) -> bool:
    """Say whether a rank has come to where it waits for the others."""
    return row.at % N_PARTS == EXCHANGE if row.at != OUTSIDE else row.phase in MEETINGS


def place(row: StatusRow) -> Place:
    """Return the place in the order in which all ranks come by the places where they wait."""
    last = row.at == OUTSIDE and row.phase in LAST
    return (math.inf if last else row.epoch, math.inf if row.at == OUTSIDE else row.at)


def find_stall(rows: Sequence[StatusRow], stall_s: float, silent: Container[int] = ()) -> Stall | None:
    """Return the stall, if there is one: no rank has gone on for ``stall_s`` (more where steps are slow) seconds.

    ``silent``: ranks whose rows are old, for their witness does not answer; they are only blamed if nobody else is.
    The end of a process is no stall.
    """
    left = [rank for rank, row in enumerate(rows) if not row.over]
    if not left or any(rows[rank].state == ENDED for rank in left):
        return None
    waiting = [rank for rank in left if is_waiting(rows[rank])]
    front = max((place(rows[rank]) for rank in waiting), default=None)
    late = [
        rank
        for rank in left
        if rank not in waiting or place(rows[rank]) != front or rows[rank].state == STOPPED or rank in silent
    ]
    late = [rank for rank in late if rank not in silent] or late
    # a stopped process is reason enough: others may wait for it where they do not say so, or in the step before
    late = [rank for rank in late if rows[rank].state == STOPPED] or late
    judged = late or left
    limit_s = max(stall_s, LONGEST_STEPS * max(row.longest_ms for row in rows) / 1000)
    if any(rows[rank].at == OUTSIDE or not rows[rank].longest_ms for rank in judged):
        limit_s *= OUTSIDE_FACTOR
    if min(rows[rank].age_ms for rank in left) < 1000 * limit_s:
        return None
    met = next((rows[rank] for rank in waiting if place(rows[rank]) == front), None)
    return Stall(tuple(late), min(rows[rank].age_ms for rank in judged) / 1000, limit_s, met)


def describe_stall(stall: Stall, rows: Sequence[StatusRow], hosts: Sequence[str], silent: Container[int] = ()) -> str:
    """Return a stall in words."""
    goal = "any further" if stall.front is None else _goal(stall.front)
    if not stall.ranks:
        return f"all ranks wait for each other at {goal}, for {stall.seconds:.0f} s: the network, or a deadlock"
    named = ", ".join(f"{rank} on {hosts[rank]}" for rank in stall.ranks)
    verb = "has" if len(stall.ranks) == 1 else "have"
    row = rows[stall.ranks[0]]
    text = f"rank {named} {verb} not arrived at {goal}, last phase: {row.phase}, {stall.seconds:.0f} s ago"
    if stall.front is None:
        text = f"rank {named} {verb} not gone on, phase: {row.phase}, for {stall.seconds:.0f} s"
    stopped = [str(rank) for rank in stall.ranks if rows[rank].state == STOPPED]
    if stopped:
        text += f"; the process of rank {', '.join(stopped)} is stopped (SIGSTOP?)"
    mute = sorted({hosts[rank] for rank in stall.ranks if rank in silent})
    return f"{text}; no sign of life from {', '.join(mute)}" if mute else text


def _goal(front: StatusRow) -> str:
    if front.step:
        return f"step {front.step} of epoch {front.epoch}"
    if front.phase == WAITING:
        return "the start of training"
    if front.phase == "end of epoch":
        return f"the end of epoch {front.epoch}"
    return "the end of the run"
