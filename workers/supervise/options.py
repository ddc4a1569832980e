"""The supervisor's own options, which stand before ``--``."""

import dataclasses
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from common.config import MANY, check_option, is_text
from common.errors import ConfigError
from workers.supervise.hosts import Host, read_hosts

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

    def places(self) -> tuple[Host, ...]:
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
    import cyclopts
    from cyclopts import App, Parameter

    for text in arguments:
        if not is_text(text):
            raise ConfigError(f"command line: got {text!r}; allowed is UTF-8")
    split = arguments.index("--") if "--" in arguments else len(arguments)
    described = []
    for f in dataclasses.fields(SuperviseConfig)[:-1]:
        names = SHORT.get(f.name, (f"--{f.name}",))
        parameter = Parameter(name=names, help=f.metadata["help"], converter=_whole(f.name) if f.type is int else None)
        described.append((f.name, Annotated[f.type, parameter], dataclasses.field(default=f.default)))
    options: Any = dataclasses.make_dataclass("Options", described, frozen=True, kw_only=True)
    options.__module__ = __name__  # make_dataclass says "types", which cyclopts takes for a plain value's class

    def read(*, chosen: Annotated[options, Parameter(name="*")] = options()) -> Any:  # noqa: B008
        return chosen

    app = App(name=PROGRAM, help=HELP, result_action="return_value", version_flags=[])
    app.default(read)
    try:
        result = app(arguments[:split], exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"{text} (options of workers.run belong behind --)") from error
    if result is None:
        return 0
    return SuperviseConfig(**dataclasses.asdict(result), arguments=tuple(arguments[split + 1 :]))


def _whole(name: str) -> Any:
    """Return what reads a whole number; cyclopts' own way rounds 3.7 to 4."""

    def convert(kind: Any, tokens: Any) -> int:  # noqa: ARG001
        try:
            return int(tokens[0].value)
        except ValueError:
            raise ConfigError(f'{name}: got "{tokens[0].value[:80]}"; allowed is a whole number') from None

    return convert
