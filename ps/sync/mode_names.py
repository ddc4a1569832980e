"""Names and help lines of the modes, read from the text of their files: for help on machines without an MPI library."""

import ast
from pathlib import Path

AUTO = "auto"
"""Stands for the fastest of the table, tried at the start (workers/training/auto_mode.py)."""
AUTO_HELP = "tries them at the start and takes the fastest"


def read() -> dict[str, str]:
    """Return name and help line of everything ``--mode`` takes."""
    found = {}
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODE":
                assert isinstance(node.value, ast.Call)
                values = {word.arg: word.value for word in node.value.keywords}
                found[str(ast.literal_eval(values["name"]))] = str(ast.literal_eval(values["help"]))
    return {**found, AUTO: AUTO_HELP}
