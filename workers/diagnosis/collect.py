"""Collects the facts of this rank and of this host; without MPI, which hands in what it knows."""

import os
import platform
import shutil

from common.host import affinity, boot_id, cpu_quota, host
from common.launcher_place import LAUNCHERS
from common.process_table import read_process
from common.version import VERSION
from workers import THREAD_VARIABLES, THREADS_SET_BY_USER
from workers.diagnosis import interfaces, kernels, run_folder
from workers.diagnosis.facts import Facts, HostFacts, RankFacts
from workers.diagnosis.shared_memory import PLACE

VARIABLES = (*THREAD_VARIABLES, "OPENBLAS_CORETYPE", "MPI4PY_RC_THREAD_LEVEL")
"""Variables that checks read."""
MOST_CPUS = 8192
"""Hardware threads of a machine, at most: as many as Linux can be built for."""
CALLED = {"slurmstepd": "srun", **dict.fromkeys(("prterun", "prted", "orterun", "orted", "hydra_pmi_proxy"), "mpirun")}
"""What people call the programs that start ranks on a node."""


def rank_facts(rank: int, node: int, threads: int, library: str, library_path: str) -> RankFacts:
    """Return the facts of this rank. ``threads``: of BLAS."""
    import msgpack
    import numpy as np

    return RankFacts(
        rank=rank,
        host=host(),
        node=node,
        cores=affinity(),
        threads=threads,
        versions={
            "Python": platform.python_version(),
            "rankwise": VERSION,
            "numpy": np.__version__,
            "msgpack": ".".join(map(str, msgpack.version)),
        },
        library=library,
        library_path=library_path,
        choices=choices(),
    )


def choices() -> dict[str, str]:
    """Return the variables that checks read, as the user has set them."""
    ours = () if THREADS_SET_BY_USER else THREAD_VARIABLES  # set by this command when it began
    return {name: os.environ[name] for name in VARIABLES if name in os.environ and name not in ours}


def host_facts(ranks: list[int], cores: set[int], output: str) -> HostFacts:
    """Return the facts of this host. ``cores``: all hardware threads that its ranks may use."""
    import numpy as np

    np.dot(np.ones((2, 2)), np.ones((2, 2)))  # loads BLAS
    library, architecture = kernels.loaded()
    name, _ = kernels.processor()
    try:
        shm = shutil.disk_usage(PLACE)
        free, total = shm.free, shm.total
    except OSError:
        free = total = -1
    return HostFacts(
        host=host(),
        ranks=ranks,
        may_use=reachable(),
        physical=physical_cores(cores),
        quota=cpu_quota(),
        machine=boot_id() or "",
        processor=name,
        blas=library,
        blas_kernels=architecture,
        shm_free=free,
        shm_total=total,
        interfaces=interfaces.look(),
        folder=run_folder.look(output),
    )


def reachable() -> list[int]:
    """Return the hardware threads that this process may choose: all of its control group, whatever it is bound to."""
    bound = affinity()
    if not hasattr(os, "sched_setaffinity"):
        return bound
    try:
        os.sched_setaffinity(0, range(MOST_CPUS))
        return affinity()
    except OSError:
        return bound
    finally:
        os.sched_setaffinity(0, bound)


def physical_cores(cpus: set[int]) -> int:
    """Return how many cores these hardware threads belong to."""
    found = set()
    for cpu in cpus:
        try:
            with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list", encoding="ascii") as file:
                found.add(file.read().strip())
        except OSError:
            found.add(str(cpu))
    return max(1, len(found))


def used_launcher() -> str:
    """Return the program that started this rank, as people call it; nothing if none is known.

    It is the nearest one: Hydra and Open MPI have Slurm start their own programs on other nodes.
    """
    process = read_process(os.getppid())
    while process is not None and not process.name.startswith(LAUNCHERS):
        process = read_process(process.parent) if process.parent > 1 else None
    return CALLED.get(process.name, process.name) if process else ""


def without_job(output: str) -> Facts:
    """Return what is known without any job: of this process and this host."""
    return Facts(
        ranks=[rank_facts(0, 0, 1, "", "")],
        hosts=[host_facts([0], set(affinity()), output)],
        kernel_rates=kernel_rates(),
    )


def kernel_rates() -> dict[str, float]:
    """Return the rates of OpenBLAS's kernels that may be better here than those in use, and of these."""
    library, architecture = kernels.loaded()
    return kernels.timed(architecture, kernels.processor()[1]) if library.startswith("openblas") else {}
