"""Reads zip files by rules of our own: what a file claims is checked against its size before anything is made of it.

Python's ``zipfile`` takes the directory of any size into memory, and raises a dozen kinds of errors on broken files.
What NumPy writes needs little of the format: stored or deflated members, none twice, none in another's bytes.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from common.errors import BrokenFileError

END, ENTRY, LOCAL = struct.Struct("<4s4H2LH"), struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s5H3L2H")
LOCATOR64, END64 = struct.Struct("<4sLQL"), struct.Struct("<4sQ2H2L4Q")
STORED, DEFLATED = 0, 8
METHODS = {9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ"}
"""How members may be packed that are not read; see APPNOTE.TXT, 4.4.5."""
REFUSED_FLAGS = 0x2061
"""Of members that are encrypted or patches; see APPNOTE.TXT, 4.4.4."""
UTF8 = 0x800
LONGEST_COMMENT = 1 << 16
MOST_MEMBERS, MOST_DIRECTORY_BYTES = 100_000, 16 << 20
MOST_INFLATED = 1032
"""Bytes that deflate makes of one at most: 258 of two bits."""
PIECE = 1 << 16
"""Packed bytes taken in at a time."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a zip file: ``packed`` bytes that make ``size``, behind a header ``at`` a place, before ``limit``."""

    name: str
    method: int
    crc: int
    packed: int
    size: int
    at: int
    limit: int


class ZipArchive:
    """The members of an open zip file, by name. Raises BrokenFileError, and OSError."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, os.SEEK_END)
        start, n_bytes, n_members, shift = self._end()
        file.seek(start)
        entries = list(_entries(_exactly(file, n_bytes), n_members))
        entries.sort(key=lambda entry: entry.at)
        limits = [*(entry.at for entry in entries[1:]), start - shift]
        self.members: dict[str, Member] = {}
        for entry, limit in zip(entries, limits, strict=False):  # of no members there is one limit
            if entry.at > limit:
                raise BrokenFileError(f"{entry.name[:80]!r} is not where the directory says")
            if entry.name in self.members:
                raise BrokenFileError(f"it has two members named {entry.name[:80]!r}")
            self.members[entry.name] = replace(entry, at=entry.at + shift, limit=limit + shift)
        self.unused = self.size - n_bytes - sum(member.packed for member in self.members.values())
        """Bytes that are in no member and not in the directory: headers, and what else there may be."""

    def open(self, member: Member) -> "MemberReader":
        """Return what reads a member from its start. Raises BrokenFileError, and OSError."""
        if member.method not in (STORED, DEFLATED):
            how = METHODS.get(member.method, f"method {member.method}")
            raise BrokenFileError(f"{member.name[:80]!r} is packed by {how}; write it with numpy.savez")
        self.file.seek(member.at)
        head = LOCAL.unpack(_exactly(self.file, LOCAL.size))
        start = member.at + LOCAL.size + head[9] + head[10]
        name = _exactly(self.file, head[9]) if head[0] == b"PK\3\4" else b""
        if head[3] != member.method or _decoded(name, head[2]) != member.name:
            raise BrokenFileError(f"{member.name[:80]!r} is not where the directory says")
        if start + member.packed > member.limit:
            raise BrokenFileError(f"{member.name[:80]!r} claims to hold bytes of another")
        most = member.packed if member.method == STORED else MOST_INFLATED * (member.packed + 1)
        if member.size > most or (member.method == STORED and member.size < most):
            raise BrokenFileError(f"{member.name[:80]!r} claims {member.size:,} bytes, and {member.packed:,} are there")
        return MemberReader(self.file, member, start)

    def _end(self) -> tuple[int, int, int, int]:
        """Return where the directory starts, its bytes and members, and by how much all places in it are shifted."""
        most = min(self.size, END.size + LONGEST_COMMENT)
        self.file.seek(self.size - most)
        tail = _exactly(self.file, most)
        found = tail.rfind(b"PK\5\6")
        if found < 0 or found + END.size > most:
            raise BrokenFileError("it is no .npz file, or its end is missing")
        _, disk, other_disk, _, members, n_bytes, offset, comment = END.unpack_from(tail, found)
        at = self.size - most + found
        if found + END.size + comment != most or disk != other_disk:
            raise BrokenFileError("it does not end where it says")
        if at >= LOCATOR64.size + END64.size:
            self.file.seek(at - LOCATOR64.size - END64.size)
            both = _exactly(self.file, LOCATOR64.size + END64.size)
            if both[END64.size :].startswith(b"PK\6\7") and both.startswith(b"PK\6\6"):
                *_, members, n_bytes, offset = END64.unpack_from(both)
                at -= len(both)
        if members > MOST_MEMBERS or n_bytes > MOST_DIRECTORY_BYTES:
            raise BrokenFileError(
                f"it claims {members:,} members in a directory of {n_bytes:,} bytes; allowed are {MOST_MEMBERS:,} in "
                f"{MOST_DIRECTORY_BYTES:,}"
            )
        if offset + n_bytes > at:
            raise BrokenFileError("its directory is not where it says")
        return at - n_bytes, n_bytes, members, at - n_bytes - offset


class MemberReader:
    """Reads one member, and nothing of others, in memory for what is asked for. Raises BrokenFileError, and OSError."""

    def __init__(self, file: BinaryIO, member: Member, start: int) -> None:
        self.file, self.member = file, member
        self._at, self._end, self._left, self._crc = start, start + member.packed, member.size, 0
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == DEFLATED else None

    def read(self, most: int) -> bytes:
        """Return the next bytes, as many as asked for unless the member ends there."""
        wanted = min(most, self._left)
        pieces = []
        while wanted:
            piece = self._inflated(wanted) if self._inflate else self._packed(wanted)
            if not piece:
                raise BrokenFileError(f"{self.member.name[:80]!r} ends {self._left:,} bytes before it says")
            pieces.append(piece)
            self._crc = zlib.crc32(piece, self._crc)
            wanted -= len(piece)
            self._left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Check that all was read, that there is no more of it, and the checksum."""
        more = self._inflate is not None and bool(self._inflated(1))
        if self._left or more:
            raise BrokenFileError(f"{self.member.name[:80]!r} is longer than it says")
        if self._crc != self.member.crc:
            raise BrokenFileError(f"{self.member.name[:80]!r} does not have the checksum that it should")

    def _packed(self, most: int) -> bytes:
        self.file.seek(self._at)
        data = self.file.read(min(most, self._end - self._at))
        self._at += len(data)
        return data

    def _inflated(self, most: int) -> bytes:
        inflate = self._inflate
        assert inflate is not None
        try:
            while not inflate.eof:
                packed = inflate.unconsumed_tail or self._packed(PIECE)
                if data := inflate.decompress(packed, most):
                    return data
                if not packed:
                    break
        except zlib.error as error:
            raise BrokenFileError(f"{self.member.name[:80]!r} cannot be unpacked ({error})") from error
        return b""


def _entries(directory: bytes, n_members: int) -> Iterator[Member]:
    """Yield what a directory says of each member."""
    at = 0
    for _ in range(n_members):
        if at + ENTRY.size > len(directory) or directory[at : at + 4] != b"PK\1\2":
            raise BrokenFileError("its directory is damaged")
        _, _, _, flags, method, _, _, crc, packed, size, n_name, n_extra, n_comment, _, _, _, offset = (
            ENTRY.unpack_from(directory, at)
        )
        at += ENTRY.size
        name, extra = directory[at : at + n_name], directory[at + n_name : at + n_name + n_extra]
        at += n_name + n_extra + n_comment
        if at > len(directory):
            raise BrokenFileError("its directory is damaged")
        text = _decoded(name, flags)
        if flags & REFUSED_FLAGS:
            raise BrokenFileError(f"{text[:80]!r} is encrypted, or a patch")
        if 0xFFFFFFFF in (size, packed, offset):
            size, packed, offset = _long(extra, [size, packed, offset])
        yield Member(text, method, crc, packed, size, offset, 0)
    if at != len(directory):
        raise BrokenFileError("its directory is longer than it says")


def _decoded(name: bytes, flags: int) -> str:
    encoding = "utf-8" if flags & UTF8 else "cp437"
    try:
        return name.decode(encoding)
    except UnicodeDecodeError as error:
        raise BrokenFileError(f"the name of a member is not {encoding}: {name[:80]!r}") from error


def _long(extra: bytes, values: list[int]) -> list[int]:
    """Return numbers that do not fit 32 bits from where zip64 keeps them, in their order."""
    while len(extra) >= 4:
        kind, n = struct.unpack_from("<2H", extra)
        if kind == 1:
            wide = list(struct.unpack_from(f"<{min(n, len(extra) - 4) // 8}Q", extra, 4))
            long = [i for i, value in enumerate(values) if value == 0xFFFFFFFF]
            if len(wide) < len(long):
                raise BrokenFileError("its directory is damaged")
            for i, value in zip(long, wide, strict=False):
                values[i] = value
            break
        extra = extra[4 + n :]
    return values


def _exactly(file: BinaryIO, n: int) -> bytes:
    data = file.read(n)
    if len(data) != n:
        raise BrokenFileError("it ends too early")
    return data
