"""Which mode reaches a loss first, and where: ``python -m tests.benchmarks.loose MNIST_FOLDER [--networks 1gbit]``.

Networks are hosts of one rank each with shaped links (tests/hosts/machines.py: root and Open MPI), or one host; on each
the ranks are healthy, or one is slower, stands still now and then, or each has labels in shares of its own. What is
run is ``workers.compare --until-loss``; the lines printed are those of the table in docs/loose.md.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.run_files import LOG_NAME
from ps.logfile.reader import read
from ps.logfile.records import Record
from ps.metrics.loss_comparison import summarise
from tests.benchmarks.whole_job_data import images
from tests.hosts import machines

RANKS = 4
ONE_HOST = "one-host"
NETWORKS = ("100mbit", "1gbit", ONE_HOST)
STEP_S = 0.009
"""About what a rank's part of a step takes on 2 cores of 2 GHz that 4 ranks share."""
# A slow rank sleeps: one that is busy for longer would take the cores of the others, where ranks share them.
SCENARIOS = {
    "healthy": (),
    "slow2": ("--inject", f"stall:rank=3,every=1,seconds={STEP_S}"),
    "slow3": ("--inject", f"stall:rank=3,every=1,seconds={2 * STEP_S}"),
    "stalls": ("--inject", "stall:rank=3,every=10,seconds=0.2"),
    "skew": ("--inject", "skew:alpha=0.3", "--rows", "shard"),
}
MODES = (
    "allreduce", "ring", "ring:wire=bf16", "ring:wire=powersgd:wire_rank=4", "local:sync_every=16", "k-of-n:wait_for=3",
    "async:staleness=3:optimizer=adam:learning_rate=0.001", "allreduce:optimizer=adam:learning_rate=0.001",
)  # fmt: skip
TASK = (
    "--model", "mlp", "--hidden", "256,256", "--batch-size", "512", "--optimizer", "momentum", "--learning-rate", "0.2",
    "--momentum", "0.9", "--epochs", "30",
)  # fmt: skip
STOP_S = 30
"""Until a job that was asked to stop has ended."""
VALIDATION = 2000
"""Of MNIST's test rows, which loss is taken over; the others are left."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the ranks are: a command's words before ``python``, the environment, and the hosts if they are shaped."""

    start: tuple[str, ...]
    environment: dict[str, str]
    hosts: machines.Hosts | None = None

    def sent(self) -> list[int]:
        """Return the bytes that the interfaces of the hosts have sent."""
        return [self.hosts.sent(i) for i in range(1, self.hosts.count + 1)] if self.hosts else []


def write_rows(images_folder: str, n: int, folder: Path) -> str:
    """Write the first training rows of MNIST, and rows for validation, as a file; return its path."""
    x, y, x_test, y_test = images(images_folder)
    path = folder / "rows.npz"
    np.savez(path, X=x[:n], y=y[:n], X_val=x_test[:VALIDATION], y_val=y_test[:VALIDATION],
             X_test=x_test[-VALIDATION:], y_test=y_test[-VALIDATION:])  # fmt: skip
    return str(path)


@contextlib.contextmanager
def place(network: str) -> Iterator[Place]:
    """Hold the hosts of a network while they are measured on. Raises RuntimeError without root."""
    mpirun = str(Path(sys.prefix) / "bin" / "mpirun")
    if network == ONE_HOST:
        yield Place((mpirun, "-np", str(RANKS)), dict(os.environ))
        return
    with tempfile.TemporaryDirectory() as folder, machines.running(Path(folder), RANKS) as hosts:
        hosts.set_rate(network)
        where = ("-np", str(RANKS), "--map-by", ":OVERSUBSCRIBE", "--host", hosts.places(*[1] * RANKS))
        yield Place(tuple(hosts.command(1, mpirun, *where)), {**os.environ, **hosts.environment()}, hosts)


def run(at: Place, scenario: str, output: Path, options: list[str], limit_s: float) -> Record:
    """Compare in a scenario; return what the trials say, of whole rounds. Raises RuntimeError with what a job said.

    ``limit_s``: when the job is asked to stop.
    """
    command = [*at.start, sys.executable, "-m", "workers.compare", *options, *SCENARIOS[scenario], "-o", str(output)]
    before, begin = at.sent(), time.perf_counter()
    job = subprocess.Popen(
        command, env=at.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )
    try:
        out, err = job.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        job.terminate()
        out, err = job.communicate(timeout=STOP_S)
    counted = [after - first for after, first in zip(at.sent(), before, strict=True)]
    records = list(read(output / LOG_NAME)) if output.exists() else []
    trials = [record for record in records if record["kind"] == "loss-trial"]
    if not trials:
        raise RuntimeError(f"exit code {job.returncode}: {out[-1000:]} {err[-3000:]}")
    rounds = max(trial["round"] for trial in trials)
    print(f"  ({rounds} trials, {time.perf_counter() - begin:.0f} s in all)")
    if at.hosts is not None:
        sent = [sum(trial["sent_bytes"][rank] for trial in trials) / 1e6 for rank in range(RANKS)]
        shown = (", ".join(f"{n:.0f}" for n in some) for some in ([n / 1e6 for n in counted], sent))
        print("  (MB: interfaces {}; formulas {})".format(*shown))
    return summarise(trials, records[0]["comparison"]["until_loss"])


def lines(network: str, scenario: str, found: Record) -> Iterator[str]:
    """Yield the table's lines: seconds to the loss and their interval, against allreduce, rows, bytes, accuracy."""
    base = next((m["seconds_to_loss"]["median"] for m in found["modes"] if m["mode"] == "allreduce"), None)
    for m in found["modes"]:
        seconds = m["seconds_to_loss"]
        if seconds["median"] is None:
            yield f"| {network} | {scenario} | `{m['mode']}` | not reached ({m['diverged']} diverged) | | | | |"
            continue
        ends = " to ".join("never" if seconds[key] is None else f"{seconds[key]:.3g}" for key in ("low", "high"))
        ratio = f"{seconds['median'] / base:.2f}" if base else "-"
        yield (
            f"| {network} | {scenario} | `{m['mode']}` | {seconds['median']:.3g} ({ends}) | {ratio} | "
            f"{m['rows_to_loss']:,.0f} | {m['host_bytes_to_loss'] / 1e6:.1f} | {100 * m['metric']:.2f} |"
        )


def main() -> None:
    """Measure the scenarios on the networks."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.loose", description=__doc__.splitlines()[0])
    parser.add_argument("data", help="a folder with MNIST's four files")
    parser.add_argument("--rows", type=int, default=16_384, help="of its training rows, the first so many")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--modes", nargs="+", default=list(MODES))
    parser.add_argument("--until-loss", default="0.15")
    parser.add_argument("--trials", default="5")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds after which a comparison is ended")
    parser.add_argument("--logs", default="", help="a folder that keeps the logs")
    parser.add_argument("more", nargs="*", help="options of workers.compare, after --")
    options = parser.parse_args()
    print("| network | ranks | mode | s to the loss (94 % interval) | of allreduce | rows | MB a host | accuracy % |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        asked = ["--data", write_rows(options.data, options.rows, Path(folder)), *TASK, "--trials", options.trials,
                 "--until-loss", options.until_loss, "--modes", ",".join(options.modes), *options.more]  # fmt: skip
        for network in options.networks.split(","):
            with place(network) as at:
                for scenario in options.scenarios.split(","):
                    output = Path(options.logs or folder).absolute() / f"{network}-{scenario}"
                    try:
                        found = run(at, scenario, output, asked, options.limit)
                    except (RuntimeError, subprocess.TimeoutExpired) as error:
                        print(f"{network}, {scenario}: {error}", flush=True)
                        continue
                    print("\n".join(lines(network, scenario, found)), flush=True)


main()
