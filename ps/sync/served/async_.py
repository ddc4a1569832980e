"""Mode ``async``: the parameter server; each gradient is an update, and clocks of ranks differ by a bound at most."""

import math

from common.config import RunConfig
from common.option import whole_or
from ps.sync.mode import CostFormula, Mode
from ps.sync.served.cost import star_network, star_terms
from ps.sync.served.order import BoundedClocks, InClockOrder, KOfN, Order
from ps.sync.served.rounded import PUSH_WIRES
from ps.sync.served.simulated import SimulatedDelaySync
from ps.sync.served.spread import SpreadSync
from ps.sync.served.synchronizer import ServedSync
from ps.sync.synchronizer import Synchronizer, SyncSetup


def _order(config: RunConfig, ranks: int) -> tuple[Order, bool]:
    """Where no clock may be ahead, one update of all pushes is what a synchronous mode makes."""
    bound = whole_or("staleness", config.staleness, ("inf",), 0)
    if bound == 0:
        return KOfN(ranks, ranks), False
    in_order = config.order == "clock"
    return InClockOrder(ranks) if in_order else BoundedClocks(ranks, math.inf if bound is None else bound), True


def _build(setup: SyncSetup) -> Synchronizer:
    if setup.config.simulate_delay:
        return SimulatedDelaySync(setup)
    return (SpreadSync if setup.config.servers == "all" else ServedSync)(_order, setup)


MODE = Mode(
    name="async",
    help="push and pull at each rank's own pace, within --staleness: for Adam, for study",
    build=_build,
    cost=CostFormula(star_terms, "2 (P-1) (a + m b)", star_network, "(P-L) (2 A + m B)"),
    exact=False,
    apart=False,
    serves=True,
    wires=PUSH_WIRES,
)
