"""Ranks that end or get signals before they train: the job ends, and says which rank is missing."""

import json
import os
import signal
import time
from collections.abc import Collection
from typing import Any

from tests.faults.case import SMALL, Case, Details, Place
from tests.faults.judge import Judge, ours, tail
from tests.faults.plan import Fault
from tests.faults.process import Outcome, send, until
from tests.ranks import PROGRAMS

MODULES = (
    "site",
    "workers",
    "workers.run",
    "common.errors",
    "common.config",
    "numpy",
    "msgpack",
    "mpi4py",
    "mpi4py.MPI",
)
"""What is imported before ``MPI_Init``, and so may be where a rank ends."""
ENDS = ("exit 0", "exit 3", "kill", "segv", "abort", "missing", "broken", "no licence", "null", "hang", "stop",
        "no interpreter", "no module")  # fmt: skip
SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
PHASES = (
    "reading data",
    "waiting for the others",
    "preparing data",
    "building the model",
    "opening the log",
    "training",
)
LIMIT_S = 120.0
WAIT_S = 10.0
"""How long ranks wait for each other in start-up."""
PATH = f"{PROGRAMS / 'start_up'}{os.pathsep}{PROGRAMS.parent.parent}"


def draw(case: Case) -> Details:
    """Draw which rank ends, how and where."""
    rng = case.rng()
    ranks = rng.choice((2, 2, 3))
    how = ENDS[case.index % len(ENDS)]
    modules = MODULES if how not in ("missing", "broken") else ("numpy", "msgpack", "mpi4py", "mpi4py.MPI")
    return {"how": how, "module": rng.choice(modules), "ranks": ranks, "rank": rng.randrange(ranks)}


def strike(details: Details, place: Place, judge: Judge) -> None:
    """Start a job of which a rank does not come as far as MPI."""
    how, rank = details["how"], details["rank"]
    if how.startswith("no ") and how != "no licence":
        outcome = _without(details, place)
    else:
        outcome = _struck(details, place)
        judge.need((place.path / "struck").exists(), "was not struck")
    judge.need(outcome.in_time, f"did not end in {outcome.seconds:.0f} s: {tail(outcome)}")
    judge.need(not outcome.left, f"left processes behind: {outcome.left}")
    judge.need(outcome.code != 0, "code 0")
    judge.need("Traceback" not in outcome.err, f"traceback: {tail(outcome)}")
    if how == "no interpreter":  # the launcher sees that itself, and starts nothing
        judge.name("nowhere" in outcome.err + outcome.out, f"not named: {tail(outcome)}")
        return
    named = f"rank {rank} " in outcome.err and os.uname().nodename in outcome.err
    judge.name(named, f"not named: {tail(outcome)}")


def _struck(details: Details, place: Place) -> Outcome:
    orders = {"module": details["module"], "how": details["how"], "rank": details["rank"]}
    return place.job(
        details["ranks"],
        *SMALL,
        "--output",
        "run",
        limit_s=LIMIT_S,
        TEST_START_UP=json.dumps(orders),
        PYTHONPATH=PATH,
        RANKWISE_START_SECONDS=str(WAIT_S),
    )


def _without(details: Details, place: Place) -> Outcome:
    """Start a rank by a program that is not there, or that is not rankwise."""
    right = [place.mpi.python, "-m", "workers.run", *SMALL, "--output", "run"]
    wrong = ["/nowhere/python", *right[1:]] if details["how"] == "no interpreter" else [*right[:2], "nowhere.run"]
    command = [place.mpi.mpirun]
    for rank in range(details["ranks"]):
        program = wrong if rank == details["rank"] else right
        command += [*([":"] if rank else []), "-np", "1", *program]
    return place.start(*command, limit_s=LIMIT_S, RANKWISE_START_SECONDS=str(WAIT_S))


def draw_signal(case: Case) -> Details:
    """Draw who gets which signal, and where in start-up."""
    rng = case.rng()
    ranks = rng.choice((2, 2, 3))
    who = ("imports", "phase", "launcher")[case.index % 3]
    module = rng.choice(MODULES[2:])  # earlier there is no code of ours that could act on a signal
    return {"who": who, "signal": SIGNALS[case.index // 3 % len(SIGNALS)], "module": module,
            "phase": rng.choice(PHASES), "ranks": ranks, "rank": rng.randrange(ranks),
            "delay_s": rng.uniform(0, 0.3)}  # fmt: skip


def strike_signal(details: Details, place: Place, judge: Judge) -> None:
    """Send a signal in start-up: the job ends quietly, and nothing of it is left."""
    code = 128 + signal.Signals[details["signal"]]
    if details["who"] == "imports":
        outcome = _struck({**details, "how": details["signal"]}, place)
        codes: Collection[int] = (code, 75)
    elif details["who"] == "phase":
        fault = Fault("signal", details["rank"], details["phase"], 1, signal=details["signal"])
        outcome = place.job(details["ranks"], *SMALL, "--output", "run", fault=fault, limit_s=LIMIT_S)
        codes = (code, 75)
    else:
        outcome = _launcher_struck(details, place)
        codes = (code, 75, 1, -signal.Signals[details["signal"]])  # a launcher has codes of its own
    judge.need((place.path / "struck").exists(), "was not struck")
    judge.ended(outcome, f"job that got {details['signal']}", codes)
    lines = [line for line in ours(outcome).splitlines() if line.strip()]
    judge.need(len(lines) <= 3, f"{len(lines)} lines: {tail(outcome)}")


def _launcher_struck(details: Details, place: Place) -> Outcome:
    orders = {"module": details["module"], "how": "wait", "rank": details["rank"], "seconds": details["delay_s"] + 0.3}

    def strike_launcher(pid: int) -> None:
        until((place.path / "struck").exists)
        time.sleep(details["delay_s"])
        send(pid, signal.Signals[details["signal"]])

    changes: dict[str, Any] = {"TEST_START_UP": json.dumps(orders), "PYTHONPATH": PATH}
    return place.job(details["ranks"], *SMALL, "--output", "run", limit_s=LIMIT_S, strike=strike_launcher, **changes)
