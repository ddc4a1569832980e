"""The batch script of a job: a shipped one with other #SBATCH lines and with its arguments; text in, text out."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from common.start_words import STOP_BEFORE
from slurm.options import GIVEN, SubmitConfig

FOLDER = Path(__file__).parent
LINE = re.compile(r"#SBATCH\s+--([a-z-]+)(?:=(.*))?")
SIGNAL = re.compile(r"(?:[BR]+:)?\w+(?:@(\d+))?", re.ASCII)
SIGNAL_S = 60
"""What sbatch takes for a signal without a time."""
PLAIN = re.compile(r"[\w@%+=:,./-]*", re.ASCII)
TASK = "%a"
"""In an argument of an array's task, its number; as in the names of Slurm's own files."""


def template(config: SubmitConfig) -> str:
    """Return the shipped script that the job's is made of."""
    return (FOLDER / config.script).read_text(encoding="utf-8")


def batch_script(shipped: str, config: SubmitConfig, python: str = "", *, safe_path: bool = False) -> str:
    """Return the script that sbatch is given.

    ``shipped``: what it is made of: its #SBATCH lines stay unless the configuration has others, and so does all else.
    ``python``: the folder (prefix) of the Python to use; none: the script finds it. ``safe_path``: whether Python
    leaves the current folder out.
    """
    lines, rest = _split(shipped)
    wanted: dict[str, str | None] = {
        name.replace("_", "-"): str(value) for name in GIVEN if (value := getattr(config, name))
    }
    if config.tasks:
        wanted["array"] = config.array or f"1-{len(config.tasks)}"
        wanted["output"] = "rankwise-%A_%a.out"
    wanted |= dict(parted(word) for word in config.more)
    there = [_name(line) for line in lines]
    head = [_line(name, wanted[name]) if name in wanted else line for name, line in zip(there, lines, strict=True)]
    head += [_line(name, value) for name, value in wanted.items() if name not in there]
    arguments = [shlex.quote(config.lines)] if config.lines else []
    arguments += [_argument(text, config) for text in config.arguments]
    first = [f"set -- {' '.join(arguments)}".rstrip()]
    if python:
        first.append(f'export VIRTUAL_ENV={shlex.quote(python)} PATH={shlex.quote(f"{python}/bin")}:"$PATH"')
    if safe_path:
        first.append("export PYTHONSAFEPATH=1")
    if (before := stop_before(head)) not in (None, stop_before(lines)):
        first.append(f"export {STOP_BEFORE}={before}")  # else what the verdict on the time limit takes for granted
    if config.mpi:
        first.append(f"export SLURM_MPI_TYPE={shlex.quote(config.mpi)}")
    return "\n".join([*head, "", "# What was submitted: the arguments, and where Python is.", *first, *rest]) + "\n"


def stop_before(lines: Sequence[str]) -> int | None:
    """Return how many seconds before the time limit these #SBATCH lines ask for a signal; None if they do not."""
    asked_for = [match[2] for line in lines if (match := LINE.fullmatch(line.strip())) and match[1] == "signal"]
    found = SIGNAL.fullmatch((asked_for[-1] or "").strip('"')) if asked_for else None
    return int(found[1] or SIGNAL_S) if found else None


def asked(script: str) -> dict[str, str]:
    """Return what the #SBATCH lines of a script of ours ask for, by option."""
    found = (LINE.fullmatch(line.strip()) for line in _split(script)[0])
    return {match[1]: (match[2] or "").strip('"') for match in found if match}


def _split(script: str) -> tuple[list[str], list[str]]:
    """Return the lines up to the last of #SBATCH, and those after it."""
    lines = script.rstrip("\n").split("\n")
    last = max(place for place, line in enumerate(lines) if line.startswith("#SBATCH"))
    return lines[: last + 1], lines[last + 1 :]


def _name(line: str) -> str:
    match = LINE.fullmatch(line.strip())
    return match[1] if match else ""


def parted(word: str) -> tuple[str, str | None]:
    """Return the name of an option of sbatch's, and its value if it has one."""
    name, equals, value = word.removeprefix("--").partition("=")
    return name, value if equals else None


def _line(name: str, value: str | None) -> str:
    return f"#SBATCH --{name}" + ("" if value is None else f"={quoted(value)}")


def quoted(value: str) -> str:
    """Return a value as a line of #SBATCH may hold it: Slurm reads quotes and backslashes there as a shell does."""
    if PLAIN.fullmatch(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _argument(text: str, config: SubmitConfig) -> str:
    """Return an argument so that bash takes it as it is."""
    if not config.tasks or TASK not in text:
        return shlex.quote(text)
    return '"$SLURM_ARRAY_TASK_ID"'.join(shlex.quote(part) if part else "" for part in text.split(TASK))
