"""A log with each epoch once: without those of killed jobs that a later job did again."""

import bisect
import re
from collections import Counter
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

from common.errors import LogError
from common.files import open_regular
from common.limits import PLACES
from ps.logfile.reader import READ_BYTES, Fault
from ps.logfile.rebuilt import rebuild_header
from ps.logfile.records import CONTINUATIONS, Record, could_be_log
from ps.logfile.salvage import SalvageReader

OF_EPOCHS = ("epoch", "steps")
"""Kinds of records that are superseded."""
CONTINUES = re.compile(rb"what.{1,5}(?:%s)" % "|".join(CONTINUATIONS).encode(), re.DOTALL)
"""How such an event stands in the file: its key, up to five bytes of msgpack, and its name."""
LONGEST_MATCH = len("what") + 5 + max(map(len, CONTINUATIONS))


def find_rewinds(path: Path, *, salvage: bool = False) -> list[tuple[int, int]]:
    """Return where jobs continued a run: the ``seq`` of the event, and the first epoch that was done again after it.

    That is the lowest epoch that this or a later event names. Damage ends the search, unless what is whole is read;
    it is reported when the log is read. Most logs are of one job, and searching their bytes takes a tenth of the time
    of decoding them. Raises LogError for a log that was continued more often than any.
    """
    found: list[tuple[int, int]] = []
    try:
        if salvage or _mentions_one(path):
            for record in SalvageReader(path, salvage=salvage, header=rebuild_header).records():
                continues = record["kind"] == "event" and record.get("what") in CONTINUATIONS
                if continues and type(record.get("epoch")) is int:
                    found.append((record["seq"], record["epoch"]))
                    if len(found) > PLACES:
                        break
    except (LogError, OSError):
        pass
    if len(found) > PLACES:
        raise LogError(path, 0, f"was continued more than {PLACES:,} times; no run is")
    for i in reversed(range(len(found) - 1)):
        found[i] = found[i][0], min(found[i][1], found[i + 1][1])
    return found


def _mentions_one(path: Path) -> bool:
    """Say whether the bytes of a log may hold such an event. Raises OSError.

    The search ends where no log goes on: a giant of nothing but zeros takes no time.
    """
    rest = b""
    with open_regular(path) as file:
        while (more := file.read(READ_BYTES)) and any(more) and (rest or could_be_log(more)):
            if CONTINUES.search(more) or CONTINUES.search(rest + more[:LONGEST_MATCH]):
                return True
            rest = more[-LONGEST_MATCH:]
    return False


class DeduplicatedReader(SalvageReader):
    """Reads a log without the epochs that were done again later.

    ``superseded``: how many epochs were left out so far, by the ``seq`` of the event after which they were done again.
    """

    def __init__(self, path: Path, fault: Fault | None = None, *, salvage: bool = False) -> None:
        """``salvage``: read what is whole of a damaged log, under a header that is made where that is lost."""
        super().__init__(path, fault, salvage=salvage, header=rebuild_header)
        self.superseded: Counter[int] = Counter()
        self._rewinds = find_rewinds(path, salvage=salvage)

    def records(self) -> Iterator[Record]:
        """Yield the records that count. Raises LogError."""
        for record in super().records():
            if seq := self._superseded_by(record):
                self.superseded[seq] += record["kind"] == "epoch"
            else:
                yield record

    def _superseded_by(self, record: Record) -> int:
        """Return the ``seq`` of the event after which the record's epoch was done again; 0 if it counts."""
        later = bisect.bisect(self._rewinds, record["seq"], key=itemgetter(0))
        if record["kind"] not in OF_EPOCHS or later == len(self._rewinds):
            return 0
        seq, epoch = self._rewinds[later]
        return seq if type(record.get("epoch")) is int and record["epoch"] >= epoch else 0
