"""One fit: arrays go to a folder, a job trains on them in processes of its own, and what it learned is read back."""

import contextlib
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from common.config import RunConfig
from common.run_files import new_run
from workers.estimators.arrays import Arrays
from workers.estimators.learned import Learned
from workers.estimators.processes import HELPERS, run_ranks

PREFIX = "rankwise-fit-"
"""Of the temporary folder's name."""
STOPPED = "Training was stopped; the model of its last step is kept."


class Fit(NamedTuple):
    """What is to be done. ``start``: whose parameters and scaling training begins with.

    ``facts``: what is known of the data, as plain values.
    """

    arrays: Arrays
    config: RunConfig
    start: Learned | None
    facts: dict[str, Any]

    def write(self, folder: Path, run: Path) -> RunConfig:
        """Write what is handed over into a folder; return the options of the job."""
        start = str(self.start.write(folder)) if self.start else ""
        return replace(self.config, data=self.arrays.write(folder), start_from=start, output=str(run))


def fit(job: Fit, ranks: int, runs: str, verbose: int | None) -> tuple[Learned, str]:
    """Train in other processes; return what was learned, and the run folder.

    Raises ValueError for bad input, RuntimeError if training failed.
    """
    with new_folder(job.config.mode, ranks, runs) as run:
        with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
            config = job.write(Path(folder), run)
            stopped = HELPERS.run(config, verbose) if ranks == 1 else run_ranks(config, ranks, Path(folder), verbose)
        learned = Learned.read(run)
    if stopped:
        warnings.warn(STOPPED, UserWarning, stacklevel=4)
    return learned, str(run)


@contextlib.contextmanager
def new_folder(mode: str, ranks: int, runs: str) -> Iterator[Path]:
    """Make the folder of a run, removed if nothing is written to it. Raises ValueError if it cannot be made."""
    try:
        run = new_run(f"{mode}-{ranks}", Path(runs).expanduser()).absolute()
    except OSError as error:
        raise ValueError(f"runs: {runs} cannot be written ({error.strerror}); choose another folder") from error
    try:
        yield run
    finally:
        with contextlib.suppress(OSError):
            run.rmdir()
