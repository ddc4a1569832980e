"""Files that are what they seem: only regular ones are read or replaced, and those written are whole or not there."""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

SYNC_BYTES = 8 << 20
"""How much of a large file is written before it is brought to the disk: all at once would hold up other programs."""
COPY_BYTES = 1 << 20
SMALL_FILE_BYTES = 1 << 20
"""What a file of a few lines may hold: a configuration, a message, a note."""
TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<token>[0-9a-f]{16})\.part")
"""The name of a file that is not whole yet, in the folder of the file that it becomes."""
LONGEST_NAME = 200
"""Bytes of a name to which more can be added: file systems take 255."""
DEVICES = "/dev"
"""Where files are not replaced: what has the name of one there may be a link to what a shell has redirected."""
KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"), (stat.S_ISSOCK, "a socket"), (stat.S_ISLNK, "a symbolic link"),
)  # fmt: skip
Pulse = Callable[[], object]
"""Is called whenever writing makes progress."""


def do_nothing(*_: object) -> None:
    """Do nothing, whatever is given."""


def require_regular(path: Path) -> None:
    """Raise OSError unless there is a regular file, or a link to one."""
    _require_regular(os.stat(path), path)


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; a link to one is followed.

    Raises OSError, also for what is no regular file: a pipe would be waited for, and a device may never end. What is
    there is looked at before it is opened, since opening some devices does something, and again after that.
    """
    require_regular(path)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return os.fdopen(_checked(handle, path), "rb")


def read_small(path: Path, limit: int = SMALL_FILE_BYTES, *, own: bool = False) -> bytes:
    """Return the bytes of a regular file of at most ``limit`` bytes, however large it claims to be. Raises OSError.

    ``own``: only if nobody else can have put it there; see open_own.
    """
    with open_own(path) if own else open_regular(path) as file:
        data = file.read(limit + 1) or b""  # None for a file of the kernel's that would be waited for
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"has more than {limit} bytes", str(path))
    return data


def create_new(path: Path, mode: int = 0o666, *, append: bool = False) -> BinaryIO:
    """Create a file that must not be there, not even as a link, for writing and reading. Raises OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_APPEND if append else 0)
    return open(path, "w+b", opener=lambda name, _: os.open(name, flags, mode))


def open_own(path: Path, *, append: bool = False) -> BinaryIO:
    """Open a file that is there, for reading and writing, if it is a regular file of one's own and no link.

    Somebody else who may write into the folder could have put a link there, to have other files overwritten.
    Raises OSError.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (os.O_APPEND if append else 0)
    _require_regular(os.lstat(path), path)
    file = os.fdopen(_checked(os.open(path, flags), path), "r+b")
    try:
        _require_own(os.fstat(file.fileno()), path)
    except BaseException:
        file.close()
        raise
    return file


def _require_own(facts: os.stat_result, path: Path) -> None:
    """Raise OSError unless a file is one's own and has one name."""
    if facts.st_uid != os.geteuid() and facts.st_uid != _owner_of_new(path.parent):
        raise PermissionError(errno.EPERM, f"belongs to user {facts.st_uid}, so it is not written to", str(path))
    if facts.st_nlink > 1:
        raise PermissionError(errno.EPERM, "is a hard link: it has another name, so it is not written to", str(path))


def _owner_of_new(folder: Path) -> int:
    """Return the user to whom a new file in a folder belongs: some file servers give it to another. Raises OSError."""
    probe = folder / temporary_name("owner")
    with create_new(probe) as file:
        probe.unlink()
        return os.fstat(file.fileno()).st_uid


def temporary_name(name: str) -> str:
    """Return a name that nobody can know before, so that nobody can put a link there; see TEMPORARY."""
    short = name if len(os.fsencode(name)) <= LONGEST_NAME else "long"
    return f".{short}.{os.urandom(8).hex()}.part"


def _checked(handle: int, path: Path) -> int:
    """Return the descriptor of a regular file; close that of anything else. Raises OSError."""
    try:
        _require_regular(os.fstat(handle), path)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _require_regular(facts: os.stat_result, path: Path) -> None:
    """Raise OSError unless these are the facts of a regular file."""
    if not stat.S_ISREG(facts.st_mode):
        kind = next((kind for holds, kind in KINDS if holds(facts.st_mode)), "of an unknown kind")
        raise OSError(errno.EINVAL, f"is {kind}, not a regular file", str(path))


class SyncedFile:
    """A file that is brought to the disk while it is written, and calls ``pulse`` at each write."""

    def __init__(self, file: BinaryIO, pulse: Pulse) -> None:
        self._file, self._pulse = file, pulse
        self._not_synced = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        """Write all of ``data``. Raises OSError."""
        n = self._file.write(data)
        self._not_synced += n
        if self._not_synced >= SYNC_BYTES:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._not_synced = 0
        self._pulse()
        return n


def require_replaceable(path: Path) -> None:
    """Raise OSError if a file may not be written in place of what is there: a folder, a pipe, a device.

    A link is replaced, not followed.
    """
    with contextlib.suppress(FileNotFoundError):
        facts = os.lstat(path)
        if not stat.S_ISLNK(facts.st_mode):
            _require_regular(facts, path)
    if os.path.realpath(path.parent) == DEVICES:
        raise OSError(errno.EINVAL, f"files are not replaced in {DEVICES}", str(path))


def told(error: OSError) -> str:
    """Return what an error of the system says, as in a sentence: which file it is about, and what is wrong with it."""
    reason = error.strerror or str(error) or type(error).__name__
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return f"{' -> '.join(names)}: {reason}" if names else reason


def write_atomic(
    path: Path,
    write: Callable[[Any], object],
    pulse: Pulse = do_nothing,
    check: Callable[[Path], object] = do_nothing,
    *,
    sync: bool = True,
) -> None:
    """Write a file so that readers never see half of it: to a temporary file in its folder, which is then renamed.

    ``pulse``: see SyncedFile. ``check`` may read the temporary file. With ``sync`` the content is on the disk before
    the renaming, and the new name after it. Raises OSError, and what ``check`` raises; the temporary file is then gone,
    and an older ``path`` untouched. See ``require_replaceable``.
    """
    require_replaceable(path)
    temporary = path.with_name(temporary_name(path.name))
    try:
        with create_new(temporary) as file:
            write(SyncedFile(file, pulse))
            file.flush()
            if sync:
                os.fsync(file.fileno())
        check(temporary)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # it names the temporary file, or none
            error.filename, error.filename2 = str(path), None
        raise
    if sync:
        sync_folder(path.parent)


def write_bytes(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a small file in the same way. Raises OSError."""
    write_atomic(path, lambda file: file.write(data), sync=sync)


def next_data(file: BinaryIO, offset: int) -> int:
    """Return where the first bytes at or after ``offset`` are that are not part of a hole; the file's size if none are.

    A file may claim a terabyte of zeros that take no room. Where the file system knows of no holes, that is ``offset``.
    """
    handle = file.fileno()
    here = os.lseek(handle, 0, os.SEEK_CUR)  # buffered files remember where they are
    try:
        return os.lseek(handle, offset, os.SEEK_DATA)
    except OSError as error:
        return os.fstat(handle).st_size if error.errno == errno.ENXIO else offset
    finally:
        os.lseek(handle, here, os.SEEK_SET)


def copy_with_holes(source: BinaryIO, copy: BinaryIO) -> None:
    """Copy a file to another, whose holes take no room either. Raises OSError."""
    at, size = next_data(source, 0), os.fstat(source.fileno()).st_size
    while at < size:
        source.seek(at)
        copy.seek(at)
        if not copy.write(source.read(COPY_BYTES)):
            break
        at = next_data(source, source.tell())
    copy.truncate(size)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk; some network file systems refuse it, and some folders to be read."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
