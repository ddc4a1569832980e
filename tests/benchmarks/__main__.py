"""``python -m tests.benchmarks``: all peers in turn on each workload, round after round."""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.launch import MEMORY_PEERS, PEERS, RANKS, SUM_PEERS, PeerError, Runner
from tests.benchmarks.report import Results, markdown, tables, text
from tests.benchmarks.work import WORKS, prepare

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rankwise-benchmarks"
EXTRAS = ("sums", "memory")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--workloads", nargs="+", choices=[*WORKS, *EXTRAS], default=[*WORKS, *EXTRAS])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=3, help="times that everything is launched afresh")
    parser.add_argument("--json", type=Path, help="where to keep all results")
    parser.add_argument("--add", action="store_true", help="add rounds to those that --json holds already")
    parser.add_argument("--show", type=Path, help="print the tables of such a file instead of measuring")
    parser.add_argument("--markdown", action="store_true", help="draw the tables for a page")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder for environments and data")
    parser.add_argument("--torch-index", default="", help="for instance https://download.pytorch.org/whl/cpu")
    parser.add_argument(
        "--realtime", action="store_true", help="ahead of all other programs of the machine; needs root"
    )
    return parser.parse_args()


def plan(workloads: list[str], peers: list[str]) -> list[tuple[str, str, bool]]:
    """Return a round's launches: workload, peer, whether for its memory."""
    launches = [(name, p, False) for name in WORKS if name in workloads for p in peers if name in PEERS[p].works]
    if "sums" in workloads:
        launches += [("sums", p, False) for p in SUM_PEERS if p in peers]
    if "memory" in workloads:
        launches += [("W5", p, True) for p in MEMORY_PEERS if p in peers]
    return launches


def unprepared(runner: Runner, peers: list[str]) -> set[str]:
    """Make the environments before anything is measured; return the peers that stay without one."""
    failed = set()
    for p in peers:
        try:
            runner.interpreter(PEERS[p].home)
        except PeerError as error:
            failed.add(p)
            print(f"{p} is left out: {error}", file=sys.stderr)
    return failed


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; a peer that fails is named and left out from then on."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < RANKS:
        sys.exit(f"needs {RANKS} cores, may use {len(cores)}")
    os.sched_setaffinity(0, cores[:RANKS])  # everyone gets as many, those that would start a thread on each as well
    runner = Runner(options.cache.resolve(), options.torch_index, options.realtime)
    launches = plan(options.workloads, options.peers)
    for name in sorted({name for name, _, _ in launches} & set(WORKS)):
        prepare(name, runner.cache / "data")
    results: dict[str, Any] = {"machine": machine(), "versions": {}, "launches": []}
    failed = unprepared(runner, options.peers)
    if options.add and options.json:
        results = json.loads(options.json.read_text())
    first = 1 + max((launch["round"] for launch in results["launches"]), default=-1)
    for number in range(first, first + options.rounds):
        for name, p, watch in launches:
            if p in failed:
                continue
            start = time.monotonic()
            try:
                result = runner.launch(PEERS[p], name, watch=watch)
            except PeerError as error:
                failed.add(p)
                print(f"{p} is left out: on {name}: {error}", file=sys.stderr)
                continue
            results["versions"] |= result.pop("versions", {})
            results["launches"].append({"round": number, "name": name, "peer": p, "watch": watch, **result})
            print(f"round {number + 1}: {name} {p}: {time.monotonic() - start:.1f} s", file=sys.stderr)
            if options.json:
                options.json.write_text(json.dumps(results))
    return results


def machine() -> str:
    """Return the processor's name, cores and memory, as far as the system tells."""
    found = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{found[0] if found else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"


def main() -> int:
    """Measure or read, print, and fail if a peer's loss is another."""
    options = arguments()
    found = json.loads(options.show.read_text()) if options.show else run(options)
    print(f"{found['machine']}; Python {platform.python_version()}; "
          + ", ".join(f"{k} {v}" for k, v in sorted(found["versions"].items())) + "\n")  # fmt: skip
    print(tables(found["launches"], markdown if options.markdown else text))
    results = Results(found["launches"])
    wrong = {name: odd for name in WORKS if (odd := results.wrong(name))}
    for name, odd in wrong.items():
        print(f"{name}: another loss than the others: {odd}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
