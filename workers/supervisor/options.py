"""The supervisor's own options, which stand before ``--``."""

import dataclasses
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.config import MANY, check_option, is_text
from common.errors import ConfigError
from workers.launch import cli
from workers.supervisor.hosts import LaunchHost, read_hosts

PROGRAM = "python -m workers.supervise"
HELP = (
    "Train, and when the job dies start it again from its last checkpoint with the ranks that are left: "
    "python -m workers.supervise -np 4 -- --mode allreduce --checkpoint-minutes 5"
)
SHORT = {"ranks": ("--ranks", "-np", "-n")}


def _opt(default: Any, text: str, **limits: Any) -> Any:
    return field(default=default, metadata={"help": text, **limits})


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperviseConfig:
    """All options of the supervisor; checked when made. ``arguments``: those of workers.run, which stand behind --."""

    ranks: int = _opt(0, "ranks to start with; 0: one for each slot of the hosts", low=0, high=MANY)
    restarts: int = _opt(5, "give up when the job has died once more than this", low=0, high=MANY)
    backoff: float = _opt(1.0, "seconds before the first restart; doubles each time, up to 60", low=0.0, high=60.0)
    hosts: str = _opt(
        "", "where to start ranks: a,b,c or a:4,b:4 with the slots of each; default: the launcher's choice"
    )
    hostfile: str = _opt("", "the same in a file, a host a line: a, a:4 or a slots=4")
    mpirun: str = _opt("", "the launcher; default: that of this Python environment, or else the one on the PATH")
    fewest: int = _opt(1, "ranks that must be left", low=1, high=MANY)
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self)[:-1]:
            check_option(f, getattr(self, f.name))
        if self.hosts and self.hostfile:
            raise ConfigError("hosts and hostfile: exclude each other; give one of them")
        if not self.ranks and not self.hosts and not self.hostfile:
            raise ConfigError("ranks: none given; say how many with -np, or where with --hosts or --hostfile")
        if 0 < self.ranks < self.fewest:
            raise ConfigError(f"fewest: got {self.fewest}; allowed is at most the number of ranks, {self.ranks}")
        if any(a.partition("=")[0] == "--resume" for a in self.arguments):
            raise ConfigError("resume: the supervisor gives it; to go on with a run, give its folder as --output")

    def places(self) -> tuple[LaunchHost, ...]:
        """Return the hosts with their slots; none if the launcher chooses. Raises ConfigError."""
        return read_hosts(self.hosts, self.hostfile, self.ranks)

    def launcher(self) -> str:
        """Return the path of mpirun. Raises ConfigError."""
        own = Path(sys.prefix) / "bin" / "mpirun"
        asked = self.mpirun or (str(own) if own.exists() else "mpirun")
        found = shutil.which(Path(asked).expanduser())
        if found is None:
            raise ConfigError(f"mpirun: {asked} is not there or not a program; give its path with --mpirun")
        return found


def parse(arguments: list[str]) -> SuperviseConfig | int:
    """Return the options, or the exit code after printing help. Raises ConfigError."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    program = cli.Program(PROGRAM, HELP, "(options of workers.run belong behind --)")
    fields = dataclasses.fields(SuperviseConfig)[:-1]
    for text in arguments[split:]:
        if not is_text(text):
            raise ConfigError(f"command line: got {text!r}; allowed is UTF-8")
    shown = {name: {"name": names} for name, names in SHORT.items()}
    values = cli.parse(program, fields, shown, arguments[:split])
    return 0 if values is None else SuperviseConfig(**values, arguments=tuple(arguments[split + 1 :]))
