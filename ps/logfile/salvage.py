"""Reading what is whole of a damaged log: every record that its checksum proves, and where others are missing."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from common.errors import LogError, LogVersionError
from common.files import next_data
from common.limits import RECORD_BYTES
from ps.logfile.damage import Damage
from ps.logfile.reader import READ_BYTES, Fault, LogReader
from ps.logfile.records import CONTINUATIONS, WRONG_LENGTH, Record, Search, is_other_version, misfit

FIRST_STEP = 1 << 12
"""After damage, how much is read at once to begin with: there may be more of it soon."""
SMALLEST_RECORD = 37
"""Bytes of a record without fields of its own."""
SPARE_RECORDS = 1000
"""A record's number may be so much larger than the file's size allows: some of it may have been cut out."""


class SalvageReader(LogReader):
    """Reads as LogReader does, but skips what is damaged, to the next whole record, and notes it in ``damage``.

    Records come with the numbers that they have, which rise. Where the event is lost after which other processes
    continued the run, a ``resume`` takes its place that says as much as later records prove; so does a header, where
    that is lost. Both have the field ``rebuilt``. Time and memory are those of LogReader but for a small factor,
    whatever the file holds.
    """

    def __init__(
        self,
        path: Path,
        fault: Fault | None = None,
        *,
        salvage: bool = True,
        header: Callable[[Path], Record] | None = None,
    ) -> None:
        """``salvage``: without it, read as LogReader does. ``header``: makes one where it is lost, or nothing."""
        super().__init__(path, None if salvage else fault)
        self.damage = Damage()
        self._salvage, self._check, self._header = salvage, fault, header
        self._search = Search()
        self._refused = ""
        self._size = self._missed = self._world = self._last_epoch = 0
        self._headless, self._gap = True, False

    @property
    def next_seq(self) -> int:
        """The number that the record after the last one has."""
        return self._seq

    def _read(self, file: BinaryIO) -> Iterator[Record]:
        if not self._salvage:
            yield from super()._read(file)
            return
        self._size = os.fstat(file.fileno()).st_size
        while True:
            try:
                yield from super()._read(file)
            except LogError as error:
                if not error.damaged:
                    raise
                if not self._skip(file, error.reason):
                    return
            else:
                return

    def _foreign(self, window: bytes) -> LogError:
        found = super()._foreign(window)
        return self._damaged(found.reason) if self._salvage else found

    def _decode(self, window: bytes) -> Iterator[Record]:
        """Yield the records that fit, and before them those that must have stood there."""
        if not self._salvage:
            yield from super()._decode(window)
            return
        for record in super()._decode(window):
            if self._refused:
                self.damage.add(self.start, self.offset - self.start, self._refused)
            else:
                yield from self._accept(record)
        self._step = min(2 * self._step, READ_BYTES)

    def _place(self, record: Record) -> None:
        """Count a whole record, or refuse one that cannot stand here. Raises LogError for a log of another version."""
        if not self._salvage:
            super()._place(record)
            return
        seq = record.get("seq")
        self._refused = misfit(record, seq if isinstance(seq, int) else self._seq)
        if self._refused and is_other_version(record):
            raise LogVersionError(self.path, self.offset, self._refused)
        if self._refused or not isinstance(seq, int):
            return
        if seq < self._seq:
            self._refused = f"record {seq} after record {self._seq - 1}"
        elif seq > self._seq + self._size // SMALLEST_RECORD + SPARE_RECORDS:
            self._refused = f"record {seq}, more than there can be"
        else:
            self._missed, self._seq = seq - self._seq, seq + 1

    def _accept(self, record: Record) -> Iterator[Record]:
        """Yield a record that has its place, after those that are lost before it, if its fields are not at fault."""
        if self._missed:
            self.damage.miss(self.start, self._missed)
            self._gap = True
        for one in (*self._lost(record), record):
            if self._check and (found := self._check(one)):
                self.damage.add(self.start, self.offset - self.start, found)
                return
            self._note(one)
            yield one

    def _look_ahead(self, rest: bytes) -> None:
        """Raise LogError if another record begins within one that seems to go on: then its length is wrong."""
        if self._salvage and len(rest) >= FIRST_STEP and self._search.find(rest, 1)[0] >= 0:
            raise self._damaged(WRONG_LENGTH)

    def _skip(self, file: BinaryIO, why: str) -> bool:
        """Go on at the next whole record; return whether there is one. What is at the end may be looked at again."""
        begin, at = self.offset, None
        if not self.damage.too_much:
            at = self._next_whole(file, begin + 1)
        else:
            why = "the rest is not read: there are too many damaged places before it"
        self._size = max(self._size, begin)
        self.damage.add(begin, (self._size if at is None else at) - begin, why)
        self.offset = self._size if at is None else at
        self._step = FIRST_STEP
        return at is not None

    def _next_whole(self, file: BinaryIO, begin: int) -> int | None:
        """Return the offset of the next whole record from ``begin`` on."""
        file.seek(begin)
        data, step = b"", FIRST_STEP
        while more := file.read(max(step, min(len(data), RECORD_BYTES // 4))):
            data, step = data + more, min(2 * step, READ_BYTES)
            if not any(more) and (after := next_data(file, file.tell())) > file.tell():  # a giant of zeros
                file.seek(after)
                begin, data = after, b""
                continue
            found, keep = self._search.find(data, 0)
            if found >= 0:
                return begin + found
            if len(data) - keep > RECORD_BYTES:  # no record is that long: most of its beginnings are none
                keep = len(data) // 2
            begin, data = begin + keep, data[keep:]
        return None

    def _lost(self, record: Record) -> Iterator[Record]:
        """Yield what must have stood before a record."""
        if self._headless and record["seq"] and self._header:
            self._headless = False
            yield {**self._header(self.path), "seq": 0}
        rows, epoch, kind = record.get("rows"), record.get("epoch"), record["kind"]
        if not self._gap or kind not in ("balance", "epoch") or not isinstance(rows, list) or not rows:
            return
        epoch = epoch if kind == "epoch" and isinstance(epoch, int) else self._last_epoch + 1
        self._gap = kind != "epoch"
        if self._world and (len(rows) != self._world or 0 < epoch <= self._last_epoch):
            yield {
                "kind": "event", "seq": record["seq"] - 1, "t": record["t"], "what": "resume", "epoch": epoch,
                "step": 0, "ranks_before": self._world, "ranks": len(rows), "rebuilt": True,
            }  # fmt: skip

    def _note(self, record: Record) -> None:
        """Remember of a record what shows whether later ones are of other processes."""
        kind = record["kind"]
        if kind == "header":
            self._headless, self._world = False, _whole(record.get("world"))
        elif kind == "epoch":
            self._last_epoch = _whole(record.get("epoch"))
        elif kind == "event" and record.get("what") in CONTINUATIONS:
            self._world, self._last_epoch = _whole(record.get("ranks")), _whole(record.get("epoch")) - 1
            self._gap = False


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
