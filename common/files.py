"""Files that are either whole or not there."""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

SYNC_BYTES = 8 << 20
"""How much of a large file is written before it is brought to the disk: all at once would hold up other programs."""
Pulse = Callable[[], object]
"""Is called whenever writing makes progress."""


def do_nothing(*_: object) -> None:
    """Do nothing, whatever is given."""


class SyncedFile:
    """A file that is brought to the disk while it is written, and calls ``pulse`` at each write."""

    def __init__(self, file: BinaryIO, pulse: Pulse) -> None:
        self._file, self._pulse = file, pulse
        self._not_synced = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        """Write all of ``data``. Raises OSError."""
        n = self._file.write(data)
        self._not_synced += n
        if self._not_synced >= SYNC_BYTES:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._not_synced = 0
        self._pulse()
        return n


def write_atomic(
    path: Path, write: Callable[[Any], object], pulse: Pulse = do_nothing, check: Callable[[Path], object] = do_nothing
) -> None:
    """Write a file so that readers never see half of it: to a temporary file in its folder, which is then renamed.

    ``pulse``: see SyncedFile. ``check`` may read the temporary file. The content is on the disk before the renaming,
    and the new name after it. Raises OSError, and what ``check`` raises; the temporary file is then gone, and an older
    ``path`` untouched.
    """
    # a name of its own, in digits: processes of two nodes or containers may have the same id
    temporary = path.with_name(f".{path.name}.{os.getpid()}{secrets.randbelow(10**6):06d}")
    try:
        with temporary.open("wb") as file:
            write(SyncedFile(file, pulse))
            file.flush()
            os.fsync(file.fileno())
        check(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    handle = os.open(path.parent, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse it
            os.fsync(handle)
    finally:
        os.close(handle)
