"""Whether every training row was used exactly once in each epoch, as the log's numbers prove, across all its jobs."""

from typing import Any

from ps.logfile.reader import Entry
from ps.logfile.records import GOING_ON, Record

MOST_FAULTS = 5
"""Epochs with another number of rows that are named."""


class RowAudit:
    """Adds up the rows of each epoch: those of the job that finished it, and those of jobs before, ``before``.

    Few fields are decoded, in the order in which our writer has them; ``before`` only where this log has it.
    """

    def __init__(self) -> None:
        self.epochs = 0
        self.faults: list[str] = []
        self.n_faults = 0
        self.left_out: list[int] = [0, 0]
        """Steps, and rows of them."""
        self._rows = 0
        self._batch = 0
        self._sharded = False
        self._names: tuple[str, ...] = ()
        self._skipped: set[tuple[int, int]] = set()
        """Epoch and step of those left out in the epoch that is not finished yet."""

    def take(self, entry: Entry) -> None:
        """Take the next record that counts, of whatever kind. Raises LogError."""
        if entry.kind == "header":
            header = entry.record()
            self._rows = header["data"]["rows"]["train"]
            self._batch = header["config"]["batch_size"] or self._rows
            self._sharded = header["config"].get("rows") == "shard"
        elif entry.kind == "event":
            self._take_event(entry.record())
        elif entry.kind == "epoch":
            self._take_epoch(entry)

    def lines(self) -> list[str]:
        """Return what the numbers say; nothing without an epoch."""
        if not self.epochs:
            return []
        but = "" if not self.left_out[0] else f", but for the {self.left_out[1]} of {self.left_out[0]} step(s) left out"
        if not self.n_faults:
            each = f"each of {self.epochs} epochs" if self.epochs > 1 else "the one epoch"
            return [f"Rows: every one of the {self._rows} training rows was used once in {each}{but}."]
        more = f"; and {self.n_faults - len(self.faults)} more are off" if self.n_faults > len(self.faults) else ""
        return [f"Rows: not every training row was used once in each epoch: {'; '.join(self.faults)}{more}{but}."]

    def _take_event(self, event: Record) -> None:
        if event["what"] == "skip":
            self._skipped.add((event["epoch"], event["step"]))
        elif event["what"] in GOING_ON:
            done = event["epoch"], event["step"]
            self._skipped = {place for place in self._skipped if place <= done}
            self._names = ()

    def _take_epoch(self, entry: Entry) -> None:
        self._names = self._names or _names(entry.record())
        found = entry.pick(*self._names)
        epoch, rows, before = found.get("epoch"), found.get("rows"), found.get("before")
        if not isinstance(epoch, int) or not isinstance(rows, list):
            raise entry.error("epoch without its number and its rows by rank")
        used = sum(n for n in [*rows, _rows_before(before)] if isinstance(n, int))
        self.epochs += 1
        if epoch != self.epochs:
            self._fault(f"epoch {epoch} stands where {self.epochs} belongs")
            self.epochs = epoch
        left_out, skipped = self._left_out(epoch, found.get("skipped"), self._rows - used, len(rows))
        off = used + left_out - self._rows
        if off:
            beside = " beside those of steps left out" if left_out else ""
            self._fault(
                f"epoch {epoch} used {used} of {self._rows}, {abs(off)} too {'many' if off > 0 else 'few'}{beside}"
            )
        elif skipped:
            self.left_out[0] += skipped
            self.left_out[1] += left_out

    def _left_out(self, epoch: int, skipped: Any, missing: int, world: int) -> tuple[int, int]:
        """Return how many rows of an epoch its steps without an update account for, and how many such steps there were.

        The events tell which steps, and so how many rows these have. They do not where they are not all there, or where
        rows do not change ranks, whose shares of a step are rounded one by one: then it is as many as are missing, up
        to those of so many of the largest steps.
        """
        steps = [step for of, step in self._skipped if of == epoch]
        self._skipped = {place for place in self._skipped if place[0] > epoch}
        if steps and not self._sharded:
            starts = [(step - 1) * self._batch for step in steps]
            return sum(max(0, min(self._batch, self._rows - start)) for start in starts), len(steps)
        n = len(steps) or (skipped if isinstance(skipped, int) else 0)
        return max(0, min(missing, n * (self._batch + world))), n

    def _fault(self, text: str) -> None:
        self.n_faults += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(text)


def _names(record: Record) -> tuple[str, ...]:
    """Return the fields to look for in the epochs of a job: to search for one that is not there costs most."""
    return ("epoch", "rows", *(name for name in ("before", "skipped") if name in record))


def _rows_before(before: Any) -> Any:
    return before.get("rows") if isinstance(before, dict) else 0
