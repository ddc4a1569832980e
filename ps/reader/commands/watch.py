"""``python -m ps.log watch``: a running job as it goes, drawn in a terminal, else a line for each record."""

import os
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from common.errors import RankwiseError
from common.run_files import LOG_NAME, RUNS, log_path
from ps.logfile.follower import Follower
from ps.reader.commands.cli import LATEST, Run, Salvage
from ps.reader.commands.watch_screen import Lines, Picture
from ps.reader.console import make, write
from ps.reader.output import damage_lines
from ps.reader.run_view import RunView, death

POLL_S = 0.5
SILENCE_S = 60.0
"""After so long without a record from another host, say so."""
WAIT_S = 60.0
"""How long a run folder may be without a log: the job reads its data first."""


ALL_RANKS = "in a terminal: as many ranks as it has lines for; otherwise of more than 16 those that stand out"


def watch(
    run: Run = LATEST,
    /,
    *,
    all_ranks: Annotated[bool, Parameter(help=ALL_RANKS)] = False,
    salvage: Salvage = False,
) -> int:
    """Show the run until it ends or died; return 0, or 1 if it did not end well. Raises LogError."""
    try:
        path, out = _wait_for_log(run), make(live=True)
        drawn = out.is_terminal and not out.is_dumb_terminal
        with Picture(out, all_ranks=all_ranks) if drawn else Lines() as screen:
            return _follow(path, screen, salvage=salvage)
    except KeyboardInterrupt:
        return 0


def _wait_for_log(run: Path) -> Path:
    """Return the log, for which a folder without one may wait. Raises RankwiseError."""
    if run.is_symlink():  # to stay with this run when the next one becomes the latest
        run = run.parent / run.readlink()
    began, said = time.monotonic(), False
    while True:
        try:
            return log_path(run)
        except RankwiseError:
            folder = run if run.is_dir() else RUNS / run
            if not folder.is_dir() or os.path.lexists(folder / LOG_NAME):
                raise
        waited = time.monotonic() - began
        if waited > WAIT_S:
            raise RankwiseError(
                f"no log at {folder / LOG_NAME} after {WAIT_S:.0f} s; is this a run folder, and did its job start?"
            )
        if waited > POLL_S and not said:
            write(f"Waiting for {folder / LOG_NAME}, which the job has not begun to write.")
            said = True
        time.sleep(POLL_S)


def _follow(path: Path, screen: Lines, *, salvage: bool) -> int:
    follower, view, restarts = Follower(path, salvage=salvage), RunView(path), 0
    heard, died_before, said = time.monotonic(), False, 0
    while True:
        found = False
        for record in follower.look():
            if follower.restarts > restarts:
                screen.say(f"{path}: another run has taken the place of the one that was watched")
                view, restarts = RunView(path), follower.restarts
            found = True
            view.add(record)
            screen.add(view, record)
        for line in damage_lines(follower.damage) if follower.damage.n > said else ():
            screen.say(line)
        said = follower.damage.n
        screen.draw(view)
        if view.end:
            return 0 if view.end["status"] in ("ok", "stopped") else 1
        state = view.state
        died = state == "died" and not follower.in_doubt
        if found:
            heard, died_before = time.monotonic(), False
        elif died and died_before:  # one more look after it was gone: its last record may have come in between
            screen.say(death(view))
            return 1
        else:
            died_before = died
        if time.monotonic() - heard > SILENCE_S:
            screen.say(f"Nothing new for {SILENCE_S:.0f} s: {state}")
            heard = time.monotonic()
        time.sleep(POLL_S)
