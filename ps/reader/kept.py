"""How much of a log's records is kept whole: by the number of their values, for one may be as large as any."""

from typing import Any

from common.limits import VALUES

BYTES_A_VALUE = 64
OVERHEAD = 3
"""Of a list or map, in values."""


MOST = VALUES // 5
"""Of one record: one that holds more is not kept, and not counted to its end."""


def weight(record: Any, most: int = MOST) -> int:
    """Return about how many values a record holds, long texts as several; more than ``most`` are not counted on."""
    total, left = 0, [record]
    while left and total <= most:
        value = left.pop()
        if isinstance(value, str | bytes):
            total += len(value) // BYTES_A_VALUE
            continue
        total += OVERHEAD + len(value)
        if total <= most:
            inner = value.values() if isinstance(value, dict) else value
            left += [one for one in inner if isinstance(one, list | dict | str | bytes)]
    return total


class Allowance:
    """Says of record after record whether there is room to keep it."""

    def __init__(self) -> None:
        self._left = VALUES

    def take(self, record: Any) -> bool:
        """Say whether there is room, and take it."""
        needed = weight(record)
        if needed > min(MOST, self._left):
            return False
        self._left -= needed
        return True

    def give_back(self, record: Any) -> None:
        """Free the room of a record that had been taken."""
        self._left += weight(record)
