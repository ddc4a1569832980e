"""The table of sync modes: a new mode is a file of its own and a line here."""

from ps.sync import allreduce, factors, reduce_bcast, send_recv, shared
from ps.sync.mode import Mode
from ps.sync.mode_names import AUTO, AUTO_HELP

__all__ = ["AUTO", "MODES", "help_lines"]

MODES: dict[str, Mode] = {
    mode.name: mode for mode in (allreduce.MODE, reduce_bcast.MODE, send_recv.MODE, shared.MODE, factors.MODE)
}


def help_lines() -> dict[str, str]:
    """Return name and help line of everything ``--mode`` takes."""
    return {**{name: mode.help for name, mode in MODES.items()}, AUTO: AUTO_HELP}
