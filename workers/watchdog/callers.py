"""Nodes that cannot call the hub, and so call another node, which passes on what they say."""

from collections.abc import Collection
from typing import Any

HEARD_S = 5.0
"""How long it counts that another node hears one; it says so every second."""


class Callers:
    """What the hub has been told of such nodes; and what a node that is called tells it."""

    def __init__(self) -> None:
        self._of: dict[int, set[int]] = {}
        self._heard: dict[int, float] = {}
        self._told = False

    def of(self, node: int) -> set[int]:
        """Return the nodes for which a node speaks."""
        return self._of.get(node, set())

    def note(self, node: int, called_by: Any, others: Collection[int], linked: Collection[int], now: float) -> None:
        """Take what a node says of them. ``others``: nodes that there are; ``linked``: that call the hub."""
        if isinstance(called_by, list):
            self._of[node] = {other for other in called_by if isinstance(other, int) and other in others}
            self._heard |= dict.fromkeys(self._of[node].difference(linked), now)

    def heard(self, now: float) -> set[int]:
        """Return the nodes that are heard, if not by the hub."""
        return {node for node, at in self._heard.items() if now - at <= HEARD_S}

    def news(self, callers: list[int]) -> dict[str, Any]:
        """Return what to tell the hub: who calls, or that nobody does any more."""
        told, self._told = self._told, bool(callers)
        return {"called_by": callers} if callers or told else {}
