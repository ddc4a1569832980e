"""Pieces of lines of a text file, the same whatever the number of ranks: 64 of them, dealt in their order."""

from collections.abc import Iterator
from pathlib import Path

from common.data.prepared_file import N_PIECES
from common.errors import BrokenFileError
from common.files import open_regular
from workers.preparation import byte_pieces

READ_BYTES = 1 << 20


def of_rank(path: Path, rank: int, size: int, first: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield place and bytes of some whole lines after the other. Raises BrokenFileError.

    ``first``: the byte at which rows begin.
    """
    with open_regular(path) as file:
        extent = file.seek(0, 2)
        bounds = [max(first, at) for at in byte_pieces.bounds(extent)]
        for piece in range(N_PIECES * rank // size, N_PIECES * (rank + 1) // size):
            start, stop = (
                byte_pieces.record_start(file, at, extent, inside=False, quoted=False) if first < at < extent else at
                for at in bounds[piece : piece + 2]
            )
            try:
                yield from byte_pieces.blocks(file, start, stop, quoted=False)
            except BrokenFileError as error:
                raise BrokenFileError(str(error).replace("a quote is not closed, or ", "")) from error


def lines_before(path: Path, place: int) -> int:
    """Return how many lines end before a byte, which is counted only where something is wrong."""
    lines = 0
    with open_regular(path) as file:
        while place > 0 and (data := file.read(min(READ_BYTES, place))):
            lines += data.count(b"\n")
            place -= len(data)
    return lines
