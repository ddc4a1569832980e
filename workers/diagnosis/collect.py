"""Collects the facts of this rank and of this host; without MPI, which hands in what it knows."""

import os
import platform
import shutil

from common.host import affinity, boot_id, cpu_quota, eldest_launcher, host
from common.version import VERSION
from workers import THREADS_SET_BY_USER
from workers.diagnosis import interfaces, kernels, run_folder
from workers.diagnosis.facts import Facts, HostFacts, RankFacts
from workers.diagnosis.shared_memory import PLACE

VARIABLES = ("SLURM_STEP_ID", "OMPI_COMM_WORLD_SIZE", "OPENBLAS_CORETYPE", "MPI4PY_RC_THREAD_LEVEL",
             "OMPI_MCA_coll_tuned_allreduce_algorithm")  # fmt: skip
"""Variables that checks read."""
LAUNCHERS = {"slurmstepd": "srun", "prterun": "mpirun", "orterun": "mpirun", "hydra_pmi_proxy": "mpirun"}
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
        threads_by=THREADS_SET_BY_USER,
        versions={
            "Python": platform.python_version(),
            "rankwise": VERSION,
            "numpy": np.__version__,
            "msgpack": ".".join(map(str, msgpack.version)),
        },
        library=library,
        library_path=library_path,
        choices={name: os.environ[name] for name in VARIABLES if name in os.environ},
    )


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
        cpus=os.cpu_count() or 1,
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
    """Return the program that started this rank, as people call it."""
    _, name = eldest_launcher()
    return LAUNCHERS.get(name, name)


def without_job(output: str) -> Facts:
    """Return what is known without any job: of this process and this host."""
    return Facts(
        ranks=[rank_facts(0, 0, 1, "", "")],
        hosts=[host_facts([0], set(affinity()), output)],
        kernel_rates=kernels.timed(*_kernels()),
    )


def _kernels() -> tuple[str, set[str]]:
    return kernels.loaded()[1], kernels.processor()[1]


def kernel_rates() -> dict[str, float]:
    """Return the rates of BLAS kernels that may be better here than those in use, and of these."""
    return kernels.timed(*_kernels())
