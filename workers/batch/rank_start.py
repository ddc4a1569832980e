"""How ranks are started in an allocation: by srun, with the --mpi that the MPI library needs, or by its mpirun."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.standard_streams import complain
from workers.launch import answer, launcher
from workers.launch.launcher import Library
from workers.launch.srun_mpi import BY_MPIRUN, PMIX, wanted

ANSWER_S = 60.0
ON_A_NODE = (
    "from workers.launch.mpi import start_mpi; comm = start_mpi(); from mpi4py import MPI; "
    "print('found', comm.size, comm.Split_type(MPI.COMM_TYPE_SHARED).size)"
)
"""A rank that says how many there are, and how many of them on its node to its knowledge."""
MPI_TYPE = "SLURM_MPI_TYPE"
"""Slurm's own variable for srun's --mpi."""
TO_RANKS = {"SLURM_EXPORT_ENV": "ALL"}
"""``sbatch --export=NONE`` is for the script: ranks would not even find Python."""


@dataclass(frozen=True, slots=True)
class RankStart:
    """What stands before a rank's command, and variables to set for it."""

    words: tuple[str, ...]
    changes: Mapping[str, str]


def _answer(*command: str) -> tuple[int, str]:
    """Return the exit code of a command of Slurm's, 127 if there is none, and what it says."""
    asked = answer.ask(command, ANSWER_S, TO_RANKS)
    return (asked.returncode, asked.stdout + asked.stderr) if asked else (127, "")


def find_mpi_type(
    library: Library, ask: Callable[..., tuple[int, str]] = _answer, variables: Mapping[str, str] = os.environ
) -> tuple[str, str]:
    """Return the ``--mpi`` with which srun starts ranks of a library; or nothing where mpirun does better, and why."""
    listed = set(re.findall(r"\w+", ask("srun", "--mpi=list")[1]))
    why = f"srun --mpi=list has nothing that works for {library.vendor}"
    for name in wanted(library.vendor):
        if name not in listed:
            continue
        if name != PMIX or not (why := _fault_of_pmix(ask, variables)):
            return name, ""
    return "", why


def _fault_of_pmix(ask: Callable[..., tuple[int, str]], variables: Mapping[str, str]) -> str:
    """Start ranks through PMIx on one node; return what is wrong with that, nothing if all is well.

    Slurm lists PMIx also where it cannot load it; and one that does not fit the library lets ranks find each other, but
    not who is on their node.
    """
    counts = re.findall(r"(\d+)(?:\(x\d+\))?", variables.get("SLURM_TASKS_PER_NODE", ""))
    n = min(2, max(map(int, counts), default=1))
    code, said = ask("srun", f"--mpi={PMIX}", "-N1", f"-n{n}", sys.executable, "-c", ON_A_NODE)
    found = re.findall(r"^found (\d+) (\d+)$", said, re.MULTILINE)
    if code or not found or {int(size) for size, _ in found} != {n}:
        return f"srun --mpi={PMIX} does not work here"
    alone = any(int(here) != n for _, here in found)
    return f"under srun --mpi={PMIX} ranks do not know which of them share a node" * alone


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
            kind, why = find_mpi_type(library, variables=variables)
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
