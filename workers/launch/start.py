"""Starts ranks with the launcher, which takes the place of this process: its exit code and signals are its own."""

import importlib.machinery
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import workers
from common.commands import STARTED_BY
from common.errors import EXIT_OK, ConfigError, LaunchError
from common.shadowed import launcher_rank
from common.standard_streams import complain, flush
from common.start_words import MESSAGE_FIRST_S
from common.wording import count
from workers.launch import launcher
from workers.launch.launch_options import LaunchConfig, number_of_ranks

ROOT = Path(__file__).parent.parent.parent
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def is_rank(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether a launcher started this process as a rank: ``mpirun -np 4 rankwise train``.

    The shell that Slurm's salloc gives is a job step of one task, and no rank.
    """
    found = [environment[name] for name in SIZES if name in environment]
    if "SLURM_JOB_ID" in environment:
        return any(number != "1" for number in (*found, environment.get("SLURM_STEP_NUM_TASKS", "1")))
    return bool(found)


def program(module: str, arguments: Sequence[str]) -> list[str]:
    """Return the command of one rank, which does not look for our packages in the current folder (-P)."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment for another one, without what it has set itself."""
    own = () if workers.THREADS_SET_BY_USER else workers.THREAD_VARIABLES
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return {**kept, **path_of_this_copy(), STARTED_BY: "1", **(changes or {})}


def path_of_this_copy() -> dict[str, str]:
    """Return the PYTHONPATH by which ranks find this copy of the code, if they would find another one, or none."""
    places = sys.path if sys.flags.safe_path else sys.path[1:]
    found = importlib.machinery.PathFinder.find_spec("workers", places)
    if found is not None and found.origin and Path(found.origin).resolve() == Path(workers.__file__).resolve():
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))}


def replace_process(command: Sequence[str], variables: Mapping[str, str]) -> NoReturn:
    """Become another program. Raises LaunchError if it cannot be run."""
    flush()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and the program would then, too
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(command[0], list(command), dict(variables))
    except OSError as error:
        raise LaunchError(f"mpirun: {command[0]} cannot be run ({error.strerror})") from error


def say_ranks(ranks: int, why: str) -> None:
    """Say how many ranks are started where nobody did."""
    complain(f"rankwise: starting {count(ranks, 'rank')}, {why}; -n N starts N")


def continue_as_rank(module: str, own: Sequence[str], arguments: Sequence[str]) -> NoReturn:
    """Be the rank that a launcher started. Raises ConfigError, at rank 0 first, if ``own`` would start others."""
    if own:
        if launcher_rank():
            time.sleep(MESSAGE_FIRST_S)  # a launcher may kill all ranks when the first one fails
            sys.exit(ConfigError.exit_code)
        raise ConfigError(
            f"{own[0].partition('=')[0]}: a launcher started this process as a rank already; leave the option out, or "
            "start rankwise without mpirun or srun"
        )
    replace_process(program(module, arguments), environment())


def start(module: str, options: LaunchConfig, arguments: Sequence[str], *, elastic: bool = False) -> int:
    """Start ranks of a module, and do not return; only with ``dry_run``, after printing the command.

    Raises ConfigError, and LaunchError if there is no launcher.
    """
    ranks, why = number_of_ranks(options)
    hosts = options.places()
    found = launcher.find(launcher.loaded_library(), options.mpirun)
    command = found.command(ranks, program(module, arguments), hosts, options.more, elastic=elastic)
    settings = {**path_of_this_copy(), **found.settings(ranks, placed=bool(hosts))}
    if why:
        say_ranks(ranks, why)
    if options.dry_run:
        sys.stdout.write(f"{launcher.shown(command, settings)}\n")
        return EXIT_OK
    replace_process(command, environment(settings))
