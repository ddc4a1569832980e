"""``python -m tests.benchmarks.accounts``: what clocks, flags, checks, measuring and the log cost a step."""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from ps.metrics.median_intervals import Interval, interval
from tests.benchmarks.launch import RANKS, ROOT
from tests.benchmarks.report import Row, markdown, text
from tests.benchmarks.work import WORKS
from tests.ranks import environment, mpirun

CASES = {
    "W1": ("W1", 1024),
    "W2": ("W2", 60_000 // 128),
    "W2-short": ("W2", 20),
    "W3": ("W3", 60_000 // 512),
    "W4": ("W4", 60_000 // 2048),
    "W5": ("W5", 32),
}
"""Workload and steps of an epoch: of 60,000 rows, as many as MNIST has, in W2 to W4. At least 8 steps an epoch are
sampled, so short epochs are the dearest."""
MODES = ("allreduce", "shared", "factors")
HEAD = ("", "bare", "finite check", "clocks, flags", "analytics", "all accounts", "of bare", "measuring", "epoch's end")
TIMEOUT_S = 3600


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.accounts", description=__doc__)
    parser.add_argument("--workloads", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="where to keep all results")
    parser.add_argument("--markdown", action="store_true", help="draw the table for a page")
    return parser.parse_args()


def launch(case: str, mode: str, rounds: int) -> dict[str, Any]:
    """Measure a mode on a workload in a job of its own."""
    name, steps = CASES[case]
    work = WORKS[name]
    with tempfile.TemporaryDirectory() as folder:
        task = {
            "layers": work.sizes, "batch": work.batch, "steps": steps, "mode": mode, "rounds": rounds, "folder": folder,
        }  # fmt: skip
        module = "tests.benchmarks.accounts_ranks"
        ended = mpirun(
            RANKS, "-m", module, json.dumps(task), timeout=TIMEOUT_S, cwd=ROOT, env=environment(OMP_NUM_THREADS="1")
        )
        if ended.code:
            raise SystemExit(f"{case} {mode}: {ended.err[-1500:]}")
        result: dict[str, Any] = json.loads(Path(folder, "result.json").read_text())
    return {"case": case, "mode": mode, **result}


def row(result: dict[str, Any]) -> Row:
    """Return a line of the table: microseconds a step, medians over rounds of differences within a round."""
    times = result["times"]
    bare = statistics.median(times["bare"])
    pairs = [("bare", "unchecked"), ("no_analytics", "bare"), ("everything", "no_analytics"), ("everything", "bare")]
    differences = [[a - b for a, b in zip(times[one], times[other], strict=True)] for one, other in pairs]
    share = interval([d / bare * 100 for d in differences[-1]])
    return (
        f"{result['case']} {result['mode']}",
        _digits(bare),
        *(_spread(interval(values)) for values in differences),
        _spread(share, " %"),
        *(_digits(result["parts"][part]) for part in ("measuring", "end")),
    )


def _spread(found: Interval, unit: str = "") -> str:
    return f"{_digits(found.median)}{unit} ({_digits(found.low)} to {_digits(found.high)})"


def _digits(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def main() -> None:
    """Measure and print."""
    options = arguments()
    results = []
    for case in options.workloads:
        for mode in options.modes:
            results.append(launch(case, mode, options.rounds))
            print("  ".join(row(results[-1])), flush=True)
            if options.json:
                options.json.write_text(json.dumps(results))
    title = (
        f"Microseconds a step on {RANKS} ranks; in brackets the interval of the median over {options.rounds} rounds "
        f"that holds with {interval(results[0]['times']['bare']).confidence:.1%}"
    )
    print((markdown if options.markdown else text)(title, HEAD, [row(result) for result in results]))


if __name__ == "__main__":
    main()
