"""What Slurm calls this job: one number, or that of an array and of the task in it."""

import os
from collections.abc import Mapping

from common.errors import ConfigError


class BatchId:
    """The job of these variables. Raises ConfigError where there is none.

    ``job``: for scontrol and scancel: the number of one task of an array is the array's, so it alone would mean all of
    them. ``task``: its number in the array, -1 without one. ``restarts``: how often it was queued again.
    """

    def __init__(self, variables: Mapping[str, str] = os.environ) -> None:
        number = variables.get("SLURM_JOB_ID", "")
        if not number:
            raise ConfigError("batch job: SLURM_JOB_ID is not set; submit a script of slurm/ with sbatch")
        array, task = variables.get("SLURM_ARRAY_JOB_ID", ""), variables.get("SLURM_ARRAY_TASK_ID", "")
        in_array = bool(array) and task.isdigit()
        self.job = f"{array}_{task}" if in_array else number
        self.task = int(task) if in_array else -1
        restarts = variables.get("SLURM_RESTART_COUNT", "")
        self.restarts = int(restarts) if restarts.isdigit() else 0
