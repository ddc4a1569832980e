"""What training does with a table: it is prepared once, and then mapped by all ranks."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from mpi4py import MPI

from common.config import RunConfig
from common.data import sources
from common.errors import ConfigError, JobError
from common.files import do_nothing
from common.rank_status import WAITING, RankStatus
from ps.comm.agreement import at_root
from ps.comm.collectives import allgather
from ps.comm.topology import Topology
from ps.text.terminal import say
from workers.preparation import cache
from workers.preparation.column_options import of_columns
from workers.preparation.parallel import NotSharedError, Request, write
from workers.preparation.prepared_folder import is_whole

PREPARING = "preparing data"


@contextlib.contextmanager
def prepared_table(
    comm: MPI.Comm, config: RunConfig, rank_status: RankStatus, asked_to_stop: Callable[[], object] = do_nothing
) -> Iterator[Path | None]:
    """Yield the prepared folder of the table that is to be trained on; None for data that need no preparation.

    A temporary one is removed in the end: all ranks must have mapped it by then. ``asked_to_stop``: whether this rank
    is; then nothing is prepared. Collective; raises JobError.
    """
    if not at_root(comm, lambda: _needed(config)):
        yield None
        return
    rank_status.enter(PREPARING)
    request = request_of(config)
    place, kept = at_root(comm, lambda: _place(request, config.cache))
    topology = Topology(cast("MPI.Intracomm", comm), config.ranks_per_node)
    leads = topology.local.rank == 0
    try:
        make_ready(topology, request, Path(place), rank_status, asked_to_stop, kept=kept)
        rank_status.enter(WAITING)
        yield Path(place)
    except JobError:  # not finally: see Context.on_nodes
        topology.close()
        raise
    finally:
        if not kept and leads:
            shutil.rmtree(place, ignore_errors=True)
    topology.close()


def _needed(config: RunConfig) -> bool:
    """Say whether the data are a table that is prepared: not without polars, or where NumPy is to read it.

    Raises DataError if a file is not there.
    """
    needed = sources.is_table(config.data) and config.cache != cache.NUMPY and find_spec("polars") is not None
    if needed:
        for path in filter(None, (config.data, config.validation_data, config.test_data)):
            sources.require_file(Path(path), config)
    return needed


def request_of(config: RunConfig) -> Request:
    """Return what is to be prepared for a run."""
    given = {"data": config.data, "validation": config.validation_data, "test": config.test_data}
    files = tuple((str(Path(path).absolute()), role) for role, path in given.items() if path)
    return Request(files, {**of_columns(config), **({"handed": True} if config.prepare else {})})


def _place(request: Request, where: str) -> tuple[str, bool]:
    """Return where the folder lies, and whether it is kept for other jobs. Raises RankwiseError."""
    if where == cache.OFF:
        return str(cache.temporary_place()), False
    place = cache.place_of(request.files, request.options, where)
    if is_whole(place):
        cache.note_use(place)
        return str(place), True
    fault = cache.fault_in_writing(place.parent)
    if not fault:
        cache.remove_outdated(place)
        return str(place), True
    if where != cache.BESIDE:
        raise ConfigError(
            f"cache: got {where!r}, where nothing can be written ({fault}); give another folder, or --cache off"
        )
    say(
        f"What is prepared of {Path(request.files[0][0]).name} is not kept for other jobs, since nothing can be "
        f"written beside it ({fault}); --cache DIR keeps it."
    )
    return str(cache.temporary_place()), False


def make_ready(
    topology: Topology,
    request: Request,
    place: Path,
    rank_status: RankStatus,
    asked_to_stop: Callable[[], object] = do_nothing,
    *,
    kept: bool,
) -> None:
    """Prepare the folder ``place`` unless it is there: for all ranks, or for each node that has a disk of its own.

    ``kept``: whether the folder may be shared. Collective; raises JobError.
    """
    have = allgather(topology.comm, is_whole(place))
    if all(have):
        return
    if kept and not any(have):
        with contextlib.suppress(NotSharedError):
            write(topology.comm, topology, request, place, rank_status.tick, asked_to_stop)
            return
    fault: list[object] = []
    try:
        if not all(allgather(topology.local, have[topology.comm.rank])):
            write(topology.local, topology, request, place, rank_status.tick, asked_to_stop)
    except JobError as error:
        fault = [str(error), error.exit_code]
    faults = [other for other in allgather(topology.comm, fault) if other]
    if faults:
        raise JobError(*faults[0])
