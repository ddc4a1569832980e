"""Prepares a folder on all ranks: pieces are counted, analysed and written by whom they belong to, decided at rank 0.

What is written does not depend on the number of ranks: pieces are the same, and merged in the order of the files.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpi4py import MPI

from common.data.prepared_file import N_PIECES as N
from common.errors import DataError, JobError
from common.files import do_nothing
from common.host import usable_cores
from common.wording import count
from ps.comm.collectives import allgather, bcast
from ps.comm.topology import Topology
from workers.preparation import byte_pieces, meta, pieces
from workers.preparation.child_process import OF_PREPARATION, Child
from workers.preparation.on_ranks import at_first, on_each, stopped
from workers.preparation.pieces import Piece
from workers.preparation.prepared_folder import LOCK_NAME, STOP_NAME, NewFolder, saying_where
from workers.preparation.progress import Progress

SHARES = {"scan": (0.0, 0.05), "start": (0.05, 0.0), "analyse": (0.05, 0.5), "write": (0.55, 0.45)}
"""Of the time that a preparation takes: where each question about all pieces begins, and how much it takes."""

SILENT = Progress(math.inf)


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
    asked_to_stop: Callable[[], object] = do_nothing,
    *,
    replace: bool = False,
) -> None:
    """Prepare the folder ``place`` with the ranks of ``comm``, and show how far it is. Collective; raises JobError.

    See ``Preparation``; ``replace``: see ``NewFolder.finish``.
    """
    progress = Progress() if topology.comm.rank == 0 else SILENT
    preparation = Preparation(comm, request, threads_of(topology), pulse, asked_to_stop, progress)
    try:
        preparation.write(place, replace=replace)
    finally:
        preparation.close()


class Preparation:
    """The preparation of one folder, on all ranks.

    ``threads``: of this rank's child. ``pulse``: called while it works. ``asked_to_stop``: whether this rank is; if one
    is, all stop. ``progress``: shows how far this rank is.
    """

    child_module = OF_PREPARATION

    def __init__(
        self,
        comm: MPI.Comm,
        request: Request,
        threads: int,
        pulse: Callable[[], object] = do_nothing,
        asked_to_stop: Callable[[], object] = do_nothing,
        progress: Progress = SILENT,
    ) -> None:
        self.comm, self._request = comm, request
        self._threads, self._pulse, self._asked_to_stop = threads, pulse, asked_to_stop
        self._progress = progress
        self._share = (0.0, 1.0)
        self._child: Child | None = None
        self._stop_file: Path | None = None
        self._told = False
        self._numbers: dict[str, Any] = {}
        self._sizes: list[int] = []
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
        self._progress.close()

    def _note_stop(self) -> bool:
        """Say whether to stop, and let the others know, whom the signal need not have reached."""
        asked = bool(self._asked_to_stop())
        if asked and self._stop_file is not None and not self._told:
            with contextlib.suppress(OSError):
                self._stop_file.touch()
            self._told = True
        return asked

    def _look(self) -> None:
        """Raise DataError if this rank or another one was asked to stop."""
        if self._note_stop() or (self._stop_file is not None and self._stop_file.exists()):
            raise stopped()

    def _show(self, done: float) -> None:
        """Take which part of an answer is done, and show which part of all is."""
        self._pulse()
        self._progress.show(self._share[0] + self._share[1] * done)

    def _ask(self, question: str, **about: Any) -> Any:
        self._look()
        if self._child is None:
            self._child = Child(self._threads, self._show, self.child_module, self._look)
        return self._child.ask(question, **about)

    def _own(self, question: str, given: list[dict[str, Any]]) -> list[Any]:
        """Ask about each of this rank's pieces; return its answers. Collective; raises JobError."""

        def act() -> list[Any]:
            self._look()
            pieces_here = [i for i, owner in enumerate(self._owners) if owner == self.comm.rank]
            begin, share = SHARES[question]
            whole, answers = max(1, sum(self._sizes[i] for i in pieces_here)), []
            for i in pieces_here:
                self._share = (begin, share * self._sizes[i] / whole)
                answers.append(self._ask(question, **given[i]))
                begin += self._share[1]
            return answers

        return on_each(self.comm, act, self._note_stop)

    def _first(self, question: str, **about: Any) -> Any:
        """Ask rank 0's child; return its answer on all ranks. Collective; raises JobError."""
        return at_first(self.comm, lambda: self._ask(question, **about), self._note_stop)

    def _all(self, question: str, given: list[dict[str, Any]]) -> list[Any]:
        """Do the same; return the answers of all ranks, in the order of the pieces."""
        return [answer for of_rank in allgather(self.comm, self._own(question, given)) for answer in of_rank]

    def write(self, place: Path, *, replace: bool) -> None:
        """Prepare the folder ``place``. Collective; raises JobError. ``replace``: see ``NewFolder.finish``."""
        new: list[NewFolder] = []

        def make() -> str:
            with saying_where(place):
                new.append(NewFolder(place))
            self._ask("tidy", folder=str(new[0].path))
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
            self._stop_file = Path(folder) / STOP_NAME
            self._open(folder)
            parts = self._cut()
            rows = self._analyse(parts)
            decided = self._first("decide", notes=self._notes)
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
        more = f" and {count(len(paths) - 1, 'more file')}" * (len(paths) > 1)
        shown = f"{Path(paths[0]).name}{more}"
        self._progress.begin(f"Unpacking {shown}")
        opened = self._first("open", paths=paths, options=self._request.options, folder=folder)
        self._progress.begin(f"Preparing {shown}")
        self._tables, self._options, self._notes = opened["tables"], opened["options"], opened["notes"]
        self._sha256, self._numbers = opened["sha256"], opened["numbers"]
        sizes = [_bytes_of(table) for table in self._tables]
        self._owners = pieces.owners(sizes, self.comm.size)
        self._sizes = [size for size in sizes for _ in range(N)]

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
        self._know()
        starts = self._all("start", asked)
        parts: list[Piece] = []
        heads: list[int] = []  # of the pieces that are read together
        for i, table in enumerate(self._tables):
            several = range(i * N, (i + 1) * N, pieces.together(_bytes_of(table)))
            parts += pieces.of_rows(i, [*(starts[k] for k in several), table["extent"]])
            heads += several
        self._owners, self._sizes = [self._owners[k] for k in heads], [self._sizes[k] for k in heads]
        return parts

    def _know(self) -> None:
        """Let all children know what the questions are about."""
        know = {"tables": self._tables, "options": self._options, "numbers": self._numbers}
        on_each(self.comm, lambda: self._ask("know", **know) if self._works else None)

    def _analyse(self, parts: list[Piece]) -> list[int]:
        """Find out what the columns hold: rank 0's child knows it then. Return the rows that each piece gives."""
        rows = self._merged([{**part._asdict(), "again": []} for part in parts])
        again = self._first("unlike")
        if again:  # few files: the first rows of a column are numbers, and later ones are not
            self._numbers["names"] = [name for name in self._numbers["names"] if name not in again]
            self._know()
            self._merged([{**part._asdict(), "again": again} for part in parts])
        return rows

    def _merged(self, given: list[dict[str, Any]]) -> list[int]:
        """Analyse pieces, and merge what is found in rank 0's child. Return the rows that each piece gives."""
        own = self._own("analyse", given)
        rows: list[int] = []
        for owner in dict.fromkeys(self._owners):  # one rank's at a time, in the order of the pieces
            found = bcast(self.comm, own if owner == self.comm.rank else None, owner)
            rows += [one["kept"] for one in found]
            self._first("merge", analyses=found)
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
