"""Numbers and findings in the words that training and the log's readers share."""

import re

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Return a text with control characters written out: a log's words must not steer a terminal."""
    return CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def number(value: float | None, digits: int = 4) -> str:
    """Return a figure for a line or a table; a dash for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def percent(value: float | None, undefined: str = "-", unit: str = " %") -> str:
    """Return a share in percent."""
    return undefined if value is None else f"{100 * value:.2f}{unit}"


def milliseconds(seconds: float) -> str:
    """Return seconds as milliseconds."""
    return number(1e3 * seconds)


def microseconds(seconds: float) -> str:
    """Return seconds as microseconds."""
    us = 1e6 * seconds
    return number(us, 3) if us < 1000 else f"{us:,.0f}"


def megabytes(n_bytes: float) -> str:
    """Return bytes as megabytes."""
    return f"{n_bytes / 1e6:.3g}" if n_bytes < 1e8 else f"{n_bytes / 1e6:.0f}"


def gigabytes(n_bytes: float) -> str:
    """Return bytes as gigabytes."""
    return number(n_bytes / 1e9, 3)


def span(low: float, high: float, unit: float = 1e3) -> str:
    """Return the ends of an interval of seconds, in milliseconds unless told otherwise."""
    return f"{number(unit * low)} to {number(unit * high)}"
