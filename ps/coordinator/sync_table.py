"""The table of an epoch's sums that ends a run's output: of many epochs the means of several a line."""

from common.wording import count

LINES = 20
"""At most, with title and head."""
ROWS = LINES - 2

Times = tuple[float, float, float, float]
"""Seconds of an epoch, means over the ranks: in sums, of that waiting and transferring, and busy altogether."""


class SyncTable:
    """Adds up epochs so that a bounded number of lines can show all of them."""

    def __init__(self) -> None:
        self._each = 1
        """Epochs a row."""
        self._rows: list[tuple[int, int, int, Times]] = []
        """First and last epoch of a row, how many it has, and their sums."""

    def add(self, epoch: int, times: Times) -> None:
        """Take the next epoch."""
        if self._rows and self._rows[-1][2] < self._each:
            first, _, n, sums = self._rows[-1]
            self._rows[-1] = (first, epoch, n + 1, _together(sums, times))
        else:
            self._rows.append((epoch, epoch, 1, times))
        if len(self._rows) > ROWS:
            self._each *= 2
            pairs = zip(self._rows[::2], [*self._rows[1::2], None], strict=False)
            self._rows = [a if b is None else (a[0], b[1], a[2] + b[2], _together(a[3], b[3])) for a, b in pairs]

    def lines(self) -> list[str]:
        """Return the table; nothing without an epoch."""
        if not self._rows:
            return []
        each = f"; a line: mean of {count(self._each, 'epoch')}" if self._each > 1 else ""
        names = [f"{a} to {b}" if a < b else str(a) for a, b, _, _ in self._rows]
        width = max(5, *map(len, names))
        lines = [
            f"Time of the sums, s an epoch, mean of the ranks (sync = wait + transfer){each}",
            f"{'epoch':>{width}}        sync        wait    transfer  % of epoch",
        ]
        for name, (_, _, n, (sync, wait, transfer, busy)) in zip(names, self._rows, strict=True):
            share = 100 * sync / busy if busy > 0 else 0.0
            lines.append(f"{name:>{width}}  {sync / n:10.6f}  {wait / n:10.6f}  {transfer / n:10.6f}  {share:10.1f}")
        return lines


def _together(a: Times, b: Times) -> Times:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])
