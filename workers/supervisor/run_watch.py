"""The run folder as the supervisor sees it: which one, what is new in it, and making it fit for the next attempt."""

import os
import re
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import run_files
from common.errors import LogError
from common.run_files import FAILURE_NAME, LOG_NAME, RUNS
from ps.coordinator import run_folder
from ps.logfile.reader import LogReader
from ps.logfile.records import Record

CONFIG_NAME = "config.toml"
DIED = re.compile(r"rank (\d+) on (\S+) died ")
MOST_FAILURE_BYTES = 1 << 20


def choose(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that the arguments, the environment or the configuration file name; else a new one."""
    output = _given("output", arguments, environment)
    config = _given("config", arguments, environment)
    if not output and config:
        try:
            values = tomllib.loads(Path(config).expanduser().read_text(encoding="utf-8"))
        except (OSError, ValueError, RuntimeError, RecursionError):
            values = {}  # the job will say what is wrong with it
        output = str(values.get("output", ""))
    if output:
        return Path(output).expanduser()
    stem = RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-supervised"
    names = (stem, *(stem.with_name(f"{stem.name}-{i}") for i in range(2, 1000)))
    return next(path for path in names if not path.exists())


def without_output(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without --output and its value."""
    kept, skip = [], False
    for argument in arguments:
        if not skip and not argument.startswith("--output=") and argument != "--output":
            kept.append(argument)
        skip = argument == "--output" and not skip
    return kept


def _given(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    for i, argument in enumerate(arguments):
        if argument == f"--{name}" and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"--{name}="):
            return argument.partition("=")[2]
    return environment.get(f"RANKWISE_{name.upper()}", "")


class RunMonitor:
    """Reads what is new in a run folder after each attempt.

    ``done``: whether the log says that the run came to its end. ``deaths``: (rank, host) of ranks that died in the
    last attempt, each once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done = False
        self.deaths: list[tuple[int, str]] = []
        self._reader = LogReader(path / LOG_NAME)
        self._read_log()
        self.deaths = []

    def look(self) -> str:
        """Read what the last attempt left; return the message it failed with, if any.

        The file with that message gets a number, so that the next attempt can leave its own.
        """
        self.deaths = []
        self._read_log()
        message = ""
        try:
            with (self.path / FAILURE_NAME).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - MOST_FAILURE_BYTES))
                text = file.read().decode("utf-8", "replace")
            message = (text.strip().splitlines() or [""])[-1].removeprefix("rankwise: ")
            run_folder.put_failure_aside(self.path)
        except OSError:
            pass  # none is there, or the file system is in trouble, which the next attempt will meet
        if (died := DIED.match(message)) and not self.deaths:
            self.deaths = [(int(died[1]), died[2])]
        return message

    def newest(self) -> str:
        """Return the name of the newest checkpoint, empty if there is none."""
        try:
            return next((path.name for path in run_files.all_in(self.path)), "")
        except OSError:
            return ""

    def clear(self) -> None:
        """Remove a log without a record, which a job leaves that dies while it opens it: none can go on from it."""
        try:
            if (self.path / LOG_NAME).is_file() and not any(True for _ in LogReader(self.path / LOG_NAME).records()):
                (self.path / LOG_NAME).unlink()
                (self.path / CONFIG_NAME).unlink(missing_ok=True)
        except (OSError, LogError):
            return  # the job will say what is wrong with it

    def _read_log(self) -> None:
        try:
            for record in self._reader.records():
                if record["kind"] == "end":
                    self.done = record.get("status") == "ok"
                self._note(record)
        except LogError:
            return  # not there yet; or damaged, and the job will say so

    def _note(self, record: Record) -> None:
        """Keep a death. A rank that raised an error of its own has an event, too, but its process was well."""
        if record["kind"] != "event" or record.get("what") != "death":
            return
        rank, host, message = record.get("rank"), record.get("host"), record.get("message")
        if not isinstance(rank, int) or not isinstance(host, str):
            return
        if isinstance(message, str) and " died " not in message:
            return
        if (rank, host) not in self.deaths:
            self.deaths.append((rank, host))
