"""Commands that messages name, spelled as this job was started: by ``rankwise``, or as modules of Python."""

import os

STARTED_BY = "STARTED_BY_RANKWISE"
"""Set in the environment of what the command ``rankwise`` starts."""


def reading(run: object) -> str:
    """Return the command that prints the log of a run."""
    return f"rankwise log show {run}" if os.environ.get(STARTED_BY) else f"python -m ps.log show {run}"


def training(ranks: int, options: str) -> str:
    """Return the command that trains on so many ranks with these options."""
    if os.environ.get(STARTED_BY):
        return f"rankwise train -n {ranks} {options}"
    return f"mpirun -np {ranks} python -m workers.run {options}"
