"""Variables and options that mend what is off, by MPI library and launcher; each was tried with that library."""

from collections.abc import Mapping

from workers.launch.launcher_kind import OPEN_MPI


def bind(vendor: str, environment: Mapping[str, str]) -> str:
    """Return what binds each rank to a core."""
    if "SLURM_STEP_ID" in environment and "OMPI_COMM_WORLD_SIZE" not in environment:
        return "srun --cpu-bind=cores binds each rank."
    if vendor == OPEN_MPI:
        return "mpirun --bind-to core, or export PRTE_MCA_hwloc_default_binding_policy=core, binds each rank."
    return "mpirun -bind-to core, or rankwise train --launcher-args='-bind-to core', binds each rank."


def choose_interface(vendor: str, library_text: str, name: str, network: str = "") -> str:
    """Return the variables by which a library uses an interface. ``network``: where its name differs between hosts."""
    if vendor == OPEN_MPI:
        which = network or name
        return f"export OMPI_MCA_btl_tcp_if_include={which} PRTE_MCA_prte_if_include={which}"
    variables = [f"FI_TCP_IFACE={name}"] if "ofi" in library_text else []
    if "ucx" in library_text:
        variables.append(f"UCX_NET_DEVICES={name}")
    return f"export {' '.join([*variables, f'HYDRA_IFACE={name}'])}"
