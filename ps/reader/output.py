"""What reader commands write besides the terminal's tables: whole files, and messages on what is missing."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from common.errors import ConfigError, RankwiseError
from common.files import require_regular, write_atomic
from common.standard_streams import complain
from ps.logfile.damage import Damage
from ps.reader.console import write

STANDARD_OUTPUT = Path("/dev/stdout")
"""A link to what a shell has redirected it to, which must not be replaced."""


def check(path: Path, *logs: Path) -> None:
    """Raise ConfigError if a file may not be written: what is no regular file, and the logs that it is made from."""
    if path == STANDARD_OUTPUT:
        return
    try:
        require_regular(path)
        is_log = any(path.samefile(log) for log in logs)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"output: cannot write {path} ({error.strerror}); give the name of a file") from error
    if is_log:
        raise ConfigError(f"output: {path} is the log itself; give another name")


def save(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all, or to standard output. See ``check``.

    Raises ConfigError if the file cannot be written, and what ``write`` raises.
    """
    if path == STANDARD_OUTPUT:
        write(sys.stdout.buffer)
        return
    try:
        write_atomic(path, write)
    except OSError as error:
        raise ConfigError(f"output: cannot write {path} ({error.strerror})") from error


def say_saved(path: Path, text: str) -> None:
    """Print what was written, but not into it."""
    if path == STANDARD_OUTPUT:
        complain(f"rankwise: {text}")
    else:
        write(text)


def make_folder(option: str, folder: Path) -> None:
    """Make a folder and those above it. Raises ConfigError that names the option if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{option}: cannot make {folder} ({error.strerror}); choose another folder") from error


@contextlib.contextmanager
def library(command: str, extra: str) -> Iterator[None]:
    """Import a command's libraries in this context. Raises RankwiseError that names the extra which brings them."""
    try:
        yield
    except ImportError as error:
        missing = str(error.name).split(".")[0]
        raise RankwiseError(
            f"{command}: {missing} is not installed; pip install 'rankwise[{extra}]' brings it"
        ) from error


def damage_lines(damage: Damage) -> list[str]:
    """Say of a log of which what is whole was read where it is damaged; nothing if it is not."""
    if not damage:
        return []
    return [f"The log is {damage}. What is shown is what is whole; training with --resume mends the log."]


def warn_of_left_out(torn: int, damage: Damage) -> None:
    """Say on stderr which bytes of the log were left out; nothing if none were."""
    if torn:
        complain(f"rankwise: the last {torn:,} bytes are an unfinished record and were left out")
    for line in damage_lines(damage):
        complain(f"rankwise: {line}")
