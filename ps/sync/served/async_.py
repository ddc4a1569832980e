"""Mode ``async``: the parameter server; each gradient is an update, and clocks of ranks differ by a bound at most."""

import math
from functools import partial

from common.config import RunConfig
from common.option import whole_or
from ps.sync.mode import CostFormula, Mode
from ps.sync.served.cost import star_network, star_terms
from ps.sync.served.order import BoundedClocks, KOfN, Order
from ps.sync.served.synchronizer import ServedSync


def _order(config: RunConfig, ranks: int) -> tuple[Order, bool]:
    """Where no clock may be ahead, one update of all pushes is what a synchronous mode makes."""
    bound = whole_or("staleness", config.staleness, ("inf",), 0)
    return (
        (KOfN(ranks, ranks), False)
        if bound == 0
        else (BoundedClocks(ranks, math.inf if bound is None else bound), True)
    )


MODE = Mode(
    name="async",
    help="push and pull at each rank's own pace, within --staleness: for Adam, for study",
    build=partial(ServedSync, _order),
    cost=CostFormula(star_terms, "2 (P-1) (a + m b)", star_network, "(P-L) (2 A + m B)"),
    elastic=False,
    exact=False,
)
