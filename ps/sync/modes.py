"""The table of sync modes: a new mode is a file of its own and a line here."""

from ps.sync import allreduce, factors, reduce_bcast, send_recv, shared
from ps.sync.mode import Mode

MODES: dict[str, Mode] = {
    mode.name: mode for mode in (allreduce.MODE, reduce_bcast.MODE, send_recv.MODE, shared.MODE, factors.MODE)
}
AUTO = "auto"
"""Stands for the fastest of the table, tried at the start (workers/training/auto_mode.py)."""
AUTO_HELP = "tries them at the start and takes the fastest"


def help_lines() -> dict[str, str]:
    """Return name and help line of everything ``--mode`` takes."""
    return {**{name: mode.help for name, mode in MODES.items()}, AUTO: AUTO_HELP}
