"""The exceptions a user can meet, each with the exit code its end gives.

RankwiseError           1
+-- ConfigError         2   an option, a configuration file or the command line
+-- LaunchError         2   the MPI library or the launcher
|   +-- NoLibraryError  2   no MPI library that loads
+-- DataError           2   a data file or what is in it
+-- LogError            1   a log file: carries path and byte offset
|   +-- LogVersionError 1   one that another version wrote
+-- CheckpointError     1   a checkpoint file
+-- JobError            *   what all ranks agreed on; carries the exit code of its cause
"""

from pathlib import Path

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_STOPPED = 75
"""EX_TEMPFAIL of sysexits.h: stopped on request, can be resumed."""
EXIT_INTERRUPTED = 130
"""128 and SIGINT: ended by Ctrl-C."""


class RankwiseError(Exception):
    """A fault that the user can fix: shown as one message, never as a traceback."""

    exit_code = EXIT_ERROR


class ConfigError(RankwiseError):
    """An option or a configuration file says something that is not allowed."""

    exit_code = EXIT_USAGE


class LaunchError(RankwiseError):
    """No MPI library, or a launcher that belongs to another one."""

    exit_code = EXIT_USAGE


class NoLibraryError(LaunchError):
    """No MPI library that loads; what needs none still works."""


class DataError(RankwiseError):
    """A data file that is missing, broken or holds something training cannot use."""

    exit_code = EXIT_USAGE


class LogError(RankwiseError):
    """A log that cannot be trusted from ``offset`` (bytes from the start of ``path``) on.

    ``damaged``: whether bytes of it are not as they were written, or records missing, so that others may be whole.
    """

    def __init__(self, path: Path | str, offset: int, reason: str, *, damaged: bool = False) -> None:
        self.path = Path(path)
        self.offset = offset
        self.reason = reason
        self.damaged = damaged
        super().__init__(f"{path}: byte {offset}: {reason}")


class LogVersionError(LogError):
    """A log that another version wrote; nothing is wrong with it."""


class CheckpointError(RankwiseError):
    """A file that is no whole checkpoint."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


class BrokenFileError(Exception):
    """What is wrong with a file, in words that follow its name; whoever reads it says which file, and for what."""


class StepError(Exception):
    """What is wrong with a step; raised on every rank in the same one, before it changed anything.

    ``steps``: how many steps come to nothing with it, itself included: those since the ranks last exchanged.
    """

    def __init__(self, steps: int = 1) -> None:
        super().__init__()
        self.steps = steps


class NotFiniteError(StepError):
    """A loss or the summed gradient is not finite."""


class ReplicasDivergedError(StepError):
    """Not all ranks have the same parameters."""


class JobError(RankwiseError):
    """The same fault raised on every rank, after they agreed on it; rank 0 prints it once."""

    def __init__(self, message: str, exit_code: int = EXIT_ERROR) -> None:
        super().__init__(message)
        self.exit_code = exit_code
