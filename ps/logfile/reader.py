"""Reading a log: its records one by one, each decoded and checked, up to the last whole one in the file."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgpack

from common.errors import LogError, LogVersionError
from common.files import open_regular
from common.limits import RECORD_BYTES
from ps.logfile.records import (
    Record,
    Search,
    could_be_log,
    damage,
    is_missing,
    is_other_version,
    misfit,
    tail_damage,
    unpacker,
)

Fault = Callable[[Record], str]
"""Says what is wrong with a record's fields; nothing if all is well."""
READ_BYTES = 1 << 19


class LogReader:
    """Reads records one by one and remembers where it is, so a growing file can be read further.

    ``start``, ``offset``: bytes of the file at which the record that was yielded last begins and ends. ``torn``: bytes
    of an unfinished record after that, known once the reading has come to the end of the file.
    """

    def __init__(self, path: Path, fault: Fault | None = None) -> None:
        """``fault`` judges the fields of each record, in their order."""
        self.path = path
        self.start = self.offset = self.torn = 0
        self._fault = fault
        self._seq = 0
        self._step = READ_BYTES

    def records(self) -> Iterator[Record]:
        """Yield the records from where the last call ended, up to the last whole one in the file.

        Memory is bounded by the largest record. Raises LogError.
        """
        try:
            with open_regular(self.path) as file:
                yield from self._read(file)
        except OSError as error:
            raise LogError(self.path, self.offset, f"cannot be read ({error.strerror})") from error

    def error(self, what: str) -> LogError:
        """Return the error that says what is wrong with the record that was yielded last."""
        return LogError(self.path, self.start, what)

    def _read(self, file: BinaryIO) -> Iterator[Record]:
        self.torn = 0
        file.seek(self.offset)
        rest = b""
        while more := file.read(max(self._step, min(len(rest), RECORD_BYTES - len(rest)))):
            window, begin = rest + more, self.offset
            if begin == 0 and not could_be_log(window):
                raise self._foreign(window)
            yield from self._decode(window)
            rest = window[self.offset - begin :]
            if len(rest) > RECORD_BYTES:
                raise self._damaged(f"no whole record within {RECORD_BYTES >> 20} MiB")
            self._look_ahead(rest)
        if found := tail_damage(rest):
            raise self._damaged(found)
        self.torn = len(rest)

    def _look_ahead(self, rest: bytes) -> None:
        """Look at the bytes of a record of which more are needed."""

    def _damaged(self, what: str) -> LogError:
        return LogError(self.path, self.offset, what, damaged=True)

    def _foreign(self, window: bytes) -> LogError:
        """Return what is wrong with a file that begins like no log."""
        if Search().find(window, 1)[0] >= 0:
            return self._damaged("damaged record (the header)")
        if not window.strip(b"\0"):
            return self._damaged("nothing but zeros, as a power cut leaves them")
        return LogError(self.path, 0, "not a rankwise log (another program's file?)")

    def _decode(self, window: bytes) -> Iterator[Record]:
        """Yield the whole records in the bytes that follow ``offset``, and move it on. Raises LogError."""
        values, begin, view = unpacker(window), self.offset, memoryview(window)
        while True:
            try:
                record = values.unpack()
            except msgpack.OutOfData:
                return
            except Exception as error:  # msgpack's own errors share no base class
                raise self._damaged(f"damaged record ({reason(error)})") from error
            end = begin + values.tell()
            if found := damage(record, view[self.offset - begin : end - begin]):
                raise self._damaged(found)
            self._place(record)
            self.start, self.offset = self.offset, end
            yield record

    def _place(self, record: Record) -> None:
        """Count a whole record. Raises LogError if it cannot stand where it stands, or its fields are at fault."""
        if found := misfit(record, self._seq):
            if is_other_version(record):
                raise LogVersionError(self.path, self.offset, found)
            raise LogError(self.path, self.offset, found, damaged=is_missing(record, self._seq))
        if self._fault and (found := self._fault(record)):
            raise LogError(self.path, self.offset, found)
        self._seq += 1


def reason(error: Exception) -> str:
    """Return what a library's error says, on one line."""
    return str(error).split("\n")[0] or type(error).__name__


def read(path: Path) -> Iterator[Record]:
    """Yield the whole records of a log file."""
    return LogReader(path).records()
