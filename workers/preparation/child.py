"""What the child of a rank runs: it reads pieces of tables with polars, and writes their rows into arrays. No MPI here.

It answers one question after the other; each is a method of ``Answers``. It ends when its rank has ended.
"""

import hashlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO

from common.errors import EXIT_ERROR, BrokenFileError, DataError, RankwiseError
from common.files import told
from workers.preparation import byte_pieces
from workers.preparation.frames import receive, send
from workers.preparation.moments import Moments
from workers.preparation.table_file import Analysis, Plan, TableFile, merge_plain, open_table


class Answers:
    """The questions a rank may ask, a method each: plain values in and out. ``pulse``: shows that it works."""

    def __init__(self, pulse: Callable[[], None]) -> None:
        self._pulse = pulse
        self._merged: Analysis | None = None
        self._plan: Plan | None = None
        self._arrays: dict[str, Any] = {}
        self._files: dict[str, BinaryIO] = {}

    def open(self, path: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return what a file is: see TableFile."""
        return open_table(Path(path), options).as_dict()

    def scan(self, path: str, start: int, stop: int, first_row: int) -> list[Any]:
        """Return the quotes of a piece of bytes, and its SHA-256."""
        with open(path, "rb") as file:
            return list(byte_pieces.scan(file, start, stop, first_row))

    def start(self, table: dict[str, Any], index: int, quotes: int) -> int:
        """Return where the first record of piece ``index`` begins. ``quotes``: those before it."""
        return TableFile.from_dict(table).start(index, inside=bool(quotes % 2))

    def analyse(self, table: dict[str, Any], start: int, stop: int) -> dict[str, Any] | None:
        """Return the statistics of the columns of a piece; None if it has no rows."""
        found: Analysis | None = None
        for frame in TableFile.from_dict(table).frames(start, stop):
            here = frame.analyse()
            found = here if found is None else found.merge(here)
            self._pulse()
        return None if found is None else found.as_dict()

    def merge(self, analysis: dict[str, Any]) -> None:
        """Merge the statistics of the next piece with those before it."""
        self._merged = merge_plain(self._merged, analysis)

    def decide(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return what the columns of the merged pieces become."""
        if self._merged is None:
            raise DataError("no rows; there is nothing to learn from")
        return Plan.decide(self._merged, options).as_dict()

    def plan(self, plan: dict[str, Any], arrays: dict[str, Any]) -> None:
        """Remember what the columns become, and of each array its file, the byte of row 0, and the bytes of a row."""
        self._plan, self._arrays = Plan.from_dict(plan), arrays

    def write(self, table: dict[str, Any], start: int, stop: int, row: int, rows: int) -> dict[str, Any]:
        """Write the rows of a piece, from number ``row`` on; return their SHA-256 and moments."""
        assert self._plan is not None
        place, moments = row, None
        digests = {name: hashlib.sha256() for name in self._arrays}
        for frame in TableFile.from_dict(table).frames(start, stop):
            encoded = frame.encode(self._plan)
            n = len(encoded["x"])
            if place + n > row + rows:
                break
            for name, (path, begin, row_bytes) in self._arrays.items():
                data = encoded[name].data.cast("B")
                assert len(data) == n * row_bytes, name
                digests[name].update(data)
                self._write(path, data, begin + place * row_bytes)
            place += n
            here = Moments.of(encoded["x"])
            moments = here if moments is None else moments.merge(here)
            self._pulse()
        if place != row + rows:
            raise DataError(f"{table['path']}: has changed while it was prepared; start again when it is complete")
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


def main() -> None:
    """Answer until the rank says no more, or has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the rank decides when to stop
    source, out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    questions: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(source, questions), daemon=True).start()
    answers = Answers(lambda: send(out, ["pulse", None]))
    while (question := questions.get()) is not None:
        send(out, _answer(answers, *question))


def _read(source: IO[bytes], questions: "queue.SimpleQueue[Any]") -> None:
    try:
        while True:
            questions.put(receive(source))
    except EOFError:
        os._exit(0)  # also in the middle of a piece: the rank has ended


def _answer(answers: Answers, name: str, about: dict[str, Any]) -> list[Any]:
    try:
        return ["answer", getattr(answers, name)(**about)]
    except RankwiseError as error:
        return ["fault", [str(error), error.exit_code]]
    except BrokenFileError as error:
        place = about.get("path") or about.get("table", {}).get("path", "")
        return ["fault", [f"{place}: {error}", DataError.exit_code]]
    except OSError as error:
        return ["fault", [told(error), EXIT_ERROR]]
    except MemoryError:
        return ["fault", ["out of memory while a table is read; start fewer ranks per node", EXIT_ERROR]]
