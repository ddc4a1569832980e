"""Runs cases one after the other, notes what became of each, and makes the table of them."""

import contextlib
import json
import shutil
import signal
import statistics
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from tests.faults.case import Case, Kept, Mpi, Place, plain
from tests.faults.judge import Judge
from tests.faults.kinds import KINDS
from tests.faults.process import end_all

CASE_S = 300
"""Time limit of a case; the commands in it have limits of their own."""
MOST_TEXT = 300


class CaseTooLongError(Exception):
    """A case has not ended in its time."""


def deal(seed: int, kinds: list[str], mpis: list[Mpi], first: int, n: int) -> Iterator[Case]:
    """Yield ``n`` cases: the kinds in turn, each from its case ``first`` on, by the MPIs in turn that can."""
    for number in range(n):
        kind, index = kinds[number % len(kinds)], first + number // len(kinds)
        able = [mpi for mpi in mpis if KINDS[kind].vendor in ("", mpi.vendor)]
        yield Case(seed, kind, index, able[index % len(able)])


def possible(kinds: list[str], mpis: list[Mpi]) -> list[str]:
    """Return the kinds that one of the MPIs can do."""
    return [kind for kind in kinds if any(KINDS[kind].vendor in ("", mpi.vendor) for mpi in mpis)]


def run(case: Case, folder: Path, kept: Kept) -> dict[str, Any]:
    """Run a case in a folder that must not exist, and remove it if all is right; return what is noted of it."""
    start = time.time()
    kind = KINDS[case.kind]
    details = kind.draw(case)
    place = Place(folder, case.mpi, kept)
    judge = Judge(place)
    seconds: dict[str, Any] = {}
    try:
        with _limit(CASE_S):
            seconds = kind.strike(details, place, judge) or {}
    except CaseTooLongError:
        judge.need(False, f"the case did not end in {CASE_S} s")
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        judge.need(
            False, f"the campaign itself failed: {type(error).__name__}: {error} ({where.filename}:{where.lineno})"
        )
    end_all(folder)
    if not judge.problems:
        _remove(folder)
    return {
        "kind": case.kind,
        "index": case.index,
        "seed": case.seed,
        "mpi": case.mpi.vendor,
        "details": plain(details),
        "problems": judge.problems,
        "lost": judge.lost,
        "named": judge.named,
        "note": judge.note,
        "seconds": time.time() - start,
        "command": case.command,
        "commands": [outcome.command for outcome in place.outcomes] if judge.problems else [],
        **seconds,
    }


def _remove(folder: Path) -> None:
    """Remove a case's folder, also from where nobody may list it."""
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _limit(seconds: int) -> Iterator[None]:
    """Raise CaseTooLongError in the main thread after so many seconds."""

    def over(number: int, frame: FrameType | None) -> None:
        raise CaseTooLongError

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def table(results: list[dict[str, Any]]) -> list[list[str]]:
    """Return a row a kind and one of all: cases, how many held, ranks named, cases with losses, seconds, shortfalls."""
    head = ["kind", "cases", "held", "rank named", "lost", "s (median / longest)", "what fell short"]
    rows = []
    for name, kind in KINDS.items():
        own = [result for result in results if result["kind"] == name]
        if own:
            rows.append(_row(kind.told, own))
    return [head, *rows, _row("all", results)]


def _row(told: str, results: list[dict[str, Any]]) -> list[str]:
    named = [result["named"] for result in results if result["named"] is not None]
    seconds = [result["seconds"] for result in results]
    short = [result for result in results if result["problems"]]
    words = f"{len(short)}: {_first(short[0])}" if short and told != "all" else str(len(short)) if short else "-"
    return [
        told,
        str(len(results)),
        str(len(results) - len(short)),
        f"{sum(named)} of {len(named)}" if named else "-",
        str(sum(bool(result["lost"]) for result in results)),
        f"{statistics.median(seconds):.1f} / {max(seconds):.1f}",
        words,
    ]


def _first(result: dict[str, Any]) -> str:
    """Return the first shortfall of a case in a few words."""
    text = " ".join(str(result["problems"][0]).split()).replace("|", "/")
    return text if len(text) <= 90 else f"{text[:90]}..."


def lines(results: list[dict[str, Any]], *, markdown: bool) -> Iterator[str]:
    """Yield the table, and each case that fell short with the command that repeats it."""
    rows = table(results)
    if not markdown:
        rows = [row[:-1] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    if markdown:
        rows.insert(1, ["---", *(["---:"] * (len(rows[0]) - 2)), "---"])
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield f"| {' | '.join(row)} |" if markdown else "  ".join(cells).rstrip()
    for result in results:
        if result["problems"]:
            yield ""
            yield f"{result['kind']} {result['index']} ({result['mpi']}): {json.dumps(result['details'])}"
            yield from (f"  - {problem[:MOST_TEXT]}" for problem in map(str, result["problems"]))
            yield f"  again: {result['command']}"
