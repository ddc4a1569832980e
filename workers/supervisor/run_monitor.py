"""The run folder as the supervisor sees it: which one, what is new in it, and making it fit for the next attempt."""

import contextlib
import fcntl
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.errors import EXIT_OK, EXIT_STOPPED, LogError
from common.files import open_own
from common.run_files import CONFIG_NAME, LOG_NAME, checkpoints_in, read_failure
from ps.coordinator import run_folder
from ps.logfile.reader import LogReader
from ps.logfile.salvage import SalvageReader
from workers.launch.run_arguments import named_folder
from workers.supervisor.policy import Outcome

DIED = re.compile(r"rank (\d+) on (\S+) died ")


@contextlib.contextmanager
def run_folder_of(arguments: Sequence[str]) -> Iterator[Path]:
    """Give the folder that the user names, or else a new one, which goes again if no job left anything in it.

    Raises RankwiseError if none can be made.
    """
    named = named_folder(arguments)
    if named is not None:
        yield named
        return
    made = run_folder.new_folder("supervised")
    try:
        yield made
    finally:
        with contextlib.suppress(OSError):  # it is not empty
            made.rmdir()
            made.parent.rmdir()


class RunMonitor:
    """Reads what is new in a run folder after each attempt.

    ``done``: the log says that the run came to its end in one of them. One that was done before may train more epochs;
    else the job says that it is done.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done = self._stopped = False
        self._known: set[tuple[str, float]] = set()
        self._read_log()
        self.done = False
        self._newest = self._newest_checkpoint()

    def clear(self) -> None:
        """Remove a log without a record, which a job leaves that dies while it opens it: no job can resume from it.

        One that is locked stays: it is that of another job, which has yet to write the first record.
        """
        log = self.path / LOG_NAME
        try:
            with open_own(log) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not any(True for _ in LogReader(log).records()) and not checkpoints_in(self.path):
                    log.unlink()
                    (self.path / CONFIG_NAME).unlink(missing_ok=True)
        except (OSError, LogError):
            return  # none is there, or the job will say what is wrong with it

    def outcome(self, code: int, printed: str) -> Outcome:
        """Return how the last attempt ended. ``printed``: its message, unless failure.txt holds a better one.

        That file gets a number, so that the next attempt can leave its own.
        """
        self._stopped = False
        deaths, message = self._read_log(), ""
        if code == EXIT_OK and self._stopped:  # as Open MPI's launcher ends whose daemons a signal has killed
            code = EXIT_STOPPED
        with contextlib.suppress(OSError):  # none is there, it is none of ours, or the file system is in trouble
            message = (read_failure(self.path).splitlines() or [""])[-1].removeprefix("rankwise: ")
        with contextlib.suppress(OSError):  # the next attempt will meet it
            run_folder.put_failure_aside(self.path)
        if (died := DIED.match(message)) and not deaths:
            deaths = [(int(died[1]), died[2])]
        before, self._newest = self._newest, self._newest_checkpoint()
        progress = self._newest not in ("", before)
        return Outcome(code, message or printed, tuple(deaths), self._newest, progress)

    def _newest_checkpoint(self) -> str:
        try:
            return next((path.name for path in checkpoints_in(self.path)), "")
        except OSError:
            return ""

    def _read_log(self) -> list[tuple[int, str]]:
        """Return (rank, host) of the deaths that are new in the log, each once."""
        deaths: dict[tuple[int, str], None] = {}
        try:
            for record in SalvageReader(self.path / LOG_NAME).records():  # from the start: it may have been mended
                what = str(record.get("what", record["kind"]))
                if what not in ("end", "death") or (what, record["t"]) in self._known:
                    continue
                self._known.add((what, record["t"]))
                if what == "end":
                    self.done, self._stopped = (record.get("status") == status for status in ("ok", "stopped"))
                else:
                    rank, host, message = record.get("rank"), record.get("host"), record.get("message")
                    # a rank that raised an error of its own has an event, too, but its process did not die
                    died = not isinstance(message, str) or " died " in message
                    if died and isinstance(rank, int) and isinstance(host, str):
                        deaths[rank, host] = None
        except LogError:
            pass  # not there yet, or of another version, and the job will say so
        return list(deaths)
