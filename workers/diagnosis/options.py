"""The options of ``rankwise doctor`` and ``python -m workers.doctor``."""

from dataclasses import dataclass

from common.option import FAULTS, OUTPUT, check_options, option
from workers.launch import cli

NAME = "python -m workers.doctor"
TEXT = "Look at MPI, hosts, cores, memory, files and network: mpirun -np 4 python -m workers.doctor"
STALL_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorConfig:
    """All options; checked when made."""

    output: str = option(
        "", "the folder that runs will be written to (default: runs)", flags=("--output", "-o"), group=OUTPUT
    )
    json: bool = option(False, "print one JSON object instead of lines", group=OUTPUT)
    stall_seconds: float = option(
        STALL_S, "end the job when nothing has moved for so long", low=1, high=3600, group=FAULTS
    )
    debug: bool = option(False, "print a traceback with every error", group=OUTPUT)

    def __post_init__(self) -> None:
        check_options(self)


def command(name: str = NAME, text: str = TEXT) -> cli.Command:
    """Return the command line of ranks. ``name``, ``text``: what the help says."""
    return cli.Command(name, text, (DoctorConfig,))


def parse(arguments: list[str]) -> DoctorConfig | int:
    """Return the options, or the exit code after printing help. Raises ConfigError."""
    values = cli.parse(command(), arguments)
    return values if isinstance(values, int) else DoctorConfig(**values)


def as_arguments(config: DoctorConfig) -> list[str]:
    """Return a command line of ranks that means the same, but prints JSON."""
    output = ["--output", config.output] if config.output else []
    return ["--json", "--stall-seconds", f"{config.stall_seconds:g}", *output, *["--debug"] * config.debug]
