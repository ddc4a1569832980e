"""A job whose ranks get other shares of the rows after each epoch: ``uneven.py [arguments of workers.run]``."""

import sys
from typing import Any

import numpy as np

from common.data.dealing import edges
from ps.coordinator.speed_balance import Shares, SpeedBalance
from workers import run

add = SpeedBalance.add


def uneven(self: SpeedBalance, record: dict[str, Any]) -> Shares | None:
    """Give ranks in turn up to four times as many rows as others."""
    if not self.on:
        return None
    size, epoch = len(record["rows"]), record["epoch"]
    weights = 1 + 3 * np.roll(np.arange(size), epoch) / max(1, size - 1)
    shares = tuple((weights / weights.sum()).tolist())
    parts = tuple(np.diff(edges(self.dealt, shares)).tolist())
    return Shares(epoch, shares, (1.0,) * size, 2.0, 1.0, parts, self.units)


SpeedBalance.add = uneven  # type: ignore[method-assign]
try:
    sys.exit(run.main())
finally:  # for the next job on these ranks
    SpeedBalance.add = add  # type: ignore[method-assign]
