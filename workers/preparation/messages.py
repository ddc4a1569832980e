"""Messages between a rank and its child: a length, then msgpack, over a pipe."""

import struct
from typing import IO, Any

import msgpack

LENGTH = struct.Struct("=Q")
NAMES = "surrogatepass"
"""Names of files need not be UTF-8."""


def send(pipe: IO[bytes], message: Any) -> None:
    """Send plain values. Raises OSError."""
    packed = msgpack.packb(message, unicode_errors=NAMES)
    pipe.write(LENGTH.pack(len(packed)) + packed)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """Return the next values. Raises EOFError if there are none, since the other side has ended."""
    return msgpack.unpackb(_exactly(pipe, LENGTH.unpack(_exactly(pipe, LENGTH.size))[0]), unicode_errors=NAMES)


def _exactly(pipe: IO[bytes], n: int) -> bytearray:
    data = bytearray()
    while len(data) < n:  # a pipe without a buffer gives what is there
        some = pipe.read(n - len(data))
        if not some:
            raise EOFError
        data += some
    return data
