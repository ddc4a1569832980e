"""Logs that are damaged from outside: resuming cuts the damage off, and ends with the bits of the undisturbed run."""

import io
import os
import random
from pathlib import Path

import msgpack

from common.run_files import LOG_NAME
from ps.logfile.records import Record
from tests.faults.case import SMALL, Case, Details, Place
from tests.faults.judge import Judge, tail
from tests.faults.plan import EPOCHS, MODES, STEPS, Fault

DAMAGES = ("flip", "zero-byte", "zeros", "zeros-at-the-end", "garbage-at-the-end", "cut")
WHILE = ("cut-log", "remove-log", "soil-log")
"""What struck.py does to the log of the job that writes it."""
PAGE = 4096


def draw(case: Case) -> Details:
    """Draw what is damaged, and where."""
    rng = case.rng()
    damage = DAMAGES[case.index % len(DAMAGES)]
    return {"damage": damage, "share": rng.random(), "bit": rng.randrange(8), "bytes": rng.randint(1, PAGE),
            "soil": rng.randrange(1 << 30), "mode": rng.choice(MODES), "ranks": rng.choice((1, 2, 3))}  # fmt: skip


def damaged(data: bytes, details: Details) -> bytes:
    """Return a log's bytes with the damage."""
    at = int(details["share"] * len(data))
    soil = random.Random(details["soil"]).randbytes(details["bytes"])
    if details["damage"] == "cut":
        return data[:at]
    if details["damage"].endswith("at-the-end"):
        return data + (bytes(PAGE) if details["damage"].startswith("zeros") else soil)
    n = 1 if details["damage"] in ("flip", "zero-byte") else int(details["bytes"])
    middle = bytes(len(data[at : at + n]))
    if details["damage"] == "flip":
        middle = bytes([data[at] ^ 1 << details["bit"]])
    return data[:at] + middle + data[at + n :]


def strike(details: Details, place: Place, judge: Judge) -> None:
    """Damage the log of a run that was killed, read it, and go on with the run."""
    arguments, n = ("--mode", details["mode"], *SMALL), details["ranks"]
    undisturbed = place.undisturbed(n, arguments)
    log = place.copy_killed(n, arguments) / LOG_NAME
    whole = log.read_bytes()
    data = damaged(whole, details)
    log.write_bytes(data)
    shown = place.log("show", str(place.run))
    judge.answered(shown, "show")
    if shown.code:
        judge.need("--salvage" in shown.err or "--resume" in shown.err, f"show: no remedy: {tail(shown)}")
    salvaged = place.log("show", "--salvage", str(place.run))
    judge.ended(salvaged, "show --salvage", (0, 1) if data.find(b"\xa6header") < 0 else (0,))
    resumed = place.resume(n)
    judge.ended(resumed, "resumed job", (0,))
    judge.same_bits(undisturbed)
    records = judge.records()
    judge.keep(_last_epoch(records) == EPOCHS and records[-1].get("status") == "ok", "log: not up to its end")
    before = _epochs_before(whole, data)
    there = {record["epoch"] for record in records if record["kind"] == "epoch"}
    judge.keep(before <= there, f"log: epochs {sorted(there)}, but {sorted(before)} stood before the damage")
    judge.clean()
    if details["damage"] != "cut" and data != whole:
        _kept_aside(place.run, data, judge)


def _epochs_before(whole: bytes, data: bytes) -> set[int]:
    """Return the epochs of the records that end before the first byte that is damaged."""
    first = next((at for at, pair in enumerate(zip(whole, data, strict=False)) if pair[0] != pair[1]), len(data))
    unpacker = msgpack.Unpacker(io.BytesIO(whole[: min(first, len(whole))]))
    return {record["epoch"] for record in unpacker if record["kind"] == "epoch"}


def _kept_aside(run: Path, data: bytes, judge: Judge) -> None:
    """Check that the damaged log is still there, under another name, and that an event tells of it."""
    now = (run / LOG_NAME).read_bytes()
    if now.startswith(data):  # nothing was cut off: the damage changes nothing, or only what nobody reads
        return
    aside = [path.name for path in run.iterdir() if path.name != LOG_NAME and path.is_file() and _holds(path, data)]
    judge.keep(aside, "the damaged log is not kept aside")
    words = [str(record) for record in judge.records() if record["kind"] == "event"]
    judge.need(any(name in text for text in words for name in aside) or not aside, "no event names what is kept aside")


def _holds(path: Path, data: bytes) -> bool:
    """Say whether a file holds the damaged log, or as much of it as was cut off."""
    kept = path.read_bytes()
    return len(kept) > 0 and (kept == data or (data.endswith(kept) and len(kept) > 1))


def draw_while(case: Case) -> Details:
    """Draw what happens to a log that is being written, and when."""
    rng = case.rng()
    fault = Fault(WHILE[case.index % len(WHILE)], 0, "compute", rng.randint(STEPS + 1, (EPOCHS - 1) * STEPS),
                  share=rng.random())  # fmt: skip
    return {"fault": fault, "mode": rng.choice(MODES), "ranks": rng.choice((2, 3))}


def strike_while(details: Details, place: Place, judge: Judge) -> None:
    """Have the log of a job damaged while it runs: training goes on, and the log is whole, or can be made so."""
    arguments, n, fault = ("--mode", details["mode"], *SMALL), details["ranks"], details["fault"]
    undisturbed = place.undisturbed(n, arguments)
    outcome = place.job(n, *arguments, "--output", "run", fault=fault)
    judge.ended(outcome, "struck job", (0, 1) if fault.kind == "soil-log" else (0,))
    judge.need(os.path.exists(place.path / "struck"), "was not struck")
    judge.same_bits(undisturbed)
    log = place.run / LOG_NAME
    data = log.read_bytes() if log.exists() else b""
    judge.need(bytes(64) not in data, f"{data.count(0)} zero bytes in the log")
    if fault.kind != "soil-log":
        records = judge.records()
        judge.keep(_last_epoch(records) == EPOCHS, f"log: its last epoch is {_last_epoch(records)}")
    again = place.resume(n, "--epochs", str(EPOCHS + 1))
    judge.ended(again, "job with an epoch more", (0,))
    judge.keep(_last_epoch(judge.records()) == EPOCHS + 1, "log after the job with an epoch more: not up to its end")


def _last_epoch(records: list[Record]) -> int:
    return max((record["epoch"] for record in records if record["kind"] == "epoch"), default=0)
