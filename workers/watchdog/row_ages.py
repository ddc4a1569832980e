"""Rows over the network: one is sent only if it does not follow from the last, for who has that counts its age on."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from common.rank_status import ENDED, LOST, StatusRow

DRIFT_MS = 500
"""A row whose age is by so much another than it would be by itself is sent again."""


class SentRows:
    """What was sent of the rows of a node. All times are in seconds on the sender's clock."""

    def __init__(self) -> None:
        self._sent: dict[int, tuple[StatusRow, int]] = {}
        self._to: object = None

    def new(self, to: object, rows: Iterable[tuple[int, StatusRow]], now: float) -> list[tuple[int, StatusRow]]:
        """Return those rows that are to be sent; ``to``: the link, since who is called anew knows none of them."""
        if to is not self._to:
            self._to = to
            self._sent.clear()
        found = []
        for rank, row in rows:
            plain, since = replace(row, beat=0, age_ms=0), int(1000 * now) - row.age_ms
            before = self._sent.get(rank)
            if before is None or before[0] != plain or abs(since - before[1]) > DRIFT_MS:
                found.append((rank, row))
                self._sent[rank] = plain, since
        return found


class ReceivedRows:
    """Rows of other nodes, as they came and when."""

    def __init__(self, rows: list[StatusRow]) -> None:
        """``rows``: of all ranks, kept up to date here for those that are received."""
        self._rows = rows
        self._came: dict[int, tuple[StatusRow, float]] = {}

    @property
    def ranks(self) -> Collection[int]:
        """Those of which a row was received."""
        return self._came.keys()

    def take(self, rows: dict[int, StatusRow], now: float) -> bool:
        """Take rows; return whether one says what others must know at once."""
        urgent = False
        for rank, row in rows.items():
            before = self._rows[rank]
            self._came[rank] = row, now
            if before.finished != LOST:
                urgent |= _ends_job(row) and not _ends_job(before)
                self._rows[rank] = row
        return urgent

    def age(self, now: float) -> None:
        """Count on how long ago their ranks made progress."""
        for rank, (row, came) in self._came.items():
            if self._rows[rank].finished != LOST:
                self._rows[rank] = replace(row, age_ms=row.age_ms + int(1000 * (now - came)))


def _ends_job(row: StatusRow) -> bool:
    return bool(row.aborting) or row.finished == LOST or (row.state == ENDED and not row.finished)
