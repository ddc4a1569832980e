"""Elastic and supervised jobs: they come to their end whoever dies, or say why not, and nothing is left running."""

import os
import signal
import time
from typing import Any

from common.run_files import LOG_NAME
from tests.faults.case import LONG, LONG_EPOCHS, SMALL, Case, Details, Place, epochs_logged, whole_records
from tests.faults.judge import Judge, close, events, failure, same_bits, tail
from tests.faults.plan import EPOCHS, STEPS
from tests.faults.process import Outcome, job_processes, send, until
from tests.faults.signals import rank_process, watchdogs
from tests.ranks import PROGRAMS

ELASTIC_MODES = ("allreduce", "reduce-bcast", "send-recv")
PLACES = ("compute", "compute", "evaluation", "end of epoch")
ELASTIC = ("one", "two at once", "rank 0", "one after the other", "while recovering", "all", "after a resume")
SUPERVISED = (
    "rank",
    "two ranks",
    "launcher",
    "supervisor",
    "crash loop",
    "signal",
    "watchdog",
    "launcher and supervisor",
)
EXACT = ("--dtype", "float64")
LASTING = (*LONG, *EXACT)
SUPERVISED_S = 150
BACKOFF = ("--backoff", "0.1")


def draw_elastic(case: Case) -> Details:
    """Draw who dies, where; a place is that of tests/programs/dies_at.py."""
    rng = case.rng()
    what = ELASTIC[case.index % len(ELASTIC)]
    ranks = rng.choice((3, 4))
    epoch, step = rng.randint(1, EPOCHS - 1), rng.randint(1, STEPS)
    where = rng.choice(PLACES)
    step = step if where == "compute" else 0
    dead = rng.sample(range(1, ranks), 2)
    first = 0 if what == "rank 0" else dead[0]
    deaths = [(first, epoch, step, where)]
    if what == "two at once":
        deaths.append((dead[1], epoch, step, where))
    if what == "one after the other":
        deaths.append((dead[1], epoch + 1, rng.randint(1, STEPS), "compute"))
    if what == "while recovering":
        deaths.append((dead[1], epoch, 0, rng.choice(("grouping", "moving"))))
    if what == "all":
        deaths = [(rank, epoch, step, where) for rank in range(ranks)]
    return {"what": what, "ranks": ranks, "deaths": deaths, "mode": rng.choice(ELASTIC_MODES)}


def strike_elastic(details: Details, place: Place, judge: Judge) -> None:
    """Let ranks of an elastic job die, and compare its end with that of a job in which nobody died."""
    n, what = details["ranks"], details["what"]
    arguments = ("--mode", details["mode"], *SMALL, *EXACT)
    undisturbed = place.undisturbed(n, arguments)
    if what == "after a resume":
        place.copy_killed(n, arguments)
        deaths = [(rank, EPOCHS - 1, max(step, 8), "compute") for rank, _, step, _ in details["deaths"]]
        outcome = _elastic(place, n, deaths, "--resume", str(place.run))
    else:
        deaths = details["deaths"]
        outcome = _elastic(place, n, deaths, *arguments, "--output", "run")
    judge.need(outcome.in_time, f"did not end: {tail(outcome)}")
    judge.need(not outcome.left, f"left processes behind: {outcome.left}")
    judge.need("Traceback" not in outcome.err, f"traceback: {tail(outcome)}")
    if what == "all":
        judge.need("died" in failure(place.run), f"failure.txt: {failure(place.run)!r}")
        judge.done(place.resume(n), "resumed job", EPOCHS)
        judge.close(undisturbed)
        return
    judge.need(outcome.code == 0, f"code {outcome.code}: {tail(outcome)}")
    dead = [rank for event in events(judge.records(), "shrink") for rank in event["dead"]]
    judge.name(len(dead) == len(deaths) and deaths[0][0] in dead, f"shrinks name {dead}, dead are {deaths}")
    judge.keep(close(place.run / "model.npz", undisturbed / "model.npz"), "another model than undisturbed")
    judge.clean()


def _elastic(place: Place, n: int, deaths: Any, *arguments: str) -> Outcome:
    told = ",".join(f"{rank}:{epoch}:{step}:{where}" for rank, epoch, step, where in deaths)
    launch = [place.mpi.mpirun, "--with-ft", "ulfm", "-np", str(n), place.mpi.python]
    return place.start(*launch, str(PROGRAMS / "dies_at.py"), told, "--elastic", *arguments)


def draw_supervised(case: Case) -> Details:
    """Draw who of a supervised job is struck, when, and how often."""
    rng = case.rng()
    return {"what": SUPERVISED[case.index % len(SUPERVISED)], "epoch": rng.randint(1, LONG_EPOCHS // 2),
            "delay_s": rng.uniform(0, 0.02), "ranks": rng.choice((2, 3)), "rank": rng.randrange(2),
            "again": rng.random() < 0.3, "step": rng.randint(1, 30),
            "signal": rng.choice(("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"))}  # fmt: skip


def strike_supervised(details: Details, place: Place, judge: Judge) -> None:
    """Strike a supervised job; where the supervisor ends, the same command goes on."""
    n, what = details["ranks"], details["what"]
    undisturbed = place.undisturbed(n, LASTING)
    if what == "crash loop":
        _crash_loop(details, place, judge)
        return

    def strike_it(pid: int) -> None:
        for round_ in range(2 if details["again"] and what in ("rank", "launcher") else 1):
            least = details["epoch"] + LONG_EPOCHS // 3 * round_
            until(lambda least=least: epochs_logged(place.run) >= least, 60)  # type: ignore[misc]
            time.sleep(details["delay_s"])
            _struck(details, place, pid)

    outcome = _supervised(place, n, *LASTING, strike=strike_it)
    judge.need(outcome.in_time, f"did not end: {tail(outcome)}")
    judge.need(not outcome.left, f"left processes behind: {outcome.left}")
    judge.need("Traceback" not in outcome.err, f"traceback: {tail(outcome)}")
    if what in ("supervisor", "signal", "launcher and supervisor"):
        if what == "signal":
            judge.need(outcome.code == 75, f"code {outcome.code}: {tail(outcome)}")
        outcome = _supervised(place, n, *LASTING)
    judge.done(outcome, "supervised job", LONG_EPOCHS)
    judge.close(undisturbed)
    if f"with {n} ranks;" in outcome.out:  # else it has lost ranks, and the order of additions is another
        judge.keep(same_bits(place.run / "model.npz", undisturbed / "model.npz"), "other bits than undisturbed")
    if what in ("rank", "two ranks"):
        judge.name("died" in outcome.out and "restart 1" in outcome.out, f"no restart is told of: {outcome.out!r}")
        deaths = {event["rank"] for event in events(whole_records(place.run / LOG_NAME), "death")}
        judge.name(details["rank"] in deaths or details["again"], f"events: {deaths}")


def _supervised(place: Place, n: int, *arguments: str, **options: Any) -> Outcome:
    own = ("-np", str(n), "--mpirun", place.mpi.mpirun, *BACKOFF, "--", *arguments, "--output", "run")
    return place.start(place.mpi.python, "-m", "workers.supervise", *own, limit_s=SUPERVISED_S, **options)


def _struck(details: Details, place: Place, supervisor: int) -> None:
    """Strike those that the case names."""
    what = details["what"]
    if what in ("rank", "two ranks"):
        for rank in (details["rank"], 1 - details["rank"])[: 2 if what == "two ranks" else 1]:
            _kill(rank_process(place.path, rank))
    if what.startswith("launcher"):
        for pid in job_processes(place.path, f"{place.mpi.mpirun}'"[:-1])[:2]:
            if pid != supervisor:
                _kill(pid)
    if what.endswith("supervisor"):
        _kill(supervisor)
    if what == "watchdog":
        for pid in watchdogs(place.path):
            _kill(pid)
    if what == "signal":
        send(supervisor, signal.Signals[details["signal"]])


def _kill(pid: int) -> None:
    if pid and pid != os.getpid():
        send(pid, signal.SIGKILL)


def _crash_loop(details: Details, place: Place, judge: Judge) -> None:
    """Have each attempt die at its beginning: the supervisor gives up, with a code and a reason."""
    n = details["ranks"]
    fault = f"die:rank=0,step={details['step']}"
    arguments = ("--hidden", "16", "--batch-size", "100", "--epochs", "4", "--checkpoint-every", "0", "--inject", fault)
    own = ("-np", str(n), "--mpirun", place.mpi.mpirun, *BACKOFF, "--restarts", "2", "--fewest", str(n), "--")
    outcome = place.start(
        place.mpi.python, "-m", "workers.supervise", *own, *arguments, "--output", "run", limit_s=SUPERVISED_S
    )
    judge.ended(outcome, "supervised job")
    judge.need(outcome.code not in (0, 75), f"code {outcome.code}: {tail(outcome)}")
    judge.need(outcome.out.count("supervise: restart") == 2, f"restarts: {outcome.out!r}")
    judge.need("died" in outcome.out + outcome.err, f"no reason: {tail(outcome)}")
