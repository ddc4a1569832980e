"""Saving checkpoints in a thread while training continues."""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.errors import CheckpointError
from common.files import do_nothing
from workers.checkpoint.checkpoint_file import Snapshot, save
from workers.checkpoint.held_copy import HeldCopy

NICE = 10
"""Added to the thread's niceness: where ranks keep all cores busy, it takes a tenth of one."""
LOOK_S = 0.2
"""Between two looks at whether the thread makes progress."""


class Writer:
    """Saves snapshots in a thread, one at a time; on rank 0.

    ``copy``: where their vectors lie. If this process is gone before one is written, its watchdog writes it.
    """

    def __init__(self, folder: Path, keep: int, copy: HeldCopy) -> None:
        self.folder, self.keep, self.copy = folder, keep, copy
        self._thread: threading.Thread | None = None
        self._n_pulses = 0
        self._outcome: Path | Exception | None = None

    @property
    def busy(self) -> bool:
        """Whether one is being written."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, snapshot: Snapshot, n_records: int, **more: Any) -> None:
        """Begin to save; the one before must have ended. ``n_records``: of the log so far. ``more``: see HeldCopy."""
        assert not self.busy
        self.copy.hold(snapshot, keep=self.keep, n_records=n_records, **more)
        self._thread = threading.Thread(target=self._save, args=(snapshot,), name="checkpoint")
        self._thread.start()

    def ended(self, *, wait: bool = False, tick: Callable[[], object] = do_nothing) -> Path | Exception | None:
        """Return the outcome of a save that has ended, once; None if there is none.

        With ``wait`` wait for it, and call ``tick`` whenever the writing has made progress.
        """
        if self._thread is None or (self.busy and not wait):
            return None
        seen = -1
        while self._thread.is_alive():
            self._thread.join(LOOK_S)
            if self._n_pulses != seen:
                seen = self._n_pulses
                tick()
        self._thread, outcome, self._outcome = None, self._outcome, None
        return outcome

    def _pulse(self) -> None:
        self._n_pulses += 1

    def _save(self, snapshot: Snapshot) -> None:
        with contextlib.suppress(OSError, AttributeError):  # of this thread only, on Linux
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICE)
        try:
            self._outcome = save(self.folder, snapshot, self.keep, self._pulse)
        except (OSError, CheckpointError, MemoryError) as error:
            self._outcome = error
            self.copy.clear()
        else:
            self.copy.written(snapshot.name)
