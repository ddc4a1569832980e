"""The name of this node."""

import os
import socket


def host() -> str:
    """Return the node's name: Slurm's, where it runs several nodes on one host, else the system's."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()
