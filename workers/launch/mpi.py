"""Starting MPI, with one clear message where the library is missing or the launcher belongs to another one."""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import LaunchError
from common.standard_streams import complain

if TYPE_CHECKING:
    from mpi4py import MPI

MESSAGE_FIRST_S = 2.0
FAULT_TOLERANT = "OMPI_MCA_mpi_ft_enable"
"""Set by ``mpirun --with-ft ulfm``."""
REPORTS_DEATHS = {
    "OMPI_MCA_coll": "^han,cuda,hcoll,portals4",
    "OMPI_MCA_coll_tuned_use_dynamic_rules": "1",
    "OMPI_MCA_coll_tuned_allgather_algorithm": "4",
    "OMPI_MCA_coll_tuned_allgatherv_algorithm": "3",
}
"""For Open MPI 5.0: the first two of these components return success when ranks have died and nothing came, and so does
``sparbit``, which gathers small messages unless it is set to use rings."""
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")


def _first_number(variables: tuple[str, ...], default: int) -> int:
    """Return the first of these environment variables that is a whole number."""
    return next((int(os.environ[name]) for name in variables if os.environ.get(name, "").isdigit()), default)


def launcher_rank() -> int:
    """Return the rank that the launcher gave this process, without MPI; 0 without a launcher."""
    return _first_number(RANK_VARIABLES, 0)


def own_mpirun() -> str:
    """Return the launcher of this Python environment, or else the name under which to look for one."""
    own = Path(sys.prefix) / "bin" / "mpirun"
    return str(own) if own.exists() else "mpirun"


def load_mpi() -> Any:
    """Return mpi4py.MPI without initialising MPI. Raises LaunchError if no MPI library loads."""
    os.environ.setdefault("MPI4PY_CHECK_MPIEXEC", "0")  # our message is enough, and comes once
    import mpi4py

    mpi4py.rc.initialize = False
    mpi4py.rc.finalize = True  # else Open MPI calls the exit improper
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise LaunchError(
            "no MPI library found; pip install 'rankwise[mpich]', or load your site's MPI module "
            f"and set MPI4PY_LIBMPI to its libmpi.so ({str(error).splitlines()[0]})"
        ) from error
    return MPI


def start_mpi() -> "MPI.Intracomm":
    """Initialise MPI and return COMM_WORLD.

    Raises LaunchError if no MPI library loads or each process would be rank 0 of 1.
    """
    os.environ.setdefault("OMPI_MCA_osc", "^ucx")  # the wheel's complains on every rank when memory is shared
    for name, value in REPORTS_DEATHS.items() if FAULT_TOLERANT in os.environ else ():
        os.environ.setdefault(name, value)
    MPI = load_mpi()
    vendor, use = MPI.get_vendor()[0], shutil.which(own_mpirun()) or "mpirun"
    if "OMPI_COMM_WORLD_SIZE" in os.environ and vendor != "Open MPI":
        raise LaunchError(f"started by Open MPI's mpirun, but the MPI library is {vendor}'s; start with {use}")
    # Not for threads of ours: at this level MPICH's waiting gives way to other processes. Without it, 4 ranks on
    # 2 cores took 24 ms instead of 0.3 ms for a sum of 5,000 floats.
    if not MPI.Is_initialized():
        MPI.Init_thread(MPI.THREAD_MULTIPLE)
    # SLURM_NTASKS is no help: under mpirun inside sbatch it is the number of nodes
    slurm = () if any(name.startswith("PMI") for name in os.environ) else ("SLURM_STEP_NUM_TASKS",)
    expected = _first_number(("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", *slurm), 1)
    if MPI.COMM_WORLD.size == 1 and expected > 1:
        MPI.Finalize()
        if "SLURM_STEP_NUM_TASKS" in os.environ:
            use = "srun --mpi=pmi2 (see srun --mpi=list), or mpirun inside sbatch"
        raise LaunchError(
            f"the launcher started {expected} processes, but to the MPI library ({vendor}) each is rank 0 of 1; "
            f"start with {use}"
        )
    return MPI.COMM_WORLD  # type: ignore[no-any-return]


def connect() -> "MPI.Intracomm | int":
    """Return a communicator of our own with all ranks, or the exit code, once rank 0 has said why there is none."""
    try:
        return start_mpi().Dup()
    except LaunchError as error:
        if launcher_rank() == 0:
            complain(f"rankwise: {error}")
        else:  # a launcher may kill all ranks when the first one fails, which must not come before the message
            time.sleep(MESSAGE_FIRST_S)
        return error.exit_code
