"""Signals to launchers, outputs that take no more, and watchdogs that are killed, from outside, at some moment."""

import contextlib
import os
import shlex
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tests.faults.case import (
    LONG,
    LONG_EPOCHS,
    LONG_STEPS,
    MIB,
    Case,
    Details,
    Mpi,
    Place,
    epochs_logged,
    long_job,
    may_mount,
    small_disk,
)
from tests.faults.judge import Judge, events, failure, tail
from tests.faults.process import Outcome, job_processes, send, until
from workers.checkpoint import checkpoint_file

LARGE = ("--hidden", "2400,2400", "--batch-size", "0", "--epochs", "20", "--checkpoint-every", "5", "--optimizer",
         "momentum")  # fmt: skip
LARGE_EPOCHS = 20
"""Options of a job with 24 MB of parameters, and their number of epochs."""
LASTING_EPOCHS = 600
"""Of a job that goes on for a second and more after it is struck."""
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
LAUNCHERS = ("mpirun", "rankwise", "supervise")
SAVED_S = 30.0
"""How long after the launcher's end a checkpoint may still be written by who is left."""
KILLS = {("mpich", "SIGHUP")}
"""What a launcher itself does not hand on, but kills all ranks: the last checkpoint counts."""
WATCHDOG = "workers.watchdog"


def launch(mpi: Mpi, launcher: str, n: int, arguments: tuple[str, ...]) -> list[str]:
    """Return the command that starts a job by a launcher of ours or of MPI."""
    rank = [mpi.python, "-m", "workers.run"]
    supervise = [mpi.python, "-m", "workers.supervise", "--mpirun", mpi.mpirun, "--backoff", "0.1"]
    own = {
        "mpirun": [mpi.mpirun, "-np", str(n), *rank],
        "rankwise": [mpi.python, "-m", "workers.rankwise", "train", "-n", str(n)],
        "supervise": [*supervise, "-np", str(n), "--"],
        "python": rank,
    }
    return [*own[launcher], *arguments, "--output", "run"]


def draw(case: Case) -> Details:
    """Draw a launcher, what it gets, and when."""
    rng = case.rng()
    large = rng.random() < 0.15
    epochs = (1, LARGE_EPOCHS // 2) if large else (1, LONG_EPOCHS // 2)
    second = rng.choice(("", "", "same")) if case.index % 2 else ""
    return {"launcher": rng.choice(LAUNCHERS), "signal": SIGNALS[case.index % len(SIGNALS)], "second": second,
            "large": large, "epoch": rng.randint(*epochs), "delay_s": rng.uniform(0, 0.02), "ranks": rng.choice((2, 3)),
            "after_s": rng.uniform(0.2, 0.5)}  # fmt: skip


def strike(details: Details, place: Place, judge: Judge) -> None:
    """Send a launcher a signal in training, and go on with the run."""
    last = LARGE_EPOCHS if details["large"] else LASTING_EPOCHS
    arguments, n = LARGE if details["large"] else long_job(last), details["ranks"]
    undisturbed = place.undisturbed(n, arguments)
    number = signal.Signals[details["signal"]]

    def strike_launcher(pid: int) -> None:
        until(lambda: epochs_logged(place.run) >= details["epoch"], 60)
        time.sleep(details["delay_s"])
        send(pid, number)
        if details["second"]:
            time.sleep(details["after_s"])
            send(pid, number)

    outcome = place.start(*launch(place.mpi, details["launcher"], n, arguments), limit_s=120, strike=strike_launcher)
    judge.ended(outcome, "struck job")
    judge.need(outcome.code != 0, "code 0: it was not struck")
    kills = (place.mpi.vendor, details["signal"]) in KILLS and details["launcher"] != "supervise"
    if not kills:
        _stopped(outcome, judge, details)
    resumed = place.resume(n, limit_s=120)
    judge.done(resumed, "resumed job", last)
    judge.same_bits(undisturbed)


def _stopped(outcome: Outcome, judge: Judge, details: Details) -> None:
    """Check that a checkpoint of the step is there at which all ranks stopped."""
    own = details["launcher"] == "supervise" or details["signal"] == "SIGUSR1" or judge.place.mpi.vendor == "mpich"
    judge.need(outcome.code == 75 or not own, f"code {outcome.code}: {tail(outcome)}")
    steps = 1 if details["large"] else LONG_STEPS

    def found() -> int:
        newest, _ = checkpoint_file.newest(judge.run)
        return newest.step if newest is not None else 0

    epochs = epochs_logged(judge.run)
    judge.keep(
        until(lambda: found() >= epochs * steps, SAVED_S),
        f"checkpoint of step {found()}, but {epochs} epochs of {steps}",
    )


def draw_output(case: Case) -> Details:
    """Draw which output takes no more, of which launcher, and after how much."""
    rng = case.rng()
    how = ("device", "disk", "pipe", "closed")[case.index % 4]
    how = "device" if how == "disk" and not may_mount() else how
    return {"how": how, "launcher": rng.choice((*LAUNCHERS, "python")), "room": rng.randrange(20_000),
            "ranks": rng.choice((2, 3))}  # fmt: skip


def strike_output(details: Details, place: Place, judge: Judge) -> None:
    """Run a job whose standard output takes no more: that is no reason to stop."""
    n = 1 if details["launcher"] == "python" else details["ranks"]
    undisturbed = place.undisturbed(n, LONG)
    command = launch(place.mpi, details["launcher"], n, LONG)
    with _output(details, place) as stdout:
        if details["how"] in ("pipe", "closed"):
            end = "| head -c 200" if details["how"] == "pipe" else ">&-"
            command = ["bash", "-c", f"{shlex.join(command)} {end}"]
        outcome = place.start(*command, stdout=stdout)
    judge.ended(outcome, "job", (0, 1))
    judge.need(not (place.run / "failure.txt").exists(), f"failure.txt: {failure(place.run)}")
    records = judge.records()
    ends = [record["status"] for record in records if record["kind"] == "end"]
    judge.keep(ends == ["ok"], f"log at the end: {ends}; {tail(outcome)}")
    judge.same_bits(undisturbed)


@contextlib.contextmanager
def _output(details: Details, place: Place) -> Iterator[IO[Any] | None]:
    """Have the file that a job prints to."""
    if details["how"] == "device":
        with open("/dev/full", "wb") as full:
            yield full
    elif details["how"] == "disk":
        disk = place.path / "full"
        with small_disk(disk, MIB):
            (disk / "ballast").write_bytes(bytes(MIB - 20_480))
            with (disk / "train.log").open("wb") as log:
                yield log
    else:
        yield None


def draw_watchdog(case: Case) -> Details:
    """Draw when the watchdog is killed, and whether a rank is killed after that."""
    rng = case.rng()
    return {"epoch": rng.randint(1, LONG_EPOCHS // 4), "delay_s": rng.uniform(0, 0.02), "then": case.index % 3 != 2,
            "rank": rng.randrange(2), "after_s": rng.uniform(0.1, 0.5)}  # fmt: skip


def strike_watchdog(details: Details, place: Place, judge: Judge) -> None:
    """Kill the watchdog; ranks start another, which names the next dead rank."""
    arguments = long_job(LASTING_EPOCHS)
    undisturbed = place.undisturbed(2, arguments)
    killed: list[int] = []

    def strike_it(_: int) -> None:
        until(lambda: epochs_logged(place.run) >= details["epoch"])
        time.sleep(details["delay_s"])
        before = watchdogs(place.path)
        for pid in before:
            send(pid, signal.SIGKILL)
        if details["then"]:
            until(lambda: any(watches(pid) for pid in set(watchdogs(place.path)) - set(before)), 30)
            time.sleep(details["after_s"])
            killed.append(rank_process(place.path, details["rank"]))
            send(killed[0], signal.SIGKILL)

    outcome = place.job(2, *arguments, "--output", "run", strike=strike_it)
    judge.ended(outcome, "struck job")
    if not details["then"]:
        judge.need(outcome.code == 0, f"code {outcome.code}: {tail(outcome)}")
        judge.same_bits(undisturbed)
        return
    judge.need(killed and killed[0], "no rank was killed")
    judge.need(outcome.code not in (0, 75), f"code {outcome.code}")
    judge.name(f"rank {details['rank']} on {os.uname().nodename} died" in failure(place.run), f"{failure(place.run)!r}")
    deaths = [event["rank"] for event in events(judge.records(), "death")]
    judge.name(deaths == [details["rank"]], f"events: {deaths}")
    judge.done(place.resume(2), "resumed job", LASTING_EPOCHS)
    judge.same_bits(undisturbed)


def watches(pid: int) -> bool:
    """Say whether a watchdog has begun to watch: it leads a session of its own then."""
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def watchdogs(folder: Path) -> list[int]:
    """Return the ids of a job's watchdogs."""
    return job_processes(folder, WATCHDOG)


def rank_process(folder: Path, rank: int) -> int:
    """Return the id of a rank's process, 0 if there is none."""
    for pid in job_processes(folder, "workers.run"):
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        names = (b"PMI_RANK=%d" % rank, b"OMPI_COMM_WORLD_RANK=%d" % rank)
        if any(name in variables for name in names):
            return pid
    return 0
