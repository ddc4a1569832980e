"""The times of a run's epochs, and the model that replays them: the slowest rank's work and an exchange."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ps.logfile.reader import Entry
from ps.logfile.records import GOING_ON, Record
from ps.reader.downsample import Downsampler

MOST_EPOCHS = 200
LEAST_EPOCHS = 8
MOST_NUMBERS = 4_000_000
"""In the epochs that are kept, as they stand in the log: of many ranks and parameters fewer epochs are."""
BY_RANK = ("input_s", "compute_s", "reduce_s", "sampling_s", "transfer_s", "loop_s", "rows")
OTHER_FIELDS = 25
"""About so many numbers a rank an epoch's record has beside those by parameter, of which there are five."""
MOST = 1e12
"""Seconds and rows of an epoch; more is no record of a run, and overflows below."""
CLOCK_TICK_S = 1e-9
"""Work that takes no longer was not measured."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Replay:
    """A run's times, each the median over its epochs; a run is modelled as its slowest rank's work and an exchange.

    ``work_s``, ``rows``: (ranks,), by rank and epoch. Work is input, compute and measuring contributions, without what
    modes ``shared`` and ``factors`` spend on summing: that is exchange in any mode. ``exchange_s``: mean over the
    ranks, an epoch. ``recorded_s``: of the training loop of the slowest rank. ``epochs``: how many are in the medians;
    ``skipped``: whether the first one, which warms up, is not.
    """

    work_s: Floats
    rows: Floats
    exchange_s: float
    recorded_s: float
    steps: float
    epochs: int
    skipped: bool

    def epoch_s(self, work_s: Floats | None = None, exchange_s: float | None = None) -> float:
        """Return the seconds of an epoch with other work by rank, or another exchange, than the run had."""
        work, exchange = self.work_s if work_s is None else work_s, self.exchange_s
        return float(work.max()) + (exchange if exchange_s is None else exchange_s)


def replay(records: list[Record]) -> Replay:
    """Return the medians of these epochs; the first is left out if there are more than three."""
    skipped = len(records) > 3
    kept = records[skipped:]

    def by_rank(*names: str) -> Floats:
        values = np.array([[r[name] for r in kept] for name in names], np.float64)  # fields, epochs, ranks
        return values.clip(0, MOST)

    inputs, compute, reduce, sampling, transfer, loop, rows = by_rank(*BY_RANK)
    return Replay(
        work_s=np.median(inputs + (compute - reduce).clip(0) + sampling, axis=0),
        rows=np.median(rows, axis=0),
        exchange_s=float(np.median((transfer + reduce).mean(axis=1))),
        recorded_s=float(np.median(loop.max(axis=1))),
        steps=max(1.0, float(np.median([r["steps"] for r in kept]))),
        epochs=len(kept),
        skipped=skipped,
    )


def without_straggler(work_s: Floats) -> Floats:
    """Return the work with that of the slowest rank replaced by the median of the others; at least two ranks."""
    slowest = int(work_s.argmax())
    result = work_s.copy()
    result[slowest] = min(float(np.median(np.delete(work_s, slowest))), float(work_s[slowest]))
    return result


def rows_by_speed(work_s: Floats, rows: Floats) -> NDArray[np.int64]:
    """Return how many rows each rank gets if they are dealt by speed: n_i proportional to 1 / t_i, t_i seconds a row.

    Rounded by largest remainders, so that they add up to all rows. A rank of unknown speed (no rows, no time) gets
    none.
    """
    speed = rows_per_s(work_s, rows)
    exact = rows.sum() * speed / speed.sum() if speed.sum() else rows
    whole = np.floor(exact).astype(np.int64)
    left = round(float(rows.sum())) - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:left]] += 1
    return whole


def dealt_by_speed(work_s: Floats, rows: Floats) -> Floats:
    """Return the work of each rank if rows are dealt by speed: n / sum(1 / t_i), the same for all that get any."""
    speed = rows_per_s(work_s, rows)
    return np.where(speed > 0, rows.sum() / speed.sum(), 0.0) if speed.sum() else work_s


def rows_per_s(work_s: Floats, rows: Floats) -> Floats:
    """Return the speed of each rank; 0 where it is not known."""
    known = (work_s > CLOCK_TICK_S) & (rows > 0)
    return np.divide(rows, work_s, out=np.zeros_like(rows), where=known)


class Epochs:
    """The epochs to replay, evenly thinned: those since the number of ranks last changed, each trained by one job.

    ``other``: how many there were before that. ``parts``: those of which the log has only the times of
    the last of several jobs; they are taken if there are no others.
    """

    def __init__(self) -> None:
        self.whole: Downsampler[Entry] = Downsampler(MOST_EPOCHS)
        self.parts: Downsampler[Entry] = Downsampler(MOST_EPOCHS)
        self.other = 0
        self._n_whole = self._n_parts = self._parameters = 0
        self._world = self._world_of_epochs = 0
        self._goes_on = False

    def take(self, entry: Entry) -> None:
        """Take the next record that counts, of whatever kind. Raises LogError."""
        if entry.kind == "header":
            header = entry.record()
            self._world, self._parameters = header["world"], len(header["model"]["parameters"])
            self._begin()
        elif entry.kind == "event" and entry.record()["what"] in GOING_ON:
            self._world, self._goes_on = entry.record()["ranks"], True
        elif entry.kind == "epoch":
            if self._world != self._world_of_epochs:
                self.other += self._n_whole + self._n_parts
                self._begin()
            if self._goes_on and entry.pick("before").get("before") is not None:
                self.parts.add(entry)
                self._n_parts += 1
            else:
                self.whole.add(entry)
                self._n_whole += 1
            self._goes_on = False

    def _begin(self) -> None:
        numbers = self._world * (OTHER_FIELDS + 5 * self._parameters)
        most = min(MOST_EPOCHS, max(LEAST_EPOCHS, MOST_NUMBERS // max(1, numbers)))
        self.whole, self.parts, self._n_whole, self._n_parts = Downsampler(most), Downsampler(most), 0, 0
        self._world_of_epochs = self._world

    def records(self) -> list[Record]:
        """Return what ``replay`` needs of the epochs, and forget the rest. Raises LogError."""
        kept, found = self.whole.kept() or self.parts.kept(), []
        self._begin()
        while kept:  # one record at a time is decoded, and goes
            record = kept.pop(0).record()
            found.append({"steps": record["steps"]} | {name: np.array(record[name], np.float64) for name in BY_RANK})
        return found

    def note(self) -> str:
        """Say what was left out; nothing if nothing was."""
        texts = [f"{self.other} epoch(s) before the number of ranks changed"] if self.other else []
        if self._n_parts and self._n_whole:
            texts.append(f"{self._n_parts} epoch(s) that several jobs share")
        if texts:
            return f"Left out: {' and '.join(texts)}."
        return "The times are of parts of epochs: several jobs share each." if self._n_parts else ""
