"""Submitting: options checked, script made, handed to sbatch, and what to do next."""

import math
import os
import shlex
import sys
from pathlib import Path

from common import slurm_time
from common.errors import EXIT_OK, ConfigError
from common.wording import count, duration, printable
from ps.sync import mode_names
from slurm import cluster, options
from slurm.job import Job, follow, submit
from slurm.options import SubmitConfig
from slurm.script import TASK, asked, batch_script, template
from workers.batch.option_lines import options_of_task
from workers.benchmark import options as measuring
from workers.launch import cli, run_options

VARIABLES = {"nodes": "", "ntasks_per_node": "", "time": "TIMELIMIT", "array": "ARRAY_INX", "mem": "MEM_PER_NODE"}
"""sbatch's variables win over the lines of a script: SBATCH_ and the option's name, but for these."""


def run(arguments: list[str], described: cli.Command) -> int:
    """Submit what a command line asks for; return the exit code. Raises RankwiseError."""
    config = options.parse(arguments, described)
    if isinstance(config, int):
        return config
    if (code := check_arguments(config)) is not None:
        return code
    script = batch_script(template(config), config, python_prefix(), safe_path=leaves_folder_out())
    if config.dry_run:
        _say(script.rstrip("\n"))
        return EXIT_OK
    _forget_variables(config)
    wanted = asked(script) | of_variables()
    there = cluster.partitions()
    cluster.check(wanted, there)
    job = submit(script, config, there)
    for line in told(job, wanted):
        _say(line)
    if not config.watch:
        return EXIT_OK
    try:
        return follow(job, _say)
    except KeyboardInterrupt:
        _say(f"Job {job.number} continues; scancel {job.number} ends it.")
        raise


def told(job: Job, wanted: dict[str, str]) -> list[str]:
    """Return what is said of a job that was submitted."""
    config = job.config
    nodes, tasks = int(wanted.get("nodes", "1")), int(wanted.get("ntasks-per-node", "1"))
    many = f"{count(len(config.tasks), 'task')} of an array, each " if config.tasks else ""
    time = wanted.get("time", "")
    most = slurm_time.limit(time) if time else math.inf
    limit = f", at most {duration(60 * most)}" if math.isfinite(most) else ""
    size = f"{many}{count(nodes, 'node')} with {count(tasks, 'rank')} each{limit}"
    first = " of the first task" * bool(config.tasks)
    lines = [
        f"Submitted job {job.number}: {size}.",
        f"Output{first}: {job.output}",
        f"Log{first}: {job.run.absolute() / 'coordinator.msgpack'}",
    ]
    if not config.watch:
        watch = f"rankwise log watch {shlex.quote(str(job.run))}"
        lines.append(f"Watch it, once it runs: {watch}; until then: squeue -j {job.number}")
    return [printable(line) for line in lines]


def check_arguments(config: SubmitConfig) -> int | None:
    """Look at the arguments of workers.run, so that a wrong one is told now and not when the job starts.

    Returns the exit code if they only ask for help. Raises ConfigError.
    """
    modes = mode_names.read()
    if config.compare:
        compared = measuring.parse_compare(list(config.arguments), modes, mode_names.exact())
        return compared if isinstance(compared, int) else None
    tasks: list[int | None] = [*config.tasks] or [None]
    for task in tasks:
        words = [word.replace(TASK, str(task)) if task is not None else word for word in config.arguments]
        line = options_of_task(config.lines, task) if config.lines and task is not None else []
        try:
            values = run_options.parse([*words, *line], modes)
        except ConfigError as error:
            raise ConfigError(f"line {task} of {config.lines}: {error}" if line else str(error)) from error
        if isinstance(values, int):
            return values
        if not config.lines:
            break
    return None


def python_prefix() -> str:
    """Return the folder of this Python, if a job finds it by the name ``python`` in there."""
    return sys.prefix if os.access(Path(sys.prefix) / "bin" / "python", os.X_OK) else ""


def leaves_folder_out() -> bool:
    """Say whether this Python does not look for modules in the current folder, and so finds ours elsewhere."""
    first = Path(sys.path[0] or os.curdir) if sys.path else Path("/")
    return sys.flags.safe_path or not (first.exists() and first.samefile(Path.cwd()))


def _forget_variables(config: SubmitConfig) -> None:
    """Take sbatch's own variables away for what was given here, and for where the output is, which is told."""
    for name in options.GIVEN:
        if getattr(config, name):
            os.environ.pop(_variable(name), None)
    for name in ("ARRAY_INX" if config.tasks else "", "OUTPUT"):
        os.environ.pop(f"SBATCH_{name}", None)


def of_variables() -> dict[str, str]:
    """Return what sbatch's own variables ask for, by option."""
    names = (*options.GIVEN, "clusters", "overcommit")
    return {name.replace("_", "-"): os.environ[_variable(name)] for name in names if _variable(name) in os.environ}


def _variable(name: str) -> str:
    return "SBATCH_" + (VARIABLES.get(name) or name.upper())


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
