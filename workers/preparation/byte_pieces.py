"""Cuts a text file into 64 pieces of bytes, the same whatever number of ranks reads it, between records.

A record may hold line breaks inside of quotes. Whether a byte lies inside of quotes follows from the number of quotes
before it, odd or even, since a quote inside is doubled. So pieces are counted apart, and their counts make it known.
"""

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

from common.data.prepared_file import N_PIECES
from common.errors import BrokenFileError

READ_BYTES = 1 << 20
BLOCK_BYTES = 8 << 20
"""Of a piece that are parsed at a time: what this takes as numbers and texts stays far below 500 MB."""
LONGEST_RECORD = 16 << 20
QUOTE, NEWLINE = b'"', b"\n"
UNCLOSED = f"a record of more than {LONGEST_RECORD:,} bytes; a quote is not closed, or it is no table with a line a row"


def bounds(size: int) -> list[int]:
    """Return where pieces begin, and last where the file ends."""
    return [size * i // N_PIECES for i in range(N_PIECES + 1)]


def scan(file: BinaryIO, start: int, stop: int, first_row: int = 0, separator: str = ",") -> tuple[int, bool, bytes]:
    """Return the number of quotes in a piece, from byte ``first_row`` of the file on, and the piece's SHA-256.

    Between them: whether a quote stands where a cell begins, and so may hold separators and line ends.
    Raises BrokenFileError if the file ends before ``stop``.
    """
    digest, quotes, opening, at, last = hashlib.sha256(), 0, False, start, NEWLINE
    begins = (separator.encode() + QUOTE, NEWLINE + QUOTE)
    file.seek(start)
    while at < stop:
        data = file.read(min(READ_BYTES, stop - at))
        if not data:
            raise BrokenFileError("it has become shorter while it was read")
        digest.update(data)
        if found := data.count(QUOTE, max(0, first_row - at)):
            quotes += found
            opening = opening or any(begin in last + data for begin in begins)
        last = data[-1:]
        at += len(data)
    return quotes, opening, digest.digest()


def merged(digests: list[bytes]) -> str:
    """Return one SHA-256 for pieces, in hexadecimal digits."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def record_start(file: BinaryIO, at: int, stop: int, *, inside: bool, quoted: bool = True) -> int:
    """Return where the first record begins at or after byte ``at``; ``stop``, the end of the file, if none does.

    ``inside``: whether ``at`` lies inside of quotes; ``quoted``: whether quotes have a meaning.
    Raises BrokenFileError if a record is too long.
    """
    inside = inside and quoted
    file.seek(at - 1)
    if file.read(1) == NEWLINE and not inside:
        return at
    place = at
    while place < stop and place - at <= LONGEST_RECORD:
        data = file.read(min(READ_BYTES, stop - place, at + LONGEST_RECORD + 1 - place))
        if not data:
            break
        end, inside = _first_end(data, inside=inside, quoted=quoted)
        if end:
            return place + end
        place += len(data)
    if place < stop:
        raise BrokenFileError(UNCLOSED)
    return stop


def _first_end(data: bytes, *, inside: bool, quoted: bool) -> tuple[int, bool]:
    """Return where the first record has ended, 0 if none has, and whether the end of ``data`` is inside of quotes."""
    at = 0
    while True:
        if inside:
            quote = data.find(QUOTE, at)
            if quote < 0:
                return 0, True
            at, inside = quote + 1, False
        newline = data.find(NEWLINE, at)
        quote = data.find(QUOTE, at, newline if newline >= 0 else len(data)) if quoted else -1
        if quote >= 0:
            at, inside = quote + 1, True
        else:
            return newline + 1, False


def blocks(file: BinaryIO, start: int, stop: int, *, quoted: bool = True) -> Iterator[tuple[int, bytes]]:
    """Yield place and bytes of some whole records after the other, from ``start`` to ``stop``, both between records.

    Raises BrokenFileError if a record is too long, or the file has become shorter.
    """
    while start < stop:
        n_bytes = BLOCK_BYTES
        while True:
            file.seek(start)
            data = file.read(min(n_bytes, stop - start))
            if len(data) < min(n_bytes, stop - start):
                raise BrokenFileError("it has become shorter while it was read")
            end = len(data) if start + len(data) == stop else last_end(data, quoted=quoted)
            if end:
                break
            if n_bytes > LONGEST_RECORD:
                raise BrokenFileError(UNCLOSED)
            n_bytes *= 2
        yield start, data[:end]
        start += end


def last_end(data: bytes, *, quoted: bool) -> int:
    """Return where the last record in ``data``, which begins between records, has ended; 0 if none has."""
    quotes, stop = data.count(QUOTE) if quoted else 0, len(data)
    while (newline := data.rfind(NEWLINE, 0, stop)) >= 0:
        quotes -= data.count(QUOTE, newline, stop) if quoted else 0
        if quotes % 2 == 0:
            return newline + 1
        stop = newline
    return 0
