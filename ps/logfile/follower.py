"""Reading on in a log that grows, also on a network file system, which may show an old or half a state for a while."""

import time
from collections.abc import Iterator
from pathlib import Path

from common.errors import LogError
from ps.logfile.reader import Entry, LogReader
from ps.logfile.schema import Check

DOUBT_S = 3.0
"""How long a log may look damaged or shorter than it was: what comes late is zeros, or missing, on such systems."""
GONE_S = 30.0
"""How long it may not be there: servers restart, and folders are moved and put back."""
FIRST_BYTES = 48
"""Hold the header's time, which no other run has."""


class Follower:
    """Looks at a log again and again; each look opens it anew, since a handle may have gone stale.

    ``restarts``: how often another log stood in its place, which is then read from its beginning.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.restarts = 0
        self._reader = LogReader(path, Check())
        self._first = b""
        self._trouble_since: float | None = None

    @property
    def in_doubt(self) -> bool:
        """Whether there was something at the last look that may be damage, or may be there at the next one."""
        return self._trouble_since is not None

    def look(self) -> Iterator[Entry]:
        """Yield the records that have come since the last look.

        Raises LogError for damage that stays, and for a file that stays away.
        """
        entries = self._entries()
        while (entry := self._next(entries)) is not None:
            yield entry

    def _next(self, entries: Iterator[Entry]) -> Entry | None:
        """Return the next record; None at the end, or where the file cannot be trusted or read just now."""
        try:
            entry = next(entries, None)
        except LogError as error:
            now = time.monotonic()
            self._trouble_since = self._trouble_since or now
            if now - self._trouble_since > (GONE_S if isinstance(error.__cause__, OSError) else DOUBT_S):
                raise
            return None
        self._trouble_since = None
        return entry

    def _entries(self) -> Iterator[Entry]:
        try:
            with self.path.open("rb") as file:
                first, size = file.read(FIRST_BYTES), file.seek(0, 2)
        except OSError as error:
            raise LogError(self.path, self._reader.offset, f"cannot be read ({error.strerror})") from error
        if not self._reader.offset:
            self._first = first
        elif not (first.startswith(self._first) or self._first.startswith(first)):
            self.restarts += 1
            self._reader, self._first = LogReader(self.path, Check()), first
        elif size < self._reader.offset:
            raise LogError(self.path, size, f"the file ends here, but {self._reader.offset} bytes of it were read")
        yield from self._reader.entries()
