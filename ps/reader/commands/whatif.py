"""``python -m ps.log whatif``: what an epoch would take if one thing were different, from recorded times.

A run is modelled as its slowest rank's work and an exchange.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from common import limits
from common.errors import RankwiseError
from common.flat import Array
from common.run_files import log_path
from common.wording import count, listed
from ps.logfile.header import host_names
from ps.logfile.records import Record
from ps.reader.commands import waiting_for
from ps.reader.commands.cli import LATEST, Run, Salvage
from ps.reader.comparison_view import until_loss
from ps.reader.console import WIDE, Paper
from ps.reader.downsample import Downsampler
from ps.reader.many_ranks import ALL_RANKS, MORE, most_ranks
from ps.reader.output import warn_of_left_out
from ps.reader.run_view import RunView, extremes
from ps.text import loose
from ps.text.formatting import aligned, mode_name, number
from ps.text.layout import Table

LEAST_EPOCHS = 8
BY_RANK = ("input_s", "compute_s", "reduce_s", "sampling_s", "transfer_s", "loop_s", "rows")
MOST = 1e12
"""Seconds and rows of an epoch are cut to this: more cannot be of a run, and would overflow."""
CLOCK_TICK_S = 1e-9
"""Work that took no longer was not measured."""


@dataclass(frozen=True, slots=True)
class Replay:
    """A run's times, each the median over its epochs; a run is modelled as its slowest rank's work and an exchange.

    ``work_s``, ``rows``: (ranks,), by rank and epoch. Work is input, compute and measuring contributions, without what
    modes ``shared`` and ``factors`` spend on summing: that is exchange in any mode. ``exchange_s``: mean over the
    ranks, an epoch. ``recorded_s``: of the training loop of the slowest rank. ``epochs``: how many are in the medians;
    ``skipped``: whether the first one, which warms up, is not. ``each_s``: work of each epoch, (epochs, ranks).
    """

    work_s: Array
    rows: Array
    exchange_s: float
    recorded_s: float
    steps: float
    epochs: int
    skipped: bool
    each_s: Array

    @property
    def epoch_s(self) -> float:
        """The seconds of an epoch as the model has it."""
        return float(self.work_s.max()) + self.exchange_s


def replay(records: list[Record]) -> Replay:
    """Return the medians of these epochs; the first is left out if there are more than three."""
    skipped = len(records) > 3
    kept = records[skipped:]
    by_rank = np.array([[r[name] for r in kept] for name in BY_RANK], np.float64).clip(0, MOST)
    inputs, compute, reduce, sampling, transfer, loop, rows = by_rank  # (epochs, ranks) each
    work = inputs + (compute - reduce).clip(0) + sampling
    return Replay(
        work_s=np.median(work, axis=0),
        rows=np.median(rows, axis=0),
        exchange_s=float(np.median((transfer + reduce).mean(axis=1))),
        recorded_s=float(np.median(loop.max(axis=1))),
        steps=max(1.0, float(np.median([r["steps"] for r in kept]))),
        epochs=len(kept),
        skipped=skipped,
        each_s=work,
    )


def without_straggler(work_s: Array) -> Array:
    """Return the work with that of the slowest rank replaced by the median of the others; at least two ranks."""
    slowest = work_s.argmax()
    result = work_s.copy()
    result[slowest] = min(np.median(np.delete(work_s, slowest)), work_s[slowest])
    return result


def rows_by_speed(work_s: Array, rows: Array) -> Array:
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


def dealt_by_speed(work_s: Array, rows: Array) -> Array:
    """Return the work of each rank if rows are dealt by speed: n / sum(1 / t_i), the same for all that get any."""
    speed = rows_per_s(work_s, rows)
    return np.where(speed > 0, rows.sum() / speed.sum(), 0.0) if speed.sum() else work_s


def rows_per_s(work_s: Array, rows: Array) -> Array:
    """Return the speed of each rank; 0 where it is not known."""
    known = (work_s > CLOCK_TICK_S) & (rows > 0)
    return np.divide(rows, work_s, out=np.zeros_like(rows), where=known)


class Epochs:
    """The epochs to replay, evenly spread: those since the number of ranks last changed.

    ``whole``: those that one job trained. ``shared``: those that several jobs trained, of which the log has only the
    last one's times; they are taken if there are no others. ``before``: how many there were with other ranks.
    """

    def __init__(self) -> None:
        self.whole, self.shared = Downsampler[Record](2), Downsampler[Record](2)
        self.before = self._world = 0

    def add(self, record: Record) -> None:
        """Take the next epoch."""
        if self._world != len(record["rows"]):
            self._world = len(record["rows"])
            self.before += self.whole.count + self.shared.count
            most = min(limits.EPOCHS_BY_RANK, max(LEAST_EPOCHS, limits.NUMBERS // (self._world * len(BY_RANK))))
            self.whole, self.shared = Downsampler(most), Downsampler(most)
        kept = {"steps": record["steps"]} | {name: np.array(record[name], np.float64) for name in BY_RANK}
        (self.whole if record.get("before") is None else self.shared).add(kept)

    def replay(self) -> Replay:
        """Return the times of the epochs to replay."""
        return replay(self.whole.kept() or self.shared.kept())

    def note(self) -> str:
        """Say what was left out; nothing if nothing was."""
        texts = [f"{count(self.before, 'epoch')} before the number of ranks changed"] if self.before else []
        if self.shared.count and self.whole.count:
            texts.append(f"{count(self.shared.count, 'epoch')} that several jobs share")
        if texts:
            return f"Left out: {listed(texts)}."
        return "The times are of parts of epochs: several jobs share each." if self.shared.count else ""


OTHER = "a run of another mode, or a comparison, whose measured transfer is put in the place of this run's"


def whatif(
    run: Run = LATEST,
    /,
    *,
    other: Annotated[Path | None, Parameter(help=OTHER)] = None,
    all_ranks: Annotated[bool, Parameter(help=ALL_RANKS)] = False,
    wide: Annotated[bool, Parameter(help=WIDE)] = False,
    salvage: Salvage = False,
) -> int:
    """Print what an epoch would take; return the exit code.

    Raises LogError, and RankwiseError if there is no epoch or ``other`` holds no measured transfer.
    """
    view, epochs = _read(run, salvage=salvage)
    warn_of_left_out(view.torn, view.damage)
    header, note, base = view.header_at(view.last), epochs.note(), epochs.replay()
    exchanges = list(_exchanges(other, header, salvage=salvage)) if other else []
    out = Paper(wide=wide)
    ranks, medians = count(header["world"], "rank"), f"medians of {count(base.epochs, 'epoch')}"
    first = ", the first left out" if base.skipped else ""
    out.print(f": mode {mode_name(header)}, {ranks}, {medians}{first}", head=str(view.folder))
    if note:
        out.print(note)
    if loose.columns(view.last):
        out.print(
            "Ranks did not keep in step here, so the model, in which all wait for the slowest, is that of a mode "
            "in which they do."
        )
    out.print(
        f"Replaying the run as it was gives {number(base.epoch_s)} s an epoch, {_off(base)}; the figures below may be "
        "off as far.",
        "Model: the longest work of a rank (input, compute, measuring) + the mean transfer; work goes with the rows.",
        "",
    )
    out.table(Table("What an epoch would take", ["", "epoch s", "saved s", "times as fast"], _rows(base, exchanges)))
    if len(base.work_s) > 1:
        out.table(_speed_table(header, view.last, base, every=all_ranks))
    if waiting := waiting_for.table(base.each_s / base.steps, base.exchange_s / base.steps):
        out.table(waiting)
    return 0


def _off(base: Replay) -> str:
    """Say how far the model is off what was recorded."""
    if not base.recorded_s:
        return "and none was recorded"
    off = base.epoch_s / base.recorded_s - 1
    return f"{abs(100 * off):.0f} % {'less' if off < 0 else 'more'} than the {number(base.recorded_s)} s recorded"


def _read(run: Path, *, salvage: bool) -> tuple[RunView, Epochs]:
    """Read a run's epochs. Raises LogError, RankwiseError without an epoch."""
    epochs, view = Epochs(), RunView(log_path(run), salvage=salvage)
    for record in view.read("steps"):
        if record["kind"] == "epoch":
            epochs.add(record)
    if not view.last:
        raise RankwiseError(
            f"{view.path}: no epoch in this log, so there are no times to replay; give a run with at least one"
            + (", and this comparison as --other" if view.is_comparison else "")
        )
    return view, epochs


def _exchanges(other: Path, header: Record, *, salvage: bool) -> Iterator[tuple[str, float]]:
    """Yield name and seconds a step of each exchange that was measured in another run, or in a comparison."""
    view, found = RunView(log_path(other), salvage=salvage), Record()
    for record in view.read("steps"):
        found = record if record["kind"] == "comparison" else found  # a log has one
    theirs = view.header
    if not theirs:
        raise RankwiseError(f"other: {view.path} has no record yet; give a run with at least one epoch")
    if until_loss(theirs):
        raise RankwiseError(f"other: {view.path} trained to a loss and timed no steps; compare without --until-loss")
    measured = (("world", "ranks"), ("packet_bytes", "bytes"))
    differs = " and ".join(f"{theirs[key]:,} {what}" for key, what in measured if theirs[key] != header[key])
    note = f" (measured with {differs}, unlike this run)" if differs else ""
    for mode in found.get("modes", []):
        yield f"transfer of mode {mode['mode']}{note}", mode["transfer_s"]["median"] + mode["reduce_s"]["median"]
    if not found:
        own = _read(other, salvage=salvage)[1].replay()
        yield f"transfer of {view.folder}, mode {mode_name(theirs)}{note}", own.exchange_s / own.steps


def _rows(base: Replay, exchanges: list[tuple[str, float]]) -> list[list[str]]:
    """Return the lines of the cases; ``exchanges``: names, and seconds a step."""
    work, now, exchange_s = base.work_s, base.epoch_s, base.exchange_s
    cases = [("as it was (replay)", work, exchange_s)]
    if len(work) > 1:
        cases += [
            (f"without the straggler: rank {work.argmax()} like the median of the others", without_straggler(work),
             exchange_s),
            ("rows dealt by speed (--balance speed)", dealt_by_speed(work, base.rows), exchange_s),
            ("perfect balance: every rank works the mean time", np.full_like(work, work.mean()), exchange_s),
        ]  # fmt: skip
    cases += [(name, work, seconds * base.steps) for name, seconds in exchanges]
    cases.append(("without any communication (lower bound)", work, 0.0))
    epochs_s = [(name, float(own.max()) + exchange) for name, own, exchange in cases]
    return [[name, number(s), number(now - s, 3), f"{now / s:.2f}" if s else "-"] for name, s in epochs_s]


def _speed_table(header: Record, last: Record, base: Replay, *, every: bool) -> Table:
    hosts, ranks = host_names(header), extremes(last, most_ranks(len(base.rows), every=every))
    dealt, speed = rows_by_speed(base.work_s, base.rows), rows_per_s(base.work_s, base.rows)
    work = aligned(base.work_s[r] for r in ranks)
    rows = [
        [str(r), hosts.get(r, "-"), s, f"{speed[r]:,.0f}", f"{base.rows[r]:,.0f}", f"{dealt[r]:,}"]
        for r, s in zip(ranks, work, strict=True)
    ]
    few = "" if len(ranks) == len(dealt) else f"; {len(ranks)} of {len(dealt):,} ranks that stand out, {MORE}"
    columns = ["rank", "host", "work s", "rows/s", "rows", "rows by speed"]
    title = f"Rows of an epoch as dealt and by speed{few}"
    return Table(title, columns, rows, ("host", "work s", "rows/s"), ("host",))
