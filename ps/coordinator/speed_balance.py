"""Which share of a step's rows each rank is to take, by how long it takes for a row: ``--balance speed``."""

from dataclasses import dataclass

import numpy as np

from common.config import RunConfig
from common.data.dealing import edges
from common.data.sampler import SHARD
from common.data.shards import SHARDS
from common.flat import Array
from ps.logfile.records import Record
from ps.metrics.epoch_metrics import useful_s

EPOCHS, MOST_EPOCHS = 2, 5
"""Trained with the same shares before they are fitted again; of these the shortest time of a rank counts, since other
processes only ever add time. Short epochs are waited for until the slowest rank has worked ``ENOUGH_S`` in them."""
ENOUGH_S = 0.02
WORTH = 0.08
"""Of the slowest rank's work, what new shares must save: less is noise, for which rows need not move."""
WORTH_S = 0.0005
"""Seconds of it in an epoch."""


@dataclass(frozen=True, slots=True)
class Shares:
    """New shares of the ranks and why: (ranks,) each.

    ``epoch``: the last one with the shares before. ``shares``: of each step's rows, of sum 1. ``row_s``: seconds a row;
    nil where a rank had none. ``before_s``, ``after_s``: an epoch's work of the slowest rank, as it was and as it will
    be if a row takes as long as it did.
    ``parts``: by rank, of so many ``units`` that are dealt: rows of a step, or shards.
    """

    epoch: int
    shares: tuple[float, ...]
    row_s: tuple[float | None, ...]
    before_s: float
    after_s: float
    parts: tuple[int, ...]
    units: str

    def fields(self) -> Record:
        """Return what the log's event says."""
        return {
            "epoch": self.epoch, "shares": list(self.shares), "row_s": list(self.row_s), "parts": list(self.parts),
            "units": self.units, "before_s": self.before_s, "after_s": self.after_s, "message": self.sentence(),
        }  # fmt: skip

    def sentence(self) -> str:
        """Return the same in words."""
        least, most = (int(f(self.parts)) for f in (np.argmin, np.argmax))
        return (
            f"From epoch {self.epoch + 1} on, {self.units} go to the ranks by speed: of {sum(self.parts):,}, rank "
            f"{least} takes {self.parts[least]:,} and rank {most} {self.parts[most]:,}; the slowest rank's work should "
            f"fall from {self.before_s:.3g} to {self.after_s:.3g} s an epoch"
        )


class SpeedBalance:
    """Fits shares to the log's own counters: n_i proportional to 1 / t_i, t_i the seconds of useful work a row.

    A rank whose work has a part that does not go with its rows gets nearer to its share with each fit.
    ``dealt``: how many units there are to deal: rows of a step, or shards.
    """

    def __init__(self, config: RunConfig, n_train: int) -> None:
        self.on = config.balance == "speed"
        batch = min(config.batch_size or n_train, n_train)
        of_shards = config.rows == SHARD and batch < n_train
        self.dealt, self.units = (SHARDS, "shards") if of_shards else (batch, "rows of a step")
        self.epochs = config.epochs
        self.forget()

    def forget(self) -> None:
        """Begin to measure again."""
        self._n, self._seconds = 0, 0.0
        self._shortest: Array = np.empty(0)

    def add(self, record: Record) -> Shares | None:
        """Take an epoch; return the shares of the next ones, if others are worth it."""
        rows = np.array(record["rows"], np.float64)
        if not self.on or not rows.sum() or record["epoch"] >= self.epochs or len(rows) < 2:
            return None
        useful = useful_s(record)
        row_s = np.divide(useful, rows, out=np.full(len(rows), np.inf), where=rows > 0)
        self._shortest = np.minimum(row_s, self._shortest) if self._n else row_s
        self._n, self._seconds = self._n + 1, self._seconds + float(useful.max())
        if self._n < EPOCHS or (self._seconds < ENOUGH_S and self._n < MOST_EPOCHS):
            return None
        row_s = self._shortest
        self.forget()
        return self._fit(record["epoch"], row_s, rows)

    def _fit(self, epoch: int, row_s: Array, rows: Array) -> Shares | None:
        known = np.isfinite(row_s) & (row_s > 0)
        if not known.any():
            return None
        seconds = np.where(known, row_s, np.median(row_s[known]))
        speed = 1 / seconds
        shares = tuple((speed / speed.sum()).tolist())
        parts = np.diff(edges(self.dealt, shares))
        before_s = float((seconds * rows).max())
        after_s = float((seconds * parts).max() / self.dealt * rows.sum())
        if before_s - after_s < max(WORTH * before_s, WORTH_S):
            return None
        of_rows = tuple(s if is_known else None for s, is_known in zip(seconds.tolist(), known.tolist(), strict=True))
        return Shares(epoch, shares, of_rows, before_s, after_s, tuple(parts.tolist()), self.units)
