"""When the batch job that this process belongs to will be ended, as far as anyone says so."""

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from common.errors import ConfigError
from common.slurm_time import minutes
from common.start_words import JOB_ENDS, REQUEUES, STOP_BEFORE
from workers.batch.batch_id import BatchId
from workers.launch import answer

ENDS, BEGAN = "SLURM_JOB_END_TIME", "SLURM_JOB_START_TIME"
"""Unix times that newer versions of Slurm set."""
RESTARTS = "SLURM_RESTART_COUNT"
ANSWER_S = 5.0
"""All ranks wait for this answer."""


def time_limit(
    variables: Mapping[str, str] = os.environ,
    ask: Callable[[str], str] | None = None,
    clock: Callable[[], float] = time.time,
) -> dict[str, Any] | None:
    """Return what the log says of the job's time limit; None if there is none, or nobody says it.

    ``ends``: Unix time. ``limit_s``: of the whole job, None if only its end is known. ``requeues``: how often the job
    may still be queued again, None if it will not be. ``stop_before_s``: how long before its end it is stopped for
    that, None if nobody says so. ``restarts``: how often it was. ``source``: who says so.

    ``ask``: returns what squeue says of a job, as ``LEFT|LIMIT``.
    """
    ends, limit, source = math.nan, math.nan, ""
    if (ends := _number(variables, JOB_ENDS)) > 0:
        source = JOB_ENDS
    elif "SLURM_JOB_ID" in variables and (ends := _number(variables, ENDS)) > 0:
        source, limit = ENDS, ends - _number(variables, BEGAN)
    elif "SLURM_JOB_ID" in variables:
        ends, limit = _asked(variables, ask or _squeue, clock)
        source = "squeue"
    if not math.isfinite(ends) or ends <= 0:
        return None
    requeues, before = _number(variables, REQUEUES), _number(variables, STOP_BEFORE)
    return {
        "ends": ends,
        "limit_s": limit if math.isfinite(limit) and limit > 0 else None,
        "requeues": int(requeues) if requeues >= 0 else None,
        "stop_before_s": before if before >= 0 else None,
        "restarts": int(_number(variables, RESTARTS)) if _number(variables, RESTARTS) >= 0 else 0,
        "source": source,
    }


def _number(variables: Mapping[str, str], name: str) -> float:
    """Return a variable's number; NaN if it is none, or too large for a time."""
    try:
        value = float(variables.get(name, ""))
    except ValueError:
        return math.nan
    return value if 0 <= value < 1e11 else math.nan


def _asked(variables: Mapping[str, str], ask: Callable[[str], str], clock: Callable[[], float]) -> tuple[float, float]:
    """Return the job's end and its limit in seconds; NaN for what is not known."""
    try:
        left, limit = (60 * minutes(word) for word in ask(BatchId(variables).job).strip().split("|"))
    except (ValueError, ConfigError):
        return math.nan, math.nan
    return clock() + left, limit


def _squeue(job: str) -> str:
    command = ["squeue", "--noheader", f"--jobs={job}", "--format=%L|%l"]
    asked = answer.ask(command, ANSWER_S)
    return asked.stdout if asked else ""
