"""Checkpoints: one file a state of training, whole or not there, readable at any number of ranks.

A checkpoint is an ``.npz`` (uncompressed, no pickle): every array under its name, and ``about``, the bytes of a msgpack
map with all plain values and the CRC-32 of each array.
"""

import contextlib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgpack
import numpy as np

from common.errors import CheckpointError
from common.files import Steady, quiet, replacing
from common.flat import Array
from common.run_files import TORN, all_in

FORMAT = "rankwise-checkpoint"
VERSION = 1
ABOUT = "about"
PIECE_BYTES = 1 << 20
"""Written at a time: while a piece is written or its checksum formed, other threads run."""
MOST_ABOUT_BYTES = 64 << 20
MOST_ARRAYS = 100_000


@dataclass(slots=True)
class Snapshot:
    """A state of training after ``step`` steps in all: arrays by name, and plain values."""

    step: int
    arrays: dict[str, Array] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file it belongs in."""
        return f"checkpoint-{self.step}.npz"


def save(folder: Path, snapshot: Snapshot, keep: int, pulse: Callable[[], object] = quiet) -> Path:
    """Write a checkpoint, read it back, and only then remove all but the newest ``keep``; return its path.

    Those of later steps go, too: training went back behind them. ``pulse`` is told of each piece written or read.
    Raises OSError or CheckpointError; all others are then as they were.
    """
    path = folder / snapshot.name
    with replacing(path) as (file, temporary):
        _write(Steady(file, pulse), snapshot)
        file.flush()
        verify(temporary, pulse)
    others = all_in(folder)
    at = others.index(path)
    for old in (*others[:at], *others[at + keep :]):
        old.unlink(missing_ok=True)
    return path


def _write(file: IO[bytes] | Any, snapshot: Snapshot) -> None:
    crcs = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in snapshot.arrays.items():
            crcs[name] = _write_array(archive, name, array)
        about = {"format": FORMAT, "v": VERSION, "step": snapshot.step, "crc": crcs, **snapshot.about}
        _write_array(archive, ABOUT, np.frombuffer(msgpack.packb(about), np.uint8))


def _write_array(archive: zipfile.ZipFile, name: str, array: Array) -> int:
    """Write one member in pieces; return the CRC-32 of the array's bytes."""
    crc, data = 0, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
        np.lib.format.write_array_header_1_0(member, header)
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            member.write(piece)
            crc = zlib.crc32(piece, crc)
    return crc


def remove_torn(folder: Path) -> None:
    """Remove what killed jobs have left of checkpoints; for the only job that writes to the folder."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if TORN.fullmatch(path.name):
                path.unlink(missing_ok=True)


def newest(folder: Path) -> tuple[Snapshot | None, list[str]]:
    """Return the newest checkpoint that is whole, and what is wrong with newer ones."""
    faults: list[str] = []
    try:
        paths = all_in(folder)
    except OSError as error:
        return None, [f"{folder}: cannot be listed ({error.strerror})"]
    for path in paths:
        try:
            return load(path), faults
        except CheckpointError as error:
            faults.append(str(error))
    return None, faults


def verify(path: Path, pulse: Callable[[], object] = quiet) -> None:
    """Read a checkpoint piece by piece, which takes no memory to speak of. Raises CheckpointError."""
    for _ in _arrays(path, keep=False, pulse=pulse):
        pass


def load(path: Path) -> Snapshot:
    """Read a checkpoint. Raises CheckpointError, whatever is in the file; memory is bounded by the file's size."""
    about: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    for name, value in _arrays(path, keep=True):
        if isinstance(value, dict):
            about = value
        else:
            arrays[name] = value
    return Snapshot(about.pop("step"), arrays, about)


def _arrays(path: Path, *, keep: bool = True, pulse: Callable[[], object] = quiet) -> Iterator[tuple[str, Any]]:
    """Yield the plain values, then one array after the other, checked; without ``keep``, empty ones."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            size = path.stat().st_size
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if len(members) > MOST_ARRAYS or sum(info.file_size for info in members.values()) > size:
                raise CheckpointError(path, "claims to hold more than it does")
            if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
                raise CheckpointError(path, "is compressed, which no checkpoint is")
            about = _about(path, archive, members)
            yield ABOUT, about
            if members.keys() - {ABOUT} != about["crc"].keys():
                raise CheckpointError(path, "does not hold the arrays that it names")
            for name, crc in about["crc"].items():
                array, found = _read_array(path, archive, members[name], keep=keep, pulse=pulse)
                if found != crc:
                    raise CheckpointError(path, f"array {name}: checksum does not match")
                yield name, array
    except (CheckpointError, GeneratorExit):
        raise
    except MemoryError as error:
        raise CheckpointError(path, "does not fit into memory") from error
    except Exception as error:  # of a dozen kinds, from NumPy, zipfile and msgpack, depending on what is broken
        raise CheckpointError(path, f"not a whole checkpoint ({_reason(error)})") from error


def _about(path: Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> dict[str, Any]:
    if ABOUT not in members or members[ABOUT].file_size > MOST_ABOUT_BYTES:
        raise CheckpointError(path, "not a checkpoint of rankwise")
    about = msgpack.unpackb(_read_array(path, archive, members[ABOUT], keep=True)[0].tobytes())
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise CheckpointError(path, "not a checkpoint of rankwise")
    if about.get("v") != VERSION:
        raise CheckpointError(path, f"format version {about.get('v')}; this program knows {VERSION}")
    whole = type(about.get("step")) is int and isinstance(about.get("crc"), dict)
    if not whole or not all(isinstance(name, str) and type(crc) is int for name, crc in about["crc"].items()):
        raise CheckpointError(path, "does not say what it holds")
    return about


def _read_array(
    path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, *, keep: bool, pulse: Callable[[], object] = quiet
) -> tuple[Array, int]:
    """Return an array and its CRC-32; memory is taken once it is clear that the file holds what its header claims."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise CheckpointError(path, f"{member.filename}: header version {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        n_bytes = dtype.itemsize
        for length in shape:
            n_bytes *= length
        if fortran or dtype.hasobject or dtype.kind not in "fiu" or n_bytes > member.file_size:
            raise CheckpointError(path, f"{member.filename}: not a plain array of the length it claims")
        array = np.empty(shape if keep else 0, dtype)
        data = array.reshape(-1).view(np.uint8).data
        at = crc = 0
        while at < n_bytes:
            piece = file.read(min(PIECE_BYTES, n_bytes - at))
            if not piece:
                raise CheckpointError(path, f"{member.filename}: ends early")
            if keep:
                data[at : at + len(piece)] = piece
            crc = zlib.crc32(piece, crc)
            at += len(piece)
            pulse()
        if file.read(1):
            raise CheckpointError(path, f"{member.filename}: goes on behind its end")
    return array, crc


def _reason(error: Exception) -> str:
    return str(error).split("\n")[0][:200] or type(error).__name__
