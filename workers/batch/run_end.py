"""How a run ended by its own account: a launcher may end with 0 although the training was stopped before its end."""

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from common.errors import LogError
from common.run_files import LOG_NAME
from ps.logfile.records import Record
from ps.logfile.salvage import SalvageReader
from workers.launch.run_arguments import named_folder, take_option

SAVE_S, LOOK_S = 30.0, 0.2
"""How long ranks may go on saving after such a launcher has ended."""


class RunEnd:
    """The log of the run that a program's options name, if they do; made before the program is started."""

    def __init__(self, program: Sequence[str]) -> None:
        """Raises ConfigError."""
        folder = named_folder(program)
        resumed = next(iter(take_option("resume", program)[0]), "")
        if folder is None and resumed and Path(resumed).is_dir():
            folder = Path(resumed)
        self._log = folder / LOG_NAME if folder is not None else None
        self._before = self._size()

    def is_stopped(self, wait_s: float = SAVE_S) -> bool:
        """Say whether the last thing that was added to the log is that the training was stopped.

        If something was added, but nothing that ends it, wait for that.
        """
        last: Record = {}
        size = self._before
        until = time.monotonic() + wait_s
        while self._log is not None and self._size() != self._before:
            if size != self._size():
                size, last = self._size(), self._last()
            if last.get("kind") == "end" or time.monotonic() > until:
                break
            time.sleep(LOOK_S)
        return last.get("kind") == "end" and last.get("status") == "stopped"

    def _last(self) -> Record:
        assert self._log is not None
        try:
            return next(iter(deque(SalvageReader(self._log).records(), maxlen=1)), {})
        except LogError:
            return {}

    def _size(self) -> int:
        try:
            return self._log.stat().st_size if self._log is not None else 0
        except OSError:
            return 0
