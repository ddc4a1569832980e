"""Verdict ``communication-bound``: a step takes longer for the exchange than for computing."""

from collections import deque
from statistics import fmean, median

from ps.findings.verdict import Detector, Verdict
from ps.logfile.header import hosts
from ps.logfile.records import Record
from ps.metrics.epoch_metrics import useful_s

EPOCHS, ENOUGH = 5, 3
"""Reported where it is so in so many of the last epochs."""
PREEMPTION_S = 0.004
"""About what it costs when the system gives a core to another process for a while: a time slice."""
EFFICIENT = 0.8
"""Parallel efficiency below which POP recommends a closer look (co-design.pop-coe.eu/metrics)."""


class CommunicationBound(Detector):
    """The exchange takes longer than computing, so larger batches pay, or fewer ranks.

    With T the seconds of a step's exchange (transfer, and ranks' own summing and updating of slices) and t those that a
    rank computes on a row, P ranks take T + B t / P for a batch of B rows and one rank B t, so they are even at
    B = T / (t (1 - 1/P)); efficiency 1 / (1 + T P / (B t)) is 80 % at B = 4 P T / t. A stall of a few steps is no cost
    of every step, so the transfer is at most the median step's. While another process has a core, ranks wait for it in
    the middle of a sum. So an epoch counts only if this is so even without what preemptions may have cost.
    """

    def __init__(self, header: Record) -> None:
        super().__init__(header)
        self.applies = self.n_ranks > 1 and not any(machine.oversubscribed for machine in hosts(header))
        self.recent: deque[tuple[int, float, float, float] | None] = deque(maxlen=EPOCHS)
        """Number of an epoch, seconds of exchange and computing of a step, and of computing a row; None: not bound."""

    def add(self, epoch: Record) -> Verdict | None:
        """See Detector."""
        steps, rows, n_ranks = max(epoch["steps"], 1), sum(epoch["rows"]), self.n_ranks
        if not self.applies or not rows:
            return None
        all_busy = float(useful_s(epoch).sum())
        busy = all_busy / n_ranks / steps
        exchange = min(fmean(epoch["transfer_s"]) / steps, fmean(epoch["transfer_median_s"]))
        exchange += fmean(epoch["reduce_s"]) / steps
        preempted = PREEMPTION_S * max(epoch.get("preemptions", (0,))) / steps
        is_bound = exchange - preempted > busy > 0
        self.recent.append((epoch["epoch"], exchange, busy, all_busy / rows) if is_bound else None)
        bound = [one for one in self.recent if one]
        return self._verdict(bound, rows / steps) if len(bound) >= ENOUGH else None

    def _verdict(self, bound: list[tuple[int, float, float, float]], batch: float) -> Verdict:
        epochs, *seconds = zip(*bound, strict=True)
        n_ranks, (exchange, busy, row) = self.n_ranks, map(median, seconds)
        even = exchange / (row * (1 - 1 / n_ranks))
        efficient = n_ranks * EFFICIENT / (1 - EFFICIENT) * exchange / row
        return Verdict(
            code="communication-bound",
            ranks=list(range(n_ranks)),
            text=f"the exchange takes {1e3 * exchange:.3g} ms of a step and computing {1e3 * busy:.3g} ms, at a batch "
            f"of {batch:.4g} rows: {n_ranks} ranks are as fast as one at a batch of about {even:.3g} rows, and 80 % "
            f"efficient at about {efficient:.3g}",
            remedy="raise --batch-size, start fewer ranks, or try another --mode (auto tries them all)",
            evidence={"epochs": list(epochs), "exchange_s_per_step": exchange, "busy_s_per_step": busy,
                      "busy_s_per_row": row, "batch": batch, "break_even_batch": even, "efficient_batch": efficient},
        )  # fmt: skip
