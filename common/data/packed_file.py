"""Opens a data file that may be packed by gzip; whatever is wrong with it is a BrokenFileError in few words."""

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from common.errors import BrokenFileError
from common.files import open_regular

GZIP = b"\x1f\x8b"
ENDING = ".gz"
MOST_INFLATED = 1032
"""Bytes that deflate makes of one at most: 258 of two bits."""


@contextlib.contextmanager
def open_packed(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file; one that begins as gzip does is unpacked while it is read, whatever its name.

    Raises BrokenFileError, also while it is read.
    """
    try:
        with open_regular(path) as file:
            packed = file.read(len(GZIP)) == GZIP
            file.seek(0)
            if not packed:
                yield file
                return
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield cast("BinaryIO", unpacked)
    except EOFError as error:
        raise BrokenFileError("its gzip stream ends in the middle: the file was cut off; fetch it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        reason = str(error)[:200]
        raise BrokenFileError(f"its gzip stream is damaged ({reason}); fetch the file again") from error
    except OSError as error:
        raise BrokenFileError(error.strerror or str(error)) from error


def most_bytes(path: Path) -> int:
    """Return the bytes that a file can unpack to at most; its size if it is not packed. Raises BrokenFileError."""
    try:
        with open_regular(path) as file:
            packed = file.read(len(GZIP)) == GZIP
            size = file.seek(0, 2)
    except OSError as error:
        raise BrokenFileError(error.strerror or str(error)) from error
    return size * MOST_INFLATED if packed else size
