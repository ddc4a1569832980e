"""Whether every training row was used exactly once in each epoch, as the log's numbers prove, across all its jobs."""

from ps.logfile.records import CONTINUATIONS, Record

NAMED_FAULTS = 5
"""Epochs with another number of rows that are named; the others are counted."""


class RowAudit:
    """Adds up the rows of each epoch: those of the job that finished it, and those of jobs before, ``before``."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.epochs = self.n_faults = self.steps_left_out = self.rows_left_out = 0
        self._rows = self._batch = 0
        self._sharded = False
        self._skipped: set[tuple[int, int]] = set()
        """Epoch and step of those left out in the epoch that is not finished yet."""

    def add(self, record: Record) -> None:
        """Take the next record that counts, of whatever kind."""
        if record["kind"] == "header":
            self._rows = record["data"]["rows"]["train"]
            self._batch = record["config"]["batch_size"] or self._rows
            self._sharded = record["config"].get("rows") == "shard"
        elif record["kind"] == "epoch":
            self._add_epoch(record)
        elif record["kind"] == "event" and record["what"] == "skip":
            self._skipped.add((record["epoch"], record["step"]))
        elif record["kind"] == "event" and record["what"] in CONTINUATIONS:
            done = record["epoch"], record["step"]
            self._skipped = {place for place in self._skipped if place <= done}

    def lines(self) -> list[str]:
        """Return what the numbers say; nothing without an epoch."""
        if not self.epochs:
            return []
        but = f", but for the {self.rows_left_out} of {self.steps_left_out} step(s) left out" * bool(
            self.steps_left_out
        )
        if not self.n_faults:
            each = f"each of {self.epochs} epochs" if self.epochs > 1 else "the one epoch"
            return [f"Rows: every one of the {self._rows} training rows was used once in {each}{but}."]
        more = f"; and {self.n_faults - len(self.faults)} more are off" if self.n_faults > len(self.faults) else ""
        return [f"Rows: not every training row was used once in each epoch: {'; '.join(self.faults)}{more}{but}."]

    def _add_epoch(self, record: Record) -> None:
        epoch, rows = record["epoch"], record["rows"]
        used = sum(rows) + (record.get("before") or {"rows": 0})["rows"]
        self.epochs += 1
        if epoch != self.epochs:
            self._fault(f"epoch {epoch} stands where {self.epochs} belongs")
            self.epochs = epoch
        left_out, n_steps = self._left_out(epoch, record.get("skipped", 0), self._rows - used, len(rows))
        off = used + left_out - self._rows
        if off:
            besides = " besides those of steps left out" if left_out else ""
            many = "many" if off > 0 else "few"
            self._fault(f"epoch {epoch} used {used} of {self._rows}, {abs(off)} too {many}{besides}")
        elif n_steps:
            self.steps_left_out += n_steps
            self.rows_left_out += left_out

    def _left_out(self, epoch: int, skipped: int, missing: int, world: int) -> tuple[int, int]:
        """Return how many rows of an epoch its steps without an update account for, and how many such steps there were.

        The events say which steps, and so how many rows these have. Without the events, and where ranks keep their rows
        and so round their number rank by rank, it is as many rows as are missing, up to those of as many full steps.
        """
        steps = [step for of, step in self._skipped if of == epoch]
        self._skipped = {place for place in self._skipped if place[0] > epoch}
        if steps and not self._sharded:
            starts = [(step - 1) * self._batch for step in steps]
            return sum(max(0, min(self._batch, self._rows - start)) for start in starts), len(steps)
        n = len(steps) or skipped
        return max(0, min(missing, n * (self._batch + world))), n

    def _fault(self, text: str) -> None:
        self.n_faults += 1
        if len(self.faults) < NAMED_FAULTS:
            self.faults.append(text)
