"""What the child of a rank runs: it reads pieces of tables with polars, and writes their rows into arrays. No MPI here.

It answers one question after the other; each is a method of ``Answers``. It ends when its rank has ended.
"""

import hashlib
import os
import queue
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import polars as pl

from common.errors import EXIT_ERROR, BrokenFileError, DataError, RankwiseError
from common.files import open_regular, told
from workers.preparation import byte_pieces, plain_text
from workers.preparation.analyse import analyse
from workers.preparation.cells import without_missing
from workers.preparation.chosen import resolved
from workers.preparation.decide import decide
from workers.preparation.encode import encode
from workers.preparation.messages import receive, send
from workers.preparation.moments import Moments
from workers.preparation.number_columns import NumberColumns
from workers.preparation.options import Options, TableError, names_in
from workers.preparation.plan import LABELS, Plan
from workers.preparation.prepared_folder import COPY_NAME
from workers.preparation.statistics import Analysis
from workers.preparation.table_file import TableFile, alike, located, notes_of, open_table


class Answers:
    """The questions a rank may ask, a method each: plain values in and out.

    ``pulse``: shows that it works, and which part of an answer is done.
    """

    def __init__(self, pulse: Callable[[float], None]) -> None:
        self._pulse = pulse
        self._tables: list[TableFile] = []
        self._options = Options()
        self._numbers = NumberColumns()
        self._merged = Analysis()
        self._plan: Plan | None = None
        self._arrays: dict[str, Any] = {}
        self._files: dict[str, BinaryIO] = {}
        self._unfinished: Path | None = None

    def tidy(self, folder: str) -> None:
        """Remove a folder when the rank has ended, or closes this child, and has not given it another name."""
        self._unfinished = Path(folder)

    def leave(self) -> None:
        """End: the rank has."""
        if self._unfinished is not None:
            shutil.rmtree(self._unfinished, ignore_errors=True)
        os._exit(0)

    def open(self, paths: list[str], options: dict[str, Any], folder: str) -> dict[str, Any]:
        """Look at files: return them as TableFile, options that name columns, notes, and SHA-256 of those copied.

        ``folder``: where plain copies of packed files and of other encodings are written.
        """
        opened = [self._open(Path(path), i, options, folder) for i, path in enumerate(paths)]
        tables, notes = alike([table for table, _ in opened])
        notes[:0] = notes_of(tables)
        try:
            columns = resolved(tables[0].names, Options.from_dict(options))
        except TableError as error:
            raise located(error, tables) from error
        return {
            "tables": [table.as_dict() for table in tables], "options": asdict(columns), "notes": notes,
            "sha256": [sha256 for _, sha256 in opened], "numbers": asdict(tables[0].numbers(columns)),
        }  # fmt: skip

    def _open(self, source: Path, index: int, options: dict[str, Any], folder: str) -> tuple[TableFile, str]:
        """Look at one file, of which a plain copy is made if need be; return its SHA-256 then, else nothing."""
        encoding = plain_text.codec(options.get("encoding") or "utf-8")
        with open_regular(source) as file:
            head = file.read(4)
        path, sha256 = source, ""
        if plain_text.is_packed(head) or (encoding != "utf-8" and head != b"PAR1"):
            path = Path(folder) / f"{COPY_NAME}{index}"
            sha256 = plain_text.copy(source, path, encoding, self._pulse)
        return open_table(source, path, index, Options.from_dict(options)), sha256

    def know(self, tables: list[dict[str, Any]], options: dict[str, Any], numbers: dict[str, Any]) -> None:
        """Remember what all other questions are about, as ``open`` has returned it."""
        self._tables, self._options = [TableFile.from_dict(table) for table in tables], Options.from_dict(options)
        self._numbers = NumberColumns(**numbers)

    def scan(self, path: str, start: int, stop: int, first_row: int, separator: str) -> list[Any]:
        """Return of a piece of bytes what ``byte_pieces.scan`` does."""
        with open_regular(Path(path)) as file:
            return list(byte_pieces.scan(file, start, stop, first_row, separator))

    def start(self, table: int, piece: int, quotes: int) -> int:
        """Return where the first record of a piece begins. ``quotes``: those before it."""
        return self._tables[table].start(piece, inside=bool(quotes % 2))

    def analyse(self, table: int, start: int, stop: int, again: list[str]) -> dict[str, Any]:
        """Return the statistics of the columns of a piece; ``again``: of these alone, once the others are known."""
        found = Analysis()
        for place, frame in self._frames(table, start, stop):
            some = frame.select(again) if again else frame
            found.merge(analyse(some, self._options, [table, place], self._numbers))
        if again:
            found.rows = found.kept = 0
        return found.as_dict()

    def _frames(self, table: int, start: int, stop: int) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield the rows of a piece, and show how far it has come."""
        for place, frame in self._tables[table].frames(start, stop, self._numbers):
            self._pulse((place - start) / max(1, stop - start))
            yield place, without_missing(frame, tuple(names_in(self._options.missing)))

    def merge(self, analyses: list[dict[str, Any]]) -> None:
        """Merge the statistics of the next pieces with those before them."""
        for analysis in analyses:
            self._merged.merge(Analysis.from_dict(analysis))

    def unlike(self) -> list[str]:
        """Return the columns that were taken for numbers and are something else: they are to be analysed again."""
        return self._merged.forget_unlike()

    def decide(self, notes: list[str]) -> dict[str, Any]:
        """Return what the columns of the merged pieces become, and the arrays, shape of a row and dtype by name."""
        plan = decide(self._merged, self._options, notes)
        y = ([], "int64") if plan.target.kind == LABELS else ([len(plan.target.names)], "float64")
        arrays: dict[str, Any] = {"x": [[len(plan.preprocessing.features())], plan.x_dtype], "y": y}
        for name, dtype in (("weight", "float64"), ("group", "int64"), ("time", "float64")):
            if getattr(self._options, name):
                arrays[name] = [[], dtype]
        return {"plan": plan.as_dict(), "arrays": arrays}

    def plan(self, plan: dict[str, Any], arrays: dict[str, Any]) -> None:
        """Remember what the columns become, and of each array its file, the byte of row 0, and the bytes of a row."""
        self._plan, self._arrays = Plan.from_dict(plan), arrays

    def write(self, table: int, start: int, stop: int, row: int, rows: int) -> dict[str, Any]:
        """Write the rows of a piece, from number ``row`` on; return their SHA-256 and moments."""
        assert self._plan is not None
        at, moments = row, None
        digests = {name: hashlib.sha256() for name in self._arrays}
        for place, frame in self._frames(table, start, stop):
            try:
                encoded = encode(frame, self._plan)
            except TableError as error:
                error.place = [table, place]
                raise
            n = len(encoded["x"])
            if at + n > row + rows:
                break
            for name, (path, begin, row_bytes) in self._arrays.items():
                data = np.ascontiguousarray(encoded[name]).data.cast("B") if encoded[name].size else memoryview(b"")
                assert len(data) == n * row_bytes, name
                digests[name].update(data)
                self._write(path, data, begin + at * row_bytes)
            at += n
            here = Moments.of_rows(encoded["x"])
            moments = here if moments is None else moments.merge(here)
        if at != row + rows:
            raise DataError(f"{self._tables[table].source}: has changed while it was prepared; start again")
        return {
            "digests": {name: digest.digest() for name, digest in digests.items()},
            "moments": None if moments is None else moments.as_list(),
        }

    def _write(self, path: str, data: memoryview, at: int) -> None:
        # not through a map: pages of a map that are written count as this process's memory, a full disk would end it
        # without a word, and nodes of a network file system would write whole pages over each other
        if path not in self._files:
            self._files[path] = open(path, "r+b", buffering=0)  # noqa: SIM115 - until ``finish``
        while len(data):
            n = os.pwrite(self._files[path].fileno(), data, at)
            data, at = data[n:], at + n

    def finish(self) -> None:
        """Bring what was written to the disk."""
        for file in self._files.values():
            os.fsync(file.fileno())
            file.close()
        self._files.clear()

    def answer(self, name: str, about: dict[str, Any]) -> list[Any]:
        """Return an answer, or what is wrong."""
        try:
            return ["answer", getattr(self, name)(**about)]
        except TableError as error:
            return ["fault", [str(located(error, self._tables)), error.exit_code]]
        except RankwiseError as error:
            return ["fault", [str(error), error.exit_code]]
        except BrokenFileError as error:
            return ["fault", [f"{about['path']}: {error}", DataError.exit_code]]
        except OSError as error:
            is_input = isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError)
            return ["fault", [told(error), DataError.exit_code if is_input else EXIT_ERROR]]
        except MemoryError:
            return ["fault", ["out of memory while a table is read; start fewer ranks per node", EXIT_ERROR]]


def main(kind: type[Answers] = Answers) -> None:
    """Answer until the rank says no more, or has ended. ``kind``: the questions that it knows."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the rank decides when to stop
    source, out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    questions: queue.SimpleQueue[Any] = queue.SimpleQueue()
    answers = kind(lambda done: send(out, ["pulse", done]))
    threading.Thread(target=_read, args=(source, questions, answers.leave), daemon=True).start()
    while True:
        send(out, answers.answer(*questions.get()))


def _read(source: IO[bytes], questions: "queue.SimpleQueue[Any]", leave: Callable[[], None]) -> None:
    try:
        while True:
            questions.put(receive(source))
    except EOFError:
        leave()  # also in the middle of a piece: the rank has ended
