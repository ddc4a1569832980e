"""The options of a comparison: those of a run, and which modes, how often, how long, which packet sizes."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from common.config import MANY, RunConfig, check_option
from common.errors import ConfigError
from workers.benchmark import list_options
from workers.launch.run_options import Command, parse_command

HELP = (
    "Compare sync modes on the configuration and the data of a run, in turn in one job: "
    "mpirun -np 4 python -m workers.compare --modes allreduce,shared --config run.toml"
)


def _opt(default: Any, text: str, **limits: Any) -> Any:
    return field(default=default, metadata={"help": text, **limits})


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareConfig:
    """The options a comparison has beside those of a run; checked when made."""

    modes: str = _opt("", "sync modes with commas between them; default: all")
    trials: int = _opt(5, "trainings of each mode, over which medians are taken", low=1, high=1000)
    steps: int = _opt(0, "timed steps of a trial; 0: an epoch, or what takes 0.25 to 2 seconds", low=0, high=MANY)
    sizes: str = _opt("", "also sum vectors of so many numbers, and fit latency and bandwidth: 1e3,1e5,1e7")

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            check_option(f, getattr(self, f.name))
        _ = self.vector_sizes

    @property
    def chosen(self) -> list[str]:
        """``modes`` as a list, each once."""
        return list_options.names(self.modes)

    @property
    def vector_sizes(self) -> tuple[int, ...]:
        """``sizes`` as numbers, ascending, each once. Raises ConfigError."""
        return tuple(sorted(set(list_options.lengths("sizes", self.sizes)))) if self.sizes else ()


OWN = {f.name: f for f in dataclasses.fields(CompareConfig)}
COMMAND = Command("python -m workers.compare", HELP, OWN, hidden=("mode", "inject"))


def parse(arguments: list[str], known: dict[str, str], modes: list[str]) -> tuple[RunConfig, CompareConfig] | int:
    """Return both parts of the options, or the exit code after printing help or version.

    ``known``: name and help line of what a run's mode may be; ``modes``: those to compare. Raises ConfigError.
    """
    if any(text == "--mode" or text.startswith("--mode=") for text in arguments):
        raise ConfigError("mode: is of a run; a comparison takes --modes, with commas between them")
    parsed = parse_command(arguments, known, COMMAND)
    if isinstance(parsed, int):
        return parsed
    config, own = parsed
    compare = CompareConfig(**{**own, "modes": own["modes"] or ",".join(modes)})
    list_options.check_names("modes", compare.chosen, modes)
    if config.inject:
        raise ConfigError("inject: a comparison trains without faults; leave it out")
    return dataclasses.replace(config, mode=",".join(compare.chosen)), compare
