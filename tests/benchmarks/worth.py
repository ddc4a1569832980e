"""``mpirun -np 2 python -m tests.benchmarks.worth``: where forming a layer's gradient from factors beats summing it."""

import argparse
import dataclasses
import statistics
from unittest import mock

import workers  # noqa: F401  # before NumPy, as the training process imports it
from workers.launch.mpi import start_mpi

comm = start_mpi().Dup()

from common.rank_status import RankStatus  # noqa: E402
from ps.comm.topology import Topology  # noqa: E402
from ps.metrics.median_intervals import interval  # noqa: E402
from ps.sync import factors  # noqa: E402
from ps.sync.mode import Mode  # noqa: E402
from ps.sync.modes import MODES  # noqa: E402
from ps.sync.synchronizer import Synchronizer, SyncSetup  # noqa: E402
from workers.benchmark.options import BenchConfig  # noqa: E402
from workers.benchmark.steps import in_turn, prepare  # noqa: E402
from workers.launch.blas_threads import limit_threads  # noqa: E402
from workers.launch.signals import StopFlag  # noqa: E402

CASES = ("1024:256", "1024:512", "1024:1024", "1536:512", "1536:1024", "2048:256", "2048:512", "2048:1024",
         "3072:512", "3072:1024", "3072:2048", "4096:512", "4096:1024", "4096:2048")  # fmt: skip
CHOICES: dict[str, tuple[int, ...]] = {"summed": (), "first": (0,), "second": (1,), "both": (0, 1)}


def forced(layers: tuple[int, ...]) -> Mode:
    """Return mode ``factors`` with the layers chosen that are formed from factors."""

    def build(setup: SyncSetup) -> Synchronizer:
        with mock.patch.object(factors, "pays", lambda layer, shape, rows: layer in layers):
            return factors.MODE.build(setup)

    return dataclasses.replace(factors.MODE, build=build)


def measure(topology: Topology, stop: StopFlag, width: int, batch: int, rounds: int) -> list[str]:
    """Return a line a choice of layers: factors over gradient, milliseconds a step, what the choice gains."""
    bench = BenchConfig(
        layers=(784, width, width, 10), batch=batch, mode=",".join(CHOICES), rounds=rounds, learning_rate=1e-5
    )
    modes = {name: forced(layers) for name, layers in CHOICES.items()}
    with mock.patch.dict(MODES, modes):
        found = in_turn(prepare(topology, bench, batch, stop), bench)["modes"]
    summed = found["summed"]["rounds_s"]
    lines = []
    for name, layers in CHOICES.items():
        shapes = [((784, width), (width, width))[layer] for layer in layers]
        ratios = ", ".join(f"{batch * (a + b) / (a * b):.2f}" for a, b in shapes)
        gain = interval([(s - t) / s * 100 for s, t in zip(summed, found[name]["rounds_s"], strict=True)])
        ms = statistics.median(found[name]["rounds_s"]) * 1e3
        lines.append(
            f"{width:5d}  {batch:5d}  {name:7}  {ratios:>10}  {ms:8.1f}  "
            f"{gain.median:+6.1f} % ({gain.low:+.1f} to {gain.high:+.1f})"
        )
    return lines


def main() -> None:
    """Measure all cases on networks 784-width-width-10."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.worth", description=__doc__)
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="WIDTH:ROWS")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    topology, stop = Topology(comm), StopFlag(RankStatus().cells, comm.Abort)
    limit_threads(topology)
    if comm.rank == 0:
        print("width   rows  factors   of gradient  ms a step  gained, its interval")
    for case in options.cases:
        width, batch = map(int, case.split(":"))
        lines = measure(topology, stop, width, batch, options.rounds)
        if comm.rank == 0:
            print("\n".join(lines), flush=True)
    stop.over()
    topology.close()


if __name__ == "__main__":
    main()
