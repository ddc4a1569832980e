"""A fit on ranks that a launcher started: rank 0 has the data, all train, and all have the model in the end."""

import contextlib
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.errors import RankwiseError
from common.option import from_dict
from ps.comm.collectives import MAX_BYTES, bcast
from ps.text.terminal import heard_by
from workers.estimators.as_found import as_found, ctrl_c
from workers.estimators.fitting import PREFIX, STOPPED, Fit, new_folder
from workers.estimators.learned import Learned
from workers.estimators.on_ranks import train
from workers.estimators.processes import check
from workers.estimators.relay import Output
from workers.launch.signals import StopRequest

KINDS: dict[str, type[Exception]] = {"ValueError": ValueError, "TypeError": TypeError}
"""What rank 0 may raise that the others raise as well; anything else they take for a RuntimeError."""


def at_first(comm: MPI.Comm, act: Callable[[], Any]) -> Any:
    """Do something at rank 0 and give all ranks its result, plain values; what it raises is raised on all."""
    result: Any = None
    fault, raised = None, None
    if comm.rank == 0:
        try:
            result = act()
        except Exception as error:  # whatever it is, nobody may wait
            raised, fault = error, [type(error).__name__, str(error)]
    result, fault = bcast(comm, [result, fault])
    if raised is not None:
        raise raised
    if fault is not None:
        raise KINDS.get(fault[0], RuntimeError)(fault[1])
    return result


def fit(
    comm: MPI.Intracomm, prepare: Callable[[], Fit], runs: str, verbose: int | None
) -> tuple[Learned, str, dict[str, Any]]:
    """Train; return what was learned, the run folder, and the facts. Collective. Raises ValueError and RuntimeError.

    ``prepare``: is called at rank 0.
    """
    with as_found(), contextlib.ExitStack() as stack:
        folder, jobs = stack.enter_context(_folders(comm)), list[Fit]()

        def begin() -> list[Any]:
            job = prepare()
            jobs.append(job)
            run = stack.enter_context(new_folder(job.config.mode, comm.size, runs))
            return [job.write(folder, run).as_dict(), job.facts]

        values, facts = at_first(comm, begin)
        config = from_dict(RunConfig, values)
        leaders = stack.enter_context(_leaders(comm))
        for name in at_first(comm, lambda: sorted(path.name for path in Path(config.data).iterdir())):
            _copy(comm, leaders, Path(config.data, name))
        stopped = _train(comm, config, verbose)
        learned = _read(comm, lambda: jobs[0].learned(Path(config.output)))
    if stopped and comm.rank == 0:
        warnings.warn(STOPPED, UserWarning, stacklevel=5)
    return learned, config.output, facts


def _train(comm: MPI.Intracomm, config: RunConfig, verbose: int | None) -> bool:
    """Run the job; return whether it was stopped."""
    output, stop = Output(verbose), StopRequest()
    try:
        with heard_by(output.take), ctrl_c(stop):
            return check(train(comm, config, stop, guest=True), "")
    except RankwiseError as error:
        check(error.exit_code, str(error))
        raise
    finally:
        output.close()


@contextlib.contextmanager
def _folders(comm: MPI.Intracomm) -> Iterator[Path]:
    """Make a temporary folder on each node, by the same name."""
    name = at_first(comm, lambda: tempfile.mkdtemp(prefix=PREFIX))
    try:
        yield Path(name)
    finally:
        shutil.rmtree(name, ignore_errors=True)


@contextlib.contextmanager
def _leaders(comm: MPI.Intracomm) -> Iterator[MPI.Intracomm | None]:
    """Give the first rank of each node a communicator of those."""
    local = comm.Split_type(MPI.COMM_TYPE_SHARED, comm.rank)
    leads = local.rank == 0
    local.Free()
    leaders = comm.Split(0 if leads else MPI.UNDEFINED, comm.rank)
    try:
        yield leaders if leads else None  # type: ignore[misc]
    finally:
        if leads:
            leaders.Free()


def _copy(comm: MPI.Intracomm, leaders: MPI.Intracomm | None, path: Path) -> None:
    """Bring a file of rank 0 to the same place on all nodes. Collective."""
    if leaders is not None and leaders.size > 1:
        size = bcast(leaders, path.stat().st_size if comm.rank == 0 else 0)
        if comm.rank:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "rb" if comm.rank == 0 else "wb") as file:
            for start in range(0, size, MAX_BYTES):
                n = min(MAX_BYTES, size - start)
                part = np.frombuffer(file.read(n), np.uint8).copy() if comm.rank == 0 else np.empty(n, np.uint8)
                leaders.Bcast(part)
                if comm.rank:
                    file.write(part.data)
    comm.Barrier()


def _read(comm: MPI.Intracomm, learned: Callable[[], Learned]) -> Learned:
    """Read what was learned, on all ranks: the run folder may be seen by rank 0 alone. Collective.

    ``learned``: reads it there.
    """
    read: list[Learned] = []

    def first() -> list[Any]:
        read.append(learned())
        return [len(read[0].file), read[0].losses, read[0].validation_losses, read[0].header]

    size, losses, validation, header = at_first(comm, first)
    file = np.frombuffer(read[0].file, np.uint8).copy() if read else np.empty(size, np.uint8)
    for start in range(0, size, MAX_BYTES):
        comm.Bcast(file[start : start + MAX_BYTES])
    return read[0] if read else Learned(file.tobytes(), losses, validation, header)
