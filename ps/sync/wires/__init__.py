"""How the sum of a packet travels: each wire is a file of its own with a ``WIRE``, named as ``--wire`` names it.

Nothing here knows of modes or training.
"""

from importlib import import_module
from typing import Any

EXACT = "float32"
"""The wire that sends numbers as they are, in a run of float64 too."""


def find(name: str) -> Any:
    """Return the PacketWire of a name that ``--wire`` takes; it is loaded when it is asked for."""
    return import_module(f"ps.sync.wires.{name}").WIRE
