"""Files that are either whole or not there."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

SYNC_BYTES = 8 << 20
"""What a large file holds that is not on the disk yet: all of it at once would keep the disk and a core from others."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Give a temporary file in the same folder, and its path, which then takes the place of ``path``.

    What was written is on the disk before, and the new name after. Raises OSError; the temporary file is then gone, as
    it is if the caller raises, and an older ``path`` untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file, temporary
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


class Steady:
    """A file that is brought to the disk while it is written, and tells ``pulse`` of each write."""

    def __init__(self, file: BinaryIO, pulse: Callable[[], object]) -> None:
        self._file, self._pulse = file, pulse
        self._waiting = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        """Write all of ``data``. Raises OSError."""
        n = self._file.write(data)
        self._waiting += n
        if self._waiting >= SYNC_BYTES:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._waiting = 0
        self._pulse()
        return n


def quiet() -> None:
    """Hear a pulse and do nothing."""


def write_atomic(path: Path, write: Callable[[Any], object], pulse: Callable[[], object] = quiet) -> None:
    """Write a file so that readers never see half of it; ``pulse``: see Steady. Raises OSError."""
    with replacing(path) as (file, _):
        write(Steady(file, pulse))


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the file system can. Raises OSError if it cannot be opened."""
    handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse it
            os.fsync(handle)
    finally:
        os.close(handle)
