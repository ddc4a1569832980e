"""Verdict ``communication-bound``: a step takes longer for the exchange than for computing."""

from collections import deque
from statistics import fmean, median

from common.wording import about
from ps.findings.straggler import LOOSE_MODES
from ps.findings.verdict import Detector, Verdict
from ps.logfile.header import hosts, rows_of
from ps.logfile.records import Record
from ps.metrics.epoch_metrics import useful_s

EPOCHS, ENOUGH = 5, 3
"""Reported where it is so in so many of the last epochs."""
PREEMPTION_S = 0.004
"""About a time slice: in logs that do not have the seconds, what it costs when another process gets the core."""
EFFICIENT = 0.8
"""Parallel efficiency below which POP recommends a closer look (co-design.pop-coe.eu/metrics)."""


class CommunicationBound(Detector):
    """The exchange takes longer than computing, so larger batches pay, or fewer ranks.

    With T the seconds of a step's exchange (transfer, and ranks' own summing and updating of slices) and t those that a
    rank computes on a row, P ranks take T + B t / P for a batch of B rows and one rank B t, so they are even at
    B = T / (t (1 - 1/P)); efficiency 1 / (1 + T P / (B t)) is 80 % at B = 4 P T / t. A stall of a few steps is no cost
    of every step, so the transfer is at most the median step's. While another process has a core, ranks wait for it in
    the middle of a sum. So an epoch counts only if the exchange is longer even without the time in which ranks stood in
    a core's queue; where that, or a few long steps, makes the difference, the epoch is not judged.
    """

    code = "communication-bound"

    def __init__(self, header: Record) -> None:
        super().__init__(header)
        self.applies = self.n_ranks > 1 and not any(machine.oversubscribed for machine in hosts(header))
        config, self.train_rows = header["config"], rows_of(header, "train")
        self.mode = config.get("mode", "")
        self.whole = not 0 < config.get("batch_size", 0) < self.train_rows
        """Whether a step takes all rows already."""
        self.can_send_less = len(header["nodes"]) > 1 and self.mode not in LOOSE_MODES
        self.wire, self.every = config.get("wire", "float32"), config.get("sync_every", 1)
        self.unclear: deque[float | None] = deque(maxlen=EPOCHS)
        """Of the epochs that are not judged: seconds in which ranks stood in a core's queue; else None."""
        self.n_epochs = 0
        self.recent: deque[tuple[int, float, float, float] | None] = deque(maxlen=EPOCHS)
        """Number of an epoch, seconds of exchange and computing of a step, and of computing a row; None: not bound."""

    def add(self, epoch: Record) -> Verdict | None:
        """See Detector."""
        steps, rows, n_ranks = max(epoch["steps"], 1), sum(epoch["rows"]), self.n_ranks
        if not self.applies or not rows:
            return None
        all_busy = float(useful_s(epoch).sum())
        busy = all_busy / n_ranks / steps
        exchanges = [n for n in epoch.get("pushes") or [steps] if n is not None]
        transfer = fmean(epoch["transfer_s"]) / steps
        middle = fmean(epoch["transfer_median_s"]) * fmean(exchanges) / steps
        reduce = fmean(epoch["reduce_s"]) / steps
        queued_s = queued(epoch)
        most = min(transfer, middle) + reduce
        least = min(max(transfer + reduce - queued_s / steps, 0.0), most)
        is_bound, seems_bound = least > busy > 0, transfer + reduce > busy > 0
        self.n_epochs += 1
        self.recent.append((epoch["epoch"], most, busy, all_busy / rows) if is_bound else None)
        self.unclear.append(queued_s if seems_bound and not is_bound else None)
        bound = [one for one in self.recent if one]
        return self._verdict(bound, rows / steps) if len(bound) >= ENOUGH else None

    def not_judged(self) -> str:
        """See Detector."""
        if self.n_ranks < 2:
            return ""
        if not self.applies:
            return "ranks share cores, so their times say nothing of the exchange"
        if self.n_epochs < ENOUGH:
            return self.too_few(ENOUGH)
        unclear = [seconds for seconds in self.unclear if seconds is not None]
        if len(unclear) + sum(one is not None for one in self.recent) < ENOUGH or not unclear:
            return ""
        if queued_s := median(unclear):
            return f"the cores were busy: ranks stood in a core's queue for {queued_s:.2g} s an epoch"
        return "a few steps stalled, and took most of the exchange's time"

    def _verdict(self, bound: list[tuple[int, float, float, float]], batch: float) -> Verdict:
        epochs, *seconds = zip(*bound, strict=True)
        n_ranks, (exchange, busy, row) = self.n_ranks, map(median, seconds)
        even = exchange / (row * (1 - 1 / n_ranks))
        efficient = n_ranks * EFFICIENT / (1 - EFFICIENT) * exchange / row
        return Verdict(
            code=self.code,
            ranks=list(range(n_ranks)),
            text=f"the exchange takes {1e3 * exchange:.3g} ms of a step and computing {1e3 * busy:.3g} ms, at a batch "
            f"of {batch:.4g} rows; {n_ranks} ranks are as fast as one at a batch of about {about(even)} rows, and "
            f"80 % efficient at about {about(efficient)} (estimates)",
            remedy=self._remedy(even),
            evidence={"epochs": list(epochs), "exchange_s_per_step": exchange, "busy_s_per_step": busy,
                      "busy_s_per_row": row, "batch": batch, "break_even_batch": even, "efficient_batch": efficient},
        )  # fmt: skip

    def _remedy(self, even: float) -> str:
        """Return what can be done in this run: rows that there are, ranks that can be left out, modes not in use."""
        ways = [f"start {'fewer ranks' if self.n_ranks > 2 else 'one rank'}"]
        if not self.whole and even <= self.train_rows:
            ways.insert(0, "raise --batch-size")
        if self.mode == "local":
            ways.append(f"raise --sync-every above {self.every}")
        elif self.mode != "auto":
            ways.append("try --mode auto, which takes the fastest")
        if self.can_send_less:
            ways.append(
                "send less (--mode ring --wire bf16, or --mode local)" if self.wire == "float32" else "--mode local"
            )
        return " or ".join(filter(None, (", ".join(ways[:-1]), ways[-1])))


def queued(epoch: Record) -> float:
    """Return the seconds of an epoch in which any rank was ready to run and another process had its core.

    All ranks' together: each time the others wait for it, and seldom for two at the same time.
    """
    if "preempted_s" in epoch:
        return float(sum(epoch["preempted_s"]))
    return float(PREEMPTION_S * sum(epoch.get("preemptions", (0,))))
