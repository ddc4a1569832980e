"""Reads .npz files of plain arrays, of whoever made them: nothing is allocated before what it claims was checked.

Everybody who reads arrays from a file does it here: data, checkpoints, parameters to start from, saved models.
"""

import contextlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import BrokenFileError
from common.files import Pulse, do_nothing, open_regular
from common.flat import Array
from common.memory import out_of_memory
from common.zip_file import Member, MemberReader, ZipArchive

SUFFIX = ".npy"
MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 10_000
"""Bytes of an array's header: what NumPy itself reads without being asked to trust the file."""
MOST_AXES = 32
MOST_ITEMS = 2**50
"""What the axes may come to that are not empty, where others are: NumPy cannot count more bytes than 2**63."""
PIECE_BYTES = 1 << 20
"""Read at a time: what the CRC-32 has been formed of is still in the cache when it is copied."""
NUMBERS = "fiub"
OTHERS = "cSUVmM"
VALUES = (r"""(?P<descr>'[^'"\\]*'|"[^'"\\]*"|\[.*\])""", "(?P<fortran>True|False)", r"\((?P<shape>[\dL,\s]*)\)")
PAIR = re.compile(rf"""\s*['"](descr|fortran_order|shape)['"]\s*:\s*(?:{"|".join(VALUES)})\s*,?""", re.DOTALL)
DTYPE = re.compile(r"[<>=|]?[biufcSUVmMO?]\d{0,7}(?:\[\d{0,6}[a-zA-Z]{1,2}\])?")


class ArraysFile:
    """The arrays of an open ``.npz`` by name; methods raise BrokenFileError, and OSError."""

    def __init__(self, archive: ZipArchive) -> None:
        self._archive = archive
        self._members: dict[str, Member] = {}
        for name, member in archive.members.items():
            plain = name.removesuffix(SUFFIX)
            if plain in self._members:
                raise BrokenFileError(f"it has two members named {plain[:80]!r}")
            self._members[plain] = member

    @property
    def names(self) -> list[str]:
        """The names of all that is in it, in the order of the file."""
        return list(self._members)

    @property
    def is_packed(self) -> bool:
        """Whether anything in it is compressed."""
        return any(member.method for member in self._members.values())

    @property
    def unused(self) -> int:
        """Bytes of the file that are in no array, beside some for each array's name."""
        return self._archive.unused

    def n_bytes(self, *names: str) -> int:
        """Return the bytes that arrays claim, of all if none are named."""
        return sum(self._member(name).size for name in names or self._members)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape that an array claims, if it has that length."""
        return _header(self._archive.open(self._member(name)))[0]

    def read(self, name: str, kinds: str = NUMBERS + OTHERS) -> Array:
        """Return an array, whole and with the right checksum, of a dtype of these kinds.

        Its size was checked against the file's, not against what this process may take: see ``common.memory``.
        """
        reader = self._archive.open(self._member(name))
        shape, fortran, dtype = _header(reader)
        if dtype.kind not in kinds:
            raise BrokenFileError(f"{name[:80]!r} holds {_told(dtype)}, no plain array of numbers")
        with out_of_memory(repr(name[:80])):
            array = np.empty(math.prod(shape), dtype)
        flat = array.view(np.uint8) if array.size else np.empty(0, np.uint8)
        for start in range(0, len(flat), PIECE_BYTES):
            piece = reader.read(min(PIECE_BYTES, len(flat) - start))
            flat[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
        reader.close()
        return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)

    def _member(self, name: str) -> Member:
        if name not in self._members:
            raise BrokenFileError(f"it holds no {name[:80]!r}")
        return self._members[name]

    def check(self, pulse: Pulse = do_nothing) -> None:
        """Read all of it a megabyte at a time, and compare the checksums."""
        for member in self._members.values():
            reader = self._archive.open(member)
            while reader.read(PIECE_BYTES):
                pulse()
            reader.close()


@contextlib.contextmanager
def open_arrays(path: Path) -> Iterator[ArraysFile]:
    """Open an ``.npz`` file. Raises BrokenFileError for whatever is wrong with it, also while it is read."""
    try:
        with open_regular(path) as file:
            if file.read(len(MAGIC)) == MAGIC:
                raise BrokenFileError("it is a single array, as numpy.save writes it; numpy.savez writes .npz files")
            yield ArraysFile(ZipArchive(file))
    except OSError as error:
        raise BrokenFileError(error.strerror or str(error)) from error


def _header(reader: MemberReader) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the first axis varies fastest, and dtype of an array that is as long as it claims."""
    name = repr(reader.member.name.removesuffix(SUFFIX)[:80])
    begin = reader.read(len(MAGIC) + 2)
    version = tuple(begin[len(MAGIC) :])
    if not begin.startswith(MAGIC) or version not in ((1, 0), (2, 0), (3, 0)):
        raise BrokenFileError(f"{name} is no array of NumPy")
    length = reader.read(2 if version == (1, 0) else 4)
    n = int.from_bytes(length, "little")
    if n > LONGEST_HEADER:
        raise BrokenFileError(f"{name} has a header of {n:,} bytes; allowed are {LONGEST_HEADER:,}")
    text = reader.read(n).decode("utf-8" if version == (3, 0) else "latin-1", "replace")
    shape, fortran, dtype = _parsed(text, name)
    claimed = math.prod(shape) * dtype.itemsize
    if (
        len(begin) + len(length) + n + claimed != reader.member.size
        or math.prod(max(n, 1) for n in shape) >= MOST_ITEMS
    ):
        raise BrokenFileError(f"{name} is not of the length it claims: {shape} of {_told(dtype)}")
    return shape, fortran, dtype


def _parsed(text: str, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return what a header says, which is a dictionary of Python's with three entries; no other text is one."""
    text = text.strip()
    found: dict[str, str] = {}
    at = 1
    while (match := PAIR.match(text, at)) and match.end() < len(text):
        value = next(value for value in match.groups()[1:] if value is not None)
        found[match[1]] = value
        at = match.end()
    numbers = [part.strip().removesuffix("L") for part in found.get("shape", "").split(",")]
    numbers = [part for part in numbers if part]
    plain = text[:1] == "{" and text[at:].strip() == "}" and found.keys() == {"descr", "fortran_order", "shape"}
    if not plain or len(numbers) > MOST_AXES or not all(re.fullmatch(r"\d{1,19}", part) for part in numbers):
        raise BrokenFileError(f"{name} has a header that NumPy does not write: {text[:80]!r}")
    if found["descr"].startswith("["):
        raise BrokenFileError(f"{name} holds records with fields, no plain array of numbers")
    return tuple(map(int, numbers)), found["fortran_order"] == "True", _dtype(found["descr"][1:-1], name)


def _dtype(text: str, name: str) -> np.dtype[Any]:
    if not DTYPE.fullmatch(text):
        raise BrokenFileError(f"{name} has an unknown dtype {text[:80]!r}")
    try:
        dtype = np.dtype(text)
    except (TypeError, ValueError) as error:
        raise BrokenFileError(f"{name} has an unknown dtype {text[:80]!r}") from error
    if dtype.hasobject:
        raise BrokenFileError(f"{name} holds objects of Python, which are not read: no plain array of numbers")
    if not dtype.itemsize:
        raise BrokenFileError(f"{name} holds {_told(dtype)} of no length")
    return dtype


def _told(dtype: np.dtype[Any]) -> str:
    return str(dtype)[:80]
