"""The variables that set options, which every rank looks at; what they mean is for ``cli.py``, on rank 0."""

import os

from common.start_words import OF_THE_JOB

PREFIX = "RANKWISE_"


def environment() -> list[str]:
    """Return the variables that set options, as NAME=value."""
    named = (name for name in os.environ if name.startswith(PREFIX) and name not in OF_THE_JOB)
    return sorted(f"{name}={os.environ[name]}" for name in named)
