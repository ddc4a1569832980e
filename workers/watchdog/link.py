"""One TCP connection between two watchdogs, which never waits."""

import contextlib
import os
import socket
from collections.abc import Iterator

from workers.watchdog import wire
from workers.watchdog.wire import MOST_BYTES, WireError

READ_BYTES, READ_UNKNOWN = 1 << 16, 256
"""At a time, and from who has not proved yet to be of this job: a greeting is shorter."""
MOST_UNSENT = 2 * MOST_BYTES
"""Bytes that wait to be sent; who takes so little is no longer there."""
ACCEPTS, CONNECTS = b"hub", b"leaf"


class Link:
    """``peer``: the node at the other end, and ``known``: whether it has proved that. ``ended``: the link is closed.

    ``called``: this side has called.
    """

    def __init__(self, sock: socket.socket, token: bytes, own: int, peer: int = -1) -> None:
        """``peer``: the node that was called; -1: this link was accepted."""
        self.socket, self._token, self._own, self.peer = sock, token, own, peer
        self.called = peer >= 0
        self.known = self.ended = False
        self._in, self._out = bytearray(), bytearray()
        self._random, self._theirs = os.urandom(wire.N_RANDOM), b""
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.called:
            self.send(wire.CHALLENGE, self._random)

    @property
    def waits(self) -> bool:
        """Whether something is left to send."""
        return bool(self._out)

    def send(self, kind: int, content: bytes) -> None:
        """Send a message as far as that can be done at once; the rest goes with ``flush``."""
        if not self.ended:
            self._out += wire.pack(kind, content)
            self.flush()

    def flush(self) -> None:
        """Send what is left."""
        try:
            while self._out:
                del self._out[: self.socket.send(self._out)]
        except (BlockingIOError, InterruptedError):
            if len(self._out) > MOST_UNSENT:
                self.ended = True
        except OSError as error:
            if not _connects(error):
                self.ended = True

    def receive(self) -> Iterator[tuple[int, bytes]]:
        """Yield the messages that have come from a known peer. Raises WireError for what is none."""
        try:
            while not self.ended:
                data = self.socket.recv(READ_BYTES if self.known else READ_UNKNOWN)
                self._in += data
                self.ended = not data
                if not self.known or len(self._in) > MOST_BYTES:
                    break
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.ended = True
        while True:  # what is not known takes one message at a time: after it, it may be
            message = next(wire.unpack(self._in, known=self.known), None)
            if message is None:
                return
            if self.known:
                yield message
            else:
                self._greet(*message)

    def _greet(self, kind: int, content: bytes) -> None:
        """Prove who is here, and see who is there. Raises WireError."""
        if self.called and kind == wire.CHALLENGE and not self._theirs:
            self._theirs = content
            proof = wire.prove(self._token, CONNECTS, self._own, content, self._random)
            self.send(wire.HELLO, wire.HELLO_LAYOUT.pack(self._own, self._random, proof))
        elif self.called and kind == wire.WELCOME and self._theirs:
            if not wire.proves(content, self._token, ACCEPTS, self.peer, self._theirs, self._random):
                raise WireError("another node, or another job")
            self.known = True
        elif not self.called and kind == wire.HELLO:
            self.peer, theirs, proof = wire.HELLO_LAYOUT.unpack(content)
            if not wire.proves(proof, self._token, CONNECTS, self.peer, self._random, theirs):
                raise WireError("a stranger")
            self.known = True
            self.send(wire.WELCOME, wire.prove(self._token, ACCEPTS, self._own, self._random, theirs))
        else:
            raise WireError(f"a message of kind {kind} from nobody")

    def close(self) -> None:
        """End the link."""
        self.ended = True
        self.socket.close()


def _connects(error: OSError) -> bool:
    """Say whether a connection is only not there yet."""
    import errno

    return error.errno in (errno.EINPROGRESS, errno.ENOTCONN, errno.EAGAIN)
