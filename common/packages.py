"""Packages that a command needs, and that are not installed or do not work: one message in place of a traceback."""

import contextlib
import sys
from collections.abc import Iterator

from common.errors import EXIT_ERROR
from common.standard_streams import complain, flush

OWN = ("common", "ps", "workers")


@contextlib.contextmanager
def needed() -> Iterator[None]:
    """End the command with a message if a package cannot be imported in this context. Not if it is one of our own."""
    try:
        yield
    except ImportError as error:
        first = error
        while not first.name and isinstance(first.__cause__, ImportError):
            first = first.__cause__
        name = _package(first)
        if name in ("", *OWN):
            raise
        if isinstance(first, ModuleNotFoundError) and first.name == name:
            message = f"{name} is not installed in {sys.prefix}, the environment of this Python; pip install {name}"
        else:
            reason = " ".join(str(first).split())[:300]
            message = f"{name} in {sys.prefix} cannot be imported ({reason}); pip install --force-reinstall {name}"
        complain(f"rankwise: {message}")
        flush()
        sys.exit(EXIT_ERROR)


def _package(error: ImportError) -> str:
    """Return the package that an import failed in: that which is named, or else whose code has raised the error."""
    name, place = error.name or "", error.__traceback__
    while not error.name and place is not None:
        name, place = str(place.tb_frame.f_globals.get("__name__", "")), place.tb_next
    return name.partition(".")[0]
