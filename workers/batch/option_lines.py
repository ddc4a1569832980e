"""The lines of options that the tasks of a job array train, one each."""

import shlex
from pathlib import Path

from common.errors import ConfigError
from common.files import read_small
from common.wording import count


def read_lines(file: str) -> list[str]:
    """Return the lines of a file that hold options: neither empty ones nor those that begin with #.

    Raises ConfigError.
    """
    try:
        text = read_small(Path(file).expanduser()).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"lines: {file} cannot be read ({error.strerror}); give a file with a line a task") from error
    except (UnicodeDecodeError, RuntimeError) as error:
        raise ConfigError(f"lines: {file} cannot be read ({error}); give a file with a line a task") from error
    lines = [line.strip() for line in text.split("\n")]  # splitlines would also split at U+2028, which a value may have
    return [line for line in lines if line and not line.startswith("#")]


def options_of_task(file: str, task: int) -> list[str]:
    """Return the options of a task, which number 1 begins; quotes are heeded as a shell does, and nothing is run.

    Raises ConfigError.
    """
    lines = read_lines(file)
    if task < 0:
        raise ConfigError(f"lines: this job is no task of an array; submit it with --array=1-{max(1, len(lines))}")
    if not 1 <= task <= len(lines):
        allowed = f"submit with --array=1-{len(lines)}" if lines else "write a line of options for each task into it"
        raise ConfigError(f"lines: {file} has {count(len(lines), 'line')} of options, none for task {task}; {allowed}")
    try:
        return shlex.split(lines[task - 1])
    except ValueError as error:
        raise ConfigError(
            f"lines: line {task} of {file}: {error} in {lines[task - 1]!r}; correct its quotes"
        ) from error
