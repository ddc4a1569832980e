"""Options of a run in a command line that is only looked at: which folder they name, and the line without some."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.config import OPTIONS
from common.given_paths import given_folder
from common.toml_file import read_toml


def named_folder(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder that the arguments, the environment or the configuration file name, if any.

    Raises ConfigError.
    """
    output, config = (
        next(iter(take_option(name, arguments)[0]), environment.get(f"RANKWISE_{name.upper()}", ""))
        for name in ("output", "config")
    )
    if not output and config:
        try:
            values = read_toml(Path(config).expanduser())
        except (OSError, ValueError, RuntimeError):
            values = {}  # the job will say what is wrong with it
        output = str(values.get("output", ""))
    return Path(given_folder("output", output)) if output else None


def take_option(name: str, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the values that are given for an option, and the other arguments."""
    flags = OPTIONS[name].flags if name in OPTIONS else ()
    short = next((flag for flag in flags if not flag.startswith("--")), "")
    values, others, left = [], [], list(arguments)
    while left:
        argument = left.pop(0)
        if argument in (f"--{name}", short):
            values += left[:1]
            del left[:1]
        elif argument.startswith(f"--{name}="):
            values.append(argument.partition("=")[2])
        elif short and argument.startswith(short):  # -oFOLDER or -o=FOLDER
            values.append(argument.removeprefix(short).removeprefix("="))
        else:
            others.append(argument)
    return values, others
