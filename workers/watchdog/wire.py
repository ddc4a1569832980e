"""What watchdogs of several nodes say to each other over TCP: messages of a length, a kind and bytes, all checked.

Whoever connects must prove that it knows the job's token, and so must whoever answers; the token itself is never sent.
"""

import hashlib
import hmac
import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any

from common.rank_status import LAYOUT, StatusRow

HEAD = struct.Struct("!IB")
"""Before each message: how many bytes follow, and the kind."""
CHALLENGE, HELLO, WELCOME, ROWS, NEWS = range(1, 6)
"""Random bytes of who accepts; who calls, random bytes and a proof; a proof back; rows of ranks; anything else."""
N_RANDOM = N_PROOF = 32
HELLO_LAYOUT = struct.Struct(f"!I{N_RANDOM}s{N_PROOF}s")
LENGTHS = {CHALLENGE: N_RANDOM, HELLO: HELLO_LAYOUT.size, WELCOME: N_PROOF}
ROW_HEAD = struct.Struct("!I")
ROW_BYTES = ROW_HEAD.size + LAYOUT.size
MOST_BYTES = 4 << 20
"""Of one message."""


class WireError(Exception):
    """What came is no message of a watchdog."""


def pack(kind: int, content: bytes) -> bytes:
    """Return a message as it is sent."""
    return HEAD.pack(len(content), kind) + content


def unpack(buffer: bytearray, *, known: bool) -> Iterator[tuple[int, bytes]]:
    """Take the whole messages from the front of what has come, and yield kind and content.

    ``known``: whether the other side has proved who it is; before that, only short messages are taken.
    Raises WireError.
    """
    while len(buffer) >= HEAD.size:
        length, kind = HEAD.unpack_from(buffer)
        if length > MOST_BYTES if known else length != LENGTHS.get(kind, -1):
            raise WireError(f"a message of kind {kind} and {length} bytes")
        if len(buffer) < HEAD.size + length:
            return
        content = bytes(buffer[HEAD.size : HEAD.size + length])
        del buffer[: HEAD.size + length]
        yield kind, content


def prove(token: bytes, role: bytes, node: int, *random: bytes) -> bytes:
    """Return what only a holder of the token can: a keyed hash of both sides' random bytes, of a role and a node."""
    parts = b"".join([role, struct.pack("!I", node), *random])
    return hashlib.blake2b(parts, key=token, digest_size=N_PROOF).digest()


def proves(proof: bytes, token: bytes, role: bytes, node: int, *random: bytes) -> bool:
    """Say whether a proof is right."""
    return hmac.compare_digest(proof, prove(token, role, node, *random))


def pack_rows(rows: Iterable[tuple[int, StatusRow]]) -> bytes:
    """Return rows with the numbers of their ranks as the content of a message."""
    return b"".join(ROW_HEAD.pack(rank) + row.pack() for rank, row in rows)


def unpack_rows(content: bytes, allowed: Iterable[int]) -> dict[int, StatusRow]:
    """Return the rows of a message by rank. Raises WireError, also for the row of a rank that is not ``allowed``."""
    if len(content) % ROW_BYTES:
        raise WireError(f"{len(content)} bytes of rows")
    found = {}
    for at in range(0, len(content), ROW_BYTES):
        (rank,) = ROW_HEAD.unpack_from(content, at)
        found[rank] = StatusRow.unpack(content[at + ROW_HEAD.size : at + ROW_BYTES])
    if not found.keys() <= set(allowed):
        raise WireError("a row of another node's rank")
    return found


def pack_news(news: dict[str, Any]) -> bytes:
    """Return plain values by name as the content of a message."""
    return json.dumps(news, separators=(",", ":")).encode()


def unpack_news(content: bytes) -> dict[str, Any]:
    """Return the values of a message by name. Raises WireError."""
    try:
        news = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise WireError("no JSON") from error
    if not isinstance(news, dict):
        raise WireError("no map")
    return news
