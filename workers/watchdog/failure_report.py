"""The run folder as a witness knows it, and the last word of the job that is left in it."""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common.progress import read_folder
from common.run_files import reserve_failure, say
from workers.watchdog.rank_process import Rank


class FailureReport:
    """``folder``: the run folder, once there is one. Before, a witness sees its own node only and writes nothing."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self._names: dict[str, str] = {kind: orders[kind] for kind in ("failure", "log", "progress")}
        self.folder: Path | None = None
        self._said = False

    def path(self, kind: str) -> Path:
        """Return one of the files in the run folder, which must be there: failure, log or progress."""
        assert self.folder is not None
        return self.folder / self._names[kind]

    def find(self, ranks: Iterable[Rank]) -> None:
        """Learn of the folder from the ranks' own memory."""
        if self.folder is None:
            self.folder = next(filter(None, (read_folder(rank.memory) for rank in ranks)), None)

    def reserve_failure(self) -> bool:
        """Return whether to say why the job ends, because nobody has said so."""
        first = not self._said and (self.folder is None or reserve_failure(self.path("failure")))
        self._said = True
        return first

    def say(self, message: str) -> None:
        """Say why the job ends, on the console and in the run folder."""
        say(message)
        with contextlib.suppress(OSError):
            if self.folder is not None:
                self.path("failure").write_text(message + "\n", encoding="utf-8")
