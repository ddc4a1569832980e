"""Finds the commands of README and docs, with the output that the page shows, and compares outputs in shape."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

GAP = "..."
"""A line of a page that stands for any number of lines."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a page as it is written, and what the page shows of its output, if it does."""

    page: str
    line: int
    text: str
    output: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name it in a message."""
        return f"{self.page}:{self.line}: {self.text}"


def commands(page: Path) -> list[Command]:
    """Return all commands of a page, in order.

    They are the lines of a block of kind ``sh``, and in one of kind ``text`` those after ``$``, each with the lines up
    to the next one as its output.
    """
    found: list[Command] = []
    kind, lines = "", page.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        if line.startswith("```"):
            kind = "" if kind else line[3:].strip() or "-"
        elif kind == "sh":
            continued = lines[number - 2].endswith("\\")
            if continued:
                before = found.pop()
                found.append(Command(page.name, before.line, f"{before.text} {without_comment(line)}"))
            elif without_comment(line):
                found.append(Command(page.name, number, without_comment(line)))
        elif kind == "text" and line.startswith("$ "):
            found.append(Command(page.name, number, line[2:]))
        elif kind == "text" and found and _belongs(lines, number, found[-1].line):
            last = found.pop()
            found.append(Command(last.page, last.line, last.text, (*last.output, line)))
    return found


def in_sentences(page: Path) -> list[Command]:
    """Return the commands of ours with options that stand in a page's sentences, but for those with placeholders."""
    text = re.sub(
        r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), page.read_text(), flags=re.DOTALL | re.MULTILINE
    )
    found = [
        Command(page.name, text[: match.start()].count("\n") + 1, match[1])
        for match in re.finditer(
            r"`((?:mpirun -np \w+ )?(?:python -m (?:workers|ps)\.\w+|rankwise \w+) [^`]*-[^`]+)`", text
        )
    ]
    return [command for command in found if not re.search(r"\.\.\.|[<\[]|\b(RUN|DIR|NEW|FILE|package)\b", command.text)]


def without_comment(line: str) -> str:
    """Return a command without the remark after it."""
    return re.sub(r"(^|\s+)#(\s.*)?$", "", line).removesuffix("\\").strip()


def _belongs(lines: list[str], number: int, start: int) -> bool:
    """Say whether a line is in the same block as the command of line ``start``."""
    return not any(line.startswith("```") for line in lines[start - 1 : number])


WORDS = (
    (r"\x1b\[[0-9;?]*[A-Za-z]", ""),
    (r"\b\d{8}-\d{6}\b", "TIME"),
    (r"\b\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?", "TIME"),
    (r"\b(MPICH|Open MPI) [\w.]+", "MPI"),
    (r"\b(openblas|mkl|blis)\b [\w.]+( \(\w+\))?", "BLAS"),
    (r"\b(no difference shown|slower|fastest)\b", "OUTCOME"),
    (r"\b(allreduce|reduce-bcast|send-recv|shared|factors)\b", "MODE"),
    (r"\b(warning|note|error)\b", "LEVEL"),
    (r"(?<![\w.])[-+−]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?", "N"),
    (r"\bN ?(%|[kMG]?B|us|ms|s|min|h|x)(?![\w])", "N"),
    (r"(?<!\S)-(?=\s|$)", "N"),
    (r"(MODE N times \(p N\)(, )?)+", "MODES "),
    (r" poor fit, off by up to N%?", ""),
    (r"\b(prterun|orterun|mpiexec(\.hydra)?)\b", "mpirun"),
    (r"[─━]+", ""),
    (r"\s+", " "),
    (r"\bN( N)+\b", "N"),
)
"""What differs from one machine or run to another, and what stands for it in a shape."""
DEPENDS = re.compile(r"(Slower than|No difference to|Note:|Not judged|Verdict|Not shown in|Event |Ranks differ)")
"""How a line begins that is printed only if what was measured, or the machine, says so."""
RULE = re.compile(r"[\s─━]+")


def shape(line: str, host: str) -> str:
    """Return a line without what differs from run to run: numbers, times, the host's name, versions, widths."""
    line = re.sub(rf"(?<![\w-]){re.escape(host)}(?![\w-])", "HOST", line)
    for pattern, word in WORDS:
        line = re.sub(pattern, word, line)
    return line.strip()


def _unfolded(lines: Iterable[str]) -> list[str]:
    """Return lines with those that were folded, whose rest stands two blanks in, in one; without empty ones."""
    whole: list[str] = []
    for line in filter(str.strip, lines):
        if re.match(r"  \S", line) and whole and not whole[-1].startswith(" ") and "   " not in line:
            whole[-1] = f"{whole[-1]} {line.strip()}"
        else:
            whole.append(line)
    return whole


def _is_of_table(line: str) -> bool:
    """Say whether a line is of a table, whose cells are folded as the numbers beside them need."""
    return bool(RULE.fullmatch(line) or re.search(r"\S {2,}\S|^ {3,}\S", line))


def _words(line: str, host: str) -> set[str]:
    """Return what stands in a line of a table besides numbers and what else differs from run to run."""
    return {word.strip(",;:()") for word in shape(line, host).split()} - {"N", ""}


def differences(command: Command, printed: str, host: str, page_host: str = "vm") -> list[str]:
    """Return the lines that the page shows and the command does not print, and the other way round if it has no gap."""
    shown, actual = _unfolded(command.output), _unfolded(printed.splitlines())
    lost = [f"not printed: {line}" for line in _lost(shown, page_host, actual, host)]
    if GAP in shown:
        return lost
    return lost + [f"not on the page: {line}" for line in _lost(actual, host, shown, page_host)]


def _lost(lines: list[str], own_host: str, others: list[str], host: str) -> list[str]:
    """Return which lines have no counterpart: of the same shape, or for a line of a table its words somewhere.

    Titles are folded without an indent, so a line may also stand across two of the others.
    """
    shapes = {shape(line, host) for line in others}
    text = " ".join(shape(line, host) for line in others)
    words = {word for line in others for word in _words(line, host)}
    return [
        line
        for line in lines
        if line != GAP
        and not DEPENDS.match(line)
        and not (
            _words(line, own_host) <= words if _is_of_table(line) else _stands(shape(line, own_host), shapes, text)
        )
    ]


def _stands(one: str, shapes: set[str], text: str) -> bool:
    """Say whether a shape is among others, or, if it has some words, runs across the ends of two."""
    return one in shapes or (len(one.split()) > 3 and f" {one} " in f" {text} ")
