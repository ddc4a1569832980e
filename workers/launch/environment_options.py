"""The variables that set options, which every rank looks at; what they mean is for ``cli.py``, on rank 0."""

import os

PREFIX = "RANKWISE_"


def environment() -> list[str]:
    """Return the variables that set options, as NAME=value."""
    return sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith(PREFIX))
