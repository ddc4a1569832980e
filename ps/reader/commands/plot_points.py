"""What ``ps.log plot`` draws of each epoch, as arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ps.logfile.records import Record
from ps.reader.run_view import mean

LARGEST = 1e30
"""Larger values are drawn as this one: arithmetic on axes overflows with them."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Point:
    """What is drawn of an epoch; NaN where undefined.

    ``world``: its number of ranks. ``losses``: (3,) training loss, validation loss and metric. ``times``: (4,) seconds,
    the ranks' mean transfer and mean wait, the least and the most sync. ``shares``: (1 + parameters, ranks) of all
    parameters together and of the first ones.
    """

    epoch: int
    world: int
    losses: Values
    times: Values
    shares: Values

    @classmethod
    def of(cls, record: Record, names: list[str], ranks: int) -> "Point":
        """Take from an epoch's record what is drawn; shares of the parameters ``names`` and the first ``ranks``."""
        times = [mean(record["transfer_s"]), mean(record["wait_s"]), min(record["sync_s"]), max(record["sync_s"])]
        shares = [values[:ranks] for values in (record["share_all"], *(record["share"][name] for name in names))]
        losses = [record["loss"], record["validation_loss"], record["validation_metric"]]
        return cls(record["epoch"], len(record["rows"]), _values(losses), _values(times), _values(shares))


def padded(shares: list[Values]) -> Values:
    """Return (parameters, ranks) arrays as one over the epochs; NaN for ranks that an epoch did not have."""
    most = max(values.shape[1] for values in shares)
    return np.array(
        [np.pad(values, ((0, 0), (0, most - values.shape[1])), constant_values=np.nan) for values in shares]
    )


def _values(numbers: list[Any]) -> Values:
    """Return numbers as an array with NaN for None."""
    return np.clip(np.array(numbers, np.float64), -LARGEST, LARGEST)
