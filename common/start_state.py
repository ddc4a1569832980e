"""How far a rank of this node is while it starts, which the name of its guard's process says, and ranks in words."""

from collections.abc import Iterable

from common.process_table import Process

GUARD = "rankwise-"
STARTING, READY, ENDING = f"{GUARD}start", f"{GUARD}wait", f"{GUARD}fail"
"""Names of a guard's process."""
MOST_NAMED = 8
"""Ranks that a message names, of more."""


def ranks(numbers: list[int]) -> str:
    """Return ranks as words: ``rank 3``, ``ranks 0, 1 and 2``."""
    return f"rank{'s' * (len(numbers) > 1)} {in_words(map(str, numbers))}"


def in_words(texts: Iterable[str]) -> str:
    """Return texts as a list in a sentence, the first ones of many."""
    from common.wording import listed  # here, so that a start that goes well need not load it

    return listed(texts, MOST_NAMED)


def guard_of(tree: list[Process]) -> Process | None:
    """Return the guard of a rank, if it has one."""
    return next((process for process in tree if process.name.startswith(GUARD)), None)


def state_of(tree: list[Process]) -> str:
    """Return the name of a rank's guard, which says how far the rank is; empty if it has none."""
    guard = guard_of(tree)
    return guard.name if guard else ""


def stopped(tree: list[Process]) -> bool:
    """Say whether a signal or a debugger has stopped a rank."""
    return any(process.stopped for process in tree)


def what(tree: list[Process]) -> str:
    """Return what a rank that does not come is doing."""
    last = next((process for process in reversed(tree) if not process.name.startswith(GUARD)), tree[0])
    if last.stopped:
        return "stopped by a signal or a debugger"
    return f"in {last.name}, without a sign of life" if not state_of(tree) else "importing, without a sign of life"
