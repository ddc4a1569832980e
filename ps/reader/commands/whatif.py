"""``python -m ps.log whatif``: what an epoch would take if one thing were otherwise, from recorded times."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.table import Table

from common.errors import RankwiseError
from ps.logfile.header import host_names
from ps.logfile.records import Record
from ps.reader import console
from ps.reader.commands.whatif_replay import (
    Epochs,
    Replay,
    dealt_by_speed,
    replay,
    rows_by_speed,
    rows_per_s,
    without_straggler,
)
from ps.reader.run_view import RunView, extremes, skim
from ps.text.numbers import number, percent
from ps.text.record_lines import mode_name

MOST_RANKS = 16


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
    speed = rows_per_s(base.work_s, base.rows)
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
