"""Counts what is out of the ordinary in the rows that are predicted, and says so in a sentence."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from common.flat import Array
from common.wording import count, listed
from workers.prediction.rows import Block

MOST_COLUMNS = 4
"""Columns with unknown texts that the last line names."""


class Seen:
    """Counts what was out of the ordinary in some rows."""

    def __init__(self) -> None:
        self.rows = self.missing = self.beyond = self.not_finite = 0
        self.unknown: dict[str, int] = {}

    @classmethod
    def of_all(cls, plain: Iterable[list[Any]]) -> "Seen":
        """Return what all ranks have seen, of each as ``plain``."""
        whole = cls()
        for own in plain:
            whole._count(*own)
        return whole

    def add(self, block: Block, out: Array) -> None:
        """Count the rows of a block, for which the model has these raw outputs."""
        not_finite = int((~np.isfinite(out)).any(axis=1).sum())
        self._count(len(block.x), block.missing, block.beyond, not_finite, block.unknown)

    def _count(self, rows: int, missing: int, beyond: int, not_finite: int, unknown: dict[str, int]) -> None:
        self.rows += rows
        self.missing += missing
        self.beyond += beyond
        self.not_finite += not_finite
        for name, cells in unknown.items():
            self.unknown[name] = self.unknown.get(name, 0) + cells

    def plain(self) -> list[Any]:
        """Return plain values, for messages between ranks."""
        return [self.rows, self.missing, self.beyond, self.not_finite, self.unknown]

    def __str__(self) -> str:
        return "; ".join([count(self.rows, "row"), *self.odd()])

    def odd(self) -> list[str]:
        """Return what was out of the ordinary."""
        parts = []
        if self.missing:
            filled = "is taken" if self.missing == 1 else "are taken"
            parts.append(
                f"{count(self.missing, 'missing value')} {filled} as the mean of the training rows or as missing"
            )
        if self.unknown:
            where = [f"{name!r} {n:,}" for name, n in sorted(self.unknown.items(), key=lambda pair: -pair[1])]
            more = len(where) - MOST_COLUMNS
            shown = [*where[:MOST_COLUMNS], *([f"{count(more, 'more column')}"] if more > 0 else [])]
            cells = count(sum(self.unknown.values()), "text")
            parts.append(f"{cells} that training did not see, taken as none of the known ones ({listed(shown)})")
        if self.beyond:
            left = "is left out" if self.beyond == 1 else "are left out"
            parts.append(f"{count(self.beyond, 'number')} of features that training did not have {left}")
        if self.not_finite:
            parts.append(f"of {count(self.not_finite, 'row')} the outputs of the model are no finite numbers")
        return parts
