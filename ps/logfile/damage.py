"""What is damaged in a log: places whose bytes are no records, and how many records are missing."""

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from common.limits import DAMAGES, DAMAGES_NAMED
from common.wording import count, listed

NAMED_IN_TEXT = 5
OF_A_RECORD = re.compile(r"damaged record \((.*)\)")


@dataclass(slots=True)
class DamagedPlace:
    """Bytes that are no records that count, from ``offset`` on, and how many records are missing there.

    ``missing``: by the numbers of the records around it; what is missing at the end, nobody knows.
    """

    offset: int
    bytes: int
    reason: str
    missing: int = 0

    def __str__(self) -> str:
        lost = [count(self.bytes, "byte")] * bool(self.bytes) + [count(self.missing, "record")] * bool(self.missing)
        reason = OF_A_RECORD.sub(r"\1", self.reason) if self.bytes else ""
        return f"byte {self.offset:,} ({listed(lost) or 'nothing'} lost{f': {reason}' if reason else ''})"


@dataclass(slots=True)
class Damage:
    """The damaged places of a log. ``places``: the first ones; ``n``, ``bytes``, ``missing``: of all."""

    places: list[DamagedPlace] = field(default_factory=list)
    n: int = 0
    bytes: int = 0
    missing: int = 0
    end: int = 0
    """Where the last place ends."""

    def __bool__(self) -> bool:
        return self.n > 0

    def __str__(self) -> str:
        named = list(map(str, self.places[:NAMED_IN_TEXT]))
        more = self.n - len(named)
        if not more:
            return f"damaged at {listed(named)}"
        lost = f"{count(self.bytes, 'byte')} and {count(self.missing, 'record')}"
        return f"damaged at {', '.join(named)} and {count(more, 'more place')}; in all {lost} are lost"

    @property
    def too_much(self) -> bool:
        """Whether there are more places than an accident leaves."""
        return self.n >= DAMAGES

    def add(self, offset: int, size: int, reason: str) -> None:
        """Note bytes that are no records; those that follow the last place belong to it."""
        if self.n and self.end == offset:
            if self.n == len(self.places):
                self.places[-1].bytes += size
        else:
            self._begin(DamagedPlace(offset, size, reason))
        self.bytes += size
        self.end = offset + size

    def miss(self, offset: int, records: int) -> None:
        """Note that records are missing before ``offset``."""
        if not (self.n and self.end == offset):
            self._begin(DamagedPlace(offset, 0, "records are missing"))
            self.end = offset
        if self.n == len(self.places):
            self.places[-1].missing += records
        self.missing += records

    def facts(self) -> dict[str, Any]:
        """Return plain values, as the log's event has them."""
        return {"bytes": self.bytes, "missing": self.missing, "n_places": self.n,
                "places": [asdict(place) for place in self.places]}  # fmt: skip

    def _begin(self, place: DamagedPlace) -> None:
        self.n += 1
        if self.n <= DAMAGES_NAMED:
            self.places.append(place)
