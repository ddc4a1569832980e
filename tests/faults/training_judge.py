"""Whether a job that was struck in training ended as it must: the right rank named, and nothing lost."""

import os
from pathlib import Path
from typing import Any

from ps.logfile.records import Record
from tests.faults.case import Place
from tests.faults.judge import Judge, events, failure, follow
from tests.faults.plan import EPOCHS, STEPS, Fault, TrainingCase
from tests.faults.process import Outcome
from workers.checkpoint import checkpoint_file

HOST = os.uname().nodename
DEATHS = ("kill", "exception", "torn-log", "torn-checkpoint")


class TrainingJudge(Judge):
    """Judges a job that was struck in training."""

    def __init__(self, case: TrainingCase, place: Place) -> None:
        super().__init__(place)
        self.case = case

    def gone(self, outcome: Outcome, who: str) -> None:
        """Check that a job is gone, in time."""
        self.need(outcome.in_time, f"{who}: did not end")
        self.need(not outcome.left, f"{who}: left processes behind: {outcome.left}")
        self.need("Traceback" not in outcome.err or self.case.kind == "exception", f"{who}: traceback {outcome.err}")

    def struck(self, fault: Fault, outcome: Outcome, records: list[Record]) -> None:
        """Check a struck job, and what it left."""
        self.gone(outcome, "struck job")
        self.need(outcome.struck, f"was not struck; code {outcome.code}: {outcome.err}")
        check = _death if fault.kind in DEATHS else CHECKS[self.case.kind]
        check(self, fault, outcome, records)
        self.left_behind(fault, records)

    def left_behind(self, fault: Fault, records: list[Record]) -> None:
        """Check that log and checkpoints hold what they held."""
        epochs = [record["epoch"] for record in records if record["kind"] == "epoch"]
        least = fault.last_epoch if fault.phase else 0  # a torn write's place is known by the count of writes only
        self.keep(len(epochs) >= least, f"log: epochs {epochs} of at least {least}")
        self.keep(follow(epochs), f"log: epochs {epochs}")
        found, faults = checkpoint_file.newest(self.run)
        self.keep(not faults, f"checkpoints: {faults}")
        # that of the last whole epoch may not have been finished yet
        least = fault.nth - 1 if fault.kind == "torn-checkpoint" else least - 1
        self.keep(found is not None or least < 1, "checkpoints: none")
        if found is not None:
            self.keep(found.step >= least * STEPS, f"checkpoints: the newest is of step {found.step}")

    def whole(self, records: list[Record], undisturbed: Path, *, exact: bool = True) -> None:
        """Check that training came to its end, with the bits of the undisturbed run."""
        epochs = [record["epoch"] for record in records if record["kind"] == "epoch"]
        self.keep(follow(epochs) and set(epochs) == set(range(1, EPOCHS + 1)), f"log at the end: epochs {epochs}")
        self.clean()
        ends = [record["status"] for record in records if record["kind"] == "end"]
        self.keep(ends and ends[-1] == "ok", f"log at the end: {ends}")
        if exact:
            self.same_bits(undisturbed)


def _death(judge: TrainingJudge, fault: Fault, outcome: Outcome, records: list[Record]) -> None:
    words = failure(judge.run)
    judge.need(outcome.code not in (0, 75), f"code {outcome.code}")
    judge.name(f"rankwise: rank {fault.rank} on {HOST}" in words, f"failure.txt: {words!r}")
    last = words.strip().splitlines()[-1:] or ["-"]
    judge.name(outcome.err.count(last[0]) == 1, f"stderr: {outcome.err!r}")
    deaths = events(records, "death")[-1:]
    judge.name([death["rank"] for death in deaths] == [fault.rank], f"event: {deaths}")
    if fault.kind == "exception":
        judge.need("struck on purpose" in words, f"failure.txt: {words!r}")
    if deaths and fault.phase and not fault.delay_s and judge.case.second is None:
        where = (deaths[0]["epoch"], deaths[0]["step"], deaths[0]["phase"])
        epochs = {fault.epoch, EPOCHS} if fault.phase == "final test" else {fault.epoch}  # which is set just then
        judge.name(where in {(epoch, fault.step, fault.phase) for epoch in epochs}, f"event: at {where}")


def _stop(judge: TrainingJudge, fault: Fault, outcome: Outcome, records: list[Record]) -> None:
    judge.need(outcome.code not in (0, 75), f"code {outcome.code}")
    for what in ("stall", "abort"):
        found = [event["ranks"] for event in events(records, what)][-1:]
        judge.name(found == [[fault.rank]], f"event {what}: {found}")
    words = failure(judge.run)
    judge.name(f"rank {fault.rank} on {HOST}" in words, f"failure.txt: {words!r}")
    judge.name(f"the process of rank {fault.rank} is stopped" in outcome.err, f"stderr: {outcome.err!r}")


def _agreed_error(judge: TrainingJudge, fault: Fault, outcome: Outcome, records: list[Record], words: str) -> None:
    judge.need(outcome.code == 1, f"code {outcome.code}")
    judge.need(records and records[-1].get("status") == "failed", f"log: {records[-1:]}")
    messages = [event["message"] for event in events(records, "error")]
    judge.name(len(messages) == 1 and words in messages[0], f"event: {messages}")
    judge.name(outcome.err.count("rankwise:") == 1 and words in outcome.err, f"stderr: {outcome.err!r}")


def _nan(judge: TrainingJudge, fault: Fault, outcome: Outcome, records: list[Record]) -> None:
    words = f"not finite at epoch {fault.epoch}, step {fault.step}: rank {fault.rank}: "
    _agreed_error(judge, fault, outcome, records, words)


def _nan_skip(judge: TrainingJudge, fault: Fault, outcome: Outcome, records: list[Record]) -> None:
    judge.need(outcome.code == 0, f"code {outcome.code}: {outcome.err!r}")
    found = [(e["epoch"], e["step"], list(e["not_finite"])) for e in events(records, "skip")]
    judge.name(found == [(fault.epoch, fault.step, [str(fault.rank)])], f"events: {found}")
    skipped = [record["skipped"] for record in records if record["kind"] == "epoch"]
    judge.need(sum(skipped) == 1 and skipped[fault.epoch - 1 : fault.epoch] == [1], f"skipped: {skipped}")


def _flip(judge: TrainingJudge, fault: Fault, outcome: Outcome, records: list[Record]) -> None:
    if outcome.code == 0:
        judge.note = "rounded away"  # an update has taken the difference away before its checksum's turn came
        judge.need(_equal_at_the_end(records), "ranks are said to be equal, and are not")
        return
    _agreed_error(judge, fault, outcome, records, f"different on rank {fault.rank}")


def _flip_heal(judge: TrainingJudge, fault: Fault, outcome: Outcome, records: list[Record]) -> None:
    judge.need(outcome.code == 0, f"code {outcome.code}: {outcome.err!r}")
    heals = events(records, "heal")
    judge.need(_equal_at_the_end(records), "ranks are not equal at the end")
    if not heals and outcome.code == 0:
        judge.note = "rounded away"
        return
    judge.name([event["ranks"] for event in heals] == [[fault.rank]], f"events: {heals}")
    if heals and (heals[0]["epoch"], heals[0]["step"]) == (fault.epoch, fault.step):
        judge.note = "exact"


def _equal_at_the_end(records: list[Record]) -> bool:
    """Say whether all ranks had the same parameters at the last epoch's end, or were repaired there."""
    found = [record for record in records if record["kind"] == "epoch"]
    repaired = {(event["epoch"], event["step"]) for event in events(records, "heal")}
    return bool(found) and (len(set(found[-1]["fingerprint"])) == 1 or (found[-1]["epoch"], 0) in repaired)


def _disk(judge: TrainingJudge, fault: Fault, outcome: Outcome, records: list[Record]) -> None:
    judge.need(outcome.code == 1, f"code {outcome.code}: {outcome.err!r}")
    judge.need("training continues" in outcome.err, f"stderr: {outcome.err!r}")
    judge.need("could not be written" in outcome.err and "make room in" in outcome.err, f"stderr: {outcome.err!r}")
    judge.need(f"Epoch {EPOCHS}/{EPOCHS}" in outcome.out, "training did not go on")


def _disk_while(judge: TrainingJudge, fault: Fault, outcome: Outcome, records: list[Record]) -> None:
    judge.need(outcome.code == 0, f"code {outcome.code}: {outcome.err!r}")
    judge.need("missing" not in outcome.err or "no record is missing" in outcome.err, f"stderr: {outcome.err!r}")
    found, _ = checkpoint_file.newest(judge.run)
    judge.keep(found is not None and found.step == EPOCHS * STEPS, "checkpoints: not of the end")


def _signal(judge: TrainingJudge, fault: Fault, outcome: Outcome, records: list[Record]) -> None:
    judge.need(outcome.code == 75, f"code {outcome.code}: {outcome.err!r}")
    judge.need(records and records[-1].get("status") == "stopped", f"log: {records[-1:]}")
    signals = [event["signals"] for event in events(records, "stop")]
    judge.name(signals == [{str(fault.rank): fault.signal}], f"event: {signals}")
    found, _ = checkpoint_file.newest(judge.run)
    where = (records[-1].get("stopped_epoch", 0) - 1) * STEPS + records[-1].get("stopped_step", 0) if records else -1
    judge.keep(found is not None and found.step == where, f"checkpoints: not of step {where}, where it stopped")


CHECKS: dict[str, Any] = {
    "stop": _stop,
    "nan": _nan,
    "nan-skip": _nan_skip,
    "flip": _flip,
    "flip-heal": _flip_heal,
    "disk": _disk,
    "disk-while": _disk_while,
    "signal": _signal,
}
