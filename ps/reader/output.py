"""What reader commands write besides the terminal's tables: whole files, and messages on what is missing."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from common.errors import ConfigError, RankwiseError
from common.files import require_regular, write_atomic
from common.standard_streams import complain
from common.wording import printable

STANDARD_OUTPUT = (Path("-"), Path("/dev/stdout"))
"""Names for it. The second is a link to what a shell has redirected it to, which must not be replaced."""


def check(path: Path, *logs: Path) -> None:
    """Raise ConfigError if a file may not be written: what is no regular file, and the logs that it is made from."""
    if path in STANDARD_OUTPUT:
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
    if path in STANDARD_OUTPUT:
        write(sys.stdout.buffer)
        return
    try:
        write_atomic(path, write)
    except OSError as error:
        raise ConfigError(f"output: cannot write {path} ({error.strerror})") from error


def say_saved(path: Path, text: str) -> None:
    """Print what was written, but not into it."""
    if path in STANDARD_OUTPUT:
        complain(f"rankwise: {text}")
    else:
        sys.stdout.write(f"{printable(text)}\n")


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


def warn_of_torn(torn: int) -> None:
    """Say on stderr that the log's last bytes were left out; nothing if there are none."""
    if torn:
        complain(f"rankwise: the last {torn:,} bytes are an unfinished record and were left out")
