"""Messages that must name what they are about: the file, the process and the host that stand in the way."""

import os
import shutil
import signal
import stat
from pathlib import Path

from tests.faults.case import SMALL, Case, Details, Place, epochs_logged, long_job
from tests.faults.judge import Judge, tail
from tests.faults.process import Outcome, until, watch
from tests.faults.signals import rank_process

WHAT = (
    "second job",
    "misnamed checkpoint",
    "damaged checkpoint",
    "folder not readable",
    "folder not writable",
    "no folder",
)
NOBODY = 65534 if os.geteuid() == 0 else os.geteuid()


def draw(case: Case) -> Details:
    """Draw what stands in the way, and of what command."""
    rng = case.rng()
    what = WHAT[case.index % len(WHAT)]
    return {"what": what, "ranks": rng.choice((1, 2)), "step": rng.randrange(2, 60), "share": rng.random(),
            "bit": rng.randrange(8), "command": rng.choice(("show", "list", "resume", "output"))}  # fmt: skip


def strike(details: Details, place: Place, judge: Judge) -> None:
    """Have a command meet what stands in its way."""
    WAYS[details["what"]](details, place, judge)


def _second_job(details: Details, place: Place, judge: Judge) -> None:
    """Start a second job on the run of one that is training."""
    pids: list[int] = []
    second: list[Outcome] = []

    def strike_it(_: int) -> None:
        until(lambda: epochs_logged(place.run) >= 3)
        pids.append(rank_process(place.path, 0))
        elsewhere = place.path / "elsewhere"
        elsewhere.mkdir()
        job = [place.mpi.mpirun, "-np", "1", place.mpi.python, "-m", "workers.run", "--resume", str(place.run)]
        second.append(watch(job, elsewhere))
        os.kill(pids[0], signal.SIGUSR1)  # now the first one may stop

    first = place.job(2, *long_job(100_000), "--output", "run", strike=strike_it)
    judge.ended(first, "first job", (75,))
    (other,) = second
    judge.refused(other, "second job")
    for word in (str(pids[0]), os.uname().nodename, str(place.run)):
        judge.need(word in other.err, f"{word} is not named: {tail(other)}")


def _misnamed(details: Details, place: Place, judge: Judge) -> None:
    """Give a checkpoint another step in its name than inside: it is named by its file."""
    undisturbed = place.undisturbed(details["ranks"], SMALL)
    place.copy_killed(details["ranks"], SMALL)
    newest = max(place.run.glob("checkpoint-*.npz"), key=lambda path: int(path.stem.partition("-")[2]))
    odd = place.run / f"checkpoint-{10_000 + details['step']}.npz"
    shutil.copy(newest, odd)
    if details["what"] == "damaged checkpoint":
        data = bytearray(odd.read_bytes())
        data[int(details["share"] * len(data))] ^= 1 << details["bit"]
        odd.write_bytes(data)
    outcome = place.resume(details["ranks"])
    damaged = details["what"] == "damaged checkpoint"
    judge.ended(outcome, "--resume", (0,) if damaged else (0, 1, 2))
    if outcome.code == 0:  # what is inside counts, or it was passed over
        judge.same_bits(undisturbed)
    named = odd.name in outcome.err + outcome.out
    judge.need(named or outcome.code == 0, f"{odd.name} is not named: {tail(outcome)}")


def _not_allowed(details: Details, place: Place, judge: Judge) -> None:
    """Have somebody without the right to it use a run folder."""
    run = place.copy_killed(details["ranks"], SMALL)
    command = details["command"]
    open_up(place.path)
    mode = 0o311 if details["what"] == "folder not readable" else 0o555
    if details["what"] == "no folder":
        shutil.rmtree(run)
    else:
        for path in run.iterdir():
            os.chown(path, NOBODY, NOBODY)
        os.chown(run, NOBODY, NOBODY)
        run.chmod(mode)
    as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    own = ["-m", "ps.log", command, str(run)] if command in ("show", "list") else [
        "-m", "workers.run", "--resume" if command == "resume" else "--output", str(run)]  # fmt: skip
    outcome = place.start(*as_nobody, place.mpi.python, "-B", *own, HOME="/tmp")
    if run.exists():
        run.chmod(stat.S_IRWXU)
    judge.answered(outcome, command)
    if outcome.code:
        judge.need(str(run) in outcome.err or "run" in outcome.err, f"the folder is not named: {tail(outcome)}")
    if details["what"] == "folder not readable":
        judge.need("writ" not in outcome.err or "read" in outcome.err, f"called unwritable: {tail(outcome)}")


def open_up(folder: Path) -> None:
    """Let others pass through the folders above."""
    for place in (folder, *folder.parents):
        if place.stat().st_uid == os.geteuid() and not place.stat().st_mode & 0o001:
            place.chmod(place.stat().st_mode | 0o011)


WAYS = {
    "second job": _second_job,
    "misnamed checkpoint": _misnamed,
    "damaged checkpoint": _misnamed,
    "folder not readable": _not_allowed,
    "folder not writable": _not_allowed,
    "no folder": _not_allowed,
}
