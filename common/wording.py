"""Texts for people: numbers and lists as words of a sentence, and texts from outside as a terminal may have them."""

import re
from collections.abc import Iterable

NOT_SHOWN = re.compile(
    "["
    "\0-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and newline: with ESC they steer a terminal
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2060-\u206f\u3164\ufeff\uffa0"  # not to be seen
    "\u2028-\u202e\ufff9-\ufffb"  # they end lines, or turn around what follows
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\ud800-\udfff"  # no characters: Python's way to hold a file's name that is not UTF-8
    "]"
)
MOST_CHARACTERS, MOST_LINES = 2000, 20
"""Of a message."""


def printable(text: str, characters: int = 0, lines: int = 0) -> str:
    r"""Return a text from outside as a terminal or a page may show it: ``\x1b`` for what steers or misleads.

    ``characters``, ``lines``: of a text with more of them the middle is left out, since the first words say what it is
    about and the last ones what to do; 0 for all.
    """
    if 0 < characters < len(text):
        first = 2 * characters // 3
        left_out = count(len(text) - characters, "character")
        text = f"{text[:first]} ... ({left_out} left out) ... {text[first - characters :]}"
    if 0 < lines < text.count("\n"):
        every = text.split("\n")
        first = 2 * lines // 3
        text = "\n".join([*every[:first], f"... ({len(every) - lines:,} lines left out) ...", *every[first - lines :]])
    return text if text.isascii() and text.isprintable() else NOT_SHOWN.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # the byte that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def count(n: int, one: str, many: str = "") -> str:
    """Return a number with its noun: ``1 node``, ``1,259 rows``. ``many``: the plural, if it is not ``one`` + s."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def listed(texts: Iterable[str], most: int = 0) -> str:
    """Return texts as a list in a sentence: ``a, b and c``. ``most``: of more than so many the last one stands alone.

    ``listed(hosts, 3)`` of 40 hosts is ``node0, node1, ... and node39``.
    """
    several = list(texts)
    if 0 < most < len(several):
        return f"{', '.join(several[: most - 1])}, ... and {several[-1]}"
    return " and ".join(filter(None, [", ".join(several[:-1]), *several[-1:]]))


def about(value: float) -> str:
    """Return an estimate as people say it, with two digits: ``540``, ``1,300``, ``3.8``."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if 10 <= abs(rounded) < 1e9 else f"{rounded:.2g}"


def duration(seconds: float) -> str:
    """Return a time as people say it, rounded to its two largest units: ``40 s``, ``1 min 30 s``, ``5 h 10 min``."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    whole = max(0, round(seconds))
    for place, (_, unit) in enumerate(units[:-1]):
        if whole >= unit:
            smaller = units[place + 1][1]
            first, rest = divmod(round(whole / smaller) * smaller, unit)
            said = f"{first} {units[place][0]}"
            return f"{said} {rest // smaller} {units[place + 1][0]}" if rest else said
    return f"{whole} s"
