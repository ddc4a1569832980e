"""Starting MPI, with one clear message where the library is missing or the launcher belongs to another one."""

import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import start_guard
from common.errors import EXIT_OK, LaunchError, NoLibraryError, RankwiseError
from common.host import host
from common.launcher_place import LauncherPlace
from common.shadowed import launcher_rank
from common.start_words import MESSAGE_FIRST_S

if TYPE_CHECKING:
    from mpi4py import MPI

MPIRUN = "mpirun"
THREAD_LEVEL = "MPI4PY_RC_THREAD_LEVEL"
THREAD_LEVELS = ("single", "funneled", "serialized", "multiple")
LIBRARIES = ("numpy", "msgpack", "threadpoolctl")
"""What every rank needs besides mpi4py."""
SEARCH_S = 4.0
"""How long rank 0 may look for a library to name."""
FAULT_TOLERANT = "OMPI_MCA_mpi_ft_enable"
"""Set by ``mpirun --with-ft ulfm``."""
QUIET = {"OMPI_MCA_osc": "^ucx"}
"""For Open MPI: that component of the wheel complains on every rank when memory is shared."""
FASTER = {"OMPI_MCA_mpi_yield_when_idle": "1", "OMPI_MCA_btl_tcp_eager_limit": str(1 << 20)}
"""For Open MPI: waiting gives way where other processes want the core, and messages up to 1 MiB go by TCP before the
receiver asks for them. That makes sums over hosts up to twice as fast (docs/benchmarks.md). Chunks of mode send-recv
are just longer with their header, so that they do not pile up at rank 0."""
SMALLER = {"UCX_MM_FIFO_SIZE": "32", "UCX_MM_RX_BUFS_GROW": "32"}
"""For MPICH over UCX: ranks of a node exchange through MPICH's own shared memory, and UCX's, which nearly nothing goes
through, takes 3 MB less of each rank's memory."""
SHM, SHM_BYTES = "/dev/shm", 1 << 20
"""Where MPICH lets ranks of a node exchange, and what it takes there for each before anything is sent."""
REPORTS_DEATHS = {
    "OMPI_MCA_coll": "^han,cuda,hcoll,portals4",
    "OMPI_MCA_coll_tuned_use_dynamic_rules": "1",
    "OMPI_MCA_coll_tuned_allgather_algorithm": "4",
    "OMPI_MCA_coll_tuned_allgatherv_algorithm": "3",
}
"""For Open MPI 5.0: the first two of these components return success when ranks have died and nothing came, and so does
``sparbit``, which gathers small messages unless it is set to use rings."""


def _first_number(variables: tuple[str, ...], default: int) -> int:
    """Return the first of these environment variables that is a whole number."""
    return next((int(os.environ[name]) for name in variables if os.environ.get(name, "").isdigit()), default)


def own_mpirun() -> str:
    """Return the launcher of this Python environment, or else the name under which to look for one."""
    own = Path(sys.prefix) / "bin" / "mpirun"
    return str(own) if own.exists() else MPIRUN


def load_mpi() -> Any:
    """Return mpi4py.MPI without initialising MPI. Raises NoLibraryError if no MPI library loads."""
    os.environ.setdefault("MPI4PY_CHECK_MPIEXEC", "0")  # our message is enough, and comes once
    try:
        import mpi4py
    except ModuleNotFoundError as error:
        raise _no_library(error) from error
    except Exception as error:
        raise LaunchError(f"mpi4py cannot be imported ({start_guard.reason(error)}); install it again") from error
    mpi4py.rc.initialize = False
    mpi4py.rc.finalize = True  # else Open MPI calls the exit improper
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise _no_library(error) from error
    return MPI


def _no_library(error: Exception) -> NoLibraryError:
    from workers.launch.mpi_library import missing_library

    start_guard.failing(NoLibraryError.exit_code)
    if launcher_rank():
        time.sleep(SEARCH_S)  # rank 0 looks for one to name; it ends the job, if it has none either
    return NoLibraryError(missing_library(error))


def start_mpi() -> "MPI.Intracomm":
    """Initialise MPI and return COMM_WORLD.

    Raises LaunchError if no MPI library loads or each process would be rank 0 of 1.
    """
    os.environ.setdefault("UCX_DEBUG_SIGNO", "0")  # else it takes SIGHUP for itself, and a stop request is lost
    for name, value in REPORTS_DEATHS.items() if FAULT_TOLERANT in os.environ else ():
        os.environ.setdefault(name, value)
    MPI = load_mpi()
    for name in LIBRARIES:  # here, and not when they are needed: a rank that has none must not let others wait in MPI
        import_module(name)
    vendor = MPI.get_vendor()[0]
    _set_for(vendor)
    if "OMPI_COMM_WORLD_SIZE" in os.environ and vendor != "Open MPI":
        raise LaunchError(
            f"started by Open MPI's mpirun, but the MPI library is {vendor}'s; start with {_fitting(vendor)}"
        )
    if vendor == "MPICH" and _speaks_pmix() and "pmix" not in MPI.Get_library_version().lower():
        from workers.launch.srun_mpi import PMIX, remedy

        # by itself it would abort in MPI_Init, on every rank
        raise LaunchError(
            f"the launcher speaks PMIx, which this MPI library ({vendor}) was built without; "
            f"start with {remedy(vendor, PMIX)}"
        )
    if vendor == "MPICH":
        _check_shared_memory(LauncherPlace(os.environ).local_size)
    # MULTIPLE, unless MPI4PY_RC_THREAD_LEVEL says otherwise. Not for threads of ours: at this level MPICH's waiting
    # gives way to other processes. Without it, 4 ranks on 2 cores took 24 ms instead of 0.3 ms for a sum of 5,000
    # floats, and 2 ranks twice as long for 100,000 (docs/benchmarks.md). It must be the same on all ranks of a node,
    # or MPICH takes algorithms on them that do not fit together; so it does not depend on what a rank sees of cores.
    start_guard.waits()
    if not MPI.Is_initialized():
        MPI.Init_thread(thread_level(MPI))
    _check_levels(MPI)
    expected = _launched()
    if MPI.COMM_WORLD.size == 1 and expected > 1:
        MPI.Finalize()
        by = ""
        if "SLURM_STEP_NUM_TASKS" in os.environ:
            from workers.launch.srun_mpi import remedy

            used = os.environ.get("SLURM_MPI_TYPE", "")
            use, by = remedy(vendor, used), f" by srun --mpi={used}" if used else ""
        else:
            use = _fitting(vendor)
        raise LaunchError(
            f"the launcher started {expected} processes{by}, but to the MPI library ({vendor}) each is rank 0 of 1; "
            f"start with {use}"
        )
    return MPI.COMM_WORLD  # type: ignore[no-any-return]


def _check_shared_memory(ranks: int) -> None:
    """Raise LaunchError where MPI would die of SIGBUS, and where all ranks do at once, without a word of anybody."""
    try:
        there = os.statvfs(SHM)
    except OSError:
        return
    free, needed = there.f_bavail * there.f_frsize, ranks * SHM_BYTES
    if ranks > 1 and free < needed:
        raise LaunchError(
            f"{host()}: {free / 1e6:.1f} MB are free in {SHM}, and MPI needs more than {needed / 1e6:.1f} MB there for "
            f"{ranks} ranks; see what fills it: ls -lS {SHM}; or make it larger: mount -o remount,size=1G {SHM}, for a "
            f"container docker run --shm-size=1g"
        )


def _set_for(vendor: str) -> None:
    """Set what helps a library, unless the environment does, or a file that the library reads."""
    ours = {"Open MPI": {**QUIET, **FASTER}, "MPICH": SMALLER}.get(vendor, {})
    theirs: set[str] = set()
    if vendor == "Open MPI":
        from workers.launch.site_files import loaded_from, set_in_files

        theirs = set_in_files(loaded_from())
    for name, value in ours.items():
        if name not in theirs:
            os.environ.setdefault(name, value)


def thread_level(MPI: Any) -> int:
    """Return the thread level to ask for: mpi4py's own variable may name one. Raises LaunchError if it names none."""
    name = os.environ.get(THREAD_LEVEL, "multiple")
    if name not in THREAD_LEVELS:
        raise LaunchError(f"{THREAD_LEVEL}: got {name!r}; choose one of {', '.join(THREAD_LEVELS)}")
    return int(getattr(MPI, f"THREAD_{name.upper()}"))


def _check_levels(MPI: Any) -> None:
    """Raise LaunchError, on all ranks, if they have started MPI at different thread levels.

    MPICH's collectives then do not fit together: they hang, or fail by messages of wrong length. So ranks tell each
    other one to one, in lg P rounds: the lowest level and the highest, each with a rank that has it.
    """
    comm = MPI.COMM_WORLD
    if comm.size == 1:
        return
    import numpy as np

    level, distance = MPI.Query_thread(), 1
    own, heard = np.array([level, -level, comm.rank, comm.rank], np.int64), np.zeros(4, np.int64)
    while distance < comm.size:
        comm.Sendrecv(own, (comm.rank + distance) % comm.size, 0, heard, (comm.rank - distance) % comm.size)
        for i in (0, 1):
            if (heard[i], heard[2 + i]) < (own[i], own[2 + i]):
                own[i], own[2 + i] = heard[i], heard[2 + i]
        distance *= 2
    lowest, highest = int(own[0]), int(-own[1])
    if lowest != highest:
        names = {int(getattr(MPI, f"THREAD_{name.upper()}")): name for name in THREAD_LEVELS}
        raise LaunchError(
            f"ranks have started MPI at different thread levels: rank {own[2]} {names.get(lowest, lowest)}, rank "
            f"{own[3]} {names.get(highest, highest)}; set {THREAD_LEVEL} alike for all ranks, or for none"
        )


def _launched() -> int:
    """Return how many processes the launcher says that it started, 1 without a launcher."""
    # SLURM_NTASKS is no help: under mpirun inside sbatch it is the number of nodes
    # PMI_ is of MPICH's mpirun and of srun --mpi=pmi2; PMIX_ also of srun --mpi=pmix, which says nothing of the number
    slurm = () if any(name.startswith("PMI_") for name in os.environ) else ("SLURM_STEP_NUM_TASKS",)
    return _first_number(("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", *slurm), 1)


def _speaks_pmix() -> bool:
    """Say whether the launcher offers PMIx and nothing else: ``srun --mpi=pmix``."""
    return "PMIX_NAMESPACE" in os.environ and not any(name.startswith("PMI_") for name in os.environ)


def ranks_around() -> "MPI.Intracomm | None":
    """Return COMM_WORLD if this process is one of several ranks, in a program that a launcher started; MPI is started.

    None, and no MPI library is loaded, where it is by itself. Raises LaunchError as ``start_mpi`` does.
    """
    module = sys.modules.get("mpi4py.MPI")
    if module is None or not module.Is_initialized():
        if _launched() == 1:
            return None
        variables = dict(os.environ)
        try:
            return start_mpi()
        finally:  # they are the program's
            for name in os.environ.keys() - variables.keys():
                del os.environ[name]
    return None if module.Is_finalized() or module.COMM_WORLD.size == 1 else module.COMM_WORLD


def _fitting(vendor: str) -> str:
    """Return what to start with instead: the launcher of the library, or a library that fits the launcher."""
    own = own_mpirun()
    if own != MPIRUN or launcher_rank():
        return own
    from workers.launch.mpi_library import line_to_enter, used_launcher

    launcher = used_launcher()
    library, line = line_to_enter(launcher) if launcher else ("", "")
    if launcher and line:
        return f"{vendor}'s mpirun, or enter this line, and Python loads {library}, which fits {launcher}: {line}"
    return f"{vendor}'s mpirun"


def connect(parse: Callable[[], object] = lambda: None) -> "MPI.Intracomm | int":
    """Return a communicator of our own with all ranks, or the exit code if help or a version was asked for.

    Without an MPI library rank 0 calls ``parse`` before. It reads the command line, and returns an exit code if it has
    printed help or a version, which need no MPI; or raises RankwiseError. If there is no way to connect, the process
    ends with a message, once for all ranks.
    """
    try:
        return start_mpi().Dup()
    except LaunchError as error:
        start_guard.failing(error.exit_code)
        lost, message, code = isinstance(error, NoLibraryError), str(error), error.exit_code
        if launcher_rank():
            if lost and {"--help", "-h", "--version"} & set(sys.argv):
                return EXIT_OK
            time.sleep(0 if lost else MESSAGE_FIRST_S)  # rank 0 comes first
        elif lost:
            try:
                parsed = parse()
            except RankwiseError as wrong:
                message, code, parsed = str(wrong), wrong.exit_code, None
            if isinstance(parsed, int):
                return parsed
        start_guard.fail(message, code)
