"""Which rows of an epoch are dealt to whom: a ticket is one rank's part of one step. Pure: no messages."""

from typing import Protocol

from ps.sync.served.messages import NO_TICKET


class Dealer(Protocol):
    """Deals tickets. ``limit``: steps of the epoch that will be done at the end."""

    limit: int

    def deal(self, rank: int) -> int:
        """Return the next ticket for a rank, NO_TICKET if there is none."""

    def give_back(self, ticket: int) -> None:
        """Deal a ticket again whose rows were not used."""

    def lose(self, rank: int) -> None:
        """Deal to others what a rank would have been dealt that is dead."""

    def end_early(self, *, at_once: bool = False) -> None:
        """Deal no more than what is left of the steps that have begun; ``at_once``: not even that."""


class Tickets:
    """Tickets of the steps of an epoch from ``first`` on; number k P + r is the part of rank r in step k.

    They are dealt in their order, each once, to whoever asks; or each rank is dealt its own parts (``by_rank``), where
    nobody else can read them.
    """

    def __init__(self, first: int, steps: int, parts: int, *, by_rank: bool) -> None:
        self.limit, self._first, self._parts, self._by_rank = steps, first, parts, by_rank
        self._next = [first * parts + rank for rank in range(parts)] if by_rank else [first * parts]
        self._begun = first
        self._again: list[int] = []
        """Tickets for whoever asks next."""

    def deal(self, rank: int) -> int:
        """See Dealer."""
        whose = rank if self._by_rank else 0
        ticket = self._next[whose]
        step = ticket // self._parts
        if self._again or step >= self.limit:
            return self._again.pop(0) if self._again else NO_TICKET
        self._next[whose] += self._parts if self._by_rank else 1
        self._begun = max(self._begun, step + 1)
        return ticket

    def give_back(self, ticket: int) -> None:
        """See Dealer."""
        self._again.append(ticket)

    def lose(self, rank: int) -> None:
        """See Dealer. Of the steps that have begun: the round ends with these."""
        self.end_early()
        if self._by_rank:
            self._again += range(self._next[rank], self.limit * self._parts, self._parts)
            self._next[rank] = self.limit * self._parts + rank

    def end_early(self, *, at_once: bool = False) -> None:
        """See Dealer."""
        self.limit = min(self.limit, self._begun)
        if at_once:
            self.limit = self._first
            self._again.clear()


class NoTickets:
    """Deals none, and so has nothing to take back."""

    limit = 0

    def deal(self, rank: int) -> int:  # noqa: ARG002
        """See Dealer."""
        return 0

    def give_back(self, ticket: int) -> None:
        """See Dealer."""

    def lose(self, rank: int) -> None:
        """See Dealer."""

    def end_early(self, *, at_once: bool = False) -> None:
        """See Dealer."""


class InStep(NoTickets):
    """Deals no rows: each rank takes those of its own part, step by step, as in the synchronous modes."""
