"""Reading a log: its records one by one, each decoded and checked, up to the last whole one in the file."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgpack

from common.errors import LogError
from common.files import open_regular
from common.limits import RECORD_BYTES
from ps.logfile.records import Record, could_be_log, damage, misfit, tail_damage, unpacker

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
        while more := file.read(max(READ_BYTES, min(len(rest), RECORD_BYTES - len(rest)))):
            window, begin = rest + more, self.offset
            if begin == 0 and not could_be_log(window):
                raise LogError(self.path, 0, "not a rankwise log (another program's file?)")
            yield from self._decode(window)
            rest = window[self.offset - begin :]
            if len(rest) > RECORD_BYTES:
                raise LogError(self.path, self.offset, f"no whole record within {RECORD_BYTES >> 20} MiB")
        if found := tail_damage(rest):
            raise LogError(self.path, self.offset, found)
        self.torn = len(rest)

    def _decode(self, window: bytes) -> Iterator[Record]:
        """Yield the whole records in the bytes that follow ``offset``, and move it on. Raises LogError."""
        values, begin, view = unpacker(window), self.offset, memoryview(window)
        while True:
            try:
                record = values.unpack()
            except msgpack.OutOfData:
                return
            except Exception as error:  # msgpack's own errors share no base class
                raise LogError(self.path, self.offset, f"damaged record ({reason(error)})") from error
            end = begin + values.tell()
            found = damage(record, view[self.offset - begin : end - begin]) or misfit(record, self._seq)
            if found or (self._fault and (found := self._fault(record))):
                raise LogError(self.path, self.offset, found)
            self.start, self.offset = self.offset, end
            self._seq += 1
            yield record


def reason(error: Exception) -> str:
    """Return what a library's error says, on one line."""
    return str(error).split("\n")[0] or type(error).__name__


def read(path: Path) -> Iterator[Record]:
    """Yield the whole records of a log file."""
    return LogReader(path).records()
