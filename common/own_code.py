"""Imports what a user has written and named as ``package.module:name``, never from a run folder, and runs it."""

import functools
import importlib
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import module_file
from common.errors import ConfigError, DataError

NAMED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
COMMON = Path(__file__).parent


def is_name(text: str) -> bool:
    """Say whether a text is ``package.module:name``."""
    return NAMED.fullmatch(text) is not None


@functools.cache  # of what was imported, also if it is changed meanwhile
def file_of(name: str, option: str = "model") -> module_file.ModuleFile | None:
    """Return the file that it is imported from. Raises ConfigError if that is inside a run folder."""
    return module_file.find(name, option)


def find(name: str, option: str, kind: str, fits: Callable[[Any], bool]) -> Any:
    """Import a module, also from the current folder, and return what is named in it.

    ``option``: which names it. ``kind``: what it must be, of which ``fits`` judges. Raises ConfigError.
    """
    module_name, _, own_name = name.partition(":")
    file_of(name, option)
    folder = reachable()
    try:
        module = importlib.import_module(module_name)
    except module_file.RunFolderError as error:
        raise ConfigError(f"{option} {name}: {error}") from error
    except (Exception, SystemExit) as error:
        lost = error.name if isinstance(error, ModuleNotFoundError) else None
        if lost and f"{module_name}.".startswith(f"{lost}."):
            found = f"no module {lost}, neither installed nor in the folder {folder}"
        else:
            found = f"importing {module_name} failed: {describe(error)}"
        raise ConfigError(f"{option} {name}: {found}") from error
    made = getattr(module, own_name, None)
    if not fits(made):
        others = [n for n, v in vars(module).items() if fits(v) and getattr(v, "__module__", "") == module_name]
        listed = ", ".join(others) or f"no {kind} at all"
        raise ConfigError(f"{option} {name}: {module_name} has no {kind} {own_name}; it has {listed}")
    return made


def reachable() -> str:
    """Let modules of the current folder be imported, but none of a run folder; return the current folder."""
    module_file.guard()
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    return folder


def attempt(name: str, what: str, act: Callable[[], Any], option: str = "model") -> Any:
    """Run a part of a user's code; what it raises is a ConfigError."""
    try:
        return act()
    except (ConfigError, DataError):  # it says what is wrong by itself
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{option} {name}: {what} failed: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """Return what an error of the user's code says, and where in that code it arose."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if isinstance(error, ValueError) and "read-only" in text:
        text += "; params, x and y can only be read in predict and loss_grad: change a copy"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_ours(f.filename)]
    known = frames and not isinstance(error, SyntaxError)  # which names the place itself
    return f"{text} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if known else text


def _is_ours(file: str) -> bool:
    """Say whether a line of a traceback is none of the user's code."""
    return file[0] == "<" or file == importlib.__file__ or Path(file).is_relative_to(COMMON)
