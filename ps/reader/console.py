"""Tables and lines for a terminal, or for a file that output goes to."""

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from common.wording import printable
from ps.text.layout import INDENT, NO_LIMIT, Table, fold, lines_of, output_width

WIDE = "print every column, and do not fold lines"
"""Help of the option ``--wide``."""
MORE = "--wide shows all"
MOST_CHARACTERS = 20_000
"""Of a text: far above what a run of very many ranks says, far below what a log may hold to do harm."""


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


def write(line: str) -> None:
    """Write a line about what a command has done, with a file's name in it, say, to standard output at once."""
    sys.stdout.write(f"{printable(line)}\n")
    sys.stdout.flush()


def make(*, live: bool = False) -> Console:
    """Return a console that prints texts as they are; ``live``: for a screen that is drawn again and again."""
    width = None if live and sys.stdout.isatty() else NO_LIMIT
    return _Console(markup=False, emoji=False, highlight=False, soft_wrap=not live, width=width)


class Paper:
    """Where a command prints: lines and tables that fit the width of the output."""

    def __init__(self, *, wide: bool = False) -> None:
        """``wide``: whatever the width, leave out no column and fold no line."""
        self.console = make()
        self.width = NO_LIMIT if wide else output_width()
        self._begun = self._space = False
        self.rule = "-" if self.console.options.ascii_only else "─"

    def print(self, *texts: str, head: str = "") -> None:
        """Print texts, each on a line of its own or on several; ``head``: printed bold before the first.

        Empty lines come singly, and neither first nor last.
        """
        head = printable(head)
        for text in (printable(text, MOST_CHARACTERS) for text in texts):
            whole = "\n".join(part for line in f"{head}{text}".split("\n") for part in fold(line, self.width, INDENT))
            if whole:
                self._line(Text.assemble((whole[: len(head)], "bold"), whole[len(head) :]))
            else:
                self._space = self._begun
            head = ""

    def table(self, table: Table) -> None:
        """Print a table between empty lines, and below it which columns were left out."""
        self.print("")
        for line in fold(table.title, self.width):
            self._line(Text(line, "bold"))
        for line in lines_of(table._replace(title=""), self.width, rule=self.rule, more=MORE):
            self._line(Text(line))
        self.print("")

    def _line(self, line: Text) -> None:
        if self._space:
            self.console.print()
        self.console.print(line)
        self._begun, self._space = True, False
