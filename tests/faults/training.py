"""The kinds of faults that strike a job in training; each job is compared with the undisturbed one at its end."""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from ps.logfile.records import Record
from tests.faults.case import DISK_BYTES, Case, Details, Place, may_mount, small_disk
from tests.faults.judge import Judge, events
from tests.faults.plan import KINDS, MODES, NOTHING, Fault, TrainingCase, draw
from tests.faults.process import Outcome
from tests.faults.training_judge import TrainingJudge

GOES_ON = ("nan-skip", "flip-heal", "disk-while")
"""Faults that a job survives by itself."""
STRUCK, FIRST_STEP, DISK = "struck", "first-step", "disk"


def drawn(kind: str) -> Callable[[Case], Details]:
    """Return what draws the cases of a kind: the modes in turn, another first for each kind."""
    first = list(KINDS).index(kind)

    def draw_one(drawn_for: Case) -> Details:
        case = draw(drawn_for.rng(), kind, MODES[(first + drawn_for.index) % len(MODES)])
        if case.fault.stage == "full" and not may_mount():
            case = dataclasses.replace(case, fault=dataclasses.replace(case.fault, stage="limit"))
        return {"case": case}

    return draw_one


class StruckJob:
    """A job that is struck, and those that go on with it."""

    def __init__(self, place: Place, case: TrainingCase) -> None:
        self.place, self.case = place, case
        (place.path / DISK).mkdir()
        place.run = place.path / DISK / "run"

    @contextlib.contextmanager
    def disk(self) -> Iterator[None]:
        """Have the run folder on a small disk of its own, where the case fills one up."""
        if self.case.fault.stage != "full":
            yield
            return
        with small_disk(self.place.path / DISK, DISK_BYTES):
            yield

    def start(self, fault: Fault) -> Outcome:
        """Run the job, and have it struck."""
        return self._job(fault, (*self.case.arguments, "--output", str(self.place.run)))

    def resume(self, fault: Fault) -> Outcome:
        """Go on with it."""
        (self.place.path / DISK / "ballast").unlink(missing_ok=True)
        return self._job(fault, ("--resume", str(self.place.run)))

    def _job(self, fault: Fault, arguments: tuple[str, ...]) -> Outcome:
        for name in (STRUCK, FIRST_STEP):
            (self.place.path / name).unlink(missing_ok=True)
        outcome = self.place.job(self.case.ranks, *arguments, fault=fault)
        outcome.struck, outcome.first_step = self._time(STRUCK), self._time(FIRST_STEP)
        return outcome

    def _time(self, name: str) -> float:
        try:
            return (self.place.path / name).stat().st_mtime
        except OSError:
            return 0.0


def strike(details: Details, place: Place, outer: Judge) -> dict[str, Any]:
    """Strike the job of a case and go on with it; return how long what took."""
    case: TrainingCase = details["case"]
    undisturbed = place.undisturbed(case.ranks, case.arguments)
    job = StruckJob(place, case)
    judge = TrainingJudge(case, place)
    with job.disk():
        outcome = job.start(case.fault)
        records = judge.records()
        judge.struck(case.fault, outcome, records)
        resume_s = _to_the_end(judge, job, outcome, records, undisturbed)
        if judge.problems and case.fault.stage == "full":
            shutil.copytree(place.run, place.path / "run-of-the-small-disk", dirs_exist_ok=True)
    for name in ("problems", "lost", "named", "note"):
        setattr(outer, name, getattr(judge, name))
    return {
        "detect_s": _detected(outcome, records) - outcome.struck if outcome.struck else None,
        "gone_s": outcome.ended - outcome.struck if outcome.struck and case.kind not in GOES_ON else None,
        "resume_s": resume_s,
    }


def _to_the_end(
    judge: TrainingJudge, job: StruckJob, outcome: Outcome, records: list[Record], undisturbed: Any
) -> float | None:
    """Go on with the run if it did not come to its end, and compare; return the seconds up to the first new step."""
    case = judge.case
    done = any(record["kind"] == "end" and record["status"] == "ok" for record in records)
    if done or case.kind in GOES_ON:
        exact = case.kind == "disk-while" or judge.note == "exact" or not (case.kind in GOES_ON or judge.note)
        judge.whole(records, undisturbed, exact=exact)
        return None
    if case.second is not None:
        again = job.resume(case.second)
        judge.struck(case.second, again, judge.records())
    last = job.resume(NOTHING)
    judge.gone(last, "resumed job")
    judge.keep(last.code == 0, f"resumed job: code {last.code}: {last.err!r}")
    judge.whole(judge.records(), undisturbed)
    return last.first_step - last.began if last.first_step else None


def _detected(outcome: Outcome, records: list[Record]) -> float:
    """Return when the fault was first told of, on the console or in the log."""
    told = [t for t, line in outcome.lines if "rankwise:" in line]
    kinds = ("skip", "heal", "error", "stop", "checkpoint-failed", "stall", "death")
    told += [float(event.get("noticed") or event["t"]) for what in kinds for event in events(records, what)]
    return min((t for t in told if t >= outcome.struck), default=outcome.ended)
