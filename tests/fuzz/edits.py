"""Edits of bytes: pieces replaced, put in, left out or doubled."""

import random

Edit = tuple[str, int, bytes]
KINDS = ("put", "insert", "cut", "again")
MOST_EDITS = 6
MOST_PLACE = 10**6
MOST_PIECE = 8


def edited(data: bytes, edits: list[Edit]) -> bytes:
    """Return data with pieces replaced, put in, left out or doubled."""
    for kind, at, piece in edits:
        i = at % (len(data) + 1)
        n = len(piece)
        middle = {"put": piece, "insert": piece + data[i : i + n], "cut": b"", "again": 2 * data[i : i + 4 * n]}[kind]
        data = data[:i] + middle + data[i + (4 * n if kind == "again" else n) :]
    return data


def drawn_edits(rng: random.Random) -> list[Edit]:
    """Draw some edits, or none."""
    n = rng.randrange(MOST_EDITS + 1)
    return [
        (rng.choice(KINDS), rng.randrange(MOST_PLACE), rng.randbytes(rng.randrange(MOST_PIECE + 1))) for _ in range(n)
    ]
