"""Jobs that are killed while they save something: what is left behind is removed by the job that goes on."""

import contextlib
import shutil

from common.run_files import LOG_NAME
from tests.faults.case import SMALL, Case, Details, Place, may_mount, small_disk, whole_records
from tests.faults.judge import Judge, failure, tail
from tests.faults.plan import EPOCHS, MODES, Fault

NAMES = ("model.npz", "config.toml", "checkpoint-", "model_parameters.txt", "sync_times.txt", "contributions.txt")
OLD = (".model.npz.{}", ".config.toml.{}", ".checkpoint-26.npz.{}", ".sync_times.txt.{}", ".contributions.txt.{}")
"""What jobs of earlier versions left."""
STAGES = ("created", "bytes", "written", "renamed")


def draw(case: Case) -> Details:
    """Draw which file is being saved, and how far."""
    rng = case.rng()
    name = NAMES[case.index % len(NAMES)]
    nth = rng.randint(1, EPOCHS) if name == "checkpoint-" else 1
    fault = Fault("torn-file", 0, name, nth, share=rng.random(), stage=rng.choice(STAGES))
    old = [name.format(rng.randrange(2, 1 << 22)) for name in rng.sample(OLD, rng.randrange(len(OLD)))]
    return {"fault": fault, "mode": rng.choice(MODES), "ranks": rng.choice((1, 2, 3)), "old": old}


def strike(details: Details, place: Place, judge: Judge) -> None:
    """Kill rank 0 while it saves a file, and go on."""
    arguments, n = ("--mode", details["mode"], *SMALL), details["ranks"]
    undisturbed = place.undisturbed(n, arguments)
    outcome = place.job(n, *arguments, "--output", "run", fault=details["fault"])
    struck = (place.path / "struck").exists()
    judge.ended(outcome, "struck job")
    if (
        details["fault"].phase in ("sync_times.txt", "model_parameters.txt", "contributions.txt", "config.toml")
        and not struck
    ):
        judge.note = "written otherwise"  # not by way of a temporary file
    else:
        judge.need(struck, f"was not struck: {tail(outcome)}")
        judge.need(outcome.code not in (0, 75), f"code {outcome.code}")
    if not whole_records(place.run / LOG_NAME):
        _nothing_yet(place, judge, n)
        return
    for name in details["old"]:
        (place.run / name).write_bytes(bytes(100))
    more = () if struck else ("--epochs", str(EPOCHS + 1))
    resumed = place.resume(n, *more) if place.run.exists() else place.job(n, *arguments, "--output", "run")
    if resumed.code == 2 and "done" in resumed.err:  # it was killed when all had been saved
        judge.note = "was done"
        resumed = place.resume(n, "--epochs", str(EPOCHS + 1))
        judge.done(resumed, "job with an epoch more", EPOCHS + 1)
        return
    judge.done(resumed, "resumed job", EPOCHS + (not struck))
    if struck:
        judge.same_bits(undisturbed)


def _nothing_yet(place: Place, judge: Judge, n: int) -> None:
    """Check that a run that was killed before its log began is told of with a remedy."""
    outcome = place.resume(n)
    judge.refused(outcome, "--resume")
    judge.need("start a new run" in outcome.err, f"no remedy: {tail(outcome)}")


def draw_read_only(case: Case) -> Details:
    """Draw when a disk takes nothing more."""
    rng = case.rng()
    when = ("at the start", "full at the start", "reader")[case.index % 3]
    return {"when": when if may_mount() else "reader", "ranks": rng.choice((1, 2, 3)), "command": rng.choice(
        (("export", "--csv"), ("export", "--jsonl"), ("report",), ("trace",), ("plot",)))}  # fmt: skip


def strike_read_only(details: Details, place: Place, judge: Judge) -> None:
    """Start a job, or a reader that writes, on a disk that takes nothing: one message, and nothing half written."""
    disk = place.path / "disk"
    if details["when"] == "reader":
        run = place.copy_undisturbed(details["ranks"], SMALL)
        disk.mkdir()
        target = str(disk / "out") if may_mount() else "/proc/out"
        with small_disk(disk, 8 << 10) if may_mount() else contextlib.nullcontext():
            outcome = place.log(*details["command"], str(run), "-o", target)
            judge.refused(outcome, " ".join(details["command"]))
            left = [path.name for path in disk.iterdir() if path.is_file()]
            judge.need(not left, f"left behind: {left}")
        return
    with small_disk(disk):
        if details["when"] == "at the start":
            place.start("mount", "-o", "remount,ro", str(disk))
        else:
            with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1024))
        outcome = place.job(details["ranks"], *SMALL, "--output", str(disk / "run"))
        judge.need(outcome.code != 0, "code 0")
        judge.ended(outcome, "job", (1, 2))
        judge.short(outcome, "job")
        judge.need("rankwise:" in outcome.err, f"no message: {tail(outcome)}")
        judge.need(str(disk / "run") in outcome.err, f"the folder is not named: {tail(outcome)}")
        judge.need("died" not in failure(disk / "run"), f"failure.txt: {failure(disk / 'run')}")
        shutil.copytree(disk, place.path / "disk-then", dirs_exist_ok=True)
