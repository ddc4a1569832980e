"""Reads .npz files of plain arrays, of whoever made them: what a file claims is checked before memory is taken for it.

Everybody who reads arrays from a file does it here: data, checkpoints, parameters to start from, saved models.
"""

import contextlib
import io
import math
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from common.errors import BrokenFileError, RankwiseError
from common.files import Pulse, do_nothing, open_regular
from common.flat import Array
from common.memory import out_of_memory

SUFFIX = ".npy"
MAGIC = b"\x93NUMPY"
MOST_DIRECTORY_BYTES = 8 << 20
"""Of a zip file, which Python takes in whole, as a hundred megabytes of objects at most; some 70,000 arrays."""
MOST_INFLATED = 1032
"""Bytes that deflate makes of one at most: 258 of two bits."""
METHODS = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "LZMA", 93: "Zstandard"}
"""How members may be packed that are not read, as their libraries unpack any amount at once."""
LONGEST_HEADER = 12 + 10_000
"""Bytes before an array's numbers: NumPy itself takes no more without being asked to trust the file."""
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""By version; the third one is for names of fields, which plain arrays have none of."""
PIECE_BYTES = 1 << 20
NUMBERS = "fiub"
OTHERS = "cSUmM"


class ArraysFile:
    """The arrays of an open ``.npz`` by name; methods raise BrokenFileError for whatever is wrong with it."""

    def __init__(self, file: BinaryIO) -> None:
        with _broken_file():
            self._archive: Any = zipfile.ZipFile(_InPieces(file))  # which leaves it to the caller to close the file
            self._members: dict[str, zipfile.ZipInfo] = {}
            for member in self._archive.infolist():
                name = member.filename.removesuffix(SUFFIX)
                if name in self._members:
                    raise BrokenFileError(f"it has two members named {name[:80]!r}")
                self._members[name] = member
            size = file.seek(0, io.SEEK_END)
        _check_claims(self._archive.infolist(), size)
        self.unused = size - sum(member.compress_size for member in self._members.values())
        """Bytes of the file that are in no array, beside some for each array's name."""

    @property
    def names(self) -> list[str]:
        """The names of all that is in it, in the order of the file."""
        return list(self._members)

    @property
    def is_packed(self) -> bool:
        """Whether anything in it is compressed."""
        return any(member.compress_type != zipfile.ZIP_STORED for member in self._members.values())

    def n_bytes(self, *names: str) -> int:
        """Return the bytes that arrays claim, of all if none are named."""
        return sum(self._member(name).file_size for name in names or self._members)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape that an array claims, if it has that length."""
        return self._header(name)[0]

    def read(self, name: str, kinds: str = NUMBERS + OTHERS) -> Array:
        """Return an array, whole and with the right checksum, of a dtype of these kinds.

        Its size was checked against the file's, not against what this process may take: see ``common.memory``.
        """
        _, dtype = self._header(name)
        if dtype.kind not in kinds:
            raise BrokenFileError(f"{name[:80]!r} holds {str(dtype)[:80]}, no plain array of numbers")
        with _broken_file(name), self._open(name) as member, out_of_memory(repr(name[:80])), _no_warnings():
            return np.lib.format.read_array(member)

    def rows(self, name: str, first: int, last: int, step: int) -> Iterator[Array]:
        """Yield rows of an array from ``first`` to before ``last``, ``step`` at a time: (n, ...) each.

        What lies before is read, too, since it may be packed. An array of Fortran's order is taken in whole.
        """
        (shape, fortran, dtype), begin = self._layout(name)
        if not shape or not 0 <= first <= last <= shape[0]:
            raise BrokenFileError(f"{name[:80]!r} has the shape {shape}; rows {first} to {last} are asked for")
        row_bytes = math.prod(shape[1:]) * dtype.itemsize
        if fortran and len(shape) > 1:
            whole = self.read(name)
            yield from (whole[start : min(start + step, last)] for start in range(first, last, step))
            return
        with _broken_file(name), self._open(name) as member:
            _pass_over(member, begin + first * row_bytes)
            for start in range(first, last, step):
                n = min(step, last - start)
                data = member.read(n * row_bytes)
                if len(data) < n * row_bytes:
                    raise BrokenFileError(f"{name[:80]!r} ends before its last row")
                yield np.frombuffer(data, dtype, n * math.prod(shape[1:])).reshape(n, *shape[1:])

    def streams(self, name: str) -> bool:
        """Say whether ``rows`` of an array takes no more memory than a step's."""
        (shape, fortran, _), _ = self._layout(name)
        return not fortran or len(shape) < 2

    def kind(self, name: str) -> str:
        """Return the kind of dtype that an array claims, as NumPy has it: ``f``, ``i``, ``U``."""
        return self._header(name)[1].kind

    def check(self, pulse: Pulse = do_nothing) -> None:
        """Read all of it a megabyte at a time, and compare the checksums."""
        for name in self._members:
            with _broken_file(name), self._open(name) as member:
                while member.read(PIECE_BYTES):
                    pulse()

    def _header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return the shape and dtype of an array that is as long as it claims."""
        (shape, _, dtype), _ = self._layout(name)
        return shape, dtype

    def _layout(self, name: str) -> tuple[tuple[tuple[int, ...], bool, np.dtype[Any]], int]:
        """Return shape, whether the order is Fortran's, dtype, and the byte where the numbers begin."""
        with _broken_file(name), self._open(name) as member:
            begin = io.BytesIO(member.read(LONGEST_HEADER))  # no more of it, whatever length it claims
        try:
            with _no_warnings():
                shape, fortran, dtype = HEADERS[np.lib.format.read_magic(begin)](begin)
        except Exception as error:  # of a dozen kinds, in words that differ from rank to rank
            raise BrokenFileError(f"{name[:80]!r} is no plain array of NumPy, or its header is damaged") from error
        if dtype.hasobject:
            raise BrokenFileError(
                f"{name[:80]!r} holds objects of Python; save plain numbers, or texts by array.astype(str)"
            )
        claimed = begin.tell() + math.prod(shape) * dtype.itemsize
        if claimed != self._member(name).file_size or any(n < 0 for n in shape) or not dtype.itemsize:
            raise BrokenFileError(f"{name[:80]!r} is not of the length it claims: {shape} of {dtype}"[:200])
        return (shape, fortran, dtype), begin.tell()

    def _open(self, name: str) -> "contextlib.AbstractContextManager[BinaryIO]":
        member = self._member(name)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            how = METHODS.get(member.compress_type, f"method {member.compress_type}")
            raise BrokenFileError(f"{name[:80]!r} is packed by {how}; write it with numpy.savez")
        return self._archive.open(member)  # type: ignore[no-any-return]

    def _member(self, name: str) -> zipfile.ZipInfo:
        if name not in self._members:
            raise BrokenFileError(f"it holds no {name[:80]!r}")
        return self._members[name]


@contextlib.contextmanager
def open_arrays(path: Path) -> Iterator[ArraysFile]:
    """Open an ``.npz`` file. Raises BrokenFileError for whatever is wrong with it."""
    with contextlib.ExitStack() as stack:
        with _broken_file():
            file = stack.enter_context(open_regular(path))
            if file.read(len(MAGIC)) == MAGIC:
                raise BrokenFileError("it is a single array, as numpy.save writes it; numpy.savez writes .npz files")
        yield ArraysFile(file)


def _pass_over(member: BinaryIO, n_bytes: int) -> None:
    """Read so many bytes without keeping them."""
    while n_bytes > 0 and (data := member.read(min(PIECE_BYTES, n_bytes))):
        n_bytes -= len(data)


class _InPieces:
    """A file for ``zipfile``, which asks for a directory at once, however large it claims to be."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, most: int = -1) -> bytes:
        if most > MOST_DIRECTORY_BYTES:
            raise BrokenFileError(f"its directory claims {most:,} bytes; allowed are {MOST_DIRECTORY_BYTES:,}")
        return self._file.read(most)


def _check_claims(members: list[zipfile.ZipInfo], file_size: int) -> None:
    """Raise BrokenFileError for members that share bytes, and for sizes that these cannot make."""
    members = sorted(members, key=lambda member: member.header_offset)
    ends = [*(member.header_offset for member in members[1:]), file_size]
    for member, end in zip(members, ends, strict=False):  # of no members there is one end
        name, packed = member.filename.removesuffix(SUFFIX)[:80], member.compress_size
        if member.header_offset + packed >= end:
            raise BrokenFileError(f"{name!r} claims to hold bytes of another")
        stored = member.compress_type == zipfile.ZIP_STORED
        if (stored and member.file_size != packed) or member.file_size > MOST_INFLATED * (packed + 1):
            raise BrokenFileError(f"{name!r} claims {member.file_size:,} bytes, and {packed:,} are there")


@contextlib.contextmanager
def _broken_file(name: str = "") -> Iterator[None]:
    """Turn what zipfile, zlib and NumPy raise, of a dozen kinds by what is broken, into a BrokenFileError."""
    try:
        yield
    except (BrokenFileError, RankwiseError):
        raise
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0][:200]
        of = f"{name[:80]!r}: " * bool(name)
        raise BrokenFileError(f"{of}{reason or type(error).__name__}") from error


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Keep Python and NumPy from warning of odd headers on the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
