"""The verdicts on what ranks start from, which all ranks look for; so few of the others need be loaded on each."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from ps.findings.replicas_differ import replicas_differ
from ps.findings.skewed_labels import skewed_labels
from ps.findings.skewed_targets import skewed_targets
from ps.findings.targets_differ import targets_differ
from ps.findings.verdict import NotJudged, TrainingStart, Verdict
from ps.logfile.records import Record

Reported = set[tuple[str, tuple[int, ...]]]
"""Codes and ranks of the verdicts that have been reported."""

# In each table: what looks for a verdict, and the codes of those after which it would say nothing new.
BETWEEN_RANKS: dict[Callable[[TrainingStart], Verdict | NotJudged | None], Sequence[str]] = {
    replicas_differ: (),
    targets_differ: (),
}
"""Before training, by all ranks together."""
FROM_BALANCE: dict[Callable[[Record], Verdict | None], Sequence[str]] = {
    skewed_labels: ("targets-differ",),
    skewed_targets: ("targets-differ",),
}
"""Before training, from the record ``balance``."""


def new(found: Iterable[tuple[Verdict | NotJudged | None, Sequence[str]]], reported: Reported) -> list[Verdict]:
    """Return the verdicts that are worth reporting after those in ``reported``, and add them to it."""
    found_now = []
    for verdict, unless in found:
        codes = {code for code, _ in reported}
        if not isinstance(verdict, Verdict) or not codes.isdisjoint(unless):
            continue
        if (key := (verdict.code, tuple(verdict.ranks))) not in reported:
            reported.add(key)
            found_now.append(verdict)
    return found_now


def before_training(start: TrainingStart, balance: Record) -> tuple[list[Verdict], dict[str, str]]:
    """Return what is wrong with what the ranks start from, and what could not be judged: codes with the reason.

    ``balance``: the record, at rank 0; empty elsewhere, and then nothing is found in it. Collective.
    """
    between = [(look(start), unless) for look, unless in BETWEEN_RANKS.items()]
    unjudged = {found.code: found.reason for found, _ in between if isinstance(found, NotJudged)}
    return new(
        chain(between, ((look(balance), unless) for look, unless in FROM_BALANCE.items() if balance)), set()
    ), unjudged
