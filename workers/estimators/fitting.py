"""One fit: arrays go to a folder, a job trains on them wherever that is to be, and what it learned is read back."""

import contextlib
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

from common.config import RunConfig
from common.run_files import new_run
from workers.estimators.arrays import Arrays
from workers.estimators.learned import Learned
from workers.estimators.processes import HELPERS, run_ranks

PREFIX = "rankwise-"
"""Of the temporary folder's name."""


def fit(arrays: Arrays, config: RunConfig, ranks: int, runs: str, verbose: int | None) -> tuple[Learned, Path]:
    """Train in other processes; return what was learned, and the run folder.

    Raises ValueError for bad input, RuntimeError if training failed.
    """
    run = new_run(f"{config.mode}-{ranks}", Path(runs)).absolute()
    try:
        with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
            config = replace(config, data=arrays.write(Path(folder)), output=str(run))
            stopped = HELPERS.run(config, verbose) if ranks == 1 else run_ranks(config, ranks, Path(folder), verbose)
        learned = Learned.read(run)
    finally:
        with contextlib.suppress(OSError):
            run.rmdir()  # where nothing was written
    if stopped:
        warnings.warn("Training was stopped; the model of its last step is kept.", UserWarning, stacklevel=4)
    return learned, run
