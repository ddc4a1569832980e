"""Mode ``k-of-n``: one update for every K gradients through rank 0; late ones are added to the next."""

from functools import partial

from common.config import RunConfig
from ps.sync.mode import CostFormula, Mode
from ps.sync.served.cost import star_network, star_terms
from ps.sync.served.order import KOfN, Order
from ps.sync.served.rounded import PUSH_WIRES
from ps.sync.served.synchronizer import ServedSync


def _order(config: RunConfig, ranks: int) -> tuple[Order, bool]:
    return KOfN(ranks, min(config.wait_for or max(ranks - 1, 1), ranks)), False


MODE = Mode(
    name="k-of-n",
    help="an update for every K gradients, late ones in the next: not held up by a slow rank",
    build=partial(ServedSync, _order),
    cost=CostFormula(star_terms, "2 (P-1) (a + m b)", star_network, "(P-L) (2 A + m B)"),
    exact=False,
    apart=False,
    serves=True,
    wires=PUSH_WIRES,
)
