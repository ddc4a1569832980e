"""Checkpoint files: a state of training in one file, whole or not there, readable at any number of ranks.

A checkpoint is an uncompressed ``.npz`` without pickle: every array under its name, and ``about``, the bytes of a
msgpack map with all plain values. The CRC-32 that a zip file keeps of each member shows damage.
"""

import contextlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from common import memory
from common.arrays_file import ArraysFile, open_arrays
from common.errors import BrokenFileError, CheckpointError
from common.files import Pulse, do_nothing, write_atomic
from common.flat import Array, blocks
from common.run_files import checkpoints_in

FORMAT = "rankwise-checkpoint"
VERSION = 1
ABOUT = "about"
NUMBERS = "fiu"
MAX_ABOUT_BYTES = 16 << 20
"""A million labels, the longest there is in it, and what else has a few lines."""
VALUE_FACTOR, CONTAINER_BYTES = 32, 72
"""What Python takes at most for a plain value of msgpack by its length, and for each list and map besides."""
MOST_UNUSED_BYTES = 1 << 16
"""Beside arrays and directory, and besides as much again for each array: names and headers."""
MOST_STEPS = 10**18 - 1
"""What the name of a checkpoint may hold."""
BLOCK_BYTES = 1 << 20
"""Written at a time: what the CRC-32 has been formed of is still in the cache when it is copied."""


@dataclass(slots=True)
class Snapshot:
    """A state of training after ``step`` steps in all: arrays by name, and plain values.

    ``path``: of the file that it was read from, which somebody may have renamed.
    """

    step: int
    arrays: dict[str, Array] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def name(self) -> str:
        """The name of its file, in which it is written."""
        return f"checkpoint-{self.step}.npz"


def save(folder: Path, snapshot: Snapshot, keep: int, pulse: Pulse = do_nothing) -> Path:
    """Write a checkpoint, read it back, and only then remove all but the newest ``keep``; return its path.

    Those of later steps go, too: training was taken back to before them. ``pulse`` is called while it is written and
    read. Raises OSError or CheckpointError; all other checkpoints are then as they were.
    """
    path = folder / snapshot.name
    write_atomic(path, lambda file: write(file, snapshot), pulse, lambda temporary: verify(temporary, pulse))
    others = checkpoints_in(folder)
    at = others.index(path)
    for old in (*others[:at], *others[at + keep :]):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):  # no fault of the new one
            old.unlink()
    return path


def write(file: Any, snapshot: Snapshot) -> None:
    """Write a checkpoint to an open file. Raises OSError.

    Not by ``np.savez``: while ranks keep all cores busy it takes twice as long, for it copies 16 MiB at a time.
    """
    about = {"format": FORMAT, "v": VERSION, "step": snapshot.step, **snapshot.about}
    arrays = {**snapshot.arrays, ABOUT: np.frombuffer(msgpack.packb(about), np.uint8)}
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                whole = np.ascontiguousarray(array)
                np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(whole))
                for block in blocks(whole.reshape(-1).view(np.uint8), BLOCK_BYTES):
                    member.write(block.data)


def newest(folder: Path) -> tuple[Snapshot | None, list[str]]:
    """Return the newest checkpoint that is whole, and what is wrong with newer ones."""
    faults: list[str] = []
    try:
        for path in checkpoints_in(folder):
            try:
                return load(path), faults
            except CheckpointError as error:
                faults.append(str(error))
    except OSError as error:
        faults.append(f"{folder}: cannot be listed ({error.strerror})")
    return None, faults


def verify(path: Path, pulse: Pulse = do_nothing) -> None:
    """Read a checkpoint a megabyte at a time. Raises CheckpointError."""
    with _opened(path) as arrays:
        arrays.check(pulse)


def load(path: Path) -> Snapshot:
    """Read a checkpoint. Raises CheckpointError, whatever is in the file; memory is bounded by the file's size.

    Raises MemoryLimitError for one that is larger than this process may take.
    """
    with _opened(path) as arrays:
        names = [name for name in arrays.names if name != ABOUT]
        if len(names) == len(arrays.names) or arrays.n_bytes(ABOUT) > MAX_ABOUT_BYTES:
            raise CheckpointError(path, "not a checkpoint of rankwise")
        about = _unpacked(path, arrays.read(ABOUT, kinds="u"))
        if not isinstance(about, dict) or about.pop("format", None) != FORMAT:
            raise CheckpointError(path, "not a checkpoint of rankwise")
        if (version := about.pop("v", None)) != VERSION:
            raise CheckpointError(path, f"format version {version!r}; this program knows {VERSION}"[:200])
        if type(step := about.pop("step", None)) is not int or not 0 <= step <= MOST_STEPS:
            raise CheckpointError(path, "does not say after which step it was taken")
        about.pop("crc", None)  # which earlier versions kept of each array besides
        memory.check(f"checkpoint {path}", arrays.n_bytes())
        return Snapshot(step, {name: arrays.read(name, NUMBERS) for name in names}, about, path)


def load_plain(path: Path) -> tuple[bool, dict[str, Array]]:
    """Say whether an uncompressed ``.npz`` is a checkpoint; if not, return its arrays, too, of numbers or texts.

    Raises CheckpointError, whatever is in the file; memory is bounded by the file's size. Raises MemoryLimitError for
    one that is larger than this process may take.
    """
    with _opened(path, "file of parameters") as arrays:
        if ABOUT in arrays.names:
            return True, {}
        memory.check(f"parameters {path}", arrays.n_bytes())
        return False, {name: arrays.read(name, NUMBERS + "U") for name in arrays.names}


@contextlib.contextmanager
def _opened(path: Path, what: str = "checkpoint") -> Iterator[ArraysFile]:
    """Open a checkpoint, and turn whatever is wrong with it into a CheckpointError."""
    try:
        with open_arrays(path) as arrays:
            if arrays.is_packed:
                raise CheckpointError(path, f"is compressed, and a {what} must not be; write it with numpy.savez")
            if arrays.unused > MOST_UNUSED_BYTES * (1 + len(arrays.names)):
                raise CheckpointError(path, f"{arrays.unused:,} bytes of it are in none of its arrays")
            yield arrays
    except BrokenFileError as error:
        raise CheckpointError(path, f"not a whole {what} ({error})") from error


def _unpacked(path: Path, packed: Array) -> Any:
    """Return the plain values of a checkpoint; None if there are none. Raises MemoryLimitError if they are too many."""
    data = packed.reshape(-1).view(np.uint8)
    # bytes that begin a list or a map, if they are not within another value
    containers = np.count_nonzero((data >> 5 == 4) | (data >= 0xDC) & (data <= 0xDF))
    memory.check(f"checkpoint {path}", VALUE_FACTOR * data.size + CONTAINER_BYTES * int(containers))
    try:
        return msgpack.unpackb(data.tobytes())
    except (ValueError, TypeError):  # all of msgpack's errors are one of them
        return None
