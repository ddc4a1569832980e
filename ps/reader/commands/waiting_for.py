"""What ``whatif`` says of mode ``k-of-n``: how long updates would take that wait for K of the ranks only."""

import numpy as np

from common.flat import Array
from ps.text.formatting import milliseconds
from ps.text.layout import Table

GAIN = 1.05
"""Times as many gradients a second: with less there is nothing to tell."""
MOST_LINES = 16


def step_s(work_s: Array, exchange_s: float) -> Array:
    """Return the expected seconds until the K-th of the ranks has its gradient, and of the exchange, (ranks,).

    E[T_(K)], the K-th order statistic, averaged over the epochs. ``work_s``: of a step, (epochs, ranks).
    """
    ordered: Array = np.sort(work_s, axis=1).mean(axis=0)
    return ordered + exchange_s


def table(work_s: Array, exchange_s: float) -> Table | None:
    """Return the curve E[T_(K)]/K, the seconds a gradient, for the numbers of ranks to wait for; None without a gain.

    Chen et al. 2016 (arXiv 1604.00981) choose their backup workers by it. ``work_s``, ``exchange_s``: see ``step_s``.
    """
    seconds = step_s(work_s, exchange_s)
    ranks = np.arange(1, len(seconds) + 1)
    each = seconds / ranks
    if len(seconds) < 2 or not each.min() > 0 or each[-1] < GAIN * each.min():
        return None
    best = int(each.argmin())
    shown = sorted({*np.unique(np.linspace(0, len(ranks) - 1, MOST_LINES).astype(int)).tolist(), best})
    lines = [
        [str(ranks[k]), milliseconds(seconds[k]), milliseconds(each[k]), f"{each[-1] / each[k]:.2f}",
         "most a second" if k == best else ""]
        for k in shown
    ]  # fmt: skip
    title = (
        "Updates that wait for K ranks (--mode k-of-n --wait-for K); gradients that come later are in the next update, "
        "so there are at least K of them in each"
    )
    return Table(title, ["K", "ms an update", "ms a gradient", "times as many a second", ""], lines, text=("",))
