"""Names and help lines of the modes, read from the text of their files: for help on machines without an MPI library."""

import ast
from collections.abc import Iterator
from pathlib import Path

AUTO = "auto"
"""Stands for the fastest of the table, tried at the start (workers/training/auto_mode.py)."""
AUTO_HELP = "tries those that train as one rank would, and takes the fastest"


def read() -> dict[str, str]:
    """Return name and help line of everything ``--mode`` takes."""
    return {**{_text(values["name"]): _text(values["help"]) for values in _modes()}, AUTO: AUTO_HELP}


def exact() -> list[str]:
    """Return the names of the modes whose result is that of one rank; see ``Mode``."""
    return [_text(values["name"]) for values in _modes() if ast.literal_eval(values.get("exact", ast.Constant(True)))]


def _modes() -> Iterator[dict[str | None, ast.expr]]:
    """Yield what the modes are made with, by keyword."""
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODE":
                assert isinstance(node.value, ast.Call)
                yield {word.arg: word.value for word in node.value.keywords}


def _text(value: ast.expr) -> str:
    return str(ast.literal_eval(value))
