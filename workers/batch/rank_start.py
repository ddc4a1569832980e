"""How ranks are started in an allocation: by srun, with the --mpi that the MPI library needs, or by its mpirun."""

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.standard_streams import complain
from workers.launch import launcher
from workers.launch.launcher import Library
from workers.launch.srun_mpi import BY_MPIRUN, wanted

ANSWER_S = 60.0
MPI_TYPE = "SLURM_MPI_TYPE"
"""Slurm's own variable for srun's --mpi."""


@dataclass(frozen=True, slots=True)
class RankStart:
    """What stands before a rank's command, and variables to set for it."""

    words: tuple[str, ...]
    changes: Mapping[str, str]


def _answer(*command: str) -> tuple[int, str]:
    """Return the exit code of a command of Slurm's, 127 if there is none, and what it says."""
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=ANSWER_S,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return 127, ""
    return asked.returncode, asked.stdout + asked.stderr


def find_mpi_type(library: Library, ask: Callable[..., tuple[int, str]] = _answer) -> str:
    """Return the ``--mpi`` with which srun starts ranks of a library, or nothing where only mpirun can.

    Slurm lists PMIx also where it cannot load it, so that is tried.
    """
    listed = set(re.findall(r"\w+", ask("srun", "--mpi=list")[1]))
    for name in wanted(library.vendor):
        if name in listed and (name != "pmix" or not ask("srun", "--mpi=pmix", "-N1", "-n1", "true")[0]):
            return name
    return ""


def number_of_tasks(variables: Mapping[str, str]) -> str:
    """Return how many ranks to start, as text; nothing where Slurm does not say.

    A job that was queued again on fewer nodes still has the number of the first time in ``SLURM_NTASKS``.
    """
    names = ("SLURM_NTASKS", "SLURM_JOB_NUM_NODES", "SLURM_NTASKS_PER_NODE")
    tasks, nodes, each = (int(text) if (text := variables.get(name, "")).isdigit() else 0 for name in names)
    return str(min(tasks, nodes * each) if nodes and each else tasks) if tasks else ""


def find_start(variables: Mapping[str, str] = os.environ) -> RankStart:
    """Return how to start a rank for each task. Raises LaunchError if neither srun nor an mpirun can."""
    kind, why = variables.get(MPI_TYPE, ""), f"{MPI_TYPE}={BY_MPIRUN}"
    if kind in ("", BY_MPIRUN):
        library = launcher.loaded_library()
        if not kind:
            kind, why = find_mpi_type(library), f"srun --mpi=list has nothing that works for {library.vendor}"
        if kind in ("", BY_MPIRUN):
            mpirun = launcher.find(library)
            complain(f"rankwise: ranks are started by {mpirun.path}: {why}")
            number = ("-np", tasks) if (tasks := number_of_tasks(variables)) else ()
            return RankStart((mpirun.path, *number), mpirun.settings(1, placed=True))
    # -K1: when one task fails, end the others too; otherwise they wait for it until the time limit
    # --cpus-per-task: since Slurm 22.05, srun does not inherit it from sbatch
    cpus = variables.get("SLURM_CPUS_PER_TASK", "1")
    tasks = number_of_tasks(variables)
    fewer = (f"--ntasks={tasks}",) if tasks != variables.get("SLURM_NTASKS", "") else ()
    return RankStart(("srun", "-K1", f"--mpi={kind}", f"--cpus-per-task={cpus}", *fewer), {})
