"""Writes a prepared folder so that nobody takes half of one for whole: beside its place, then renamed."""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common.data.prepared_file import META_NAME, Prepared
from common.errors import DataError
from common.files import create_new, sync_folder, temporary_name, told, write_bytes

LOCK_NAME, STOP_NAME, COPY_NAME = "lock", "stop", "text-"
LOCK_TEXT = b"rankwise prepares a folder\n"
OLD_S = 60.0
"""Seconds after which a lock that nobody holds is of a job that has died, not of one that is about to take it."""


def allocate(path: Path, shape: tuple[int, ...], dtype: str) -> int:
    """Create an .npy file of zeros with all its room on the disk; return the byte where row 0 begins.

    Raises OSError: of a disk that is full now, not when rows are written.
    """
    with create_new(path) as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        begin = file.tell()
        n_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if n_bytes:
            os.posix_fallocate(file.fileno(), begin, n_bytes)
        return begin


class NewFolder:
    """A folder that is being made for ``place``, under a name of its own beside it, locked as long as its job lives."""

    def __init__(self, place: Path) -> None:
        """Raises OSError."""
        place.parent.mkdir(parents=True, exist_ok=True)
        remove_left_over(place.parent)
        self.place, self.path = place, place.parent / temporary_name(place.name)
        self.path.mkdir()
        self._lock = create_new(self.path / LOCK_NAME)
        self._lock.write(LOCK_TEXT)
        self._lock.flush()
        with contextlib.suppress(OSError):  # not every network file system has locks; nothing is tidied up there
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def allocate(self, arrays: dict[str, list[Any]], rows: int) -> dict[str, list[Any]]:
        """Create the arrays, (shape of a row, dtype) by name; return path, the byte of row 0, and bytes of a row.

        Raises OSError.
        """
        made = {}
        for name, (shape, dtype) in arrays.items():
            path = self.path / f"{name}.npy"
            begin = allocate(path, (rows, *shape), dtype)
            made[name] = [str(path), begin, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize]
        return made

    def finish(self, meta: dict[str, Any], *, replace: bool) -> None:
        """Add meta.json and give the folder its name. Raises OSError.

        ``replace``: a folder of that name is replaced; else a whole one is taken for the same, which another
        job has made meanwhile.
        """
        write_bytes(self.path / META_NAME, json.dumps(meta, ensure_ascii=False, allow_nan=False).encode())
        for copy in self.path.glob(f"{COPY_NAME}*"):
            copy.unlink()
        (self.path / STOP_NAME).unlink(missing_ok=True)  # too late
        sync_folder(self.path)
        old = self.place.parent / temporary_name(self.place.name)
        if replace or not is_whole(self.place):
            with contextlib.suppress(FileNotFoundError):
                self.place.rename(old)
        try:
            self.path.rename(self.place)
        except OSError:
            if not is_whole(self.place):
                raise
            shutil.rmtree(self.path, ignore_errors=True)
        (self.place / LOCK_NAME).unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)
        self._lock.close()
        sync_folder(self.place.parent)

    def drop(self) -> None:
        """Remove what there is of it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def is_whole(place: Path) -> bool:
    """Say whether a prepared folder lies there that this version reads, with arrays as long as they should be."""
    try:
        prepared = Prepared.load(place)
        for name in prepared.facts["arrays"]:
            prepared.array(name)
    except DataError:
        return False
    return True


def remove_left_over(folder: Path) -> None:
    """Remove folders that jobs which have died were making in ``folder``."""
    for lock in folder.glob(f".*.part/{LOCK_NAME}"):
        with contextlib.suppress(OSError), lock.open("rb") as file:
            if file.read(len(LOCK_TEXT)) != LOCK_TEXT or time.time() - lock.stat().st_mtime < OLD_S:
                continue
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


@contextlib.contextmanager
def saying_where(place: Path) -> Iterator[None]:
    """Turn an error of the system while a folder is made into a DataError with the remedy."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{place}: cannot be written ({told(error)})") from error
