"""Files whose cells are separated by runs of blanks and tabs, as those of the UCI archive are."""

import re
from collections import Counter
from collections.abc import Sequence

BLANK, BLANKS = " ", r"[ \t]"
"""What stands for such a run where a separator is one character; a pattern of its characters."""
ALIKE = 0.8
"""Of the rows: more of another length are no rows of such a table."""
FEWEST_NUMBERS = 3
"""In one cell between tabs, which are columns then: fewer may be one number, as 1 234 is."""
_AROUND = re.compile(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)")
_RUN, _RUN_OR_QUOTED = re.compile(rb"[ \t]+"), re.compile(rb'("[^"]*")|[ \t]+')
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def collapsed(block: bytes, *, quoted: bool) -> bytes:
    """Return lines with one blank for each run of blanks and tabs between cells, none around; lines stay lines."""
    block = _AROUND.sub(b"", block)
    if not quoted:
        return _RUN.sub(b" ", block)
    return _RUN_OR_QUOTED.sub(lambda found: found[1] or b" ", block)


def separates(by_blanks: Sequence[list[str]], by_tabs: Sequence[list[str]]) -> bool:
    """Say whether blanks separate the cells of a table's first records. ``by_tabs``: of one that has tabs, the cells.

    They do where nearly all rows have as many cells, with a column of numbers among them. Tabs alone would have to give
    unequal rows, or several numbers in a cell.
    """
    rows = by_blanks[1:] or by_blanks
    widths = Counter(map(len, rows))
    width = widths.most_common(1)[0][0] if rows else 0
    alike = [row for row in rows if len(row) == width]
    if width < 2 or len(alike) < (1 if by_tabs else ALIKE) * len(rows):
        return False
    if not any(all(_NUMBER.fullmatch(row[i]) for row in alike) for i in range(width)):
        return False
    unequal = len({len(row) for row in by_tabs}) > 1
    return not by_tabs or unequal or any(_hold_several(row) for row in by_tabs[1:2])


def _hold_several(row: Sequence[str]) -> bool:
    return any(len(cell.split()) >= FEWEST_NUMBERS and all(map(_NUMBER.fullmatch, cell.split())) for cell in row)
