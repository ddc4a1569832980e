"""The one message that a job ends with: reserved before anything else is done, and said once."""

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

from common.launcher_output import print_past_launcher
from common.run_files import fill_failure, write_failure_once
from workers.watchdog.console import say

FOLDER_S = 2.0
"""How long the run folder may take to answer: a dead file server holds who asks for ever, and ranks are to be ended."""


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
        self._tried, self.is_ours = True, folder is None or self._within(lambda: write_failure_once(folder))
        return self.is_ours

    @staticmethod
    def _within(do: Callable[[], object]) -> bool:
        """Do something with the run folder; return whether it says yes, or has not answered in time."""
        answers: list[object] = []
        thread = threading.Thread(target=lambda: answers.append(do()), daemon=True)
        thread.start()
        thread.join(FOLDER_S)
        return bool(answers[0]) if answers else True

    def report(self, message: str, *, aloud: bool = True, past_launcher: bool = False) -> None:
        """Say why the job ends, on the console and in the run folder; not ``aloud``: the rank itself has printed it.

        ``past_launcher``: that has ended, and writes nothing more.
        """
        if aloud and past_launcher:
            print_past_launcher(f"rankwise: {message}\n")
        elif aloud:
            say(message)
        if (folder := self._folder()) is not None:

            def fill(folder: Path = folder) -> None:
                with contextlib.suppress(OSError):
                    fill_failure(folder, f"rankwise: {message}")

            self._within(fill)
