"""The fields of an epoch's record, from the rows that the ranks hand in."""

import math
from collections.abc import Mapping
from statistics import fmean
from types import NoneType
from typing import Any

import numpy as np

from common.flat import Array
from common.step_times import TIMESTAMPS
from ps.logfile.epoch_fields import EPOCH_FIELDS
from ps.logfile.records import Record
from ps.logfile.validation import TEXT, WHOLE, FieldSpec
from ps.metrics import epoch_metrics
from ps.metrics.share_interval import intervals


def epoch_record(table: Array, facts: Mapping[str, Any], names: list[str], gradient_bytes: int) -> Record:
    """Return what an epoch's record says, but for the noise scale and the validation.

    ``table``: (ranks,) of ``rank_row.row_type``. ``facts``: what is the same on all ranks (epoch, steps, learning rate,
    sampled steps ...). ``names``: of the parameters. ``gradient_bytes``: of the vector that a step sums.
    """
    rows, losses = table["rows"], table["loss_sum"]
    before = facts["before"] or {"rows": 0, "loss_sum": 0.0}
    # of whole epochs, whose weights add up to rows, both are the same; where steps were left out, weights are right
    done = before["rows"] + rows.sum() if facts["before"] else table["weight"].sum()
    busy, run = epoch_metrics.useful_s(table), np.sum([table[name] for name in epoch_metrics.RUN_TIME], axis=0)
    pushes = table["pushes"][np.isfinite(table["pushes"])]  # where not every step is an exchange
    exchanges = fmean(pushes) if len(pushes) else facts["steps"]
    exchange_s = (fmean(table["transfer_s"]) + fmean(table["reduce_s"])) / max(exchanges, 1)
    known: Record = {
        **facts,
        "loss": float((before["loss_sum"] + losses.sum()) / done),
        "loss_by_rank": [s / w if w else None for s, w in zip(losses.tolist(), table["weight"].tolist(), strict=True)],
        **epoch_metrics.contribution(table, names),
        "gradient_norm": epoch_metrics.gradient_norm(table, len(facts["sampled_steps"])),
        **intervals(table["samples"], len(facts["sampled_steps"])),
        "efficiency": epoch_metrics.efficiency(busy, run),
        "bus_bytes_per_s": epoch_metrics.bus_bandwidth(gradient_bytes, len(table), exchange_s),
    }
    for field in EPOCH_FIELDS:
        if field.gathered and not (field.loose and np.isnan(table[field.name]).all()):
            known[field.name] = _listed(table[field.name], field.spec.of)
        elif field.derive:
            known[field.name] = field.derive(table)
    return known


def _listed(values: Array, kind: FieldSpec | None) -> list[Any]:
    """Return one value for each rank, of the type that the record has: fingerprints as 12 hexadecimal digits.

    Of a figure that only some modes give, nil for a rank that did not.
    """
    if kind == TEXT:
        return [f"{int(value):012x}" for value in values]
    if kind is not None and NoneType in kind.types:
        convert: type[int | float] = float if float in kind.types else int
        return [convert(value) if math.isfinite(value) else None for value in values]
    listed: list[Any] = (values.astype(int) if kind == WHOLE else values).tolist()
    return listed


def step_fields(table: Array, epoch: int, sampled: list[int], begin_s: float, started_s: float) -> Record:
    """Return the fields of a ``steps`` record: timestamps of the sampled steps, in whole microseconds.

    They count from ``begin_s``, when the epoch's first step began; both times on rank 0's clock.
    """
    timestamps = table["timestamps"][:, : len(sampled)]  # ranks, steps, timestamps
    whole = np.rint((timestamps - begin_s) * 1e6).astype(np.int64).transpose(2, 1, 0).tolist()
    return {
        "epoch": epoch,
        "steps": sampled,
        "begin_s": begin_s - started_s,
        "moments_us": dict(zip((*TIMESTAMPS, "last"), whole, strict=True)),
    }
