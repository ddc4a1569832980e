"""What reader commands write besides the terminal's tables: whole files, and messages on what is missing."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from common.errors import ConfigError, RankwiseError
from common.files import write_atomic
from common.standard_streams import complain
from ps.logfile.damage import Damage


def save(path: Path, write: Callable[[BinaryIO], object], *, log: Path | None = None) -> None:
    """Write a file whole or not at all, but not over the log it is made from.

    Raises ConfigError if it cannot be written, and what ``write`` raises.
    """
    try:
        if log is not None:
            refuse_log(path, log)
        write_atomic(path, write)
    except OSError as error:
        raise ConfigError(f"output: cannot write {path} ({error.strerror})") from error


def refuse_log(path: Path, *logs: Path) -> None:
    """Raise ConfigError if a file that is to be written is one of the logs that it is made from."""
    if path.exists() and any(path.samefile(log) for log in logs):
        raise ConfigError(f"output: {path} is the log itself; give another name")


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
