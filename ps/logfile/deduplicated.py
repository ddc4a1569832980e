"""A log as its run counts: each epoch once, though jobs that were killed had done some that later ones did again."""

import bisect
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.errors import LogError
from ps.logfile.reader import READ_BYTES, Entry, Fault, LogReader
from ps.logfile.records import GOING_ON

OF_EPOCHS = ("epoch", "steps")
"""Kinds of records that are replaced."""
KEY = b"what"
MOST_HEADER = 5
"""Bytes of msgpack between a key and the text that is its value."""


class Rewinds:
    """From where a run went on, each time it did; ``points``: number of the record in the log, and epoch."""

    def __init__(self, points: list[tuple[int, int]]) -> None:
        self.seqs = [seq for seq, _ in points]
        self._lowest = [epoch for _, epoch in points]
        for i in reversed(range(len(points) - 1)):
            self._lowest[i] = min(self._lowest[i], self._lowest[i + 1])

    def replacing(self, entry: Entry) -> int:
        """Return the number of the record behind which the epoch of this one was done again; 0 if it counts."""
        if entry.kind not in OF_EPOCHS:
            return 0
        i = bisect.bisect(self.seqs, entry.seq)
        if i == len(self.seqs):
            return 0
        return self.seqs[i] if _epoch_of(entry) >= self._lowest[i] else 0


def find(path: Path) -> Rewinds:
    """Look through a log for where its run went on; up to the first damage, which is left to who reads on.

    Most logs are of one job, and looking for a word is a third of the work of looking at records.
    """
    points: list[tuple[int, int]] = []
    reader = LogReader(path)
    entries = reader.entries()
    try:
        next(entries, None)
        if not _mentions(path, reader.offset):
            return Rewinds([])
        for entry in entries:
            if entry.kind == "event":
                found = entry.pick("what", "epoch")
                if found.get("what") in GOING_ON and type(found.get("epoch")) is int:
                    points.append((entry.seq, found["epoch"]))
    except (LogError, OSError):
        pass
    return Rewinds(points)


def _mentions(path: Path, start: int) -> bool:
    """Say whether such an event may stand anywhere behind a byte: its name follows the key. Raises OSError."""
    words = [word.encode() for word in GOING_ON]
    reach = len(KEY) + MOST_HEADER + max(map(len, words))
    rest = b""
    with path.open("rb") as file:
        file.seek(start)
        while more := file.read(READ_BYTES):
            window = rest + more
            at = window.find(KEY)
            while at >= 0:
                if any(word in window[at : at + reach] for word in words):
                    return True
                at = window.find(KEY, at + 1)
            rest = window[-reach:]
    return False


def _epoch_of(entry: Entry) -> int:
    epoch = entry.epoch or entry.pick("epoch").get("epoch")
    return epoch if type(epoch) is int else 0


class DeduplicatedReader(LogReader):
    """Reads a log without the epochs that were done again later.

    ``superseded``: how many epochs were left out so far, by the number of the ``resume`` record that follows them.
    """

    def __init__(self, path: Path, fault: Fault | None = None) -> None:
        super().__init__(path, fault)
        self.superseded: Counter[int] = Counter()
        self._rewinds = find(path)

    def entries(self) -> Iterator[Entry]:
        """Yield the records that count, undecoded. Raises LogError."""
        for entry in super().entries():
            if seq := self._rewinds.replacing(entry):
                self.superseded[seq] += entry.kind == "epoch"
            else:
                yield entry
