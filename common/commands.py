"""Commands that messages name, spelled as this job was started: by ``rankwise``, or as modules of Python."""

import os
import shlex

STARTED_BY = "STARTED_BY_RANKWISE"
"""Set in the environment of what the command ``rankwise`` starts."""


def reading(run: object) -> str:
    """Return the command that prints the log of a run."""
    return f"{'rankwise log' if os.environ.get(STARTED_BY) else 'python -m ps.log'} show {shlex.quote(str(run))}"


def training(ranks: int, *options: object) -> str:
    """Return the command that trains on so many ranks with these options, a word each."""
    words = shlex.join(map(str, options))
    if os.environ.get(STARTED_BY):
        return f"rankwise train -n {ranks} {words}"
    return f"mpirun -np {ranks} python -m workers.run {words}"
