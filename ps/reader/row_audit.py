"""Whether every training row was used exactly once in each epoch, as the log's numbers prove, across all its jobs."""

from common.limits import PLACES
from common.wording import count
from ps.logfile.records import CONTINUATIONS, Record

NAMED_FAULTS = 5
"""Epochs with another number of rows that are named; the others are counted."""


class RowAudit:
    """Adds up the rows of each epoch: those of the job that finished it, and those of jobs before, ``before``."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.epochs = self.n_faults = self.steps_left_out = self.rows_left_out = 0
        self._rows = self._batch = 0
        self._by_rank = False
        self._joint = (0, 0)
        """The last epoch that another job began, and how many rows of it that took."""
        self._skipped: dict[tuple[int, int, int], int] = {}
        """Rows of those left out in the epoch that is not finished yet, by epoch, step and the batch size of that."""

    def add(self, record: Record) -> None:
        """Take the next record that counts, of whatever kind."""
        if record["kind"] == "header":
            self._rows = record["data"]["rows"]["train"]
            self._batch = record["config"]["batch_size"] or self._rows
            config = record["config"]  # of earlier versions, which had no other shards, without saying so
            self._by_rank = config.get("rows") == "shard" and config.get("shards", "by-rank") == "by-rank"
        elif record["kind"] == "epoch":
            self._add_epoch(record)
        elif record["kind"] == "event" and record["what"] == "skip":
            place = record["epoch"], record["step"]
            if len(self._skipped) < PLACES:
                self._skipped[*place, self._batch] = self._rows_of(*place)
        elif record["kind"] == "event" and record["what"] in CONTINUATIONS:
            self._continue(record)

    def lines(self) -> list[str]:
        """Return what the numbers say; nothing without an epoch."""
        if not self.epochs:
            return []
        left_out = f"{count(self.rows_left_out, 'row')} of {count(self.steps_left_out, 'step')} left out"
        but = f", but for the {left_out}" * bool(self.steps_left_out)
        if not self.n_faults:
            each = f"each of {self.epochs} epochs" if self.epochs > 1 else "the one epoch"
            return [f"Rows: every one of the {self._rows:,} training rows was used once in {each}{but}."]
        more = f"; and {self.n_faults - len(self.faults)} more are off" if self.n_faults > len(self.faults) else ""
        return [f"Rows: not every training row was used once in each epoch: {'; '.join(self.faults)}{more}{but}."]

    def _rows_of(self, epoch: int, step: int) -> int:
        """Return how many rows all ranks took in a step; less where another job took a part of them."""
        start, end = (step - 1) * self._batch, min(step * self._batch, self._rows)
        if self._joint[0] == epoch:
            start = max(start, self._joint[1])
        return max(0, end - start)

    def _continue(self, event: Record) -> None:
        """Forget the steps left out that are done again, and count in batches of the size that holds from here on."""
        epoch, done = event["epoch"], event["step"]
        if "config" in event:
            self._batch = event["config"]["batch_size"] or self._rows
        changes = (change for change in event.get("changes", []) if change["name"] == "batch_size")
        before = next((change.get("before") for change in changes), None)
        changed = isinstance(before, int)
        size = (before or self._rows) if isinstance(before, int) else self._batch
        if changed:
            self._joint = epoch, min(done * size, self._rows)

        def counts(of: int, step: int, batch: int) -> bool:
            return of < epoch or (of == epoch and (step <= done if batch == size else not changed))

        self._skipped = {place: rows for place, rows in self._skipped.items() if counts(*place)}

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
            self._fault(f"epoch {epoch} used {used:,} of {self._rows:,}, {abs(off):,} too {many}{besides}")
        elif n_steps:
            self.steps_left_out += n_steps
            self.rows_left_out += left_out

    def _left_out(self, epoch: int, skipped: int, missing: int, world: int) -> tuple[int, int]:
        """Return how many rows of an epoch its steps without an update account for, and how many such steps there were.

        The events say which steps, and so how many rows these have. Without the events, and where ranks keep their rows
        and so round their number rank by rank, it is as many rows as are missing, up to those of as many full steps.
        """
        rows = [n for (of, *_), n in self._skipped.items() if of == epoch]
        self._skipped = {place: n for place, n in self._skipped.items() if place[0] > epoch}
        if rows and not self._by_rank:
            return sum(rows), len(rows)
        n = len(rows) or skipped
        return max(0, min(missing, n * (self._batch + world))), n

    def _fault(self, text: str) -> None:
        self.n_faults += 1
        if len(self.faults) < NAMED_FAULTS:
            self.faults.append(text)
