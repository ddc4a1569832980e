"""What a watchdog leaves in the run folder: notes of deaths for those who continue, and the end of the log."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.launcher_output import print_past_launcher
from common.rank_status import ENDED, LOST, TO_SAVE, StatusRow, read_row
from common.run_files import FAILURE_NAME, LOG_NAME, leave_death_note, write_failure_once
from workers.watchdog.console import release_output
from workers.watchdog.log_events import append_events, take_death_notes
from workers.watchdog.peers import Peers
from workers.watchdog.rank_process import LOOK_S, RankProcess, held_by, stops

LOG_S = 8.0
"""How long to wait for rank 0, perhaps on another node, to be gone before the log is written to."""


class Ending:
    """Knows who continues, and who is the last to write."""

    def __init__(
        self, folder: Callable[[], Path | None], ranks: Mapping[int, RankProcess], rows: Sequence[StatusRow],
        peers: Peers, events: list[dict[str, Any]], progress_name: str, *, elastic: bool,
    ) -> None:  # fmt: skip
        """``folder``: returns the run folder, if this host sees it. ``ranks``: of this node; ``rows``: of all.

        ``events``: those that rank 0 may not live to write to the log.
        """
        self._folder, self._ranks, self._rows, self._peers = folder, ranks, rows, peers
        self._events, self._progress_name, self._elastic = events, progress_name, elastic

    def may_continue(self) -> bool:
        """Say whether the others may go on without a rank: there is a run folder, and the job does not end."""
        if self._peers.is_leaf:
            return not (self._peers.whole.aborting or self._peers.whole.ended)
        folder = self._folder()
        return folder is not None and not (folder / FAILURE_NAME).exists()

    def leave_note(self, event: dict[str, Any]) -> None:
        """Leave a note of a death for those who continue; the hub does, if this host does not see the run folder."""
        folder = self._folder()
        if folder is not None and leave_death_note(folder, event):
            return
        if self._peers.is_leaf:
            self._peers.report({"note": event})
        else:
            self._events.append(event)

    def note_cut_stop(self, rank: RankProcess, host: str) -> None:
        """Report that ranks which were stopping are gone, if they had not saved all."""
        if TO_SAVE in stops(self._ranks):
            where = f"{host} {read_row(rank.memory).where}"
            message = f"the job was stopping on request, but rank {rank.rank} on {where} was ended before all was saved"
            print_past_launcher(f"rankwise: {message}; the watchdog saves the checkpoint in {self._folder()}\n")
            self._events.append({"what": "saved-by-watchdog", "message": message, "noticed": time.time()})

    def close(self, *, ending: bool, cut: bool, look: Callable[[], object]) -> bool:
        """Tidy up, and append those events to the log that rank 0 did not live to write; return whether all is well.

        ``ending``: the ranks here were to be ended; ``cut``: since hosts no longer answer. ``look`` brings rows up to
        date.
        """
        rows, folder = self._rows, self._folder()
        lost = all(row.finished == LOST for row in rows)  # nobody is left to continue
        good = all(rank.row.finished for rank in self._ranks.values()) and not lost and not ending
        if not good:
            release_output()
            self._take_notes(folder)
            if folder is not None and (self._events or held_by(self._ranks) >= 0):
                if lost:
                    deaths = [event["message"] for event in self._events if event["what"] == "death"]
                    write_failure_once(folder, f"rankwise: {deaths[-1]}")
                # on one that is cut off nobody knows whether rank 0 lives, and the folder may be out of reach
                if not cut or 0 in self._ranks or self._elastic:
                    self._write_to_log(folder, look)
        # Notes of deaths stay for the survivors. Of several watchdogs the last sees that all ranks have finished.
        last = all(row.finished for row in rows) if self._elastic else 0 in self._ranks
        if folder is not None and ((lost and self._events) or (good and last)):
            with contextlib.suppress(OSError):
                (folder / self._progress_name).unlink(missing_ok=True)
            self._take_notes(folder)
        return good

    def _take_notes(self, folder: Path | None) -> None:
        if self._elastic and folder is not None:
            take_death_notes(folder, self._events)

    def _write_to_log(self, folder: Path, look: Callable[[], object]) -> None:
        until = time.monotonic() + LOG_S
        writers = slice(None if self._elastic else 1)  # rank 0, or any where the others continue without it
        while not all(row.state == ENDED for row in self._rows[writers]) and time.monotonic() < until:
            time.sleep(LOOK_S / 4)
            look()
        if all(row.state == ENDED and row.finished in (0, LOST) for row in self._rows[writers]):
            self._take_notes(folder)
            append_events(folder / LOG_NAME, self._events, until, held_by(self._ranks))
