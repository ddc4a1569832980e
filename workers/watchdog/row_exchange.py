"""The file in the run folder by which the watchdogs of several nodes show each other the rows of their ranks."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from common.files import open_own
from common.rank_status import PAGE_BYTES, StatusRow
from workers.watchdog.rank_process import RankProcess

SILENT_S = 15.0
"""After so long without a look by another node's watchdog, its rows are not to be trusted."""
UNSEEN_S = 5.0
"""After so long they say nothing against a job that is suspended as far as one can see."""


class RowExchange:
    """Rows of this node are written to the file, those of others read from it.

    ``rows``: of all ranks, kept up to date here for those of other nodes. ``lost``: ranks of this node that the others
    continue without since before this watchdog began.
    """

    def __init__(self, ranks: Mapping[int, RankProcess], rows: list[StatusRow], lost: set[int]) -> None:
        self.rows, self._own, self._others = rows, [*ranks, *lost], set(range(len(rows))) - ranks.keys() - lost
        self._heard: dict[int, tuple[int, float]] = {}
        """Of ranks on other nodes: the last beat, and when it came."""

    def exchange(self, file: Path, now: float) -> None:
        """Write the rows of this node, and then read those of others. Raises OSError.

        The file is opened again each time: network file systems then look for what is new.
        """
        with open_own(file) as shared:
            for number in self._own:
                os.pwrite(shared.fileno(), self.rows[number].pack(), number * PAGE_BYTES)
        with open_own(file) as shared:
            for number in self._others:
                row = StatusRow.unpack(os.pread(shared.fileno(), PAGE_BYTES, number * PAGE_BYTES))
                beat, heard = self._heard.get(number, (-1, now))
                if row.beat != beat:
                    heard = now
                self._heard[number] = row.beat, heard
                self.rows[number] = replace(row, age_ms=row.age_ms + int(1000 * (now - heard)))

    def silent(self, now: float, seconds: float) -> set[int]:
        """Return the ranks on other nodes whose watchdog has not looked for so long."""
        return {number for number, (_, heard) in self._heard.items() if now - heard > seconds}
