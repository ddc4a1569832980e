"""A step by each wire on several hosts, beside MPI_Allreduce: ``python -m tests.benchmarks.wires [--rates 100mbit]``.

Hosts are namespaces with shaped links (tests/hosts/machines.py): needs root, and Open MPI. One rank a host trains a
network for MNIST on random rows. Ways take turns; figures are medians of the trials, of the slowest rank.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ps.sync.modes import MODES
from tests.benchmarks.wires_ranks import BASE, WAYS
from tests.hosts import machines

HOSTS = 4
LIMIT_S = 300


def run(hosts: machines.Hosts, ways: list[str], rounds: int) -> None:
    """Run a rank on each host, and print what they measure as a table."""
    mpirun = Path(sys.prefix) / "bin" / "mpirun"
    command = hosts.command(
        1, str(mpirun), "-np", str(HOSTS), "--host", hosts.places(*[1] * HOSTS),
        sys.executable, "-m", "tests.benchmarks.wires_ranks", ",".join(ways), str(rounds),
    )  # fmt: skip
    environment = {**os.environ, **hosts.environment()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    base = 0.0
    for line in map(json.loads, done.stdout.splitlines()):
        if "rate" in line:
            print(f"one-way send {line['rate'] * 8e-6:,.0f} Mbit/s")
            print("way              ms a step (least to most)   ratio  sent MB  counted MB  steps")
            continue
        median = statistics.median(line["ms"])
        base = base or median
        print(
            f"{line['way']:<14}{median:>9.2f} ({min(line['ms']):.2f} to {max(line['ms']):.2f}){median / base:>10.3f}"
            f"{line['sent'] / 1e6:>9.3f}{line['counted'] / 1e6:>12.3f}{line['steps']:>7}  {line['sum']}",
            flush=True,
        )
    if done.returncode:
        print(f"exit code {done.returncode}: {done.stderr[-2000:]}")


def main() -> None:
    """Measure at the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", default="100mbit,1gbit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", default=",".join(way for way, given in WAYS.items() if given["mode"] in MODES))
    options = parser.parse_args()
    ways = [BASE, *(way for way in options.ways.split(",") if way != BASE)]
    with tempfile.TemporaryDirectory() as folder, machines.running(Path(folder), HOSTS) as hosts:
        for rate in options.rates.split(","):
            hosts.set_rate(rate)
            print(f"\n{HOSTS} ranks on {HOSTS} hosts, {rate}", flush=True)
            run(hosts, ways, options.rounds)


main()
