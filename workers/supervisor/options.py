"""The supervisor's own options, which stand before ``--``."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from common.errors import ConfigError
from common.option import FAULTS, RANKS, check_options, is_text, option
from workers.launch import cli
from workers.launch.hosts import LaunchHost, read_hosts
from workers.launch.mpi import own_mpirun

HELP = (
    "Train, and when the job dies start it again from its last checkpoint with the ranks that are left: "
    "python -m workers.supervise -np 4 -- --mode allreduce --checkpoint-minutes 5"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperviseConfig:
    """All options of the supervisor; checked when made. ``arguments``: those of workers.run, which stand after --."""

    ranks: int = option(
        0, "ranks to start with; 0: one for each slot of the hosts", flags=("--ranks", "-np", "-n"), group=RANKS
    )
    fewest: int = option(1, "ranks that must be left", low=1, group=RANKS)
    hosts: str = option(
        "",
        "where to start ranks: a,b,c or a:4,b:4 with the slots of each; default: the launcher's choice",
        listed=True,
        group=RANKS,
    )
    hostfile: str = option("", "the same in a file, a host a line: a, a:4 or a slots=4", group=RANKS)
    mpirun: str = option(
        "", "the launcher; default: that of this Python environment, or else the one on the PATH", group=RANKS
    )
    restarts: int = option(5, "give up when the job has died once more than this", group=FAULTS)
    backoff: float = option(1.0, "seconds before the first restart; doubles each time, up to 60", high=60, group=FAULTS)
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_options(self)
        if self.hosts and self.hostfile:
            raise ConfigError("hosts and hostfile: exclude each other; give one of them")
        if not self.ranks and not self.hosts and not self.hostfile:
            raise ConfigError("ranks: none given; say how many with -np, or where with --hosts or --hostfile")
        if 0 < self.ranks < self.fewest:
            raise ConfigError(f"fewest: got {self.fewest}; allowed is at most the number of ranks, {self.ranks}")
        for text in self.arguments:
            if not is_text(text):
                raise ConfigError(f"command line: got {text!r}; allowed is UTF-8")
            if text.partition("=")[0] == "--resume":
                raise ConfigError("resume: the supervisor gives it; to resume a run, give its folder as --output")

    def places(self) -> tuple[LaunchHost, ...]:
        """Return the hosts with their slots; none if the launcher chooses. Raises ConfigError."""
        return read_hosts(self.hosts, self.hostfile, self.ranks)

    def launcher(self) -> str:
        """Return the path of mpirun. Raises ConfigError."""
        asked = self.mpirun or own_mpirun()
        found = shutil.which(Path(asked).expanduser())
        if found is None:
            raise ConfigError(f"mpirun: {asked} is not there or not a program; give its path with --mpirun")
        return found


def command(name: str = "python -m workers.supervise", text: str = HELP) -> cli.Command:
    """Return the supervisor's command line. ``name``, ``text``: what the help says."""
    return cli.Command(name, text, (SuperviseConfig,), hint="(options of workers.run belong after --)")


def parse(arguments: list[str]) -> SuperviseConfig | int:
    """Return the options, or the exit code after printing help. Raises ConfigError."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    values = cli.parse(command(), arguments[:split])
    return values if isinstance(values, int) else SuperviseConfig(**values, arguments=tuple(arguments[split + 1 :]))
