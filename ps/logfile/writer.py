"""The central log's writer, on rank 0 only: whole records, and none lost to a disk that is full for a while."""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import limits
from common.files import open_own, open_regular
from common.wording import count
from ps.logfile.lock import in_use, lock_file
from ps.logfile.reader import LogReader
from ps.logfile.records import encode

COPY_BYTES = 1 << 20
SYNC_EVERY_S = 5.0
NEW_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""Of a log that must not be there, not even as a link."""


class RunLog:
    """Appends records, from one thread at a time; each is one write, so a kill at any moment leaves whole ones."""

    def __init__(self, path: Path, *, new: bool = True, lock: bool = True) -> None:
        """Create the file, which must not exist, or continue one after its last whole record.

        ``lock``: keep other writers out; without it, they must be known to be dead. Raises OSError, BlockingIOError if
        another job writes to the file, and LogError.
        """
        self.path = path
        self.seq = self.size = 0
        self._synced = time.monotonic()
        if new:
            self._fd = os.open(path, NEW_FLAGS, 0o644)
        else:
            with open_own(path, append=True) as file:
                self._fd = os.dup(file.fileno())
        if lock:
            lock_file(self._fd, path)
        if not new:
            reader = LogReader(path)
            self.seq = sum(1 for _ in reader.records())
            self.size = reader.offset
            os.ftruncate(self._fd, self.size)  # cuts off what is torn

    def append(self, kind: str, **fields: Any) -> None:
        """Write a record of plain values.

        Raises OSError if it does not fit (disk full): what was written of it is cut off again. A file that was removed
        is written again first, with all that it held.
        """
        if not self._in_place():
            self._restore_file()
        if os.fstat(self._fd).st_size != self.size:  # what an earlier failure left
            os.ftruncate(self._fd, self.size)
        data = encode({"kind": kind, "seq": self.seq, "t": time.time(), **fields})
        try:
            written = os.write(self._fd, data)
            if written < len(data):  # a full disk takes the beginning; the next write names the reason
                written += os.write(self._fd, data[written:])
            if written < len(data):
                raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes were written")
            if kind in ("header", "end") or time.monotonic() - self._synced > SYNC_EVERY_S:
                os.fsync(self._fd)
                self._synced = time.monotonic()
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.size)
            raise
        self.size += len(data)
        self.seq += 1

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
            new = os.open(self.path, NEW_FLAGS, 0o644)
        except FileExistsError as error:
            with open_regular(self.path) as other:
                lock_file(other.fileno(), self.path)
            raise OSError(error.errno, "another file has taken its place", str(self.path)) from error
        try:
            lock_file(new, self.path)
            for at in range(0, self.size, COPY_BYTES):
                n = min(COPY_BYTES, self.size - at)
                if os.write(new, os.pread(self._fd, n, at)) < n:
                    raise OSError(errno.EIO, "its content is lost")
        except OSError:
            os.close(new)
            self.path.unlink(missing_ok=True)
            raise
        os.close(self._fd)
        self._fd = new


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
