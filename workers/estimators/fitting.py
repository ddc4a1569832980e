"""One fit: arrays go to a folder, a job trains on them in processes of its own, and what it learned is read back."""

import contextlib
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from common.config import RunConfig
from common.option import is_own_model
from common.run_files import new_run
from workers.estimators.arrays import Arrays
from workers.estimators.learned import Learned
from workers.estimators.processes import HELPERS, run_ranks

PREFIX = "rankwise-fit-"
"""Of the temporary folder's name."""
STOPPED = "Training was stopped; the model of its last step is kept."


class Fit(NamedTuple):
    """What is to be done. ``start``: whose parameters and scaling training begins with.

    ``facts``: what is known of the data, as plain values. ``partial``: whether the next one may go on from this one.
    """

    arrays: Arrays
    config: RunConfig
    start: Learned | None
    facts: dict[str, Any]
    partial: bool

    def write(self, folder: Path, run: Path) -> RunConfig:
        """Write what is handed over into a folder; return the options of the job."""
        try:
            start = self.start.write_start(folder, self.config) if self.start else {}
            data = self.arrays.write(folder)
        except OSError as error:
            raise RuntimeError(
                f"{folder}: the rows cannot be written there ({error.strerror}); set TMPDIR to a folder with room for "
                "them"
            ) from error
        return replace(self.config, data=data, output=str(run), **start)

    def learned(self, run: Path) -> Learned:
        """Return what the job has learned. Raises RankwiseError and OSError."""
        learned = Learned.read(run)
        return learned.take_state(run) if self.partial else learned


def fit(job: Fit, ranks: int, runs: str, verbose: int | None) -> tuple[Learned, str]:
    """Train in other processes; return what was learned, and the run folder.

    Raises ValueError for bad input, RuntimeError if training failed.
    """
    with new_folder(job.config.mode, ranks, runs) as run:
        with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
            config = job.write(Path(folder), run)
            if ranks == 1 and not is_own_model(config.model):  # which a helper would import once, and not as it is now
                stopped = HELPERS.run(config, verbose)
            else:
                stopped = run_ranks(config, ranks, Path(folder), verbose)
        learned = job.learned(run)
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
