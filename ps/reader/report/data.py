"""What the report keeps of a run: exact figures of evenly spread epochs, and sums over all of them."""

from pathlib import Path

import numpy as np

from common.flat import Array
from common.limits import EPOCHS_BY_RANK, PAGE_PARAMETERS, PAGE_RANKS
from common.run_files import log_path
from ps.logfile.epoch_fields import EPOCH_FIELDS
from ps.logfile.header import Host, confined, host_names, hosts
from ps.logfile.records import Record
from ps.reader.comparison_view import ComparisonView
from ps.reader.downsample import Downsampler
from ps.reader.report.colours import SHARED_TRANSFER
from ps.reader.row_audit import RowAudit
from ps.reader.run_summary import Summary
from ps.reader.run_view import RunView, TrainingSession

TIMES = {
    f"{name}_s": "summing" if name == "reduce" else name
    for name in ("input", "compute", "reduce", "wait", "transfer", "sampling", "evaluation", "checkpoint")
}
"""What an epoch's time goes to: fields and names. Here compute is without summing, which only some modes have."""
SINGLE = (
    "epoch", "elapsed_s", "loss", "validation_loss", "validation_metric", "learning_rate", "gradient_norm",
    "effective_ranks", "effective_ranks_low", "effective_ranks_high", "noise_scale",
)  # fmt: skip
EFFICIENCIES = ("load_balance", "communication", "parallel")
BY_RANK = (*TIMES, "cosine_all", "loss_by_rank")
INTERVALS = ("share_low", "share_high", "chance_low", "chance_high")
"""By rank, in logs that have them."""
LOOSE = tuple(field.name for field in EPOCH_FIELDS if field.loose)
"""By rank, in logs of modes whose ranks do not keep in step."""
BY_PARAMETER = ("share", "norm_ratio")


class RunData:
    """A run in bounded memory.

    ``seconds``: sums over all epochs by ``TIMES``, (ranks,) each; ``mean_seconds``: the means over the epochs that a
    rank had. ``times``: ``TIMES`` by the names to show, without summing where no rank did any. ``rank_steps``: steps
    times ranks. ``ranks``: their number, the largest if it changed; ``rank_names``: for legends. ``first``: the record
    of the first epoch. ``begin_s``: when its first step began. ``names``: the parameters to show. ``measured``: what a
    comparison's log holds instead of epochs. ``sharing``: the hosts on which ranks take turns on cores.
    ``most_ranks``: of how many ranks a table or bars may be.
    """

    def __init__(self, run: Path, *, salvage: bool = False, all_ranks: bool = False) -> None:
        """Read a log, with ``salvage`` what is whole of it. Raises LogError, or RankwiseError if there is none.

        ``all_ranks``: tables and bars by rank hold all of them, not just some of many.
        """
        self.names: list[str] = []
        self.first: Record = {}
        self.begin_s: float | None = None
        self.elapsed_s = 0.0
        self.rank_steps = 0
        self.epochs: Downsampler[dict[str, Array]] = Downsampler(EPOCHS_BY_RANK)
        self.rows, self.summary, self.measured = RowAudit(), Summary(), ComparisonView()
        self._totals = np.zeros((len(TIMES) + 1, 0))
        self._rank_means = np.zeros(len(TIMES))
        self.view = RunView(log_path(run), salvage=salvage)
        for record in self.view.read("steps"):
            if record["kind"] == "header":
                self.names = list(record["model"]["parameters"])[:PAGE_PARAMETERS]
            elif record["kind"] == "epoch":
                self._add_epoch(record)
            elif record["kind"] == "steps" and self.begin_s is None:
                self.begin_s = _seconds(record.get("begin_s"))  # nothing else of these records, which are not checked
            self.measured.add(record)
            self.rows.add(record)
        self.header = self.view.header
        self.n_epochs = self.epochs.count
        self.ranks = self._totals.shape[1]
        self.most_ranks = self.ranks if all_ranks else PAGE_RANKS
        self.seconds = dict(zip(TIMES, self._totals, strict=False))
        self.mean_seconds = {key: own / self._totals[-1] for key, own in self.seconds.items()}
        self.sharing = _sharing(self.view.sessions)
        self.times = {key: name for key, name in TIMES.items() if key != "reduce_s" or self.seconds[key].any()}
        if self.sharing:
            self.times["transfer_s"] = SHARED_TRANSFER
        hosts = {rank: host for job in self.view.sessions for rank, host in host_names(job.header).items()}
        several = len(set(hosts.values())) > 1
        self.rank_names = [f"rank {r}" + f", {hosts.get(r)}" * (several and r in hosts) for r in range(self.ranks)]

    def _add_epoch(self, record: Record) -> None:
        world = len(record["rows"])
        figures = {
            "world": world,
            "steps": record["steps"],
            **{key: record.get(key) for key in SINGLE},
            "rows_per_s": sum(record["rows"]) / max(*record["loop_s"], 1e-9),
            **{key: record["efficiency"][key] for key in EFFICIENCIES},
            **{key: record.get(key, [0.0] * world) for key in BY_RANK},
            **{key: record.get(key, [None] * world) for key in INTERVALS},
            **{key: record.get(key, [None]) for key in LOOSE},
            **{key: [record[f"{key}_all"], *(record[key][name] for name in self.names)] for key in BY_PARAMETER},
        }
        values = {key: np.array(figure, float) for key, figure in figures.items()}  # nil becomes NaN
        values["compute_s"] -= values["reduce_s"]
        self.epochs.add(values)
        own = np.array([*(values[key] for key in TIMES), np.ones(world)])
        ranks = max(world, self._totals.shape[1])
        self._totals = _widened(self._totals, ranks, 0.0) + _widened(own, ranks, 0.0)
        self._rank_means += own[:-1].mean(axis=1)
        self.elapsed_s = record["elapsed_s"]
        self.first = self.first or record
        self.rank_steps += record["steps"] * world
        self.summary.add(record)

    @property
    def launch_s(self) -> float | None:
        """How long the run's jobs took from the start of rank 0's process until training was set up.

        None where the log does not say. Ranks that go on without dead ones are no new job.
        """
        jobs = [job.header.get("launch_s") for job in self.view.sessions if job.began.get("what") != "shrink"]
        known = [seconds for seconds in jobs if seconds is not None]
        return sum(known) if known else None

    @property
    def wall_s(self) -> float:
        """All the time that the log knows of: from the start of rank 0's process to its end, or to the last epoch's."""
        return (self.launch_s or 0.0) + float(self.view.end.get("wall_s", self.elapsed_s))

    def budget(self) -> dict[str, float]:
        """Return what ``wall_s`` went to, in seconds, means over the ranks; they add up to it.

        ``start-up`` ends with the first step; ``rest`` is what no clock measured: the ends of epochs, the log, the
        final test, saving. Only of a log whose clocks contradict each other is it left out, and the sum larger.
        """
        measured = dict(zip(TIMES, self._rank_means.tolist(), strict=True))
        parts = {"start-up": (self.launch_s or 0.0) + (self.begin_s or 0.0)}
        parts |= {name: measured[key] for key, name in self.times.items()}
        return {**parts, "rest": max(0.0, self.wall_s - sum(parts.values()))}

    def series(self, key: str) -> Array:
        """Return a figure of the kept epochs as an array, undefined values NaN.

        (epochs,) for what is the same on all ranks; (epochs, ranks) by rank, NaN for ranks that an epoch did not have;
        (epochs, 1 + parameters, ranks) for ``BY_PARAMETER``, all parameters together first.
        """
        return np.array([_widened(own[key], self.ranks, np.nan) for own in self.epochs.kept()])


def _seconds(value: object) -> float | None:
    return value if isinstance(value, float) and 0 <= value < np.inf else None


def _sharing(sessions: list[TrainingSession]) -> list[Host]:
    """Return the hosts on which ranks take turns on cores, of the last job that had any."""
    for job in reversed(sessions):
        found = [host for host in hosts(job.header) if host.oversubscribed or confined(host.masks)]
        if found:
            return found
    return []


def _widened(values: Array, ranks: int, filler: float) -> Array:
    """Return (..., ranks) values with the filler for ranks that they lack; single values as they are."""
    if not values.ndim or values.shape[-1] == ranks:
        return values
    more = ranks - values.shape[-1]
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, more)], constant_values=filler)
