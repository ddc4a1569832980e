"""``python -m tests.benchmarks.scaling``: what a step's model predicts for 2 to 64 ranks on hosts, and what it takes.

Hosts are namespaces with shaped links (tests/hosts/machines.py), which share this machine's cores: needs root and Open
MPI. The model is fitted to one rank's steps, and to the sums in those of 2 and 32 ranks on one host and of one rank on
each of four; what more ranks on the hosts take is predicted.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from ps.sync.modes import MODES
from ps.text.layout import Table, lines_of
from tests.hosts.machines import Hosts, running
from tests.ranks import MPIRUN, environment
from workers.benchmark.step_model import Line, ModeCosts, Place, StepModel, fit_line, fit_work

LAYERS = (784, 128, 10)
STRONG_BATCH, WEAK_ROWS = 8192, 256
"""Rows of a step on all ranks together, and on each."""
SMALL = 1000
"""Numbers of a sum that is nothing but latency."""
HOSTS = 4
CROWD = 32
"""Ranks on one host, more than cores, whose steps show what a turn takes."""
EFFICIENCIES = (6, 7, 11, 12)
"""Columns of the comparison."""
LIMIT_S = 230
BEFORE_OTHERS = ("nice", "-n", "-15")
MBIT = {"100mbit": 100, "1gbit": 1000}
BURST_KB = {"100mbit": 64, "1gbit": 256}
"""What a link passes at once after a pause: the shaping needs some of it, and it hides some of the work."""
AHEAD = {"weak": (256, 4096), "strong": (8192, 262_144)}
"""Rows of the predictions: of each rank, and of all together."""
AHEAD_RANKS, PER_NODE = (16, 256, 1024, 4096), 16
"""For which numbers of ranks, and how many a node has."""
FASTER = (1, 100)
"""Predictions are made for the links that were measured, and for faster ones."""


def packet_numbers() -> int:
    """Return the length of the model's packet."""
    return 16 + sum((a + 1) * b for a, b in itertools.pairwise(LAYERS))


def launch(hosts: Hosts, per_host: list[int], **task: Any) -> dict[str, Any]:
    """Measure on so many ranks of each host."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        asked = {"layers": LAYERS, "batches": [], "numbers": [], "sums": 50, "out": str(out), **task}
        command = [MPIRUN, "--host", hosts.places(*per_host), "-np", str(sum(per_host)), sys.executable, "-m"]
        done = subprocess.run(
            hosts.command(1, *BEFORE_OTHERS, *command, "tests.benchmarks.scaling_ranks", json.dumps(asked)),
            # a host of one rank believes to have all cores for its threads; ranks outnumber cores, and must give way
            env={**environment(OMP_NUM_THREADS="1", OMPI_MCA_mpi_yield_when_idle="1"), **hosts.environment()},
            capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"exit code {done.returncode}: {done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything, what the model is fitted to first; keep it after every launch."""
    path = options.json
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"cores": os.cpu_count()}
    modes = options.modes
    common = {"modes": modes, "rounds": options.rounds}
    batches = [WEAK_ROWS // 4, WEAK_ROWS, STRONG_BATCH // 2, STRONG_BATCH]
    plans: dict[str, tuple[str, list[int], dict[str, Any]]] = {
        "work": ("", [1], {"batches": batches, "modes": ["allreduce"]}),
        "inner": ("", [2], {"numbers": [SMALL], "batches": [2]}),
        "crowd": ("", [CROWD], {"batches": [CROWD]}),
    }
    for rate in options.rates:
        plans[f"network {rate}"] = rate, [1] * HOSTS, {"numbers": [SMALL], "batches": [HOSTS]}
        for ranks in options.ranks:
            hosts = min(HOSTS, ranks)
            per_host = [ranks // hosts] * hosts
            plans[f"{rate} {ranks}"] = rate, per_host, {"batches": sorted({STRONG_BATCH, WEAK_ROWS * ranks})}
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), HOSTS) as hosts:
        for name, (rate, per_host, task) in plans.items():
            if name in results:
                continue
            hosts.set_rate(rate, burst=f"{BURST_KB.get(rate, 0)}kb")
            results[name] = launch(hosts, per_host, **{**common, **task})
            path.write_text(json.dumps(results))
            print(f"{name}: measured", file=sys.stderr, flush=True)
    return results


def fitted(results: dict[str, Any], rate: str) -> StepModel:
    """Return the model of a step over links of this rate."""
    work, cores = results["work"]["steps"], results["cores"]
    fixed_s, row_s = fit_work({int(batch): times["allreduce"] for batch, times in work.items()})
    alone, crowd, spread = Place(2, 1, cores), Place(CROWD, 1, cores), Place(HOSTS, HOSTS, cores, HOSTS)
    model, packet_bytes = StepModel(fixed_s, row_s, {}), 4 * packet_numbers()
    modes: dict[str, ModeCosts] = {}
    for mode in results["inner"]["sums"][str(SMALL)]:
        cost = MODES[mode].cost

        def packet_s(name: str, place: Place, mode: str = mode) -> float:
            """Return seconds of the packet's sum: a step of one row for each rank without its work."""
            step: float = next(iter(results[name]["steps"].values()))[mode]
            return max(step - model.work_s(1, place), 0.1 * step)  # it may be little but work

        def sums_of(name: str, place: Place, mode: str = mode) -> dict[int, float]:
            """Return seconds by bytes: of a small sum, and of the packet's."""
            found = results[name]["sums"][str(SMALL)]
            return {4 * SMALL: found[mode], packet_bytes: packet_s(name, place, mode)}

        inner = fit_line(cost.terms(2, 1), sums_of("inner", alone))
        over = packet_s("crowd", crowd) - ModeCosts(inner).sum_s(cost, crowd, packet_bytes)
        turn_s = max(0.0, over) / crowd.waiting
        turns_s = turn_s * spread.waiting
        sums = {n: max(seconds - turns_s, 0.1 * seconds) for n, seconds in sums_of(f"network {rate}", spread).items()}
        modes[mode] = ModeCosts(inner, fit_line(cost.between(HOSTS, HOSTS - 1), sums), turn_s)
    return StepModel(fixed_s, row_s, modes)


def after_a_pause(model: StepModel, mode: str, place: Place, rows: float, n_bytes: int, rate: str) -> float:
    """Return the seconds of a step over a link that has saved up a burst while nothing was sent."""
    step_s = model.step_s(mode, MODES[mode].cost, place, rows, n_bytes)
    between = model.modes[mode].network.seconds(MODES[mode].cost.between(place.nodes, place.elsewhere), n_bytes)
    return step_s - min(between, step_s - between, 8 * BURST_KB[rate] / (1e3 * MBIT[rate]))


def compared(results: dict[str, Any], rate: str, draw: Any) -> list[str]:
    """Return the table of what was predicted and measured, and how far off the model is."""
    model, cores, n_bytes = fitted(results, rate), results["cores"], 4 * packet_numbers()
    rows, errors = [], []
    for name, found in results.items():
        if not name.startswith(f"{rate} "):
            continue
        ranks = int(name.split()[1])
        place = Place(ranks, found["nodes"], cores, ranks)
        strong, weak = (found["steps"][str(batch)] for batch in (STRONG_BATCH, WEAK_ROWS * ranks))
        for mode in strong:
            row = [mode, str(ranks), f"{found['nodes']} x {place.per_node}"]
            for measured, n, single in ((strong[mode], STRONG_BATCH / ranks, STRONG_BATCH), (weak[mode], WEAK_ROWS, 0)):
                predicted = after_a_pause(model, mode, place, n, n_bytes, rate)
                alone = model.work_s(single or WEAK_ROWS, Place(1)) / (ranks if single else 1)
                errors.append((predicted / measured - 1, mode, ranks))
                row += [f"{1e3 * predicted:.1f}", f"{1e3 * measured:.1f}", f"{100 * errors[-1][0]:+.0f}",
                        f"{100 * alone / predicted:.1f}", f"{100 * alone / measured:.1f}"]  # fmt: skip
            rows.append(row)
    kinds = ("strong", "weak")
    head = [
        f"{kind}: {what}" for kind in kinds for what in ("predicted ms", "measured ms", "error %", "eff. %", "was %")
    ]
    rows = [["mode", "ranks", "hosts", *head], *sorted(rows, key=lambda row: (row[0], int(row[1])))]
    if draw is page:  # which is narrower
        rows = [[text for at, text in enumerate(row) if at not in EFFICIENCIES] for row in rows]
    table = draw(rows)
    size = [abs(error) for error, _, _ in errors]
    within = sum(error <= 0.25 for error in size)
    by_mode = {mode: [abs(e) for e, m, _ in errors if m == mode] for mode in {m for _, m, _ in errors}}
    each = ", ".join(
        f"{mode} {100 * statistics.median(own):.0f} ({100 * max(own):.0f})" for mode, own in sorted(by_mode.items())
    )
    return [f"Links of {rate}", "", *table, "",
            f"Error of the model: within 25 % in {within} of {len(size)}; "
            f"% by mode, median (largest): {each}."]  # fmt: skip


def predicted(results: dict[str, Any], rate: str, faster: int, draw: Any) -> list[str]:
    """Return the table of predicted efficiency up to 4,096 ranks, on links whose bytes take ``faster`` times less."""
    fit, n_bytes, rows = fitted(results, rate), 4 * packet_numbers(), []
    modes = {
        mode: replace(costs, network=Line(costs.network.latency_s, costs.network.s_per_byte / faster))
        for mode, costs in fit.modes.items()
    }
    model = StepModel(fit.fixed_s, fit.row_s, modes)
    for (kind, several), mode in itertools.product(AHEAD.items(), modes):
        for n in several:
            found = []
            for ranks in AHEAD_RANKS:
                place, own = Place(ranks, ranks // PER_NODE), n if kind == "weak" else n / ranks
                weak, strong = model.efficiency(mode, MODES[mode].cost, place, own, n_bytes)
                found.append(100 * (weak if kind == "weak" else strong))
            rows.append([kind, f"{n:,}", mode, *(f"{value:.0f}" if value >= 10 else f"{value:.2g}" for value in found)])
    head = ["scaling", "rows", "mode", *(f"{ranks:,} ranks" for ranks in AHEAD_RANKS)]
    return [
        f"Predicted efficiency, %: {PER_NODE} ranks a node, links of {faster * MBIT[rate]:,} Mbit/s",
        "",
        *draw([head, *rows]),
    ]


def lines(rows: list[list[str]]) -> list[str]:
    """Return a table for a terminal."""
    return lines_of(Table("", rows[0], rows[1:], text=("scaling", "mode")), 200)


def page(rows: list[list[str]]) -> list[str]:
    """Return a table for a page."""
    return [f"| {' | '.join(row)} |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:])]


def main() -> None:
    """Measure or read, predict, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scaling", description=__doc__)
    parser.add_argument("--rates", nargs="+", choices=MBIT, default=["100mbit"])
    parser.add_argument("--ranks", nargs="+", type=int, default=[2, 4, 8, 16, 32, 64])
    modes = [mode for mode in MODES if mode != "factors"]  # which sums as shared
    parser.add_argument("--modes", nargs="+", choices=MODES, default=modes)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--json", type=Path, required=True, help="where results are kept; what it holds is not measured"
    )
    parser.add_argument("--markdown", action="store_true", help="draw the tables for a page")
    options = parser.parse_args()
    results, draw = measure(options), page if options.markdown else lines
    for rate in options.rates:
        print("\n".join(compared(results, rate, draw)))
        for faster in FASTER:
            print("\n".join(["", *predicted(results, rate, faster, draw)]))


if __name__ == "__main__":
    main()
