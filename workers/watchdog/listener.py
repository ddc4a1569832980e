"""The socket on which other watchdogs call this one."""

import resource
import socket
from contextlib import suppress

BACKLOG = 1024
"""Calls that wait to be taken."""


def listen(port: int, *, here: bool) -> socket.socket:
    """Return a socket on which watchdogs can be called; ``port`` 0: a free one. Raises OSError.

    ``here``: only from this machine.
    """
    if socket.has_ipv6 and not here:
        with suppress(OSError):
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
    return socket.create_server(("127.0.0.1" if here else "", port), backlog=BACKLOG)


def make_room(descriptors: int) -> None:
    """Let this process open so many files, if it may: often 1,024 are the limit, and 1,000 nodes call a hub."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = descriptors if hard == resource.RLIM_INFINITY else min(descriptors, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
