"""Verdict ``communication-bound``: a step takes longer for the exchange than for computing."""

from collections import deque
from dataclasses import dataclass
from statistics import fmean, median

from ps.findings.verdict import Detector, JobFacts, Verdict
from ps.logfile.records import Record
from ps.metrics.epoch_metrics import useful_s

EPOCHS, ENOUGH = 5, 3
"""Reported where it is so in so many of the last epochs."""
PREEMPTION_S = 0.004
"""About what it costs when the system gives a core to another process for a while: a time slice."""
EFFICIENT = 0.8
"""Parallel efficiency below which POP recommends a closer look (co-design.pop-coe.eu/metrics)."""


@dataclass(frozen=True, slots=True)
class StepSeconds:
    """Seconds of an epoch's typical step: exchange, what preemptions explain of it, computing; and of one row."""

    epoch: int
    exchange_s: float
    preempted_s: float
    busy_s: float
    row_s: float


class CommunicationBound(Detector):
    """The exchange takes longer than computing, so larger batches pay, or fewer ranks.

    The exchange is transfer, and what ranks spend on summing and updating slices themselves in modes that do so. With T
    its seconds a step and t those that a rank computes on a row, P ranks take T + B t / P for a batch of B rows and one
    rank B t, so they are even at B = T / (t (1 - 1/P)); efficiency 1 / (1 + T P / (B t)) is 80 % at B = 4 P T / t. A
    stall of a few steps is no cost of every step, so the transfer is at most the median step's. While another process
    has a core, ranks wait for it in the middle of a sum. So an epoch counts only if its exchange is longer than
    computing even without what the preemptions of a rank may have cost.
    """

    def __init__(self, job: JobFacts) -> None:
        super().__init__(job)
        self.applies = job.n_ranks > 1 and not any(machine.oversubscribed for machine in job.machines)
        self.recent: deque[StepSeconds] = deque(maxlen=EPOCHS)

    def add(self, epoch: Record) -> Verdict | None:
        """See Detector."""
        steps, rows = max(epoch["steps"], 1), sum(epoch["rows"])
        if not self.applies or not rows:
            return None
        busy = float(useful_s(epoch).sum())
        exchange = min(fmean(epoch["transfer_s"]) / steps, fmean(epoch["transfer_median_s"]))
        exchange += fmean(epoch["reduce_s"]) / steps
        preempted = PREEMPTION_S * max(epoch.get("preemptions", (0,))) / steps
        step = StepSeconds(epoch["epoch"], exchange, preempted, busy / self.job.n_ranks / steps, busy / rows)
        self.recent.append(step)
        bound = [e for e in self.recent if e.exchange_s - e.preempted_s > e.busy_s > 0]
        return self._verdict(bound, rows / steps) if len(bound) >= ENOUGH else None

    def _verdict(self, bound: list[StepSeconds], batch: float) -> Verdict:
        n_ranks = self.job.n_ranks
        exchange, busy, row = (median(getattr(e, name) for e in bound) for name in ("exchange_s", "busy_s", "row_s"))
        even = exchange / (row * (1 - 1 / n_ranks))
        efficient = n_ranks * EFFICIENT / (1 - EFFICIENT) * exchange / row
        return Verdict(
            code="communication-bound",
            ranks=list(range(n_ranks)),
            text=f"the exchange takes {1e3 * exchange:.3g} ms of a step and computing {1e3 * busy:.3g} ms, at a batch "
            f"of {batch:.4g} rows: {n_ranks} ranks are as fast as one at a batch of about {even:.3g} rows, and 80 % "
            f"efficient at about {efficient:.3g}",
            remedy="raise --batch-size, start fewer ranks, or try another --mode (auto tries them all)",
            evidence={
                "epochs": [e.epoch for e in bound],
                "exchange_s_per_step": exchange,
                "busy_s_per_step": busy,
                "busy_s_per_row": row,
                "batch": batch,
                "break_even_batch": even,
                "efficient_batch": efficient,
            },
        )
