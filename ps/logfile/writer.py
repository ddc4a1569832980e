"""The central log's writer, on rank 0 only: whole records, and none lost to a disk that is full for a while."""

import contextlib
import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgpack

from common import limits
from common.errors import LogError, LogVersionError
from common.files import create_new, do_nothing, open_own, open_regular
from common.wording import count
from ps.logfile.lock import in_use, lock_file
from ps.logfile.mending import MODE, mend
from ps.logfile.reader import LogReader
from ps.logfile.rebuilt import rebuild_header
from ps.logfile.records import Record, encode

COPY_BYTES = 1 << 20
SYNC_EVERY_S = 5.0
RECENT_BYTES = 1 << 20
"""Of the last records, which are written again if the file is cut from outside."""


class RunLog:
    """Appends records, from one thread at a time; each is one write, so a kill at any moment leaves whole ones."""

    def __init__(
        self,
        path: Path,
        *,
        new: bool = True,
        lock: bool = True,
        facts: Mapping[str, Any] | None = None,
        warn: Callable[[str], object] = do_nothing,
    ) -> None:
        """Create the file, which must not exist, or continue one after its last whole record.

        One that is damaged is mended first, see ``mending.mend``, and ``warn`` is called with what is lost. ``lock``:
        keep other writers out; without it, they must be known to be dead. ``facts``: what the job knows of the run,
        for a header in the place of one that is lost; with them the file may even be gone. Raises OSError,
        BlockingIOError if another job writes to the file, and LogError where it cannot be continued.
        """
        self.path = path
        self.seq = self.size = 0
        self._lock, self._facts, self._warn = lock, facts, warn
        self._synced = time.monotonic()
        self._header: Record = {}
        self._recent: deque[bytes] = deque()
        self._recent_bytes = 0
        self._fd = _create(path) if new else self._open()
        try:
            self._lock_file(self._fd)
            if not self._in_place():
                raise BlockingIOError(errno.EAGAIN, "another job has just begun to write to it", str(path))
            if not new:
                self._continue()
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, kind: str, **fields: Any) -> None:
        """Write a record of plain values.

        Raises OSError if it does not fit (disk full): what was written of it is cut off again. A file that was removed
        is written again first, with all that it held, and one that was cut from outside with what is known of it.
        """
        if not self._in_place():
            self._restore_file()
        size = os.fstat(self._fd).st_size
        if size > self.size:  # what an earlier failure left
            os.ftruncate(self._fd, self.size)
        elif size < self.size:
            self._restore_end(size)
        record = {"kind": kind, "seq": self.seq, "t": time.time(), **fields}
        data = encode(record)
        self._write(data, sync=kind in ("header", "end"))
        self._header = self._header or record
        self.size += len(data)
        self.seq += 1
        self._recent.append(data)
        self._recent_bytes += len(data)
        while self._recent_bytes > RECENT_BYTES and len(self._recent) > 1:
            self._recent_bytes -= len(self._recent.popleft())

    def _write(self, data: bytes, *, sync: bool) -> None:
        """Write bytes at the end of the file, or nothing. Raises OSError."""
        size = os.fstat(self._fd).st_size
        try:
            written = os.write(self._fd, data)
            if written < len(data):  # a full disk takes the beginning; the next write names the reason
                written += os.write(self._fd, data[written:])
            if written < len(data):
                raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes were written")
            if sync or time.monotonic() - self._synced > SYNC_EVERY_S:
                os.fsync(self._fd)
                self._synced = time.monotonic()
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, size)
            raise

    def _open(self) -> int:
        """Open a file that is there, or create one that is gone, if that can be continued. Raises OSError."""
        try:
            with open_own(self.path, append=True) as file:
                return os.dup(file.fileno())
        except FileNotFoundError:
            if self._facts is None:
                raise
        try:
            return _create(self.path)
        except FileExistsError as error:
            raise BlockingIOError(errno.EAGAIN, "another job has just begun to write to it", str(self.path)) from error

    def _lock_file(self, handle: int) -> None:
        if self._lock:
            lock_file(handle, self.path)

    def _continue(self) -> None:
        """Find the end of the last whole record, and cut off what is torn; mend what is damaged."""
        reader = LogReader(self.path)
        try:
            for record in reader.records():
                self._header = self._header or record
                self.seq += 1
        except LogVersionError:
            raise
        except LogError as error:
            if isinstance(error.__cause__, OSError) or not (error.damaged or self._facts):
                raise
        else:
            if self.seq or self._facts is None:
                self.size = reader.offset
                os.ftruncate(self._fd, self.size)
                return
        self._mend()

    def _mend(self, later: Iterable[Record] = ()) -> None:
        """Put a mended file in the place of this one. Raises OSError and LogError."""
        header = None
        if self._header or self._facts is not None:
            header = lambda path: self._header or rebuild_header(path, self._facts)  # noqa: E731
        mended = mend(self.path, self._lock_file, header, later)
        with mended.file as file:
            handle = os.dup(file.fileno())  # the lock is that of both
        os.close(self._fd)
        self._fd, self.seq, self.size, self._header = handle, mended.seq, mended.size, mended.header
        self._recent.clear()
        self._recent_bytes = 0
        self._warn(mended.message)

    def _restore_end(self, size: int) -> None:
        """Write again what somebody cut off beyond ``size``; where not all of it is known, note the loss.

        Raises OSError.
        """
        cut, known = self.size - size, b"".join(self._recent)
        if cut <= len(known):
            self._write(known[len(known) - cut :], sync=True)
            self._warn(f"{self.path}: the last {count(cut, 'byte')} were cut off from outside, and are written again")
            return
        try:
            self._mend([msgpack.unpackb(data) for data in self._recent])
        except LogError as error:
            raise OSError(errno.EIO, error.reason) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _in_place(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except OSError:
            return False

    def _restore_file(self) -> None:
        """Write the file again, from the one that is still open though it was removed. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            new = _create(self.path)
        except FileExistsError as error:
            with open_regular(self.path) as other:
                lock_file(other.fileno(), self.path)
            raise OSError(error.errno, "another file has taken its place", str(self.path)) from error
        try:
            self._lock_file(new)
            for at in range(0, self.size, COPY_BYTES):
                data = os.pread(self._fd, min(COPY_BYTES, self.size - at), at)
                if os.write(new, data) < len(data):
                    raise OSError(errno.EIO, "its content is lost")
        except OSError:
            os.close(new)
            self.path.unlink(missing_ok=True)
            raise
        os.close(self._fd)
        self._fd = new


def _create(path: Path) -> int:
    """Create a file that must not be there, not even as a link, to append to. Raises OSError."""
    with create_new(path, MODE, append=True) as file:
        return os.dup(file.fileno())


class RetryQueue:
    """Writes records, or keeps those that cannot be written now and tries again with the next.

    ``warn`` is called once for each new reason, and when all is well again. May be used by several threads.
    """

    def __init__(self, log: RunLog, warn: Callable[[str], object]) -> None:
        self.log, self._warn = log, warn
        self._mutex = threading.RLock()
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._lost = 0
        self._reason = ""

    def append(self, kind: str, **fields: Any) -> None:
        """Write a record, and before it those that wait."""
        with self._mutex:
            self._waiting.append((kind, fields))
            self.flush()

    def flush(self) -> None:
        """Try to write all that wait."""
        with self._mutex:
            try:
                while self._waiting:
                    kind, fields = self._waiting[0]
                    self.log.append(kind, **fields)
                    self._waiting.pop(0)
            except OSError as error:
                self._write_failed(error)
                return
            if self._reason:
                self._reason = ""
                missing = f"{count(self._lost, 'record')} missing" if self._lost else "no record is missing"
                self._warn(f"{self.log.path}: can be written again, and {missing}")

    def missing(self) -> str:
        """Say what the log lacks; nothing if all is in it."""
        n = len(self._waiting) + self._lost
        return f"{self.log.path}: {count(n, 'record')} missing ({self._reason})" if n else ""

    def _write_failed(self, error: OSError) -> None:
        """Warn once of each reason; of too many records drop the oldest epoch, or the oldest of any kind."""
        reason = error.strerror or str(error)
        if reason != self._reason:
            self._reason = reason
            if isinstance(error, BlockingIOError):  # the file was removed, and another job has made one
                reason = in_use(self.log.path).who
            self._warn(f"{self.log.path}: cannot be written ({reason}); training continues, and writing is tried again")
        if len(self._waiting) > limits.ITEMS:
            i = next((i for i, (kind, _) in enumerate(self._waiting) if kind in ("steps", "epoch")), 0)
            del self._waiting[i]
            self._lost += 1
