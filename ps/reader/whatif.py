"""``python -m ps.log whatif``: what an epoch would take if one thing were otherwise, from recorded times."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from common.errors import RankwiseError
from ps.cores import host_names
from ps.log import Entry, Record
from ps.reader import console
from ps.reader.rewinds import GOING_ON
from ps.reader.run import RunView, extremes, skim
from ps.reader.thin import Thin
from ps.text import mode_name, number, percent

MOST_EPOCHS = 200
LEAST_EPOCHS = 8
MOST_NUMBERS = 4_000_000
"""In the epochs that are kept, as they stand in the log: of many ranks and parameters fewer epochs are."""
MOST_RANKS = 16
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
    speed = _rows_per_s(work_s, rows)
    exact = rows.sum() * speed / speed.sum() if speed.sum() else rows
    whole = np.floor(exact).astype(np.int64)
    left = round(float(rows.sum())) - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:left]] += 1
    return whole


def dealt_by_speed(work_s: Floats, rows: Floats) -> Floats:
    """Return the work of each rank if rows are dealt by speed: n / sum(1 / t_i), the same for all that get any."""
    speed = _rows_per_s(work_s, rows)
    return np.where(speed > 0, rows.sum() / speed.sum(), 0.0) if speed.sum() else work_s


def _rows_per_s(work_s: Floats, rows: Floats) -> Floats:
    known = (work_s > CLOCK_TICK_S) & (rows > 0)
    return np.divide(rows, work_s, out=np.zeros_like(rows), where=known)


def whatif(run: Path, other: Path | None) -> int:
    """Print what an epoch would take; return the exit code.

    Raises LogError, and RankwiseError if there is no epoch or ``other`` tells no transfer.
    """
    view, base, note = _measured(run)
    exchanges = list(_exchanges(other, view.header)) if other else []
    out = console.make()
    out.print(
        f"{view.folder}: mode {mode_name(view.header)}, {view.header['world']} ranks, medians of {base.epochs} epoch(s)"
        f"{', the first left out' if base.skipped else ''}"
    )
    for line in (*filter(None, [note]), *_model_error(base)):
        out.print(line)
    out.print(
        console.table("What an epoch would take", ["", "epoch s", "saved s", "times as fast"], _rows(base, exchanges))
    )
    if len(base.work_s) > 1:
        out.print(_speed_table(view, base))
    return 0


class Epochs:
    """The epochs to replay, evenly thinned: those since the number of ranks last changed, each trained by one job.

    ``other``: how many there were before that. ``parts``: those of which the log has only the times of
    the last of several jobs; they are taken if there are no others.
    """

    def __init__(self) -> None:
        self.whole: Thin[Entry] = Thin(MOST_EPOCHS)
        self.parts: Thin[Entry] = Thin(MOST_EPOCHS)
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
        self.whole, self.parts, self._n_whole, self._n_parts = Thin(most), Thin(most), 0, 0
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


def _measured(run: Path) -> tuple[RunView, Replay, str]:
    """Read a run's epochs; return their times, and what is to be said of these.

    The view's header is that of the job that the last epoch is of. Raises LogError, RankwiseError without an epoch.
    """
    epochs = Epochs()
    view = skim(run, epochs.take)
    if not view.last:
        raise RankwiseError(
            f"{view.path}: no epoch in this log, so there are no times to replay; give a run with at least one"
            + (", and this comparison as --other" if view.header.get("purpose") == "comparison" else "")
        )
    view.header = view.header_at(view.last)
    note = epochs.note()
    return view, replay(epochs.records()), note


def _exchanges(other: Path, header: Record) -> Iterator[tuple[str, float]]:
    """Yield name and seconds a step of each exchange that was measured in another run, or in a comparison."""
    found: list[Record] = []
    view = skim(other, lambda entry: found.append(entry.record()) if entry.kind == "comparison" else None)
    theirs = view.header
    if not theirs:
        raise RankwiseError(f"other: {view.path} has no record yet; give a run with at least one epoch")
    differs = [
        f"{theirs[key]:,} {what}"
        for key, what in (("world", "ranks"), ("packet_bytes", "bytes"))
        if theirs[key] != header[key]
    ]
    note = f" (measured with {' and '.join(differs)}, unlike this run)" if differs else ""
    for record in found:
        for mode in record["modes"]:
            yield f"transfer of mode {mode['mode']}{note}", mode["transfer_s"]["median"] + mode["reduce_s"]["median"]
    if not found:
        view, own, _ = _measured(other)
        yield f"transfer of {view.folder}, mode {mode_name(theirs)}{note}", own.exchange_s / own.steps


def _model_error(base: Replay) -> Iterator[str]:
    """Say first how good the model is: its error tells what the rest is worth."""
    modelled = base.epoch_s()
    off = percent(modelled / base.recorded_s - 1) if base.recorded_s else "-"
    yield (
        f"The replay of the run as it was gives {number(modelled)} s an epoch, recorded {number(base.recorded_s)} s: "
        f"{off} off, and no figure below is better than that."
    )
    yield "Model: the longest work of a rank (input, compute, measuring) + the mean transfer; work goes with the rows."


def _rows(base: Replay, exchanges: list[tuple[str, float]]) -> list[list[str]]:
    work = base.work_s
    cases = [("as it was (replay)", base.epoch_s())]
    if len(work) > 1:
        slowest = int(work.argmax())
        cases += [
            (
                f"without the straggler: rank {slowest} like the median of the others",
                base.epoch_s(without_straggler(work)),
            ),
            ("rows dealt by speed", base.epoch_s(dealt_by_speed(work, base.rows))),
            ("perfect balance: every rank works the mean time", base.epoch_s(np.full_like(work, work.mean()))),
        ]
    cases += [(name, base.epoch_s(exchange_s=seconds * base.steps)) for name, seconds in exchanges]
    cases.append(("without any communication (lower bound)", base.epoch_s(exchange_s=0.0)))
    now = base.epoch_s()
    return [[name, number(s), number(now - s, 3), f"{now / s:.2f}" if s else "-"] for name, s in cases]


def _speed_table(view: RunView, base: Replay) -> Table:
    dealt = rows_by_speed(base.work_s, base.rows)
    hosts = host_names(view.header)
    ranks = extremes(view.last, MOST_RANKS)
    speed = _rows_per_s(base.work_s, base.rows)
    rows = [
        [
            str(rank),
            hosts.get(rank, "-"),
            number(base.work_s[rank]),
            f"{speed[rank]:,.0f}",
            f"{base.rows[rank]:.0f}",
            str(dealt[rank]),
        ]
        for rank in ranks
    ]
    few = "" if len(ranks) == len(dealt) else f"; {len(ranks)} of {len(dealt)} ranks that stand out"
    columns = ["rank", "host", "work s", "rows a second", "rows", "rows by speed"]
    return console.table(f"Rows of an epoch as dealt and by speed{few}", columns, rows)
