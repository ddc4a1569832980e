"""``rankwise completion SHELL``: a script by which a shell completes commands, options and their values."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from common.errors import ConfigError
from workers.launch import cli

SHELLS = ("bash", "zsh", "fish")


def script(
    shell: str, name: str, log: Any, commands: Mapping[str, cli.Command], choices: Mapping[str, Iterable[str]]
) -> str:
    """Return the script for a shell. Raises ConfigError for one that is not known.

    ``name``: the program's. ``log``: the cyclopts app of its command ``log``. ``commands``: the others.
    ``choices``: what options may be that do not say so themselves.
    """
    from cyclopts import App

    if shell not in SHELLS:
        raise ConfigError(f"completion: got {shell[:80]!r}; allowed is {', '.join(SHELLS)}")
    app = App(name=name, help_format="plaintext")
    for command, described in commands.items():
        app.command(cli.app(described, {}, choices), name=command)
    app.command(log, name="log")
    for command, taken in (("examples", _examples), ("completion", _completion)):
        app.command(taken, name=command)
    made = str(app.generate_completion(shell=shell))  # type: ignore[arg-type]
    return _for_zsh(made, name) if shell == "zsh" else made


def _examples(folder: Path, /, *, overwrite: bool = False) -> None:
    """Take what ``rankwise examples`` takes."""


def _completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Take what ``rankwise completion`` takes."""


def _for_zsh(made: str, name: str) -> str:
    """Return zsh's script so that it works both evaluated and as a file in a folder of $fpath, which calls itself."""
    found = re.search(r"^(\w+)\(\) \{", made, re.MULTILINE)
    assert found is not None
    call = f'if [[ $zsh_eval_context[-1] == loadautofunc ]]; then {found[1]} "$@"; else compdef {found[1]} {name}; fi'
    return f"{made.rstrip()}\n\n{call}\n"
