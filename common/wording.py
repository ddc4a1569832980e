"""Numbers and lists as words of a sentence, for every message of the project."""

from collections.abc import Iterable


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
