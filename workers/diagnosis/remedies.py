"""Variables and options that mend what is off, by MPI library and launcher; each was tried with that library."""

import re
import shlex

from workers.launch.launcher_kind import INTEL, OPEN_MPI

OLD_OPEN_MPI = re.compile(r"Open MPI v[1-4]\.")
STARTS = re.compile(r"mpirun (?:(\S.*) )?-np (\d+) python -m workers\.(\w+)(.*)$")
SRUN = "srun"
MPICH_DEVICE = re.compile(r"ch4:(.*)")


def start(ranks: int, launcher: str, options: str = "", door: str = "workers.run") -> str:
    """Return the line that starts training on so many ranks.

    ``launcher``: what has started those that are there. ``options``: for mpirun. ``door``: what to start instead.
    """
    if launcher == SRUN:
        return f"srun -n {ranks} python -m {door}"
    return f"mpirun {options}{' ' * bool(options)}-np {ranks} python -m {door}"


def by_rankwise(command: str) -> str:
    """Return a line that ``start`` has made as one that finds the launcher itself; other lines as they are."""
    found = STARTS.search(command)
    if found is None:
        return command
    options, ranks, door, more = found.groups()
    for_launcher = f" --launcher-args={shlex.quote(options)}" if options else ""
    verb = "train" if door == "run" else door
    return f"{command[: found.start()]}rankwise {verb} -n {ranks}{more}{for_launcher}"


def bind(vendor: str, ranks: int, launcher: str) -> str:
    """Return the line that binds each rank to a core at the next start.

    Of Open MPI it is an option: its variable does nothing where more ranks than cores are allowed.
    """
    if launcher == SRUN:
        return "export SLURM_CPU_BIND=cores"
    if vendor == OPEN_MPI:
        return start(ranks, launcher, "--bind-to core")
    return f"export {'I_MPI_PIN_DOMAIN' if vendor == INTEL else 'HYDRA_BINDING'}=core"


def choose_interface(vendor: str, library_text: str, name: str, network: str = "") -> str:
    """Return the variables by which a library uses an interface. ``network``: where its name differs between hosts.

    ``library_text``: what the library says of itself.
    """
    if vendor == OPEN_MPI:
        which = network or name
        launcher = "OMPI_MCA_oob_tcp_if_include" if OLD_OPEN_MPI.search(library_text) else "PRTE_MCA_prte_if_include"
        return f"export OMPI_MCA_btl_tcp_if_include={which} {launcher}={which}"
    if vendor == INTEL:
        return f"export FI_TCP_IFACE={name} I_MPI_HYDRA_IFACE={name}"
    device = MPICH_DEVICE.search(library_text)
    kinds = device[1] if device else ""
    variables = [f"FI_TCP_IFACE={name}"] if "ofi" in kinds else []
    if "ucx" in kinds:
        variables.append(f"UCX_NET_DEVICES={name}")
    return f"export {' '.join([*variables, f'HYDRA_IFACE={name}'])}"
