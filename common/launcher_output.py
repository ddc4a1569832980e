"""Whether the launcher can write what a rank prints: it hands that on, and some end the whole job if they cannot.

MPICH's ``mpirun`` does where the disk is full, and both it and Open MPI's where nobody reads any more. So a rank looks
first, where it can see its launcher, and leaves out what would be the end of the job.
"""

import contextlib
import errno
import fcntl
import os
import select
import stat
import termios
import time

from common.host import eldest_launcher

KEEP_SIZE = 1
"""FALLOC_FL_KEEP_SIZE of linux/falloc.h: space is kept for a file, which does not become longer."""
LOOK_S = 0.01
CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
NO_READER = "nobody reads it any more"
FATAL = {
    errno.ENXIO: NO_READER,
    **{number: os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)},
}
"""What ends a launcher. Any other error only means that one cannot see from here."""


class LauncherStream:
    """Standard output or error of the launcher; ``path``: a link to it under /proc."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._end = 0
        """Where the file ends once all is written that was let through."""

    def fault(self, n_bytes: int) -> str:
        """Return why so many bytes cannot be written, nothing if they can, as far as one sees."""
        try:
            mode = os.stat(self.path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
                return ""
            handle = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                if stat.S_ISREG(mode):
                    self._reserve(handle, n_bytes)
                elif stat.S_ISCHR(mode):
                    os.write(handle, b"")  # which /dev/full refuses
                elif _is_left(handle):
                    raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
            finally:
                os.close(handle)
        except OSError as error:
            return FATAL.get(error.errno or 0, "")
        return ""

    def write(self, text: str) -> None:
        """Write a message, if that can be done without waiting."""
        with contextlib.suppress(OSError):
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                os.write(handle, text.encode(errors="replace"))
            finally:
                os.close(handle)

    def _reserve(self, handle: int, n_bytes: int) -> None:
        """Keep space for what the launcher has yet to write, so that nobody else can take it. Raises OSError."""
        size = os.fstat(handle).st_size
        end = max(self._end, size) + n_bytes
        try:
            _fallocate(handle, size, end - size)
        except OSError as error:
            if error.errno not in CANNOT_RESERVE:
                raise
            disk = os.fstatvfs(handle)
            if disk.f_bavail * disk.f_frsize < end - size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        self._end = end


def _is_left(pipe: int) -> bool:
    """Say whether nobody has the other end of a pipe open."""
    look = select.poll()
    look.register(pipe, 0)
    return any(state & select.POLLERR for _, state in look.poll(0))


def _fallocate(handle: int, start: int, n_bytes: int) -> None:
    import ctypes  # only where there is such a file

    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(handle, KEEP_SIZE, ctypes.c_int64(start), ctypes.c_int64(n_bytes)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


_streams: dict[int, LauncherStream | None] = {}
"""Of this process's launcher, by their numbers, as far as they are known; None: there is no launcher."""


def hold_streams(launcher: int) -> None:
    """Keep hold of the streams of a process, to look at them also when it is gone.

    A pipe that is held like this has not one writer more: its reader does not wait for this process.
    """
    for number in (1, 2):
        try:
            handle = os.open(f"/proc/{launcher}/fd/{number}", os.O_PATH)
        except OSError:
            _streams[number] = None
        else:
            _streams[number] = LauncherStream(f"/proc/self/fd/{handle}")


def wait_until_read(number: int, limit_s: float) -> None:
    """Wait until what was written to this process's stream has been read, where that is a pipe.

    A launcher that is told to end the job reads nothing more, even what was written before.
    """
    until = time.monotonic() + limit_s
    with contextlib.suppress(OSError):
        while (
            stat.S_ISFIFO(os.fstat(number).st_mode)
            and any(fcntl.ioctl(number, termios.FIONREAD, bytes(4)))  # bytes that wait
            and time.monotonic() < until
        ):
            time.sleep(LOOK_S)


def print_past_launcher(text: str) -> None:
    """Write to the launcher's standard error oneself, where its streams are held: it may be gone in a moment."""
    stream = _streams.get(2)
    if stream is not None and not stream.fault(len(text.encode(errors="replace"))):
        stream.write(text)


def output_fault(number: int, text: str) -> str:
    """Return why this process's launcher cannot write a text to its stream 1 or 2; nothing if it can, or is no more."""
    if number not in _streams:
        pid, _ = eldest_launcher()
        _streams[number] = None if pid == os.getpid() else LauncherStream(f"/proc/{pid}/fd/{number}")
    stream = _streams[number]
    return "" if stream is None else stream.fault(len(text.encode(errors="replace")))
