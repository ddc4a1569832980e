"""``python -m ps.log watch``: a line for each record of a running job, as it comes."""

import sys
import time
from pathlib import Path

from ps.log import Record, follow, log_path
from ps.reader.run import RunView, death, end_line, event_line, mean
from ps.reader.schema import Check
from ps.text import epoch_line, mode_name, verdict_line

SILENCE_S = 60.0
"""After so long without a record from another host, say so."""


def watch(run: Path) -> int:
    """Print until the run ends or died; return 0, or 1 if it did not end well. Raises LogError."""
    view = RunView(log_path(run))
    heard, quiet = time.monotonic(), False
    try:
        for record in follow(view.path, fault=Check()):
            if record is not None:
                heard, quiet = time.monotonic(), False
                view.add(record)
                _say(_line(view, record))
                continue
            if view.state == "died" and quiet:  # one more look after it was gone: its last record may have come between
                _say(death(view))
                return 1
            quiet = view.state == "died"
            if time.monotonic() - heard > SILENCE_S:
                _say(f"Nothing new for {SILENCE_S:.0f} s: {view.state}")
                heard = time.monotonic()
    except KeyboardInterrupt:
        return 0
    return 0 if view.end.get("status") in ("ok", "stopped") else 1


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _line(view: RunView, record: Record) -> str:
    kind, header = record["kind"], view.header
    if kind == "header":
        config = header["config"]
        return f"{view.folder}: mode {mode_name(header)}, {header['world']} ranks, {config['epochs']} epochs"
    if kind == "epoch":
        waits = record["wait_s"]
        longest = max(range(len(waits)), key=waits.__getitem__)
        return (
            f"{epoch_line(record, header['config']['epochs'], view.metric)}, "
            f"compute {mean(record['compute_s']):.3f} s, sync {mean(record['sync_s']):.3f} s, "
            f"longest wait {waits[longest]:.3f} s (rank {longest})"
        )
    if kind == "verdict":
        return verdict_line(record)
    if kind == "end":
        return end_line(record)
    return event_line(record) if kind == "event" else kind
