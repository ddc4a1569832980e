"""Tables and lines for a terminal, or for a file that output goes to."""

import sys
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ps.text.terminal import printable

WIDTH_IN_A_FILE = 10_000


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the command line; rich would exit with 1."""
        raise BrokenPipeError

    def print(self, *objects: Any, **options: Any) -> None:
        """Print texts without the control characters that a log may hold."""
        super().print(*(_plain(one) for one in objects), **options)


def _plain(one: Any) -> Any:
    if isinstance(one, Text):
        one.plain = printable(one.plain)
    return printable(one) if isinstance(one, str) else one


def make(*, live: bool = False) -> Console:
    """Return a console that prints texts as they are and does not fold tables when the output is no terminal.

    ``live``: for a screen that is drawn again and again, whose lines must not be wider than the terminal.
    """
    width = None if sys.stdout.isatty() else WIDTH_IN_A_FILE
    return _Console(markup=False, emoji=False, highlight=False, soft_wrap=not live, width=width)


def table(title: str, columns: list[str], rows: Sequence[Sequence[str | Text]]) -> Table:
    """Return a table with right-aligned columns but the first."""
    result = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        result.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        result.add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in row))
    return result
