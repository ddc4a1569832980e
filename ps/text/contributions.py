"""What an epoch's record says of the ranks' contributions, in words: the sample, and which of the two is printed."""

from typing import Any

from ps.text.formatting import fixed

NORM_RATIO = (
    "Contribution here is the norm ratio |g_i| / |sum_j g_j| of the ranks' mean gradients: never negative, and it does "
    "not add up to 100 %. The signed share, which does, is in the log (share) and in ps.log show."
)
"""Of the two contributions, which one ``--verbose`` and ``contributions.txt`` print."""


def sampled(record: dict[str, Any]) -> str:
    """Return on how many of an epoch's steps contributions were measured."""
    n, steps = len(record["sampled_steps"]), record["steps"]
    if n == steps:
        return "measured on its only step" if n == 1 else f"measured on all {n} steps"
    return f"measured on {n} of {steps:,} steps"


def ends(record: dict[str, Any], key: str, rank: int) -> str:
    """Return a rank's interval in percent, of ``share`` or of ``chance``; a dash where there is none."""
    low, high = (record.get(f"{key}_{end}", {}) for end in ("low", "high"))
    if not low or not high or low[rank] is None or high[rank] is None:
        return "-"
    return f"{fixed(100 * low[rank], 1)} to {fixed(100 * high[rank], 1)} %"
