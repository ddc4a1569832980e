"""What the report keeps of a run: exact figures of evenly spread epochs, and sums over all of them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.flat import Array
from common.run_files import log_path
from ps.logfile.deduplicated import DeduplicatedReader
from ps.logfile.header import host_names
from ps.logfile.records import Record
from ps.logfile.schema import Check
from ps.reader.comparison_view import Contents
from ps.reader.downsample import Downsampler
from ps.reader.row_audit import RowAudit
from ps.reader.run_summary import Summary
from ps.reader.run_view import RunView
from ps.text.numbers import percent

MOST_EPOCHS = 200
"""Epochs in a chart; of a longer run, one in so many."""
MOST_PARAMETERS = 12
"""Parameters whose contributions are shown one by one: the first."""

PARTS = {
    "input_s": "input",
    "compute_s": "compute",
    "reduce_s": "summing",
    "wait_s": "wait",
    "transfer_s": "transfer",
    "sampling_s": "sampling",
    "evaluation_s": "evaluation",
    "checkpoint_s": "checkpoint",
}
"""What an epoch's time goes to, in words; here compute is without summing, of which only some modes have any."""
SECONDS = tuple(PARTS)
SINGLE = ("epoch", "elapsed_s", "loss", "validation_loss", "validation_metric", "effective_ranks", "noise_scale")
EFFICIENCIES = ("load_balance", "communication", "parallel")
BY_RANK = (*SECONDS, "cosine_all")
BY_PARAMETER = ("share", "norm_ratio")


@dataclass(slots=True)
class RunData:
    """A run in bounded memory.

    ``epochs``: of evenly spread epochs, arrays by name, undefined values NaN: () for what is the same on all ranks,
    (ranks,) by rank, and (1 + parameters, ranks) for ``BY_PARAMETER``, all parameters together first. Where the number
    of ranks changed, ``series`` has NaN for those that an epoch did not have.
    ``seconds``: sums over all epochs, (ranks,); ``counts``: epochs that each rank had; ``rank_steps``: steps times
    ranks. ``first``: the record of the first epoch.
    ``measured``: what a comparison's log holds instead of epochs.
    """

    view: RunView
    names: list[str] = field(default_factory=list)
    epochs: Downsampler[dict[str, Array]] = field(default_factory=lambda: Downsampler(MOST_EPOCHS))
    seconds: dict[str, Array] = field(default_factory=dict)
    counts: Array = field(default_factory=lambda: np.zeros(0))
    first: Record = field(default_factory=dict)
    n_epochs: int = 0
    rank_steps: int = 0
    rows: RowAudit = field(default_factory=RowAudit)
    summary: Summary = field(default_factory=Summary)
    measured: Contents = field(default_factory=Contents)

    @property
    def header(self) -> Record:
        """The first record with the facts of the newest job; empty if the log is."""
        return self.view.header

    @property
    def ranks(self) -> int:
        """The number of ranks; if it changed, the most that an epoch had."""
        return len(self.counts) or int(self.header["world"])

    @property
    def equal_shares(self) -> str:
        """Return what the share of each rank would be if all had the same, in words."""
        worlds = list(dict.fromkeys(job.header["world"] for job in self.view.jobs))
        if len(worlds) == 1:
            return percent(1 / worlds[0])
        return ", ".join(f"{percent(1 / world)} with {world} ranks" for world in worlds[-4:])

    @property
    def hosts(self) -> dict[int, str]:
        """The host of each rank, in the last job that had it."""
        return {rank: name for job in self.view.jobs for rank, name in host_names(job.header).items()}

    def add(self, record: Record) -> None:
        """Take a record in."""
        self.view.add(record)
        if record["kind"] == "header":
            self.names = list(record["model"]["parameters"])[:MOST_PARAMETERS]
        elif record["kind"] == "epoch":
            self._add_epoch(record)
        else:
            self.measured.add(record)

    def _add_epoch(self, record: Record) -> None:
        world = len(record["rows"])
        values = {key: np.array(record[key], float) for key in SINGLE}  # nil becomes NaN
        values |= {key: np.array(record.get(key, [0.0] * world), float) for key in BY_RANK}
        values["compute_s"] -= values["reduce_s"]
        values["world"] = np.array(world, float)
        values |= {key: np.array(record["efficiency"][key], float) for key in EFFICIENCIES}
        for key in BY_PARAMETER:
            values[key] = np.array([record[f"{key}_all"], *(record[key][name] for name in self.names)], float)
        self.epochs.add(values)
        self.counts = _sum(self.counts, np.ones(world))
        for key in SECONDS:
            self.seconds[key] = _sum(self.seconds.get(key, np.zeros(0)), values[key])
        self.first = self.first or record
        self.n_epochs += 1
        self.rank_steps += record["steps"] * world
        self.summary.add(record)

    def series(self, key: str) -> Array:
        """Return a value over the kept epochs, which are the first axis."""
        values = [epoch[key] for epoch in self.epochs.kept()]
        if key in (*BY_RANK, *BY_PARAMETER):
            values = [_widened(own, self.ranks, np.nan) for own in values]
        return np.array(values)

    @property
    def parts(self) -> dict[str, str]:
        """Return what this run's time went to: ``PARTS``, without summing where no rank did any."""
        return {key: name for key, name in PARTS.items() if key != "reduce_s" or self.seconds[key].any()}

    def mean_seconds(self, key: str) -> Array:
        """Return seconds an epoch by rank, the mean over all epochs that the rank had."""
        return self.seconds[key] / self.counts


def _widened(values: Array, ranks: int, filler: float) -> Array:
    """Return (..., ranks) values with more ranks, whose values are the filler."""
    more = ranks - values.shape[-1]
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, more)], constant_values=filler) if more else values


def _sum(one: Array, other: Array) -> Array:
    """Add values by rank, of which there may be more in one of them."""
    ranks = max(len(one), len(other))
    return _widened(one, ranks, 0.0) + _widened(other, ranks, 0.0)


def collect(run: Path) -> RunData:
    """Read a log. Raises LogError, or RankwiseError if there is none."""
    data = RunData(RunView(log_path(run)))
    reader = DeduplicatedReader(data.view.path, Check())
    for entry in reader.entries():
        if entry.kind != "steps":  # large, and nothing for this page
            data.add(entry.record())
            data.rows.take(entry)
    data.view.close(reader)
    return data
