"""Makes the features of a job with a transformer of the user's own: in rank 0's child, for all ranks to map."""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.data.dataset import Dataset
from common.data.maps import map_array
from common.data.prepared_file import Prepared
from common.data.transformer import Transformer
from common.errors import DataError, JobError
from common.files import create_new, do_nothing
from common.rank_status import WAITING, RankStatus
from common.run_files import TRANSFORMER_NAME
from ps.comm.agreement import together
from ps.comm.collectives import bcast
from ps.comm.topology import Topology
from workers.preparation import cache
from workers.preparation.child_process import Child
from workers.preparation.on_ranks import at_first, stopped
from workers.preparation.options import names_in
from workers.preparation.parallel import threads_of
from workers.preparation.prepared_folder import saying_where

CHILD = "workers.preparation.transform_child"
FEATURES_NAME = "x.npy"
SENT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Saved:
    """The file of a transformer that an earlier job has left, and what is known of it."""

    path: Path
    transformer: Transformer


def saved_of_run(folder: str, data: Mapping[str, Any]) -> Saved | None:
    """Return the transformer of a run that is resumed; None for a new one. ``data``: what its header says of them.

    Raises DataError.
    """
    if not folder:
        return None
    try:
        return Saved(Path(folder) / TRANSFORMER_NAME, Transformer.from_dict(data["prepare"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"resume: the log of {folder} does not say which transformer it was trained with; start a new run"
        ) from error


def transform(
    comm: MPI.Comm,
    config: RunConfig,
    prepared: Path,
    data: Dataset,
    rank_status: RankStatus,
    saved: Saved | None,
    asked_to_stop: Callable[[], object] = do_nothing,
) -> None:
    """Replace the features of data, which are none yet, by those that the transformer makes of their table.

    ``prepared``: the folder in which target and columns are prepared. ``saved``: of an earlier job, which is not fitted
    again. ``asked_to_stop``: whether this rank is; rank 0 then stops. Collective; raises JobError.
    """
    rank_status.enter("preparing data")
    topology = Topology(cast("MPI.Intracomm", comm), config.ranks_per_node)
    folder, content = Path(bcast(comm, str(cache.temporary_place()) if comm.rank == 0 else None)), list[bytes]()
    leader = topology.leaders[comm.rank]
    own = folder if leader == topology.leaders[0] else folder.with_name(f"{folder.name}-{leader}")

    def make() -> dict[str, Any]:
        with saying_where(folder):
            folder.mkdir(mode=0o700)
            making = _Making(config, Prepared.load(prepared), data, folder, rank_status.tick, asked_to_stop)
            made = making.make(topology, saved)
            content.append(b"" if saved else (folder / TRANSFORMER_NAME).read_bytes())
        return made

    try:
        made = at_first(comm, make)
        if topology.count > 1:
            _send(topology, folder / FEATURES_NAME, own / FEATURES_NAME)
        x = together(comm, lambda: map_array(own / FEATURES_NAME))
        rank_status.enter(WAITING)
    except JobError:  # not finally: see Context.on_nodes
        topology.close()
        raise
    finally:
        if comm.rank == leader:
            shutil.rmtree(own, ignore_errors=True)
    topology.close()
    data.x, data.feature_names, data.notes = x, tuple(made["features"]), (*data.notes, *made["notes"])
    data.transformer = replace(Transformer.from_dict(made["transformer"]), content=content[0] if content else b"")
    data.sha256 = hashlib.sha256(bytes.fromhex(data.sha256 + made["sha256"])).hexdigest()


@dataclass(frozen=True, slots=True)
class _Making:
    """What rank 0 does with its child."""

    config: RunConfig
    prepared: Prepared
    data: Dataset
    folder: Path
    pulse: Callable[[], object]
    asked_to_stop: Callable[[], object]

    def _look(self) -> None:
        if self.asked_to_stop():
            raise stopped()

    def make(self, topology: Topology, saved: Saved | None) -> dict[str, Any]:
        """Return what is known of the features that were written, and of the transformer. Raises DataError."""
        name, facts = self.config.prepare, self.prepared.facts
        columns = [*saved.transformer.columns] if saved else [(name, kind) for name, kind in facts["handed"]]
        child = Child(threads_of(topology), lambda _: self.pulse(), CHILD, self._look)
        with contextlib.closing(child):
            child.ask(
                "begin", paths=[file["path"] for file in facts["files"]], options=facts["options"],
                folder=str(self.folder), columns=columns, max_memory=self.config.max_memory, ranks=topology.here,
            )  # fmt: skip
            if saved:
                about: dict[str, Any] = {"fitted": False, "trust": ""}
                transformer = saved.transformer
                trusted = names_in(self.config.trust_types)
                child.ask(
                    "read", name=transformer.name, path=str(saved.path), sha256=transformer.sha256, trusted=trusted
                )
            else:
                about = child.ask("fit", name=name, **self._for_fitting())
                transformer = Transformer(name, about["sha256"], tuple(columns), tuple(about["types"]))
            made = child.ask("transform", rows=self.prepared.rows)
        return {**made, "transformer": transformer.as_dict(), "notes": _notes(transformer, made, **about, saved=saved)}

    def _for_fitting(self) -> dict[str, str]:
        """Write what a transformer is fitted with besides the table; return the files."""
        y = self.data.y[:, 0] if self.data.y.ndim == 2 and self.data.y.shape[1] == 1 else self.data.y
        files = {"target": self.folder / "y.npy", "train": self.folder / "train.npy"}
        for path, array in zip(files.values(), (y, self.data.train), strict=True):
            np.save(path, array, allow_pickle=False)
        return {what: str(path) for what, path in files.items()}


def _notes(
    transformer: Transformer, made: dict[str, Any], *, fitted: bool, trust: str, saved: Saved | None, **_: Any
) -> list[str]:
    """Return what is to be said."""
    how = "which was fitted to the training rows"
    if fitted:
        how = "as it is, since it was fitted already or needs no fitting; test rows must not be among those it has seen"
    elif saved:
        how = "as the run has saved it"
    notes = [f"Features: {len(made['features']):,}, made by {transformer.name} ({how})."]
    if trust:
        notes.append(
            f"It holds types that skops does not know: to predict, evaluate or resume, add --trust-types {trust}"
        )
    return notes


def _send(topology: Topology, source: Path, place: Path) -> None:
    """Write rank 0's file into the folder of each other node. Collective; raises JobError."""
    comm = topology.comm
    leads = comm.rank == topology.leaders[comm.rank] != 0
    size = bcast(comm, source.stat().st_size if comm.rank == 0 else None)
    faults: list[OSError] = []
    with contextlib.ExitStack() as stack:
        file: Any = None
        try:
            if comm.rank == 0:
                file = stack.enter_context(source.open("rb"))
            elif leads:
                place.parent.mkdir(mode=0o700)
                file = stack.enter_context(create_new(place))
        except OSError as error:  # the others wait for what this rank takes part in
            faults.append(error)
        buffer = np.empty(min(SENT_BYTES, size), np.uint8)
        for start in range(0, size, SENT_BYTES):
            some = buffer[: min(SENT_BYTES, size - start)]
            if comm.rank == 0 and file is not None:
                file.readinto(some.data)
            comm.Bcast([some, MPI.BYTE])
            if leads and not faults:
                try:
                    file.write(some.data)
                except OSError as error:
                    faults.append(error)

    def check() -> None:
        with saying_where(place.parent):
            for fault in faults:
                raise fault

    together(comm, check)
