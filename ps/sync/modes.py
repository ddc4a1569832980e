"""The table of sync modes: a new mode is a file of its own and a line here. Each is loaded when it is asked for."""

from collections.abc import Iterator, MutableMapping
from importlib import import_module

from ps.sync.mode import Mode
from ps.sync.mode_names import AUTO, AUTO_HELP

__all__ = ["AUTO", "MODES", "help_lines"]


class Modes(MutableMapping[str, Mode]):
    """Modes by name, in the order of ``files``, which are modules of this folder that have a ``MODE``.

    Their names are those of the files, with a hyphen for each underscore.
    """

    def __init__(self, *files: str) -> None:
        self._modes: dict[str, Mode | str] = {name.replace("_", "-"): name for name in files}

    def __getitem__(self, name: str) -> Mode:
        mode = self._modes[name]
        if isinstance(mode, str):
            mode = self._modes[name] = import_module(f"ps.sync.{mode}").MODE
        return mode

    def __setitem__(self, name: str, mode: Mode) -> None:
        self._modes[name] = mode

    def __delitem__(self, name: str) -> None:
        del self._modes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._modes)

    def __len__(self) -> int:
        return len(self._modes)

    def __contains__(self, name: object) -> bool:
        return name in self._modes


MODES = Modes("allreduce", "reduce_bcast", "send_recv", "ring", "shared", "factors", "sharded", "local")


def exact() -> list[str]:
    """Return the names of the modes whose result is that of one rank."""
    return [name for name, mode in MODES.items() if mode.exact]


def help_lines() -> dict[str, str]:
    """Return name and help line of everything ``--mode`` takes."""
    return {**{name: mode.help for name, mode in MODES.items()}, AUTO: AUTO_HELP}
