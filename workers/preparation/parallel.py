"""Prepares a folder on all ranks: pieces are counted, analysed and written by whom they belong to, decided at rank 0.

What is written does not depend on the number of ranks: pieces are the same, and merged in the order of the files.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mpi4py import MPI

from common.errors import DataError, JobError
from common.files import do_nothing
from common.host import usable_cores
from ps.comm.agreement import together
from ps.comm.collectives import allgather, bcast
from ps.comm.topology import Topology
from workers.preparation import byte_pieces, meta, pieces
from workers.preparation.child_process import OF_PREPARATION, Child
from workers.preparation.pieces import Piece
from workers.preparation.prepared_folder import LOCK_NAME, NewFolder, saying_where

T = TypeVar("T")
LEAST_PAUSE_S, MOST_PAUSE_S = 1e-4, 1e-2
N = byte_pieces.N_PIECES


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be prepared: (path, role) of each file, in the order of the rows, and options, plain values."""

    files: tuple[tuple[str, str], ...]
    options: dict[str, Any] = field(default_factory=dict)


class NotSharedError(JobError):
    """A folder that rank 0 has made is not there for all ranks."""


def threads_of(topology: Topology) -> int:
    """Return how many threads the child of a rank computes with: its part of the cores."""
    return max(1, usable_cores() // topology.here)


def write(
    comm: MPI.Comm,
    topology: Topology,
    request: Request,
    place: Path,
    pulse: Callable[[], object] = do_nothing,
    refuse: Callable[[], object] = do_nothing,
    *,
    replace: bool = False,
) -> None:
    """Prepare the folder ``place`` with the ranks of ``comm``. Collective; raises JobError. See Preparation."""
    preparation = Preparation(comm, request, threads_of(topology), pulse, refuse)
    try:
        preparation.write(place, replace=replace)
    finally:
        preparation.close()


def _meet(comm: MPI.Comm) -> None:
    """Wait until all ranks are here, without a look at every moment: children need the cores meanwhile."""
    request, pause = comm.Ibarrier(), LEAST_PAUSE_S
    while not request.Test():
        time.sleep(pause)
        pause = min(2 * pause, MOST_PAUSE_S)


def on_each(comm: MPI.Comm, act: Callable[[], T]) -> T:
    """Do something on all ranks; if the data are at fault, say on all what is wrong with the first piece that is."""

    def attempt() -> tuple[list[T], list[Any]]:
        try:
            return [act()], []
        except DataError as error:
            return [], [str(error), error.exit_code]
        finally:
            _meet(comm)

    result, fault = together(comm, attempt)
    faults = [other for other in allgather(comm, fault) if other]
    if faults:
        raise JobError(*faults[0])
    return result[0]


def at_first(comm: MPI.Comm, act: Callable[[], Any]) -> Any:
    """Do something at rank 0, and give all ranks its result, plain values."""
    result = on_each(comm, act if comm.rank == 0 else do_nothing)
    return bcast(comm, result)


class Preparation:
    """The preparation of one folder, on all ranks.

    ``threads``: of this rank's child. ``pulse``: called while it works; ``refuse``: raises DataError on a rank that is
    to stop.
    """

    child_module = OF_PREPARATION

    def __init__(
        self,
        comm: MPI.Comm,
        request: Request,
        threads: int,
        pulse: Callable[[], object] = do_nothing,
        refuse: Callable[[], object] = do_nothing,
    ) -> None:
        self.comm, self._request = comm, request
        self._threads, self._pulse, self._refuse = threads, pulse, refuse
        self._child: Child | None = None
        self._tables: list[dict[str, Any]] = []
        self._options: dict[str, Any] = {}
        self._notes: list[str] = []
        self._sha256: list[str] = []
        self._owners: list[int] = []

    @property
    def _works(self) -> bool:
        """Whether this rank has pieces; rank 0 always has."""
        return self.comm.rank in self._owners

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()

    def _ask(self, question: str, **about: Any) -> Any:
        self._refuse()
        if self._child is None:
            self._child = Child(self._threads, self._pulse, self.child_module)
        return self._child.ask(question, **about)

    def _own(self, question: str, given: list[dict[str, Any]]) -> list[Any]:
        """Ask about each of this rank's pieces; return its answers. Collective; raises JobError."""

        def act() -> list[Any]:
            pairs = zip(self._owners, given, strict=True)
            return [self._ask(question, **about) for owner, about in pairs if owner == self.comm.rank]

        return on_each(self.comm, act)

    def _all(self, question: str, given: list[dict[str, Any]]) -> list[Any]:
        """Do the same; return the answers of all ranks, in the order of the pieces."""
        return [answer for of_rank in allgather(self.comm, self._own(question, given)) for answer in of_rank]

    def write(self, place: Path, *, replace: bool) -> None:
        """Prepare the folder ``place``. Collective; raises JobError. ``replace``: see ``NewFolder.finish``."""
        new: list[NewFolder] = []

        def make() -> str:
            with saying_where(place):
                new.append(NewFolder(place))
            return str(new[0].path)

        def allocate() -> dict[str, list[Any]]:
            with saying_where(place):
                return new[0].allocate(arrays, sum(rows))

        def finish() -> None:
            sources = meta.sources(self._request.files, self._tables, self._sha256, parts, rows)
            facts = meta.describe(sources, self._request.options, plan, arrays, written)
            self._require_unchanged()
            with saying_where(place):
                new[0].finish(facts, replace=replace)

        try:
            folder = at_first(self.comm, make)
            if not all(allgather(self.comm, (Path(folder) / LOCK_NAME).exists())):
                raise NotSharedError(f"{place}: not the same folder on all nodes; give one that they share")
            self._open(folder)
            parts = self._cut()
            rows = self._analyse(parts)
            decided = at_first(self.comm, lambda: self._ask("decide", notes=self._notes))
            plan, arrays = decided["plan"], decided["arrays"]
            written = self._write(parts, rows, plan, at_first(self.comm, allocate))
            at_first(self.comm, finish)
        except BaseException:
            for one in new:
                one.drop()
            raise

    def _open(self, folder: str) -> None:
        """Look at the files, and deal their pieces. ``folder``: for plain copies of what is packed."""
        paths = [path for path, _ in self._request.files]
        opened = at_first(
            self.comm, lambda: self._ask("open", paths=paths, options=self._request.options, folder=folder)
        )
        self._tables, self._options, self._notes = opened["tables"], opened["options"], opened["notes"]
        self._sha256 = opened["sha256"]
        self._owners = pieces.owners([_bytes_of(table) for table in self._tables], self.comm.size)

    def _cut(self) -> list[Piece]:
        """Return the pieces of all files, between records; note the SHA-256 of each file."""
        by_bytes = pieces.of_bytes([_bytes_of(table) for table in self._tables])
        given = []
        for i, start, stop in by_bytes:
            table = self._tables[i]
            dialect = table["dialect"] or {"first_row": 0, "separator": ","}
            of_text = {name: dialect[name] for name in ("first_row", "separator")}
            given.append({"path": table["path"], "start": start, "stop": stop, **of_text})
        scanned = self._all("scan", given)
        asked = []
        for i, table in enumerate(self._tables):
            own = scanned[i * N : (i + 1) * N]
            self._sha256[i] = self._sha256[i] or byte_pieces.merged([digest for _, _, digest in own])
            if table["dialect"]:  # its head may hold no cell in quotes, though a later row does
                table["dialect"]["quoted"] |= any(opening for _, opening, _ in own)
            quotes = 0
            for k, (found, _, _) in enumerate(own):
                asked.append({"table": i, "piece": k, "quotes": quotes})
                quotes += found
        know = {"tables": self._tables, "options": self._options}
        on_each(self.comm, lambda: self._ask("know", **know) if self._works else None)
        starts = self._all("start", asked)
        parts: list[Piece] = []
        for i, table in enumerate(self._tables):
            parts += pieces.of_rows(i, [*starts[i * N : (i + 1) * N], table["extent"]])
        return parts

    def _analyse(self, parts: list[Piece]) -> list[int]:
        """Find out what the columns hold: rank 0's child knows it then. Return the rows that each piece gives."""
        own = self._own("analyse", [part._asdict() for part in parts])
        rows: list[int] = []
        for owner in dict.fromkeys(self._owners):  # one rank's at a time, in the order of the pieces
            found = bcast(self.comm, own if owner == self.comm.rank else None, owner)
            rows += [one["kept"] for one in found]
            if self.comm.rank == 0:
                for one in found:
                    self._ask("merge", analysis=one)
        return rows

    def _write(
        self, parts: list[Piece], rows: list[int], plan: dict[str, Any], arrays: dict[str, list[Any]]
    ) -> list[dict[str, Any]]:
        """Write the rows of all pieces; return what was found of each: see ``Answers.write``."""
        given, row = [], 0
        for part, n in zip(parts, rows, strict=True):
            given.append({**part._asdict(), "row": row, "rows": n})
            row += n
        on_each(self.comm, lambda: self._ask("plan", plan=plan, arrays=arrays) if self._works else None)
        written = self._all("write", given)
        on_each(self.comm, lambda: None if self._child is None else self._ask("finish"))
        return written

    def _require_unchanged(self) -> None:
        """Raise DataError if a file has changed while it was prepared."""
        for table in self._tables:
            now = Path(table["source"]).stat()
            if (now.st_size, now.st_mtime_ns) != (table["size"], table["mtime_ns"]):
                raise DataError(f"{table['source']}: has changed while it was prepared; start again")


def _bytes_of(table: dict[str, Any]) -> int:
    """Return how many bytes of a file are read."""
    n: int = table["extent"] if table["dialect"] else table["size"]
    return n
