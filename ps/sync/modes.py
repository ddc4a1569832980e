"""The table of sync modes: a new mode is a file of its own and a line here. Each is loaded when it is asked for."""

from collections.abc import Iterator, MutableMapping
from importlib import import_module

from ps.sync.mode import Mode
from ps.sync.mode_names import AUTO, AUTO_HELP

__all__ = ["AUTO", "MODES", "help_lines"]


class Modes(MutableMapping[str, Mode]):
    """Modes by name, in the order of ``files``, which are modules of this folder that have a ``MODE``.

    Their names are those of the files, with a hyphen for each underscore but one at the end, which keywords have.
    Those of a room of its own are named with it.
    """

    def __init__(self, *files: str) -> None:
        self._modes: dict[str, Mode | str] = {mode_name(name): name for name in files}

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


def mode_name(file: str) -> str:
    """Return the name of the mode that is in a file of this folder."""
    return file.rpartition(".")[2].rstrip("_").replace("_", "-")


MODES = Modes(
    "allreduce",
    "reduce_bcast",
    "send_recv",
    "ring",
    "shared",
    "factors",
    "sharded",
    "local",
    "served.k_of_n",
    "served.async_",
)


def exact() -> list[str]:
    """Return the names of the modes whose result is that of one rank."""
    return [name for name, mode in MODES.items() if mode.exact]


def help_lines() -> dict[str, str]:
    """Return name and help line of everything ``--mode`` takes."""
    return {**{name: mode.help for name, mode in MODES.items()}, AUTO: AUTO_HELP}
