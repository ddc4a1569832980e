"""What is damaged in a log, as sentences."""

from common.wording import count, listed
from ps.logfile.damage import Damage, DamagedPlace

NAMED_PLACES = 5


def of_place(place: DamagedPlace) -> str:
    """Return one damaged place: where, what is lost, why."""
    lost = [count(place.bytes, "byte")] * bool(place.bytes) + [count(place.missing, "record")] * bool(place.missing)
    reason = place.reason.removeprefix("damaged record (").removesuffix(")") if place.bytes else ""
    return f"byte {place.offset:,} ({listed(lost) or 'nothing'} lost{f': {reason}' if reason else ''})"


def what_is_lost(damage: Damage) -> str:
    """Return where a log is damaged and what is lost there, without an end."""
    named = [of_place(place) for place in damage.places[:NAMED_PLACES]]
    more = damage.n - len(named)
    if not more:
        return f"damaged at {listed(named)}"
    return (
        f"damaged at {', '.join(named)} and {count(more, 'more place')}; in all {count(damage.bytes, 'byte')} and "
        f"{count(damage.missing, 'record')} are lost"
    )


def lines(damage: Damage) -> list[str]:
    """Return what readers say of a damaged log of which they read what is whole; nothing if it is not damaged."""
    if not damage:
        return []
    return [f"The log is {what_is_lost(damage)}. What is shown is what is whole; --resume mends the log."]
