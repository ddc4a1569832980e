"""``python -m ps.log watch``: a running job as it goes, drawn in a terminal, else a line for each record."""

import sys
import time
from pathlib import Path
from typing import Protocol, Self

from common.errors import RankwiseError
from common.run_files import LOG_NAME, RUNS, log_path
from ps.logfile.follower import Follower
from ps.logfile.reader import Entry
from ps.reader import console
from ps.reader.events import event_line
from ps.reader.run_view import RunView, death, end_line, mean
from ps.text.numbers import printable
from ps.text.record_lines import epoch_line, mode_name, verdict_line

POLL_S = 0.5
SILENCE_S = 60.0
"""After so long without a record from another host, say so."""
WAIT_S = 60.0
"""How long a run folder may be without a log: the job reads its data first."""
SAID = ("header", "verdict", "epoch", "event", "end")


class Screen(Protocol):
    """Where a running job is shown."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def begin(self) -> None:
        """Forget a run in whose place another one has come."""

    def add(self, view: RunView, entry: Entry) -> None:
        """Show a new record, which the view has taken."""

    def draw(self, view: RunView) -> None:
        """Show the run as it is after a look at its log."""

    def say(self, line: str) -> None:
        """Show a line that stays."""


class Lines:
    """A line for each record."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def begin(self) -> None:
        """Keep nothing of a run."""

    def add(self, view: RunView, entry: Entry) -> None:
        """Print what the record says."""
        if entry.kind in SAID:
            self.say(_record_line(view, entry))

    def draw(self, view: RunView) -> None:
        """Have said it all already."""

    def say(self, line: str) -> None:
        """Print it at once, though a pipe would wait for more."""
        sys.stdout.write(printable(line) + "\n")
        sys.stdout.flush()


def watch(run: Path) -> int:
    """Show the run until it ends or died; return 0, or 1 if it did not end well. Raises LogError."""
    try:
        path = _wait_for_log(run)
        with _screen() as screen:
            return _follow(path, screen)
    except KeyboardInterrupt:
        return 0


def _screen() -> Screen:
    out = console.make(live=True)
    if not out.is_terminal or out.is_dumb_terminal:
        return Lines()
    from ps.reader.commands.watch_screen import Picture

    return Picture(out)


def _wait_for_log(run: Path) -> Path:
    """Return the log, for which a folder without one may wait. Raises RankwiseError."""
    if run.is_symlink():  # to stay with this run when the next one becomes the latest
        run = run.parent / run.readlink()
    began, told = time.monotonic(), False
    while True:
        try:
            return log_path(run)
        except RankwiseError:
            folder = run if run.is_dir() else RUNS / run
            if not folder.is_dir():
                raise
        waited = time.monotonic() - began
        if waited > WAIT_S:
            raise RankwiseError(
                f"no log at {folder / LOG_NAME} after {WAIT_S:.0f} s; is this a run folder, and did its job start?"
            )
        if waited > POLL_S and not told:
            sys.stdout.write(f"Waiting for {folder / LOG_NAME}, which the job has not begun to write.\n")
            sys.stdout.flush()
            told = True
        time.sleep(POLL_S)


def _follow(path: Path, screen: Screen) -> int:
    follower, view, restarts = Follower(path), RunView(path), 0
    heard, quiet = time.monotonic(), False
    while True:
        found = False
        for entry in follower.look():
            if follower.restarts > restarts:
                screen.begin()
                screen.say(f"{path}: another run has taken the place of the one that was watched")
                view, restarts = RunView(path), follower.restarts
            found = True
            view.take(entry)
            screen.add(view, entry)
        screen.draw(view)
        if view.end:
            return 0 if view.end["status"] in ("ok", "stopped") else 1
        state = view.state
        died = state == "died" and not follower.in_doubt
        if found:
            heard, quiet = time.monotonic(), False
        elif died and quiet:  # one more look after it was gone: its last record may have come between
            screen.say(death(view))
            return 1
        else:
            quiet = died
        if time.monotonic() - heard > SILENCE_S:
            screen.say(f"Nothing new for {SILENCE_S:.0f} s: {state}")
            heard = time.monotonic()
        time.sleep(POLL_S)


def _record_line(view: RunView, entry: Entry) -> str:
    """Return what a record says, on one line. Raises LogError."""
    record, header = entry.record(), view.header
    if entry.kind == "header":
        config = header["config"]
        return f"{view.folder}: mode {mode_name(header)}, {header['world']} ranks, {config['epochs']} epochs"
    if entry.kind == "epoch":
        waits = record["wait_s"]
        longest = max(range(len(waits)), key=waits.__getitem__)
        return (
            f"{epoch_line(record, header['config']['epochs'], view.metric)}, "
            f"compute {mean(record['compute_s']):.3f} s, sync {mean(record['sync_s']):.3f} s, "
            f"longest wait {waits[longest]:.3f} s (rank {longest})"
        )
    if entry.kind == "verdict":
        return verdict_line(record)
    return end_line(record) if entry.kind == "end" else event_line(record)
