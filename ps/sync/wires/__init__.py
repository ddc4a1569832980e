"""How the sum of a packet travels: each wire is a file of its own with a ``WIRE``, named as ``--wire`` names it."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ps.sync.wires.packet_wire import PacketWire

EXACT = "float32"
"""The wire that sends numbers as they are, in a run of float64 too."""


def find(name: str) -> "type[PacketWire]":
    """Return the wire of a name that ``--wire`` takes; it is loaded when it is asked for."""
    wire: type[PacketWire] = import_module(f"ps.sync.wires.{name}").WIRE
    return wire
