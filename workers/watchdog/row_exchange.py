"""The file in the run folder by which watchdogs show each other their ranks' rows where no network connects them."""

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from common.files import open_own
from common.rank_status import LOST, PAGE_BYTES, StatusRow

SILENT_S = 15.0
"""After so long without a look by another node's watchdog, its rows are not to be trusted."""
UNSEEN_S = 5.0
"""After so long they say nothing against a job that is suspended as far as one can see."""


class RowExchange:
    """Rows of this node are written to the file, those of others read from it.

    ``rows``: of all ranks, kept up to date here for those that are read.
    """

    def __init__(self, rows: list[StatusRow]) -> None:
        self.rows = rows
        self._heard: dict[int, tuple[int, float]] = {}
        """Of ranks on other nodes: the last beat, and when it came."""

    def exchange(self, file: Path, now: float, own: Collection[int], others: Collection[int]) -> None:
        """Write the rows of some ranks, and then read those of others. Raises OSError.

        The file is opened again each time: network file systems then look for what is new.
        """
        with open_own(file) as shared:
            for number in own:
                os.pwrite(shared.fileno(), self.rows[number].pack(), number * PAGE_BYTES)
        with open_own(file) as shared:
            for number in others:
                row = StatusRow.unpack(os.pread(shared.fileno(), PAGE_BYTES, number * PAGE_BYTES))
                beat, heard = self._heard.get(number, (-1, now))
                if row.beat != beat:
                    heard = now
                self._heard[number] = row.beat, heard
                self.rows[number] = replace(row, age_ms=row.age_ms + int(1000 * (now - heard)))

    @property
    def heard(self) -> set[int]:
        """The ranks whose watchdog has ever written to the file."""
        return {number for number, (beat, _) in self._heard.items() if beat > 0}

    def silent(self, now: float, seconds: float) -> set[int]:
        """Return the ranks on other nodes whose watchdog has not looked for so long."""
        return {number for number, (_, heard) in self._heard.items() if now - heard > seconds}


def read_lost(file: Path, ranks: Collection[int]) -> set[int]:
    """Return those ranks of which the coordinator has noted that the others continue without them. Raises OSError."""
    with open_own(file) as shared:
        pages = {rank: os.pread(shared.fileno(), PAGE_BYTES, rank * PAGE_BYTES) for rank in ranks}
    return {rank for rank, page in pages.items() if StatusRow.unpack(page).finished == LOST}
