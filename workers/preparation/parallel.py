"""Prepares a folder on all ranks: pieces are counted, analysed and written by whom they belong to, decided at rank 0.

What is written does not depend on the number of ranks: pieces are the same, and merged in the order of the files.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mpi4py import MPI

from common.errors import DataError, JobError
from common.files import do_nothing
from common.host import usable_cores
from ps.comm.agreement import at_root, together
from ps.comm.collectives import allgather, bcast
from ps.comm.topology import Topology
from workers.preparation import byte_pieces, meta, pieces
from workers.preparation.child_process import Child
from workers.preparation.pieces import Piece
from workers.preparation.prepared_folder import LOCK_NAME, NewFolder, saying_where

T = TypeVar("T")
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


def on_each(comm: MPI.Comm, act: Callable[[], T]) -> T:
    """Do something on all ranks; if the data are at fault, say on all what is wrong with the first piece that is."""

    def attempt() -> tuple[list[T], list[Any]]:
        try:
            return [act()], []
        except DataError as error:
            return [], [str(error), error.exit_code]

    result, fault = together(comm, attempt)
    faults = [other for other in allgather(comm, fault) if other]
    if faults:
        raise JobError(*faults[0])
    return result[0]


class Preparation:
    """The preparation of one folder, on all ranks.

    ``threads``: of this rank's child. ``pulse``: called while it works; ``refuse``: raises DataError on a rank that is
    to stop.
    """

    def __init__(
        self,
        comm: MPI.Comm,
        request: Request,
        threads: int,
        pulse: Callable[[], object] = do_nothing,
        refuse: Callable[[], object] = do_nothing,
    ) -> None:
        self.comm, self.request = comm, request
        self._threads, self._pulse, self._refuse = threads, pulse, refuse
        self._child: Child | None = None
        self._tables: list[dict[str, Any]] = []
        self._owners: list[int] = []

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()

    def _ask(self, question: str, **about: Any) -> Any:
        self._refuse()
        if self._child is None:
            self._child = Child(self._threads, self._pulse)
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
        files, options = self.request.files, self.request.options
        self._tables = at_root(self.comm, lambda: [self._ask("open", path=path, options=options) for path, _ in files])
        self._owners = pieces.owners([table["size"] for table in self._tables], self.comm.size)
        parts, sha256 = self._cut()
        rows, plan = self._decide(parts)
        new: list[NewFolder] = []

        def make() -> tuple[str, dict[str, list[Any]]]:
            with saying_where(place):
                new.append(NewFolder(place))
                return str(new[0].path), new[0].allocate(plan["arrays"], sum(rows))

        def finish() -> None:
            facts = meta.describe(files, options, self._tables, parts, rows, plan, sha256, written)
            self._require_unchanged()
            with saying_where(place):
                new[0].finish(facts, replace=replace)

        try:
            folder, arrays = at_root(self.comm, make)
            if not all(allgather(self.comm, (Path(folder) / LOCK_NAME).exists())):
                raise NotSharedError(f"{place}: not the same folder on all nodes; give one that they share")
            written = self._write(parts, rows, plan, arrays)
            at_root(self.comm, finish)
        except BaseException:
            for one in new:
                one.drop()
            raise

    def _cut(self) -> tuple[list[Piece], list[str]]:
        """Return the pieces of all files, between records, and the SHA-256 of each file."""
        given = [
            {"path": self._tables[i]["path"], "start": start, "stop": stop, "first_row": self._tables[i]["first_row"]}
            for i, start, stop in pieces.of_bytes([table["size"] for table in self._tables])
        ]
        scanned = self._all("scan", given)
        sha256, asked = [], []
        for i, table in enumerate(self._tables):
            sha256.append(byte_pieces.merged([digest for _, digest in scanned[i * N : (i + 1) * N]]))
            quotes = 0
            for k, (count, _) in enumerate(scanned[i * N : (i + 1) * N]):
                asked.append({"table": table, "index": k, "quotes": quotes})
                quotes += count
        starts = self._all("start", asked)
        parts: list[Piece] = []
        for i, table in enumerate(self._tables):
            parts += pieces.of_rows(i, [*starts[i * N : (i + 1) * N], table["extent"]])
        return parts, sha256

    def _decide(self, parts: list[Piece]) -> tuple[list[int], dict[str, Any]]:
        """Return the rows of each piece, and what the columns become."""
        given = [{"table": self._tables[part.table], "start": part.start, "stop": part.stop} for part in parts]
        own = self._own("analyse", given)
        rows: list[int] = []
        faults: list[DataError] = []
        for owner in self._owners:  # one at a time, in the order of the pieces: nobody holds those of all ranks
            found = bcast(self.comm, own.pop(0) if owner == self.comm.rank else None, owner)
            rows.append(found["rows"] if found else 0)
            if found and self.comm.rank == 0 and not faults:
                try:
                    self._ask("merge", analysis=found)
                except DataError as error:
                    faults.append(error)

        def decide() -> dict[str, Any]:
            for fault in faults:
                raise fault
            plan: dict[str, Any] = self._ask("decide", options=self.request.options)
            return plan

        return rows, at_root(self.comm, decide)

    def _write(
        self, parts: list[Piece], rows: list[int], plan: dict[str, Any], arrays: dict[str, list[Any]]
    ) -> list[dict[str, Any]]:
        """Write the rows of all pieces; return what was found of each: see ``Answers.write``."""
        given, row = [], 0
        for part, n in zip(parts, rows, strict=True):
            table = self._tables[part.table]
            given.append({"table": table, "start": part.start, "stop": part.stop, "row": row, "rows": n})
            row += n
        on_each(
            self.comm, lambda: self._ask("plan", plan=plan, arrays=arrays) if self.comm.rank in self._owners else None
        )
        written = self._all("write", given)
        on_each(self.comm, lambda: None if self._child is None else self._ask("finish"))
        return written

    def _require_unchanged(self) -> None:
        """Raise DataError if a file has changed while it was prepared."""
        for table in self._tables:
            now = Path(table["path"]).stat()
            if (now.st_size, now.st_mtime_ns) != (table["size"], table["mtime_ns"]):
                raise DataError(f"{table['path']}: has changed while it was prepared; start again when it is complete")
