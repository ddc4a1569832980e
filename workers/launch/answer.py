"""Asking another program for a fact: what it says within a time, or nothing."""

import os
import subprocess
from collections.abc import Mapping, Sequence


def ask(
    command: Sequence[str], seconds: float, variables: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str] | None":
    """Return what a program says, and how it ends; None if it does not start, or has not ended in time.

    ``variables``: for its environment, besides ours. It has no input.
    """
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=seconds,
            stdin=subprocess.DEVNULL, env={**os.environ, **(variables or {})},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
