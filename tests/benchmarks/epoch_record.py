"""``python -m tests.benchmarks.epoch_record``: how large an epoch's records are, and how long rank 0 needs for them."""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from common.config import RunConfig
from common.step_times import SAMPLE_MOST
from ps.coordinator.coordinator import Coordinator
from ps.coordinator.metric import Metric
from ps.logfile.epoch_fields import EPOCH_FIELDS
from ps.logfile.reader import read
from ps.metrics.rank_row import row_type
from tests.synthetic import header

LAYERS = (64, 64, 64, 64, 10)
"""Of a model of 8 parameters: a matrix and a vector a layer."""


def rows(n: int, parameters: int, rng: np.random.Generator) -> np.ndarray:
    """Return what ranks could hand in at an epoch's end, (n,)."""
    table = np.zeros(n, row_type(parameters))
    for name in table.dtype.names or ():
        table[name] = 1 + 0.1 * rng.standard_normal(table[name].shape)
    for name in ("fingerprint", "finite", "signal", "watchdogs"):
        table[name] = {"fingerprint": 123456789, "finite": 1}.get(name, 0)
    for name in (field.name for field in EPOCH_FIELDS if field.loose):
        table[name] = np.nan
    table["rows"] = table["weight"] = 1024
    table["timestamps"] = np.cumsum(table["timestamps"], axis=-1) * 1e-3 + np.arange(SAMPLE_MOST)[:, None] * 0.1
    return table


def measure(n: int, epochs: int) -> dict[str, Any]:
    """Return bytes of the gathered rows and of the records, and seconds of each epoch but the first."""
    rng, parameters = np.random.default_rng(0), 2 * (len(LAYERS) - 1)
    known = header(n, nodes=max(1, n // 32), sizes=LAYERS)
    facts = {name: value for name, value in known.items() if name not in ("format", "v", "config")}
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        coordinator = Coordinator(Path(folder), RunConfig(epochs=epochs), facts, Metric({}))
        coordinator.header()
        for epoch in range(1, epochs + 1):
            table, steps = rows(n, parameters, rng), np.arange(SAMPLE_MOST).tolist()
            of_epoch = {
                "epoch": epoch, "steps": 1000, "before": None, "skipped": 0, "sampled_steps": steps,
                "traced_steps": steps, "learning_rate": 0.1,
            }  # fmt: skip
            begin = time.perf_counter()
            coordinator.epoch(table, of_epoch, 0.0)
            seconds.append(time.perf_counter() - begin)
        coordinator.log.close()
        path = coordinator.log.path
        size = path.stat().st_size
        kinds = [record["kind"] for record in read(path)]
    return {"row": table.itemsize, "gathered": table.nbytes, "log": size, "kinds": kinds, "seconds": seconds[1:]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.epoch_record", description=__doc__)
    parser.add_argument("--ranks", nargs="+", type=int, default=[4, 64, 1024, 4096])
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    print(f"{'ranks':>6s}{'a row':>10s}{'gathered':>12s}{'an epoch':>12s}{'rank 0':>10s}")
    for n in options.ranks:
        found = measure(n, options.epochs)
        print(
            f"{n:6d}{found['row']:8d} B{found['gathered'] / 1e6:9.2f} MB{found['log'] / options.epochs / 1e6:9.3f} MB"
            f"{1e3 * statistics.median(found['seconds']):7.1f} ms"
        )


if __name__ == "__main__":
    main()
