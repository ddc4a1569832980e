"""One case from its first job to the comparison with the undisturbed run, and what is noted of it."""

import dataclasses
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from ps.logfile.records import Record
from tests.faults.drive import Folder, Outcome, References
from tests.faults.judge import Judge, events
from tests.faults.plan import Case, Fault

NOTHING = Fault("none")
GOES_ON = ("nan-skip", "flip-heal", "disk-while")
"""Faults that a job survives by itself."""


def run(case: Case, folder: Path, references: References) -> dict[str, Any]:
    """Run a case in a folder that must not exist, and remove it if all is right; return what is noted of it."""
    start = time.time()
    undisturbed = references.of(case)
    place = Folder(folder, case)
    judge = Judge(case, place.run)
    with place.disk():
        outcome = place.start(case.fault)
        records = judge.records()
        judge.struck(case.fault, outcome, records)
        resume_s = _to_the_end(judge, place, outcome, records, undisturbed)
        if judge.problems and case.fault.stage == "full":
            shutil.copytree(place.run, folder / "run-of-the-small-disk", dirs_exist_ok=True)
    if not judge.problems:
        shutil.rmtree(folder)
    return {
        "number": case.number,
        "seed": case.seed,
        "mode": case.mode,
        "kind": case.kind,
        "ranks": case.ranks,
        "per_node": case.per_node,
        "dtype": case.dtype,
        "fault": dataclasses.asdict(case.fault),
        "problems": judge.problems,
        "lost": judge.lost,
        "named": judge.named,
        "note": judge.note,
        "detect_s": _detected(outcome, records) - outcome.struck if outcome.struck else None,
        "gone_s": outcome.ended - outcome.struck if outcome.struck and case.kind not in GOES_ON else None,
        "resume_s": resume_s,
        "seconds": time.time() - start,
    }


def _to_the_end(
    judge: Judge, place: Folder, outcome: Outcome, records: list[Record], undisturbed: Path
) -> float | None:
    """Go on with the run if it did not come to its end, and compare; return the seconds up to the first new step."""
    case = judge.case
    done = any(record["kind"] == "end" and record["status"] == "ok" for record in records)
    if done or case.kind in GOES_ON:
        exact = case.kind == "disk-while" or judge.note == "exact" or not (case.kind in GOES_ON or judge.note)
        judge.whole(records, undisturbed, exact=exact)
        return None
    if case.second is not None:
        again = place.resume(case.second)
        judge.struck(case.second, again, judge.records())
    last = place.resume(NOTHING)
    judge.ended(last, "resumed job")
    judge.keep(last.code == 0, f"resumed job: code {last.code}: {last.err!r}")
    judge.whole(judge.records(), undisturbed)
    return last.first_step - last.began if last.first_step else None


def _detected(outcome: Outcome, records: list[Record]) -> float:
    """Return when the fault was first told of, on the console or in the log."""
    told = [t for t, line in outcome.lines if "rankwise:" in line]
    kinds = ("skip", "heal", "error", "stop", "checkpoint-failed", "stall", "death")
    told += [float(event.get("noticed") or event["t"]) for what in kinds for event in events(records, what)]
    return min((t for t in told if t >= outcome.struck), default=outcome.ended)


def table(runs: list[dict[str, Any]], names: dict[str, str], modes: list[str]) -> list[list[str]]:
    """Return a row a fault and one of all: right of all runs in each mode, ranks named, lost, seconds."""
    head = ["fault", *modes, "rank named", "lost", "s to detect", "s to end", "s to resume"]
    kinds = [kind for kind in names if any(run["kind"] == kind for run in runs)]
    rows = [_row(names[kind], [run for run in runs if run["kind"] == kind], modes) for kind in kinds]
    return [head, *rows, _row("all", runs, modes)]


def _row(name: str, runs: list[dict[str, Any]], modes: list[str]) -> list[str]:
    cells = []
    for mode in modes:
        own = [run for run in runs if run["mode"] == mode]
        cells.append(f"{sum(not run['problems'] for run in own)} of {len(own)}")
    named = [run["named"] for run in runs if run["named"] is not None]
    lost = sum(bool(run["lost"]) for run in runs)
    seconds = [
        _spread([run[key] for run in runs if run[key] is not None]) for key in ("detect_s", "gone_s", "resume_s")
    ]
    return [name, *cells, f"{sum(named)} of {len(named)}" if named else "-", str(lost), *seconds]


def _spread(values: list[float | None]) -> str:
    """Return median and greatest of those there are."""
    there = [value for value in values if value is not None]
    return f"{statistics.median(there):.2f} / {max(there):.2f}" if there else "-"
