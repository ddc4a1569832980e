"""Reads small TOML files in bounded time: Python's reader takes hours for a line of very many dots."""

from pathlib import Path
from typing import Any

from common.files import read_small

MOST_DOTS = 100
"""In a line: a path may have some, and a key of many parts takes the square of their number."""


def read_toml(path: Path) -> dict[str, Any]:
    """Return the values of a file. Raises OSError, and ValueError for what is no TOML."""
    import tomllib  # on rank 0 only

    text = read_small(path).decode()
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MOST_DOTS:
            raise ValueError(f"more than {MOST_DOTS} dots in line {number}")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
