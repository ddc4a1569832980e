"""Verdict ``skewed-targets``: ranks have other targets than all ranks together, by the record ``balance``."""

import math

from ps.findings.skewed_labels import skewed
from ps.findings.verdict import Verdict
from ps.logfile.records import Record

LEAST_DISTANCE = 0.25
MIN_Z = 6.0
"""Standard errors that chance does not reach, on any of thousands of ranks."""


def skewed_targets(balance: Record) -> Verdict | None:
    """Find ranks whose mean target is off by more than chance explains, and by more than a quarter deviation.

    One wild row alone puts the mean of its rank sqrt(P) standard errors off, so with many ranks it takes twice that.
    """
    text = "their mean on rank {worst} is {distance:.3g} deviations off that of all rows ({z:.3g} standard errors)"
    min_z = max(MIN_Z, 2 * math.sqrt(len(balance["rows"])))
    return skewed(balance, "target", min_z, LEAST_DISTANCE, text, code="skewed-targets")
