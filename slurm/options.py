"""The options of submitting a job: what Slurm is asked for, and what is done with the script."""

import re
import shlex
from dataclasses import dataclass
from typing import Any

from common.errors import ConfigError
from common.option import OUTPUT, RANKS, check_options, is_text, option
from common.slurm_time import NO_LIMIT, TIME
from workers.batch.option_lines import read_lines
from workers.launch import cli
from workers.launch.srun_mpi import BY_MPIRUN

HELP = (
    "Submit a training job to Slurm: python -m slurm.submit --nodes 2 --ntasks-per-node 4 --time 02:00:00 -- "
    "--mode shared --epochs 50. What is not given stays as it is in slurm/train.sbatch."
)
NAME = re.compile(r"[\w@][\w@.,:+/-]*", re.ASCII)
"""Of a partition, an account or a quality of service; several with commas between."""
MEMORY = re.compile(r"(\d+)([KMGT]?)B?", re.ASCII | re.IGNORECASE)
ARRAY = re.compile(r"\d+(?:-\d+(?::\d+)?)?(?:,\d+(?:-\d+(?::\d+)?)?)*(?:%\d+)?", re.ASCII)
MOST_TASK = 4_000_000
"""The highest number of a task that Slurm can be set up for."""
FLAG = re.compile(r"--[a-z][a-z-]*(?:=.+)?", re.ASCII | re.DOTALL)
UNITS = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2}
"""In MB, which Slurm takes a number without a unit for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitConfig:
    """All options of submitting; checked when made. ``arguments``: those of workers.run, which stand after --."""

    nodes: int | None = option(None, "nodes; default: the script's, 2", low=1, high=1_000_000, group=RANKS)
    ntasks_per_node: int | None = option(
        None, "ranks on each node; default: the script's, 2", low=1, high=100_000, group=RANKS
    )
    cpus_per_task: int | None = option(
        None, "CPUs, and BLAS threads, of each rank; default: 1", low=1, high=100_000, group=RANKS
    )
    mpi: str = option("", "how srun starts ranks, as srun --mpi=list has it; default: found out", group=RANKS)
    time: str = option("", "the time limit: minutes, HOURS:MM:SS or DAYS-HH:MM:SS; default: 1 h")
    partition: str = option("", "where to run; default: the cluster's choice", flags=("--partition", "-p"))
    account: str = option("", "whom to charge; default: yours", flags=("--account", "-A"))
    qos: str = option("", "the quality of service", flags=("--qos", "-q"))
    mem: str = option("", "memory of each node: 4000M, 64G; 0: all it has")
    array: str = option("", "numbers of the tasks of a job array: 0-7 or 0-7%2; %a in the arguments is a task's number")
    job_name: str = option("", "what squeue calls it; default: rankwise", flags=("--job-name", "-J"))
    sbatch_args: str = option("", "more options of sbatch, as one text: --sbatch-args='--constraint=icelake'")
    lines: str = option("", "train each line of options of this file as a task of an array: slurm/sweep.sbatch")
    compare: bool = option(False, "compare sync modes: slurm/compare.sbatch, with arguments of workers.compare")
    supervise: bool = option(False, "survive dead ranks and nodes within the job: slurm/supervise.sbatch")
    dry_run: bool = option(False, "only print the script", group=OUTPUT)
    watch: bool = option(
        False, "follow the job and what it prints, until it is over; exit code: the job's", group=OUTPUT
    )
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_options(self)
        for name in ("partition", "account", "qos", "mpi"):
            _must_match(name, getattr(self, name), NAME, "letters, digits and . , _ - + : @ /")
        for name, pattern, allowed in (
            ("time", TIME, "minutes, MINUTES:SS, HOURS:MM:SS, DAYS-HH, DAYS-HH:MM, DAYS-HH:MM:SS, or infinite"),
            ("mem", MEMORY, "a number with K, M, G or T"),
            ("array", ARRAY, "numbers as 0-7, 1,3,5 or 0-30:10, with %2 behind them for two at a time"),
        ):
            value = getattr(self, name)
            if name != "time" or value.lower() not in NO_LIMIT:
                _must_match(name, value, pattern, allowed)
        if not self.job_name.isprintable():  # a new line would be one more line of the script
            raise ConfigError(f"job_name: got {self.job_name[:80]!r}; allowed is a text without control characters")
        if self.supervise and self.mpi not in ("", BY_MPIRUN):
            raise ConfigError(f"mpi: got {self.mpi!r}; the supervisor starts ranks by mpirun, so leave --mpi out")
        if self.watch and any(word.startswith("--clusters") for word in self.more):
            raise ConfigError("watch: a job on another cluster (--clusters) cannot be followed; leave --watch out")
        if sum([bool(self.lines), self.compare, self.supervise]) > 1:
            raise ConfigError("lines, compare and supervise: exclude each other; give one of them")
        for text in (*self.arguments, self.lines):
            if not is_text(text):
                raise ConfigError(f"command line: got {text!r}; allowed is UTF-8")
        _ = self.more, self.tasks

    @property
    def more(self) -> list[str]:
        """``sbatch_args`` as words, each an option with its value. Raises ConfigError."""
        try:
            words = shlex.split(self.sbatch_args)
        except ValueError as error:
            raise ConfigError(
                f"sbatch_args: got {self.sbatch_args[:80]!r}, which a shell cannot split ({error})"
            ) from error
        for word in words:
            if not FLAG.fullmatch(word) or not word.isprintable():
                raise ConfigError(f"sbatch_args: got {word[:80]!r}; allowed is --option or --option=value")
            if (name := word[2:].partition("=")[0].replace("-", "_")) in GIVEN:
                raise ConfigError(f"sbatch_args: got {word[:80]!r}; give --{name.replace('_', '-')} to this command")
        return words

    @property
    def script(self) -> str:
        """The name of the shipped script."""
        special = {"sweep": bool(self.lines), "compare": self.compare, "supervise": self.supervise}
        return f"{next((name for name, asked in special.items() if asked), 'train')}.sbatch"

    @property
    def tasks(self) -> list[int]:
        """The numbers of ``array``, or of the lines if only these are given. Raises ConfigError."""
        if self.lines and not self.array:
            if not (n := len(read_lines(self.lines))):
                raise ConfigError(f"lines: {self.lines} has no line of options; write one for each task")
            return list(range(1, n + 1))
        numbers: list[int] = []
        for part in self.array.partition("%")[0].split(",") if self.array else ():
            first, _, rest = part.partition("-")
            last, _, step = rest.partition(":")
            if not int(first) <= int(last or first) <= MOST_TASK:
                raise ConfigError(
                    f"array: got {part[:80]!r}; allowed is from a number to a higher one up to {MOST_TASK:,}"
                )
            numbers += range(int(first), int(last or first) + 1, max(1, int(step or 1)))
        return numbers


GIVEN = ("nodes", "ntasks_per_node", "cpus_per_task", "time", "partition", "account", "qos", "mem", "array", "job_name")
"""Options that become a line of the script, named as sbatch names them."""


def _must_match(name: str, value: str, pattern: re.Pattern[str], allowed: str) -> None:
    if value and not pattern.fullmatch(value):
        raise ConfigError(f"{name}: got {value[:80]!r}; allowed is {allowed}")


def megabytes(text: str) -> float:
    """Return a size as ``--mem`` has it, in MB. Raises ValueError."""
    found = MEMORY.fullmatch(text)
    if not found:
        raise ValueError(text)
    return int(found[1]) * UNITS[found[2].upper()]


def command(name: str = "python -m slurm.submit", text: str = HELP) -> cli.Command:
    """Return the command line. ``name``, ``text``: what the help says."""
    return cli.Command(name, text, (SubmitConfig,), hint="(options of workers.run belong after --)")


def parse(arguments: list[str], described: cli.Command | None = None) -> SubmitConfig | int:
    """Return the options, or the exit code after printing help. Raises ConfigError."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    values: dict[str, Any] | int = cli.parse(described or command(), arguments[:split])
    return values if isinstance(values, int) else SubmitConfig(**values, arguments=tuple(arguments[split + 1 :]))
