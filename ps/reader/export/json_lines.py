"""A log as JSON lines: one object a record."""

import json
import math
from collections.abc import Iterator
from typing import Any

from ps.logfile.reader import LogReader


def json_lines(reader: LogReader) -> Iterator[str]:
    """Yield each record as it is, except for what JSON cannot hold. Raises LogError."""
    for record in reader.records():
        try:
            yield json.dumps(record, allow_nan=False) + "\n"
        except (TypeError, ValueError):  # rare: only then is every value looked at
            yield json.dumps(_plain(record), allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: null for numbers that are not finite, bytes in hexadecimal."""
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, bytes):
        return value.hex()
    return None if isinstance(value, float) and not math.isfinite(value) else value
