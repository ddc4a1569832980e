"""Checkpoint files: a state of training in one file, whole or not there, readable at any number of ranks.

A checkpoint is an uncompressed ``.npz`` without pickle: every array under its name, and ``about``, the bytes of a
msgpack map with all plain values. The CRC-32 that a zip file keeps of each member shows damage.
"""

import contextlib
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from common.errors import CheckpointError
from common.files import Pulse, do_nothing, write_atomic
from common.flat import Array, blocks
from common.run_files import UNFINISHED_CHECKPOINT, checkpoints_in

FORMAT = "rankwise-checkpoint"
VERSION = 1
ABOUT = "about"
MAX_ABOUT_BYTES = 64 << 20
MOST_STEPS = 10**18 - 1
"""What the name of a checkpoint may hold."""
BLOCK_BYTES = 1 << 20
"""Written or read at a time: what the CRC-32 has been formed of is still in the cache when it is copied."""


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
        old.unlink(missing_ok=True)
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


def remove_unfinished(folder: Path) -> None:
    """Remove the unfinished checkpoints of killed jobs; only for the one job that writes to the folder."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if UNFINISHED_CHECKPOINT.fullmatch(path.name):
                path.unlink(missing_ok=True)


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
    with _opened(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:  # which compares the CRC-32 at the end
                while file.read(BLOCK_BYTES):
                    pulse()


def load(path: Path) -> Snapshot:
    """Read a checkpoint. Raises CheckpointError, whatever is in the file; memory is bounded by the file's size."""
    with _opened(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        if ABOUT not in members or members[ABOUT].file_size > MAX_ABOUT_BYTES:
            raise CheckpointError(path, "not a checkpoint of rankwise")
        about = msgpack.unpackb(_read_array(archive, members.pop(ABOUT)).tobytes())
        if not isinstance(about, dict) or about.pop("format", None) != FORMAT:
            raise CheckpointError(path, "not a checkpoint of rankwise")
        if (version := about.pop("v", None)) != VERSION:
            raise CheckpointError(path, f"format version {version}; this program knows {VERSION}")
        if type(step := about.pop("step", None)) is not int or not 0 <= step <= MOST_STEPS:
            raise CheckpointError(path, "does not say after which step it was taken")
        about.pop("crc", None)  # which earlier versions kept of each array besides
        return Snapshot(step, {name: _read_array(archive, member) for name, member in members.items()}, about, path)


def load_plain(path: Path) -> tuple[bool, dict[str, Array]]:
    """Say whether an uncompressed ``.npz`` is a checkpoint; if not, return its arrays, too, of numbers or texts.

    Raises CheckpointError, whatever is in the file; memory is bounded by the file's size.
    """
    with _opened(path, "file of parameters") as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        if ABOUT in members:
            return True, {}
        return False, {name: _read_array(archive, member, "fiuU") for name, member in members.items()}


@contextlib.contextmanager
def _opened(path: Path, what: str = "checkpoint") -> Iterator[zipfile.ZipFile]:
    """Open a checkpoint, and turn whatever is wrong with it into a CheckpointError."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                raise CheckpointError(path, "claims to hold more than it does")
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise CheckpointError(path, f"is compressed, and a {what} must not be; write it with numpy.savez")
            yield archive
    except CheckpointError:
        raise
    except MemoryError as error:
        raise CheckpointError(path, "does not fit into memory") from error
    except Exception as error:  # of a dozen kinds, from NumPy, zipfile and msgpack, depending on what is broken
        reason = str(error).split("\n")[0][:200] or type(error).__name__
        raise CheckpointError(path, f"not a whole {what} ({reason})") from error


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, kinds: str = "fiu") -> Array:
    """Read a member to its end, where its CRC-32 is compared. Raises ValueError before memory is taken for too much."""
    with archive.open(member) as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.kind not in kinds or file.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
            raise ValueError(f"{member.filename}: not a plain array of the length it claims")
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
