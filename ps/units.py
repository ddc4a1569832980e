"""Seconds and bytes as the tables of benchmarks and comparisons show them."""

from ps.text import number


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
