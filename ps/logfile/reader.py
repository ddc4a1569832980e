"""TODO."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgpack

from common.errors import LogError
from ps.logfile import records
from ps.logfile.records import FORMAT, MAX_RECORD_BYTES, VERSION, Record

Fault = Callable[[Record], str]
"""Says what is wrong with a record's fields; nothing if all is well."""


READ_BYTES = 1 << 20


@dataclass(slots=True)
class Entry:
    """A record that stands whole in the file: its checksum matches. Decoded when asked for, which costs most.

    ``epoch``: the field of that name where it is the first behind ``t``, as our writer has it; else 0. ``offset``:
    where it begins in the file.
    """

    path: Path
    offset: int
    seq: int
    kind: str
    epoch: int
    data: bytes
    fault: Fault | None
    _record: Record | None = None

    def record(self) -> Record:
        """Return it decoded and judged, which is done once. Raises LogError."""
        if self._record is None:
            self._record = self._decode()
        return self._record

    def _decode(self) -> Record:
        try:
            values = records.unpacker(self.data)
            record: Record = values.unpack()
        except Exception as error:  # msgpack's own errors share no base class
            raise self.error(f"damaged record ({reason(error)})") from error
        if values.tell() != len(self.data):
            raise self.error("damaged record (its checksum stands where it does not end)")
        if found := records.damage(record, self.data) or _misfit(record, self.seq):
            raise self.error(found)
        if self.fault and (found := self.fault(record)):
            raise self.error(found)
        return record

    def pick(self, *names: str) -> Record:
        """Decode only these fields, those that are there; nobody has judged their values. Raises LogError."""
        try:
            return records.pick(self.data, set(names))
        except Exception as error:
            raise self.error(f"damaged record ({reason(error)})") from error

    def error(self, what: str) -> LogError:
        """Return the error that says what is wrong with this record."""
        return LogError(self.path, self.offset, what)


class LogReader:
    """Reads records one by one and remembers where it is, so a growing file can be read on.

    ``offset``: bytes up to the end of the last good record. ``torn``: bytes of an unfinished record behind it,
    known once the reading has come to the end. ``fault`` judges the fields of each record that is decoded.
    """

    def __init__(self, path: Path, fault: Fault | None = None) -> None:
        self.path = path
        self._fault = fault
        self.offset = 0
        self.torn = 0
        self._seq = 0

    def records(self) -> Iterator[Record]:
        """Yield the records from where the last call ended, up to the last whole one in the file.

        Memory is bounded by the largest record. Raises LogError.
        """
        return (entry.record() for entry in self.entries())

    def entries(self) -> Iterator[Entry]:
        """Yield the same records undecoded: five times as fast for a reader that decodes few of them.

        Of each, checksum, place in the sequence, ``kind`` and the type of ``t`` have been checked. Raises LogError.
        """
        try:
            with self.path.open("rb") as file:
                yield from self._read(file)
        except OSError as error:
            raise LogError(self.path, self.offset, f"cannot be read ({error.strerror})") from error

    def _read(self, file: BinaryIO) -> Iterator[Entry]:
        self.torn = 0
        file.seek(self.offset)
        rest = b""
        while more := file.read(max(READ_BYTES, min(len(rest), MAX_RECORD_BYTES - len(rest)))):
            window = rest + more
            if self._seq == 0 and not records.could_be_log(window):
                raise LogError(self.path, self.offset, "not a rankwise log (another program's file?)")
            start = 0
            while end := records.record_end(window, start) or self._decoded_end(window, start):
                entry = self._entry(window[start:end])
                self.offset += end - start
                self._seq += 1
                start = end
                yield entry
            rest = window[start:]
            if len(rest) > MAX_RECORD_BYTES:
                raise LogError(self.path, self.offset, f"no whole record within {MAX_RECORD_BYTES >> 20} MiB")
        self._check_tail(rest)
        self.torn = len(rest)

    def _decoded_end(self, window: bytes, start: int) -> int:
        """Return where the record that begins at ``start`` ends by what is in it; 0 if it is not all there.

        Raises LogError if there is no record.
        """
        values = records.unpacker(memoryview(window)[start:])
        try:
            record = values.unpack()
        except msgpack.OutOfData:
            return 0
        except Exception as error:
            raise LogError(self.path, self.offset, f"damaged record ({reason(error)})") from error
        end = start + values.tell()
        if found := records.damage(record, window[start:end]):
            raise LogError(self.path, self.offset, found)
        return end

    def _entry(self, data: bytes) -> Entry:
        """Return a whole record with its head checked; the header, and a head unlike ours, is decoded for that."""
        head = records.peek(data)
        if head is None or head.seq != self._seq or self._seq == 0:
            unjudged = Entry(self.path, self.offset, self._seq, "", 0, data, None)
            head = records.Head(unjudged.record()["kind"], self._seq, 0)
        return Entry(self.path, self.offset, self._seq, head.kind, head.epoch, data, self._fault)

    def _check_tail(self, tail: bytes) -> None:
        """Raise LogError unless ``tail``, which does not decode, is just the beginning of a record.

        A flipped length also makes a record look unfinished. But then its end stands in the file: the last
        record's checksum key, or a whole later record.
        """
        if records.claims_too_much(tail):
            raise LogError(self.path, self.offset, "damaged record (a text in it claims to be longer than any is)")
        if records.ends_complete(tail) or records.later_record(tail):
            raise LogError(self.path, self.offset, "damaged record (its length is wrong)")


def _misfit(record: Record, seq: int) -> str:
    """Say why a record cannot stand at place ``seq`` of a log; nothing if it can."""
    kind, own, t = record.get("kind"), record.get("seq"), record.get("t")
    if not isinstance(kind, str) or not isinstance(own, int) or not isinstance(t, float):
        return "record without kind, seq and t"
    if own != seq:
        return f"record {own} where {seq} belongs: records are missing"
    if seq == 0 and (kind != "header" or record.get("format") != FORMAT):
        return "not a rankwise log (no header)"
    if seq == 0 and record.get("v") != VERSION:
        return f"format version {record.get('v')}; this reader knows {VERSION}"
    return ""


def reason(error: Exception) -> str:
    """Return what a library's error says, on one line."""
    return str(error).split("\n")[0] or type(error).__name__


def read(path: Path) -> Iterator[Record]:
    """Yield the whole records of a log file."""
    return LogReader(path).records()
