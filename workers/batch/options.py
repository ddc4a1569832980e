"""The options of the batch job's command, which stand before ``--``."""

from dataclasses import dataclass

from common.errors import ConfigError
from common.option import option
from common.run_files import RUNS
from workers.batch.batch_id import BatchId
from workers.batch.option_lines import options_of_task
from workers.launch import cli
from workers.launch.run_arguments import named_folder, take_option

HELP = (
    "Do the work of a batch job of Slurm, as the scripts in slurm/ do: "
    "python -m workers.batch_job --ranks --resume -- python -m workers.run --mode allreduce"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    """All options; checked when made. ``program``: what stands after --, with its arguments."""

    ranks: bool = option(False, "start the program once for each task of the job, as ranks")
    requeue: bool = option(False, "queue the job again when it has stopped near its time limit")
    resume: bool = option(False, "let the run continue in its folder when the job starts again")
    lines: str = option("", "a file of which task N of a job array takes the N-th line of options")
    program: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.program:
            raise ConfigError("batch job: no program given; give it behind --, as in -- python -m workers.run")


def command() -> cli.Command:
    """Return the command line."""
    return cli.Command("python -m workers.batch_job", HELP, (BatchConfig,), hint="(the program belongs after --)")


def parse(arguments: list[str]) -> BatchConfig | int:
    """Return the options, or the exit code after printing help. Raises ConfigError."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    values = cli.parse(command(), arguments[:split])
    return values if isinstance(values, int) else BatchConfig(**values, program=tuple(arguments[split + 1 :]))


def own_options(config: BatchConfig, batch: BatchId) -> list[str]:
    """Return the program with its options: those of the task's line, and the run folder unless one is given.

    ``--output`` for all tasks of an array is the folder in which each has its own. Raises ConfigError.
    """
    begin = next((k + 1 for k, word in enumerate(config.program) if word.startswith("workers.")), 1)
    program, given = config.program[:begin], config.program[begin:]
    line = options_of_task(config.lines, batch.task) if config.lines else []
    if take_option("resume", [*given, *line])[0]:
        return [*program, *given, *line]
    own = ["--resume", "auto"] if config.resume else []
    if take_option("output", line)[0]:  # that of this task alone
        return [*program, *take_option("output", given)[1], *line, *own]
    named = named_folder([*given, *line])
    if named is None:
        folder = RUNS / f"slurm-{batch.job}"
    elif batch.task >= 0:
        folder = named / str(batch.task)
    else:
        return [*program, *given, *line, *own]
    return [*program, *take_option("output", given)[1], *line, *own, "--output", str(folder)]
