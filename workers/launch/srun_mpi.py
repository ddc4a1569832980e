"""Which ``--mpi`` of srun the ranks of an MPI library need."""

from workers.launch.launcher_kind import OPEN_MPI

BY_MPIRUN = "none"
"""With this one srun starts processes that do not know of each other: ranks need an mpirun then."""


PMIX = "pmix"


def wanted(vendor: str) -> tuple[str, ...]:
    """Return what a library's ranks take, the likeliest first."""
    if vendor == OPEN_MPI:
        return (PMIX,)
    return ("cray_shasta", "pmi2") if "Cray" in vendor else ("pmi2",)


def remedy(vendor: str, used: str) -> str:
    """Return what to start a library's ranks with instead. ``used``: the --mpi that has just failed, if known."""
    others = [name for name in wanted(vendor) if name != used.partition("_v")[0]]
    return (
        f"srun --mpi={others[0]} (see srun --mpi=list), or mpirun inside sbatch" if others else "mpirun inside sbatch"
    )
