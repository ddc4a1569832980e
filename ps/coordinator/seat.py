"""Where a rank finds the coordinator, which most ranks are not, so that they need not load it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ps.coordinator.coordinator import Coordinator


class CoordinatorSeat:
    """Where a rank finds the coordinator: empty where that is another rank, and on rank 0 until the log is open."""

    def __init__(self) -> None:
        self.coordinator: Coordinator | None = None

    def appoint(self, coordinator: "Coordinator") -> None:
        """Make this rank the coordinator."""
        self.coordinator = coordinator

    def here(self) -> "Coordinator":
        """Return the coordinator; only for what runs at rank 0 once the log is open."""
        assert self.coordinator is not None
        return self.coordinator

    def event(self, what: str, **fields: Any) -> None:
        """Write an event to the log, if this rank is the coordinator."""
        if self.coordinator is not None:
            self.coordinator.event(what, **fields)
