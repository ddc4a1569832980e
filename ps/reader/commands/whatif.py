"""``python -m ps.log whatif``: what an epoch would take if one thing were different, from recorded times."""

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
    view, epochs = _read(run)
    header, note, base = view.header_at(view.last), epochs.note(), replay(epochs.records())
    exchanges = list(_exchanges(other, header)) if other else []
    out = console.make()
    first = ", the first left out" if base.skipped else ""
    out.print(
        f"{view.folder}: mode {mode_name(header)}, {header['world']} ranks, medians of {base.epochs} epoch(s){first}"
    )
    for line in (*filter(None, [note]), *_model_error(base)):
        out.print(line)
    columns = ["", "epoch s", "saved s", "times as fast"]
    out.print(console.table("What an epoch would take", columns, _rows(base, exchanges)))
    if len(base.work_s) > 1:
        out.print(_speed_table(header, view.last, base))
    return 0


def _read(run: Path) -> tuple[RunView, Epochs]:
    """Read a run's epochs. Raises LogError, RankwiseError without an epoch."""
    epochs = Epochs()
    view = skim(run, epochs.take)
    if not view.last:
        raise RankwiseError(
            f"{view.path}: no epoch in this log, so there are no times to replay; give a run with at least one"
            + (", and this comparison as --other" if view.header.get("purpose") == "comparison" else "")
        )
    return view, epochs


def _exchanges(other: Path, header: Record) -> Iterator[tuple[str, float]]:
    """Yield name and seconds a step of each exchange that was measured in another run, or in a comparison."""
    found: list[Record] = []
    view = skim(other, lambda entry: found.append(entry.record()) if entry.kind == "comparison" else None)
    theirs = view.header
    if not theirs:
        raise RankwiseError(f"other: {view.path} has no record yet; give a run with at least one epoch")
    measured = (("world", "ranks"), ("packet_bytes", "bytes"))
    differs = " and ".join(f"{theirs[key]:,} {what}" for key, what in measured if theirs[key] != header[key])
    note = f" (measured with {differs}, unlike this run)" if differs else ""
    for mode in (mode for record in found for mode in record["modes"]):
        yield f"transfer of mode {mode['mode']}{note}", mode["transfer_s"]["median"] + mode["reduce_s"]["median"]
    if not found:
        own = replay(_read(other)[1].records())
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
    work, now = base.work_s, base.epoch_s()
    cases = [("as it was (replay)", now)]
    if len(work) > 1:
        straggler = f"without the straggler: rank {work.argmax()} like the median of the others"
        cases += [
            (straggler, base.epoch_s(without_straggler(work))),
            ("rows dealt by speed", base.epoch_s(dealt_by_speed(work, base.rows))),
            ("perfect balance: every rank works the mean time", base.epoch_s(np.full_like(work, work.mean()))),
        ]
    cases += [(name, base.epoch_s(exchange_s=seconds * base.steps)) for name, seconds in exchanges]
    cases.append(("without any communication (lower bound)", base.epoch_s(exchange_s=0.0)))
    return [[name, number(s), number(now - s, 3), f"{now / s:.2f}" if s else "-"] for name, s in cases]


def _speed_table(header: Record, last: Record, base: Replay) -> Table:
    hosts, ranks = host_names(header), extremes(last, MOST_RANKS)
    dealt, speed = rows_by_speed(base.work_s, base.rows), rows_per_s(base.work_s, base.rows)
    rows = [
        [str(r), hosts.get(r, "-"), number(base.work_s[r]), f"{speed[r]:,.0f}", f"{base.rows[r]:.0f}", str(dealt[r])]
        for r in ranks
    ]
    few = "" if len(ranks) == len(dealt) else f"; {len(ranks)} of {len(dealt)} ranks that stand out"
    columns = ["rank", "host", "work s", "rows a second", "rows", "rows by speed"]
    return console.table(f"Rows of an epoch as dealt and by speed{few}", columns, rows)
