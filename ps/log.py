"""The central log: a file of msgpack maps, each with its own checksum, written by rank 0 and read by anyone.

Run as ``python -m ps.log show | watch | report | ...``. The format is told in docs/log-format.md.
"""

import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgpack

from common.errors import LogError, RankwiseError

Record = dict[str, Any]
Fault = Callable[[Record], str]
"""Says what is wrong with a record's fields; nothing if all is well."""

FORMAT = "rankwise-log"
VERSION = 1
RUNS = Path("runs")
LOG_NAME = "coordinator.msgpack"
FAILURE_NAME = "failure.txt"
"""What a rank that brings down the job leaves beside the log."""
MAX_RECORD_BYTES = 64 << 20
MAX_TEXT_BYTES = 1 << 20
READ_BYTES = 1 << 18
CRC_KEY = b"\xa3crc"
CRC_BYTES = len(CRC_KEY) + 5  # the key, the marker 0xce and four bytes
FIRST_KEY = b"\xa4kind"
MAX_TAIL_VALUES = 1 << 20
MAX_TAIL_BYTES = 4 * MAX_RECORD_BYTES
"""What is looked at in a tail that does not decode: a hostile file need not cost minutes."""


def encode(record: Record) -> bytes:
    """Pack a record as one map with ``crc`` behind its own keys: CRC-32 of all bytes before the 0xce marker."""
    packer = msgpack.Packer(autoreset=False)
    packer.pack_map_header(len(record) + 1)
    for key, value in record.items():
        packer.pack(key)
        packer.pack(value)
    packer.pack("crc")
    body: bytes = packer.bytes()
    return body + b"\xce" + struct.pack(">I", zlib.crc32(body))


class RunLog:
    """The writer, on rank 0 only: ``append`` is one write, so a kill at any moment leaves whole records."""

    SYNC_EVERY_S = 5.0

    def __init__(self, path: Path, *, new: bool = True) -> None:
        """Create the file, which must not exist. Raises OSError."""
        self.path = path
        self.seq = 0
        self.size = 0
        self._synced = time.monotonic()
        self._one_at_a_time = threading.Lock()
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | (os.O_CREAT | os.O_EXCL if new else 0), 0o644)
        self._lock()
        if not new:
            self._find_end()

    @classmethod
    def reopen(cls, path: Path) -> "RunLog":
        """Go on with a log behind its last whole record; what is torn is cut off. Raises OSError or LogError."""
        return cls(path, new=False)

    def _find_end(self) -> None:
        reader = LogReader(self.path)
        self.seq = sum(1 for _ in reader.records())
        self.size = reader.offset
        os.ftruncate(self._fd, self.size)

    def _lock(self) -> None:
        """Keep a second job out, where the file system can. Raises OSError."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(error.errno, "another job writes to it") from error
        except OSError:
            return

    def append(self, kind: str, **fields: Any) -> None:
        """Write a record of plain values; any thread may.

        Raises OSError if it does not fit (disk full): the part that was written is cut off again.
        """
        with self._one_at_a_time:
            self._append(kind, fields)

    def _append(self, kind: str, fields: Record) -> None:
        data = encode({"kind": kind, "seq": self.seq, "t": time.time(), **fields})
        try:
            written = os.write(self._fd, data)
            if written < len(data):  # a full disk takes a part first; the next write names the reason
                written += os.write(self._fd, data[written:])
            if written < len(data):
                raise OSError(f"only {written} of {len(data)} bytes were written")
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self.size += len(data)
        self.seq += 1
        if kind in ("header", "end") or time.monotonic() - self._synced > self.SYNC_EVERY_S:
            os.fsync(self._fd)
            self._synced = time.monotonic()

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class LogReader:
    """Reads records one by one and remembers where it is, so a growing file can be read on.

    ``offset``: bytes up to the end of the last good record. ``torn``: bytes of an unfinished record behind it,
    known once ``records`` has come to the end. ``fault`` judges the fields of each whole record.
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
        try:
            with self.path.open("rb") as file:
                yield from self._read(file)
        except OSError as error:
            raise LogError(self.path, self.offset, f"cannot be read ({error.strerror})") from error

    def _read(self, file: BinaryIO) -> Iterator[Record]:
        self.torn = 0
        file.seek(self.offset)
        rest = b""
        while more := file.read(max(READ_BYTES, min(len(rest), MAX_RECORD_BYTES - len(rest)))):
            window = rest + more
            if self._seq == 0 and not _could_be_log(window):
                raise LogError(self.path, self.offset, "not a rankwise log (another program's file?)")
            start, unpacker = 0, _unpacker(window)
            while (found := self._next(unpacker, window, start)) is not None:
                record, end = found
                self.offset += end - start
                self._seq += 1
                start = end
                yield record
            rest = window[start:]
            if len(rest) > MAX_RECORD_BYTES:
                raise LogError(self.path, self.offset, f"no whole record within {MAX_RECORD_BYTES >> 20} MiB")
        self._check_tail(rest)
        self.torn = len(rest)

    def _next(self, unpacker: msgpack.Unpacker, window: bytes, start: int) -> tuple[Record, int] | None:
        """Return the record that begins at ``start`` and where it ends, or None if it is not all there."""
        try:
            record = unpacker.unpack()
        except msgpack.OutOfData:
            return None
        except Exception as error:  # msgpack's own errors share no base class
            raise LogError(self.path, self.offset, f"damaged record ({reason(error)})") from error
        end = unpacker.tell()
        if not isinstance(record, dict) or next(reversed(record), None) != "crc":
            raise LogError(self.path, self.offset, "damaged record (not a map that ends with its checksum)")
        if window[end - CRC_BYTES : end - 4] != CRC_KEY + b"\xce":
            raise LogError(self.path, self.offset, "damaged record (checksum not where it belongs)")
        if record["crc"] != zlib.crc32(memoryview(window)[start : end - 5]):
            raise LogError(self.path, self.offset, "damaged record (checksum does not match)")
        self._check_fields(record)
        return record, end

    def _check_fields(self, record: Record) -> None:
        kind, seq, t = record.get("kind"), record.get("seq"), record.get("t")
        if not isinstance(kind, str) or not isinstance(seq, int) or not isinstance(t, float):
            raise LogError(self.path, self.offset, "record without kind, seq and t")
        if seq != self._seq:
            raise LogError(self.path, self.offset, f"record {seq} where {self._seq} belongs: records are missing")
        if seq == 0 and (kind != "header" or record.get("format") != FORMAT):
            raise LogError(self.path, self.offset, "not a rankwise log (no header)")
        if seq == 0 and record.get("v") != VERSION:
            raise LogError(self.path, self.offset, f"format version {record.get('v')}; this reader knows {VERSION}")
        if self._fault and (found := self._fault(record)):
            raise LogError(self.path, self.offset, found)

    def _check_tail(self, tail: bytes) -> None:
        """Raise LogError unless ``tail``, which does not decode, is just the beginning of a record.

        A flipped length also makes a record look unfinished. But then its end stands in the file: the last
        record's checksum key, or a whole later record.
        """
        if _claims_too_much(tail):
            raise LogError(self.path, self.offset, "damaged record (a text in it claims to be longer than any is)")
        complete = tail[-CRC_BYTES:-5] == CRC_KEY or tail[-CRC_BYTES + 1 : -4] == CRC_KEY[1:] + b"\xce"
        if complete or _later_record(tail):
            raise LogError(self.path, self.offset, "damaged record (its length is wrong)")


def _unpacker(window: bytes) -> msgpack.Unpacker:
    """Return an unpacker over ``window`` whose limits keep a hostile file from claiming memory."""
    unpacker = msgpack.Unpacker(
        max_buffer_size=3 * MAX_RECORD_BYTES,
        max_array_len=1 << 20,
        max_map_len=1 << 16,
        max_str_len=MAX_TEXT_BYTES,
        max_bin_len=MAX_TEXT_BYTES,
        max_ext_len=0,
    )
    unpacker.feed(window)
    return unpacker


_LENGTH_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}  # bin 8, 16, 32 and str 8, 16, 32
_FIXED_BYTES = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
                0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}  # fmt: skip


def _claims_too_much(tail: bytes) -> bool:
    """Say whether an unfinished record holds a text or bytes over the limit, which no writer of ours began.

    msgpack itself looks at such a length only once the bytes are there. Values follow each other without
    padding, so their headers can be walked without regard to nesting.
    """
    at = 0
    for _ in range(MAX_TAIL_VALUES):
        if at >= len(tail):
            break
        code = tail[at]
        size = _LENGTH_BYTES.get(code, 0)
        length = int.from_bytes(tail[at + 1 : at + 1 + size]) if size else code & 0x1F if 0xA0 <= code <= 0xBF else 0
        if length > MAX_TEXT_BYTES:
            return True
        at += 1 + size + length + _FIXED_BYTES.get(code, 0)
    return False


def _could_be_log(window: bytes) -> bool:
    """Say whether a file that starts like this may be a log: a map whose first key is ``kind``."""
    start = 1 if window[0] & 0xF0 == 0x80 else 3 if window[0] == 0xDE else 0
    return start > 0 and FIRST_KEY.startswith(window[start : start + len(FIRST_KEY)])


def _later_record(tail: bytes) -> bool:
    """Say whether a whole record stands somewhere behind the first bytes of ``tail``: its checksum tells."""
    view, left, crc_at = memoryview(tail), MAX_TAIL_BYTES, 0
    at = tail.find(FIRST_KEY, len(FIRST_KEY) + 3)
    while at >= 0 and left > 0:
        if crc_at < at:
            crc_at = tail.find(CRC_KEY + b"\xce", at)
        if crc_at < 0:
            break
        end = crc_at + len(CRC_KEY)
        for header in (1, 3):
            if tail[end + 1 : end + 5] == struct.pack(">I", zlib.crc32(view[at - header : end])):
                return True
            left -= end - at + 1000  # looking costs as much time as that many bytes
        at = tail.find(FIRST_KEY, at + 1)
    return False


def reason(error: Exception) -> str:
    """Return what a library's error says, on one line."""
    return str(error).split("\n")[0] or type(error).__name__


def log_path(run: Path) -> Path:
    """Return the log of a run given as its folder, that folder's name under runs/, or the log itself.

    Raises RankwiseError if there is none.
    """
    if not run.exists() and (RUNS / run.name).exists() and run.name == str(run):
        run = RUNS / run
    path = run / LOG_NAME if run.is_dir() else run
    if not path.is_file():
        raise RankwiseError(f"no log at {path}; give a run folder (they are under runs/) or a coordinator.msgpack")
    return path


def read(path: Path) -> Iterator[Record]:
    """Yield the whole records of a log file."""
    return LogReader(path).records()


def follow(path: Path, poll_s: float = 0.5, fault: Fault | None = None) -> Iterator[Record | None]:
    """Yield records as they are written, and None after each look that found no new one; ends with ``end``."""
    reader = LogReader(path, fault)
    while True:
        found = False
        for record in reader.records():
            found = True
            yield record
            if record["kind"] == "end":
                return
        if not found:
            yield None
            time.sleep(poll_s)


if __name__ == "__main__":
    from ps.reader.cli import main

    main()
