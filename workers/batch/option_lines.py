"""The lines of options that the tasks of a job array train, one each."""

import shlex
from pathlib import Path

from common.errors import ConfigError
from common.files import read_small


def read_lines(file: str) -> list[str]:
    """Return the lines of a file that hold options: neither empty ones nor those that begin with #.

    Raises ConfigError.
    """
    try:
        text = read_small(Path(file).expanduser()).decode()
    except OSError as error:
        raise ConfigError(f"lines: {file} cannot be read ({error.strerror}); give a file with a line a task") from error
    except (UnicodeDecodeError, RuntimeError) as error:
        raise ConfigError(f"lines: {file} cannot be read ({error}); give a file with a line a task") from error
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def options_of_task(file: str, task: int) -> list[str]:
    """Return the options of a task, which number 1 begins; quotes are heeded as a shell does, and nothing is run.

    Raises ConfigError.
    """
    lines = read_lines(file)
    if not 1 <= task <= len(lines):
        allowed = f"submit with --array=1-{len(lines)}" if lines else "write a line of options for each task into it"
        raise ConfigError(f"lines: {file} has {len(lines)} lines of options, none for task {task}; {allowed}")
    try:
        return shlex.split(lines[task - 1])
    except ValueError as error:
        raise ConfigError(f"lines: line {task} of {file}: {error} in {lines[task - 1]!r}; close the quotes") from error
