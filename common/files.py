"""Files that are either whole or not there."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO


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


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that readers never see half of it. Raises OSError."""
    with replacing(path) as (file, _):
        write(file)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the file system can. Raises OSError if it cannot be opened."""
    handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse it
            os.fsync(handle)
    finally:
        os.close(handle)
