"""Times as Slurm writes them: ``90``, ``2:00:00``, ``1-12``, ``1-02:30:30``, ``UNLIMITED``."""

import math
import re

TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", re.ASCII)
NO_LIMIT = ("infinite", "unlimited")


def limit(text: str) -> float:
    """Return a time limit that is asked for, in minutes; to Slurm zero is none. Raises ValueError."""
    return minutes(text) or math.inf


def minutes(text: str) -> float:
    """Return a time in minutes. Raises ValueError.

    One number is of minutes and two are minutes and seconds; behind days they are hours, and hours and minutes.
    """
    if text.lower() in NO_LIMIT:
        return math.inf
    found = TIME.fullmatch(text)
    if not found:
        raise ValueError(text)
    days, *rest = found.groups()
    parts = [int(part) for part in rest if part]
    if days is not None:
        parts += [0] * (3 - len(parts))
    elif len(parts) == 1:
        parts = [0, *parts, 0]
    elif len(parts) == 2:
        parts = [0, *parts]
    hours, mins, seconds = parts
    return 1440 * int(days or 0) + 60 * hours + mins + seconds / 60
