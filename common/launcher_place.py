"""The place that a launcher gave this process, as its variables say before MPI starts: rank, size, and on its node."""

import os
from collections.abc import Mapping

FAMILIES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""),
)
"""Rank, size, number on the node, ranks of the node: of Open MPI, of MPICH and Intel MPI, of Slurm."""
LAUNCHERS = ("mpirun", "mpiexec", "mpispawn", "hydra", "prte", "orted", "orterun", "srun", "slurmstepd")
"""How the names of programs begin that start ranks, or have them started on another node."""


class LauncherPlace:
    """Where a launcher put a process. ``size`` is 0 without a launcher; the node's numbers are -1 if nobody says them.

    ``pmi``: the descriptor through which MPICH's launcher takes requests, or -1.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.rank = self.size = 0
        self.local_rank = self.local_size = self.pmi = -1
        for rank, size, *local in FAMILIES:
            if _number(variables, rank) < 0 or _number(variables, size) < 0:
                continue
            self.rank, self.size = _number(variables, rank), _number(variables, size)
            self.local_rank, self.local_size = (_number(variables, name) for name in local)
            break
        slurm = _number(variables, "SLURM_STEP_NUM_TASKS") == self.size
        if slurm and self.size == 1:  # the shell that salloc gives is a job step of one task, and no rank
            self.size = 0
        if slurm and self.local_size < 0:
            self.local_rank, self.local_size = _number(variables, "SLURM_LOCALID"), _slurm_tasks(variables)
        if "MPI_LOCALNRANKS" in variables and self.local_size >= 0:
            self.pmi = _number(variables, "PMI_FD")
        # of an array, one task may have the array's own number
        array = [variables.get(name, "") for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")]
        step = [
            "_".join(array) if all(array) else variables.get("SLURM_JOB_ID", ""),
            variables.get("SLURM_STEP_ID", ""),
        ]
        self.step = ".".join(step) if slurm and all(step) else ""

    @property
    def kind(self) -> tuple[int, int, bool]:
        """What all ranks of a job on this node have in common, and no other processes do."""
        return self.size, self.local_size, self.pmi >= 0

    @property
    def host(self) -> str:
        """This node's name, as ``common.host`` has it, which loads more than may be loaded here."""
        return os.environ.get("SLURMD_NODENAME") or os.uname().nodename


def _number(variables: Mapping[str, str], name: str) -> int:
    text = variables.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else -1


def _slurm_tasks(variables: Mapping[str, str]) -> int:
    """Return how many ranks of a job step this node has: ``2(x3),1`` is 2 on each of three nodes, 1 on the last."""
    counts: list[int] = []
    for part in variables.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        count, _, times = part.rstrip(")").partition("(x")
        if not count.isdigit() or not (times or "1").isdigit():
            return -1
        counts += [int(count)] * int(times or 1)
    node = _number(variables, "SLURM_NODEID")
    return counts[node] if 0 <= node < len(counts) else -1
