"""Options that are lists: modes, and lengths of vectors."""

from collections.abc import Iterable

from common.config import unknown_value
from common.errors import ConfigError

LONGEST_VECTOR = 10**10


def names(text: str) -> list[str]:
    """Return what stands between commas, each once."""
    return list(dict.fromkeys(text.split(",")))


def check_names(option: str, chosen: Iterable[str], known: Iterable[str]) -> None:
    """Raise ConfigError for a name that is not known."""
    known = list(known)
    for name in chosen:
        if name not in known:
            raise ConfigError(unknown_value(option, name, known))


def lengths(option: str, text: str) -> tuple[int, ...]:
    """Return the lengths that ``1e1,1e3`` or ``1e1..1e7`` (all powers of ten between) means. Raises ConfigError."""
    first, dots, last = text.partition("..")
    sizes = [_length(part) for part in ((first, last) if dots else text.split(","))]
    if dots:
        sizes = [sizes[0] * 10**k for k in range(12) if sizes[0] * 10**k <= sizes[1]]
    if not sizes or not all(1 <= n <= LONGEST_VECTOR for n in sizes):
        raise ConfigError(
            f"{option}: got {text[:80]!r}; allowed are whole numbers from 1 to 1e10 with commas between "
            "them, such as 1e1,1e3, or all powers of ten between two, such as 1e1..1e7"
        )
    return tuple(sizes)


def _length(text: str) -> int:
    """Return a vector's length, 0 for what is none."""
    try:
        value = float(text)
    except ValueError:
        return 0
    return int(value) if 1 <= value <= LONGEST_VECTOR and value == int(value) else 0
