"""``python -m tests.benchmarks.start_up``: what the parts of a start take of time and memory, by number of ranks."""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.ranks import environment, finish, popen

ROOT = Path(__file__).parent.parent.parent
MARKS = Path(__file__).parent / "start_marks"
PHASES = (
    "interpreter", "guard", "imports", "MPI_Init", "first communicator", "options agreed", "communicators", "watchdog",
    "data", "model and mode", "log opened", "first epoch",
)  # fmt: skip
"""In the order in which they happen; each is what was done since the one before."""
MIB = 2**20
Marks = list[dict[str, list[float]]]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.start_up", description=__doc__)
    parser.add_argument("--ranks", nargs="+", type=int, default=[4, 16, 32, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mode", default="allreduce")
    parser.add_argument("--tree", type=Path, default=ROOT, help="another copy of the code to measure")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="of workers.run, last")
    return parser.parse_args()


def start(options: argparse.Namespace, n: int, *, memory: bool) -> tuple[float, Marks]:
    """Train one epoch on ``n`` ranks; return when the launcher was started, and the moments of each rank."""
    with tempfile.TemporaryDirectory() as folder:
        marks = Path(folder) / "marks"
        marks.mkdir()
        env = environment(START_MARKS=str(marks), **({"START_MARKS_MEMORY": "1"} if memory else {}))
        env["PYTHONPATH"] = f"{MARKS}{os.pathsep}{options.tree.absolute()}"
        begin = time.monotonic()
        launcher = str(Path(sys.prefix) / "bin" / "mpirun")
        command = [launcher, "-np", str(n), sys.executable, "-m", "workers.run", "--mode", options.mode]
        command += ["--epochs", "1", "--output", f"{folder}/run", *options.options]
        result = finish(popen(command, env=env, cwd=folder), 240)
        if result.code:
            sys.exit(f"{' '.join(command)}: exit code {result.code}\n{result.err}")
        found = []
        for file in marks.iterdir():
            lines = (line.split("\t") for line in file.read_text().splitlines())
            found.append({name: [float(value) for value in values] for name, *values in lines})
        return begin, found


def seconds(begin: float, marks: Marks) -> dict[str, tuple[float, float]]:
    """Return of each phase: seconds until the last rank had done it, and the processor time of a rank in it."""
    table, last_s, cpu = {}, 0.0, [0.0] * len(marks)
    for phase in PHASES:
        until = max([last_s, *(rank[phase][0] - begin for rank in marks if phase in rank)])
        now = [rank.get(phase, [0, before])[1] for rank, before in zip(marks, cpu, strict=True)]
        table[phase] = until - last_s, statistics.fmean(a - b for a, b in zip(now, cpu, strict=True))
        last_s, cpu = until, now
    return table


def memory(marks: Marks) -> dict[str, tuple[float, float]]:
    """Return what a rank has when each phase is done, the median of all: its share of memory (PSS), and private."""
    return {
        phase: tuple(statistics.median(rank[phase][at] / MIB for rank in marks if phase in rank) for at in (2, 3))  # type: ignore[misc]
        for phase in PHASES
        if any(phase in rank for rank in marks)
    }


def main() -> int:
    """Measure and print."""
    options = arguments()
    start(options, 2, memory=False)  # Python compiles what no process has loaded before
    for n in options.ranks:
        rounds = [seconds(*start(options, n, memory=False)) for _ in range(options.rounds)]
        held = memory(start(options, n, memory=True)[1])
        print(f"\n{n} ranks, {len(os.sched_getaffinity(0))} cores, mode {options.mode}, {options.rounds} rounds")
        print(f"{'':20s}{'until':>9s}{'takes':>9s}{'CPU/rank':>10s}{'PSS':>9s}{'private':>9s}")
        until = 0.0
        for phase in PHASES:
            takes, cpu = (statistics.median(one[phase][k] for one in rounds) for k in (0, 1))
            until += takes
            pss, private = held.get(phase, (0.0, 0.0))
            print(
                f"{phase:20s}{until:7.2f} s{takes:7.2f} s{1e3 * cpu:7.1f} ms{pss:6.1f} MB{private:6.1f} MB", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
