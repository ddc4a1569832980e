"""The one message that a job ends with: reserved before anything else is done, and said once."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from common.launcher_output import print_past_launcher
from common.run_files import fill_failure, write_failure_once
from workers.watchdog.console import say


class Failure:
    """``is_ours``: nobody else has said why the job ends, so this watchdog does."""

    def __init__(self, folder: Callable[[], Path | None]) -> None:
        """``folder``: returns the run folder, once there is one."""
        self._folder = folder
        self._tried = self.is_ours = False

    def reserve(self) -> bool:
        """Return whether to report why the job ends, because nobody has done so; later calls return False."""
        if self._tried:
            return False
        folder = self._folder()
        self._tried, self.is_ours = True, folder is None or write_failure_once(folder)
        return self.is_ours

    def report(self, message: str, *, aloud: bool = True, past_launcher: bool = False) -> None:
        """Say why the job ends, on the console and in the run folder; not ``aloud``: the rank itself has printed it.

        ``past_launcher``: that has ended, and writes nothing more.
        """
        if aloud and past_launcher:
            print_past_launcher(f"rankwise: {message}\n")
        elif aloud:
            say(message)
        if (folder := self._folder()) is not None:
            with contextlib.suppress(OSError):
                fill_failure(folder, f"rankwise: {message}")
