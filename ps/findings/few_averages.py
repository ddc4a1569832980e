"""Verdict ``few-averages``: a run of mode ``local`` is too short for its outer momentum."""

import math

from common.wording import count
from ps.findings.verdict import Verdict
from ps.logfile.header import rows_of
from ps.logfile.records import Record

TIMES = 4
"""Averages a run should have, in those over which the momentum spreads what one of them adds."""


def few_averages(header: Record) -> Verdict | None:
    """Compare the averages of the whole run with those over which each adds up.

    What a round has found is added a part at a time, over about 1/(1 - mu) averages: of the last ones not all arrives.
    CNTK asks for rows >= block P^2 at mu = 1 - 1/P, with the rows of a rank's block: P averages.
    """
    config, world = header["config"], header["world"]
    momentum = config.get("outer_momentum", 0.0)
    rows = rows_of(header, "train")
    if config.get("mode") != "local" or not momentum or not rows:
        return None
    steps = math.ceil(rows / (config["batch_size"] or rows))
    averages = config["epochs"] * math.ceil(steps / config["sync_every"])
    needed = max(world, math.ceil(round(TIMES / (1 - momentum), 6)))
    if averages >= needed:
        return None
    block = config["sync_every"] * rows / steps / world
    return Verdict(
        code="few-averages",
        ranks=[],
        text=f"the run has {count(averages, 'average')}, but with an outer momentum of {momentum:g} what a round has "
        f"found is added over about {1 / (1 - momentum):.2g} of them: at least {needed} are needed, or what the last "
        "rounds have found never arrives",
        remedy=f"lower --outer-momentum{' (0: none)' * (momentum <= 0.5)} or --sync-every, or give more --epochs",
        evidence={"averages": averages, "needed": needed, "outer_momentum": momentum, "rows": rows * config["epochs"],
                  "block_rows": block},
    )  # fmt: skip
