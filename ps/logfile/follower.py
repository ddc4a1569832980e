"""Reading a log while it grows, also on a network file system, which may show an old or half a state for a while."""

import time
from collections.abc import Iterator
from pathlib import Path

from common.errors import LogError
from common.files import open_regular
from ps.logfile.damage import Damage
from ps.logfile.rebuilt import rebuild_header
from ps.logfile.records import Record
from ps.logfile.salvage import SalvageReader
from ps.logfile.schema import Check

DOUBT_S = 3.0
"""How long a log may look damaged or shorter than it was: what comes late is zeros, or missing, on such systems."""
GONE_S = 30.0
"""How long it may not be there: servers restart, and folders are moved and put back."""
FIRST_BYTES = 48
"""Hold the header's time, which no other run has."""


class Follower:
    """Looks at a log again and again; each look opens it again, since a handle may have gone stale.

    ``restarts``: how often another log stood in its place, which is then read from its beginning.
    """

    def __init__(self, path: Path, *, salvage: bool = False) -> None:
        """``salvage``: skip what is damaged, which is not waited for then."""
        self.path = path
        self.restarts = 0
        self._salvage = salvage
        self._reader = self._new_reader()
        self._first = b""
        self._doubted_since: float | None = None

    @property
    def in_doubt(self) -> bool:
        """Whether the last look ended at what may be damage, or may be readable at the next one."""
        return self._doubted_since is not None

    @property
    def damage(self) -> Damage:
        """What was skipped so far."""
        return self._reader.damage

    def look(self) -> Iterator[Record]:
        """Yield the records that have come since the last look, as far as the file can be trusted and read just now.

        Raises LogError for damage that stays, and for a file that stays away.
        """
        try:
            for record in self._records():
                self._doubted_since = None
                yield record
        except LogError as error:
            now = time.monotonic()
            self._doubted_since = self._doubted_since or now
            if now - self._doubted_since > (GONE_S if isinstance(error.__cause__, OSError) else DOUBT_S):
                raise
        else:
            self._doubted_since = None

    def _records(self) -> Iterator[Record]:
        try:
            with open_regular(self.path) as file:
                first, size = file.read(FIRST_BYTES), file.seek(0, 2)
        except OSError as error:
            raise LogError(self.path, self._reader.offset, f"cannot be read ({error.strerror})") from error
        if not self._reader.offset:
            self._first = first
        elif not (first.startswith(self._first) or self._first.startswith(first)):
            self.restarts += 1
            self._reader, self._first = self._new_reader(), first
        elif size < self._reader.offset:
            raise LogError(self.path, size, f"the file ends here, but {self._reader.offset} bytes of it were read")
        yield from self._reader.records()

    def _new_reader(self) -> SalvageReader:
        return SalvageReader(self.path, Check(), salvage=self._salvage, header=rebuild_header)
