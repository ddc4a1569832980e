"""Copies a packed text, or one in another encoding, into a plain file of UTF-8, which can be cut into pieces."""

import codecs
import gzip
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from common.data.prepared_file import FileDigest
from common.errors import DataError
from common.files import create_new, open_regular
from common.memory import in_words

GZIP = b"\x1f\x8b"
READ_BYTES = 1 << 20
MOST_OF_DISK = 0.9
"""Of what is free: a small packed file may hold terabytes."""


def is_packed(head: bytes) -> bool:
    """Say whether a file that begins so is packed by gzip."""
    return head.startswith(GZIP)


def codec(encoding: str) -> str:
    """Return Python's name of an encoding. Raises DataError."""
    try:
        name = codecs.lookup(encoding).name if encoding != "auto" else "utf-8"
        "".encode(name)  # some codecs, hex for one, are none of text
    except (LookupError, UnicodeError, TypeError, ValueError) as error:
        raise DataError(
            f"encoding: got {encoding[:80]!r}, which is none; allowed is utf-8, utf-16, latin-1, cp1252 or "
            "another that Python knows"
        ) from error
    return name


class _Source:
    """A file that is read from its beginning to its end, and of whose bytes the SHA-256 is taken meanwhile."""

    def __init__(self, file: BinaryIO) -> None:
        self.size = os.fstat(file.fileno()).st_size
        self._file, self._digest = file, FileDigest(self.size)

    def read(self, n: int) -> bytes:
        """Return the next bytes, as a file does."""
        data = self._file.read(n)
        self._digest.update(data)
        return data

    def sha256(self) -> str:
        """Return the SHA-256 of all, once all is read."""
        while self.read(READ_BYTES):
            pass
        return self._digest.hexdigest()

    @property
    def done(self) -> float:
        """The part that is read."""
        return min(1.0, self._file.tell() / max(1, self.size))


def copy(path: Path, to: Path, encoding: str, pulse: Callable[[float], object]) -> str:
    """Write the text of a file, unpacked, in UTF-8; return the SHA-256 of the file. Raises DataError and OSError.

    ``pulse``: called now and then, with the part that is done.
    """
    most = int(shutil.disk_usage(to.parent).free * MOST_OF_DISK)
    written = 0
    with open_regular(path) as file, create_new(to) as out:
        packed = is_packed(file.read(len(GZIP)))
        file.seek(0)
        source = _Source(file)
        pieces = gzip.GzipFile(fileobj=cast("BinaryIO", source), mode="rb") if packed else source
        for text in _decoded(path, _pieces(path, pieces), codec(encoding)):
            written += len(text)
            if written > most:
                raise DataError(f"{path}: unpacked, it takes more than {in_words(most)}, what is left on the disk")
            out.write(text)
            pulse(source.done)
        return source.sha256()


def _pieces(path: Path, source: gzip.GzipFile | _Source) -> Iterator[bytes]:
    try:
        while data := source.read(READ_BYTES):
            yield data
    except EOFError as error:
        raise DataError(f"{path}: the gzip file is truncated: it ends before its end mark; copy it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: the gzip file is damaged ({error}); copy it again") from error


def _decoded(path: Path, pieces: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Yield text as UTF-8, without a mark at its beginning."""
    if name == "utf-8":
        yield from pieces
        return
    decoder, lines, first = codecs.getincrementaldecoder(name)(), 1, True
    for piece in _and_end(pieces):
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeError as error:
            raise DataError(
                f"{path}: near line {lines:,}: not {name} ({error}); name its encoding with --encoding"
            ) from error
        yield (text.removeprefix("\ufeff") if first else text).encode("utf-8", "surrogatepass")
        lines, first = lines + text.count("\n"), False


def _and_end(pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield from pieces
    yield b""
