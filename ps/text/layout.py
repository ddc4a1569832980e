"""Tables and sentences as lines that fit a width, for rank 0, which needs no library for them, and for readers.

No word and no number is ever cut: columns are left out instead, in the order that the table states.
"""

import re
import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from common.status_line import USUAL_WIDTH, launcher_width
from common.wording import printable

GAP = 2
NO_LIMIT = 10_000
INDENT = "  "
READABLE = 16
"""Words are not folded to less than this, or a fifth of the width."""
LONGEST_CELL = 1000
LINE_ENDS = {9: " ", 10: " "}
"""In a cell, which is one line."""


class Table(NamedTuple):
    """Texts of a table.

    ``drop``: which columns are left out where the width is small, the first one first; of a title that several columns
    have, all. ``text``: columns of words, which go to the left and may be folded; so does the first column, by which
    rows are known and which always stays. ``split``: leave out none, continue below instead.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    drop: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    split: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """A table that fits: the lines of its head, and those of each row. ``left_out``: titles of columns that did not."""

    head: list[str]
    rows: list[list[str]]
    left_out: list[str]


def output_width() -> int:
    """Return how many columns a line may have: COLUMNS, or those of the terminal, or of the launcher's one, or 80."""
    return shutil.get_terminal_size((launcher_width() or USUAL_WIDTH, 24)).columns


def cells(text: str) -> int:
    """Return how many columns a terminal takes for a text."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def words_of(text: str) -> list[str]:
    """Return what a line may not be broken within: words, and numbers with their percent signs."""
    return re.split(r" +(?!%)", text.strip(" "))


def fold(text: str, width: int, indent: str = "") -> list[str]:
    """Return a line as lines of at most so many columns, broken between words; ``indent``: of all but the first.

    A word that is wider keeps its line.
    """
    if cells(text) <= width:
        return [text]
    start = text[: len(text) - len(text.lstrip())]
    first, *words = words_of(text)
    lines = [start + first]
    for word in words:
        if cells(lines[-1]) + 1 + cells(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(start + indent + word)
    return lines


def lines_of(table: Table, width: int, *, rule: str = "", more: str = "") -> list[str]:
    """Return a table as lines of at most so many columns.

    ``rule``: a character for a line below the head. ``more``: says where the columns are that did not fit.
    """
    lines = fold(table.title, width) if table.title else []
    for i, block in enumerate(blocks(table, width)):
        lines += [""] * (i > 0)
        rows = [line for row in block.rows for line in row]
        longest = max(map(cells, (*block.head, *rows)), default=0)
        lines += [*block.head, *([rule * min(width, longest)] if rule else []), *rows]
        if block.left_out:
            lines += fold(f"Not shown in {width} columns: {', '.join(block.left_out)}{more and f'; {more}'}.", width)
    return lines


def blocks(table: Table, width: int) -> list[Block]:
    """Return the blocks of a table, one below the other: more than one only if it is to be split."""
    columns = [_Column(title, [row[i] for row in table.rows], i == 0 or title in table.text, width)
               for i, title in enumerate(table.columns)]  # fmt: skip
    if not table.split:
        return [_block(columns, table.drop, width)]
    key, *others = columns
    found: list[list[_Column]] = []
    for column in others:
        if found and _least([*found[-1], column], width) <= width:
            found[-1].append(column)
        else:
            found.append([key, column])
    return [_block(some, (), width) for some in found or [[key]]]


class _Column:
    """A column: its title, its texts, and between which widths it may be."""

    def __init__(self, title: str, texts: Sequence[str], is_text: bool, width: int) -> None:
        """``width``: of the whole table."""
        self.is_text = is_text
        self.title, *self.texts = (printable(text, LONGEST_CELL).translate(LINE_ENDS) for text in (title, *texts))
        self.natural = max(map(cells, (self.title, *self.texts)))
        self.of_title = max(map(cells, words_of(self.title)))
        self.unbroken = [word for text in self.texts for word in words_of(text)] if is_text else self.texts
        self.least = max(self.of_title, max(map(cells, self.unbroken), default=0))
        if is_text:
            self.least = max(self.least, min(self.natural, READABLE, width // 5))

    def least_as_key(self, width: int) -> int:
        """Return the least width as the first column: much longer words than most get a line of their own."""
        if self.least <= width // 2:
            return self.least
        return max(self.of_title, *(w for w in map(cells, self.unbroken) if w <= 2 * width // 5), 0)


def _least(columns: list[_Column], width: int) -> int:
    return sum([columns[0].least_as_key(width), *(c.least for c in columns[1:])]) + GAP * (len(columns) - 1)


def _block(columns: list[_Column], drop: Iterable[str], width: int) -> Block:
    """Return columns as a block, without those that are dropped to make it fit."""
    shown, below = _fitting(columns, drop, width), list[_Column]()
    while _least(shown, width) > width:  # words under their row: nothing else is left to give way
        texts = [c for c in shown[1:] if c.is_text]
        if not texts:
            break
        below.append(max(texts, key=lambda c: c.least))
        shown.remove(below[-1])
    left_out = [c.title for c in columns if c not in shown and c not in below]
    widths = _widths(shown, width)
    heads = [fold(c.title, w) for c, w in zip(shown, widths, strict=True)]
    height = max(map(len, heads))
    head = _side_by_side(shown, widths, [[""] * (height - len(h)) + h for h in heads])
    rows = []
    for i in range(len(columns[0].texts)):
        lines = _row(shown, widths, [c.texts[i] for c in shown])
        for c in below:
            lines += fold(f"{INDENT}{c.title}: {c.texts[i]}", width, INDENT)
        rows.append(lines)
    return Block(head, rows, list(dict.fromkeys(left_out)))


def _fitting(columns: list[_Column], drop: Iterable[str], width: int) -> list[_Column]:
    """Return the columns that fit if some are dropped, in their order; of these, what fits after all comes back."""
    shown, dropped = columns, list[str]()
    for title in drop:
        if _least(shown, width) <= width:
            break
        dropped.append(title)
        shown = [columns[0], *(c for c in columns[1:] if c.title not in dropped)]
    for title in reversed(dropped[:-1]):
        more = [columns[0], *(c for c in columns[1:] if c in shown or c.title == title)]
        shown = more if _least(more, width) <= width else shown
    return shown


def _widths(columns: list[_Column], width: int) -> list[int]:
    """Return the columns' widths: the least of each, and what is left goes to words before heads of numbers."""
    least = [columns[0].least_as_key(width), *(c.least for c in columns[1:])]
    free = max(0, width - sum(least) - GAP * (len(columns) - 1))
    for i in sorted(range(len(columns)), key=lambda i: not columns[i].is_text):
        wanted = columns[i].natural if i or least[0] == columns[0].least else least[0]
        more = max(0, min(free, wanted - least[i]))
        least[i] += more
        free -= more
    return least


def _row(columns: list[_Column], widths: list[int], texts: list[str]) -> list[str]:
    """Return a row's lines; a first text that is too wide for its column comes before the others."""
    folded = [fold(text, w) if c.is_text else [text] for c, w, text in zip(columns, widths, texts, strict=True)]
    if all(cells(line) <= widths[0] for line in folded[0]):
        return _side_by_side(columns, widths, folded)
    return [*folded[0], *_side_by_side(columns, widths, [[""], *folded[1:]])]


def _side_by_side(columns: list[_Column], widths: list[int], folded: list[list[str]]) -> list[str]:
    height = max(map(len, folded))
    lines = []
    for k in range(height):
        parts = []
        for column, width, own in zip(columns, widths, folded, strict=True):
            text = own[k] if k < len(own) else ""
            space = " " * (width - cells(text))
            parts.append(text + space if column.is_text else space + text)
        lines.append((" " * GAP).join(parts).rstrip())
    return lines
