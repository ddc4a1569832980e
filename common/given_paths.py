"""Paths that a user gives: looked at in one place, for whichever command and option they are."""

import errno
import os

from common.errors import ConfigError
from common.option import shown

NOT_TO_BE = {
    errno.ENAMETOOLONG: "is too long",
    errno.ENOTDIR: "lies in a file, not in a folder",
    errno.ELOOP: "is a link that leads back to itself",
}
"""What the system says of a path that can neither be there nor be made."""


def given_path(option: str, text: str) -> str:
    """Return a path with ``~`` replaced, else as it was given. Raises ConfigError if it can be none.

    Whether anything is there, and may be read or written, is seen by whoever opens it. It need not be UTF-8.
    """
    if not text or "\0" in text:
        raise ConfigError(f"{option}: got {shown(text)}; allowed is the path of a file or a folder")
    expanded = os.path.expanduser(text)
    if text.startswith("~") and expanded == text:
        raise ConfigError(f"{option}: got {shown(text)}, but that user has no home folder; write the whole path")
    try:
        os.stat(expanded)
    except OSError as error:
        if error.errno in NOT_TO_BE:
            raise ConfigError(
                f"{option}: got {shown(text)}, which {NOT_TO_BE[error.errno]}; give another path"
            ) from error
    return expanded


def given_folder(option: str, text: str) -> str:
    """Return the path of a folder that is to be made or filled: any but the root. Raises ConfigError."""
    expanded = given_path(option, text)
    if os.path.realpath(expanded) == "/":
        raise ConfigError(f"{option}: got {shown(text)}, which is the root of all folders; give one of its own")
    return expanded
