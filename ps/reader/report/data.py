"""What the report keeps of a run: exact figures of evenly spread epochs, and sums over all of them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.flat import Array
from ps.log import LogReader, Record, log_path
from ps.reader.compare import Summary
from ps.reader.comparison import Contents
from ps.reader.run import RunView
from ps.reader.schema import Check
from ps.reader.thin import Thin

MOST_EPOCHS = 200
"""Epochs in a chart; of a longer run, one in so many."""
MOST_PARAMETERS = 12
"""Parameters whose contributions are shown one by one: the first."""

SECONDS = ("input_s", "compute_s", "wait_s", "transfer_s", "sampling_s", "evaluation_s")
SINGLE = ("epoch", "elapsed_s", "loss", "validation_loss", "validation_metric", "effective_ranks", "noise_scale")
EFFICIENCIES = ("load_balance", "communication", "parallel")
BY_RANK = (*SECONDS, "cosine_all")
BY_PARAMETER = ("share", "norm_ratio")


@dataclass(slots=True)
class RunData:
    """A run in bounded memory.

    ``epochs``: of evenly spread epochs, arrays by name, undefined values NaN: () for what is the same on all ranks,
    (ranks,) by rank, and (1 + parameters, ranks) for ``BY_PARAMETER``, all parameters together first.
    ``seconds``: sums over all epochs, (ranks,). ``first``: the record of the first epoch.
    ``measured``: what a comparison's log holds instead of epochs.
    """

    view: RunView
    names: list[str] = field(default_factory=list)
    epochs: Thin[dict[str, Array]] = field(default_factory=lambda: Thin(MOST_EPOCHS))
    seconds: dict[str, Array] = field(default_factory=dict)
    first: Record = field(default_factory=dict)
    n_epochs: int = 0
    n_steps: int = 0
    summary: Summary = field(default_factory=Summary)
    measured: Contents = field(default_factory=Contents)

    @property
    def header(self) -> Record:
        """The first record; empty if the log is."""
        return self.view.header

    @property
    def ranks(self) -> int:
        """The number of ranks."""
        return int(self.header["world"])

    @property
    def hosts(self) -> dict[int, str]:
        """The host of each rank."""
        return {rank: node["host"] for node in self.header["nodes"] for rank in node["ranks"]}

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
        values = {key: np.array(record[key], float) for key in (*SINGLE, *BY_RANK)}  # nil becomes NaN
        values |= {key: np.array(record["efficiency"][key], float) for key in EFFICIENCIES}
        for key in BY_PARAMETER:
            values[key] = np.array([record[f"{key}_all"], *(record[key][name] for name in self.names)], float)
        self.epochs.add(values)
        for key in SECONDS:
            self.seconds[key] = self.seconds.get(key, 0.0) + values[key]
        self.first = self.first or record
        self.n_epochs += 1
        self.n_steps += record["steps"]
        self.summary.add(record)

    def series(self, key: str) -> Array:
        """Return a value over the kept epochs, which are the first axis."""
        return np.array([epoch[key] for epoch in self.epochs.kept()])

    def mean_seconds(self, key: str) -> Array:
        """Return seconds an epoch by rank, the mean over all epochs."""
        return self.seconds[key] / self.n_epochs


def collect(run: Path) -> RunData:
    """Read a log. Raises LogError, or RankwiseError if there is none."""
    data = RunData(RunView(log_path(run)))
    reader = LogReader(data.view.path, Check())
    for entry in reader.entries():
        if entry.kind != "steps":  # large, and nothing for this page
            data.add(entry.record())
    data.view.torn, data.view.offset = reader.torn, reader.offset
    data.summary.view = data.view
    return data
