"""What a site or a user has set for Open MPI in its files of parameters, which settings of ours must not replace."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

PREFIX = "OMPI_MCA_"
"""Of the variables that set a parameter, and are stronger than files."""
GIVEN = (f"{PREFIX}mca_base_param_files", f"{PREFIX}mca_param_files")
"""Variables that name the files to read."""
NAMES = ("openmpi-mca-params.conf", "openmpi-mca-params-override.conf")
SYSTEM = ("/etc/openmpi", "/etc/openmpi-x86_64", "/etc/openmpi-aarch64")
"""Where packages of Debian and Fedora have them."""
LIBRARY = re.compile(r"/lib(?:p?mpi|mpich|mpi_\w+)[\w.-]*\.so[\w.]*$")


def loaded_from(maps: str = "/proc/self/maps") -> str:
    """Return the file of the MPI library in this process; nothing where the system does not tell."""
    try:
        lines = Path(maps).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    files = (line[line.index("/") :] for line in lines if "/" in line)
    return next((file for file in files if LIBRARY.search(file)), "")


def set_in_files(library: str, variables: Mapping[str, str] = os.environ) -> set[str]:
    """Return the variables of the parameters that files set; their values are the library's to read.

    ``library``: the file that it was loaded from. Under ``mpirun`` they are in the environment besides, under ``srun``
    in the files alone.
    """
    found = set()
    for path in _files(library, variables):
        with contextlib.suppress(OSError):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                name, equals, _ = line.partition("=")
                if equals and not name.lstrip().startswith("#"):
                    found.add(PREFIX + name.strip())
    return found


def _files(library: str, variables: Mapping[str, str]) -> Iterator[Path]:
    given = next((variables[name] for name in GIVEN if variables.get(name)), "")
    yield from map(Path, filter(None, re.split(r"[,:]", given)))
    if "HOME" in variables and not given:
        yield Path(variables["HOME"], ".openmpi", "mca-params.conf")
    real = Path(os.path.realpath(library)) if library else None
    folders = [Path(top, "etc") for top in (variables.get("OPAL_PREFIX"), real and real.parent.parent) if top]
    if real and real.is_relative_to("/usr"):
        folders += map(Path, SYSTEM)
    yield from (folder / name for folder in folders for name in NAMES)
