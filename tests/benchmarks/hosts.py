"""Every mode on several hosts beside what the network allows: ``python -m tests.benchmarks.hosts [--sizes 670000]``.

Hosts are namespaces with shaped links (tests/hosts/machines.py): needs root, and Open MPI. The bound of a sum of m
bytes over K hosts is 2 (K-1)/K m at the rate of a one-way send, measured in the same job.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ps.sync.modes import MODES
from tests.hosts import machines

LAYOUTS = {"4x1": (1, 1, 1, 1), "2x2": (2, 2)}
LIMIT_S = 200


def run(hosts: machines.Hosts, ranks: tuple[int, ...], modes: str, sizes: str) -> None:
    """Run the ranks on the hosts, and print their lines as a table."""
    mpirun = Path(sys.prefix) / "bin" / "mpirun"
    command = hosts.command(
        1, str(mpirun), "-np", str(sum(ranks)), "--map-by", ":OVERSUBSCRIBE", "--host", hosts.places(*ranks),
        sys.executable, "-m", "tests.benchmarks.hosts_ranks", modes, sizes,
    )  # fmt: skip
    environment = {**os.environ, **hosts.environment()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    for text in done.stdout.splitlines():
        line = json.loads(text)
        if "rate" in line:
            print(f"one-way send {line['rate'] * 8e-6:,.0f} Mbit/s")
            continue
        if "peak_mb" in line:
            print(f"peak memory of rank 0: {line['peak_mb']:.0f} MB")
            continue
        counted, sent = ("/".join(f"{x:.2f}" for x in line[name]) for name in ("counted_mb", "sent_mb"))
        tried = " ".join(f"{w['way']} {1e3 * w['least_s']:.1f}" for w in line.get("measured") or ())
        print(
            f"{line['n']:>9,} {line['mode']:<14}{line['ms']:>9.2f} ms {line['times_bound']:>6.2f} x bound "
            f"{line['bound_ms']:.2f}  counted {counted}  sent {sent}  {line.get('way', '')}  "
            f"start {line['made_s']:.2f} s  [{tried}]"
        )
    if done.returncode:
        print(f"exit code {done.returncode}: {done.stderr[-2000:]}")


def main() -> None:
    """Measure the layouts at the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="670000", help="lengths of vectors, with commas between")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--layouts", default=",".join(LAYOUTS))
    parser.add_argument("--rates", default="100mbit,1gbit")
    options = parser.parse_args()
    for name in options.layouts.split(","):
        ranks = LAYOUTS.get(name) or tuple(map(int, name.split("+")))
        with tempfile.TemporaryDirectory() as folder, machines.running(Path(folder), len(ranks)) as hosts:
            for rate in options.rates.split(","):
                hosts.set_rate(rate)
                print(f"\n{name} ranks on {len(ranks)} hosts, {rate}", flush=True)
                run(hosts, ranks, options.modes, options.sizes)


main()
