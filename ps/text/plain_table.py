"""Tables of plain text, for rank 0, which needs no library for them."""

from collections.abc import Iterable


def table(columns: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Return lines of columns, the first to the left, the others to the right."""
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in lines
    ]
