"""Finds the MPI library that belongs to the launcher in use, and the line to enter so that Python loads it.

Only for messages: each line that is shown has been tried in a process of its own.
"""

import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.launch.answer import ask
from workers.launch.launcher_kind import MPICH, OPEN_MPI, kind_of

ANSWER_S = 10.0
VARIABLE = "MPI4PY_LIBMPI"
STARTERS = {"hydra_pmi_proxy": MPICH, "orted": OPEN_MPI, "orterun": OPEN_MPI, "prted": OPEN_MPI, "prterun": OPEN_MPI}
"""What a rank's parent is called."""
FILES = {
    OPEN_MPI: ("libmpi.so.40", "libmpi.so"),
    MPICH: ("libmpi.so.12", "libmpi.so", "libmpich.so.12", "libmpi_*.so.12"),
}
"""What the libraries are called; Debian and Cray have names of their own for MPICH's."""
MPICH_FILE = "libmpi.so.12"
"""Under this name alone mpi4py's wheel takes MPICH and its relatives."""
LOAD = (
    "import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; "
    "print(*MPI.get_vendor()[:1], '.'.join(map(str, MPI.get_vendor()[1])), sep='|')"
)


@dataclass(frozen=True, slots=True)
class UsedLauncher:
    """The program that starts ranks here. ``vendor``: whose it is, as far as it matters."""

    path: str
    vendor: str

    def __str__(self) -> str:
        return f"{self.vendor}'s launcher in {os.path.dirname(self.path)}"


def used_launcher() -> UsedLauncher | None:
    """Return the launcher that started this process, or else the one on the PATH; None if there is none."""
    try:
        starter = os.readlink(f"/proc/{os.getppid()}/exe")
    except OSError:  # the parent is somebody else's, as where a container's first process is
        starter = ""
    if vendor := STARTERS.get(os.path.basename(starter), ""):
        return UsedLauncher(starter, vendor)
    for found in filter(None, (shutil.which(name) for name in ("mpirun", "mpiexec"))):
        if vendor := kind_of(found).vendor:
            return UsedLauncher(found, OPEN_MPI if vendor == OPEN_MPI else MPICH)  # Intel's is made of MPICH
    return None


def libraries(launcher: UsedLauncher) -> Iterator[str]:
    """Yield files that may be its library: in folders beside it, where its compiler links, and where ld.so looks."""
    top = Path(os.path.realpath(launcher.path)).parent.parent
    folders = [top / "lib", top / "lib64", top / "lib" / "release", *sorted(top.glob("lib/*-linux-*"))]
    folders += [Path(folder) for folder in _linked_folders(launcher)]
    seen = set()
    for folder in folders:
        for pattern in FILES[launcher.vendor]:
            for path in sorted(folder.glob(pattern)):
                if (real := path.resolve()) not in seen:
                    seen.add(real)
                    yield str(path)
    for path in map(Path, re.findall(r"=> (/\S+)$", _answer([_system("ldconfig"), "-p"]), re.MULTILINE)):
        if any(path.match(pattern) for pattern in FILES[launcher.vendor]) and path.resolve() not in seen:
            seen.add(path.resolve())
            yield str(path)


def _linked_folders(launcher: UsedLauncher) -> list[str]:
    """Return the folders in which the compiler beside a launcher looks for libraries."""
    folder = os.path.dirname(launcher.path)
    ending = ".openmpi" if launcher.vendor == OPEN_MPI else ".mpich"
    compilers = [path for name in (f"mpicc{ending}", "mpicc") if (path := shutil.which(name, path=folder))]
    option = "--showme:link" if launcher.vendor == OPEN_MPI else "-show"
    said = _answer([compilers[0], option]) if compilers else ""
    return re.findall(r"(?:-L|-rpath[,=](?:-Wl,)?)(/[^\s,]+)", said)


def line_to_enter(launcher: UsedLauncher) -> tuple[str, str]:
    """Return a library of a launcher, with its version, and the line that makes Python load it; else nothing."""
    for path in libraries(launcher):
        if found := _loads(launcher, {VARIABLE: path}):
            return f"{path} ({found})", f"export {VARIABLE}={shlex.quote(path)}"
        if launcher.vendor == MPICH and os.path.basename(path) != MPICH_FILE:
            with tempfile.TemporaryDirectory() as folder:
                os.symlink(path, os.path.join(folder, MPICH_FILE))
                found = _loads(launcher, _linked(folder))
            if found:
                return f"{path} ({found})", _line_with_link(path)
    return "", ""


def _linked(folder: str) -> dict[str, str]:
    """Return what to set for a library that lies in a folder under a name that is not its own."""
    rest = os.environ.get("LD_LIBRARY_PATH", "")
    return {VARIABLE: f"{folder}/{MPICH_FILE}", "LD_LIBRARY_PATH": f"{folder}:{rest}" if rest else folder}


def _line_with_link(path: str) -> str:
    own = Path(sys.prefix) / "lib"
    place = own if sys.prefix != sys.base_prefix and os.access(own, os.W_OK) else Path.home() / ".local" / "lib"
    folder = shlex.quote(str(place / "mpich-abi"))
    return (
        f"mkdir -p {folder} && ln -sfn {shlex.quote(path)} {folder}/{MPICH_FILE} && "
        f"export {VARIABLE}={folder}/{MPICH_FILE} LD_LIBRARY_PATH={folder}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
    )


def _loads(launcher: UsedLauncher, variables: Mapping[str, str]) -> str:
    """Return vendor and version of what mpi4py loads with these variables; nothing if it is not the launcher's."""
    said = _answer([sys.executable, "-P", "-c", LOAD], variables)
    vendor, _, version = (said.splitlines() or [""])[-1].partition("|")
    return f"{vendor} {version}" if version and (vendor == OPEN_MPI) == (launcher.vendor == OPEN_MPI) else ""


def _answer(command: Sequence[str], variables: Mapping[str, str] | None = None) -> str:
    """Return what a program prints; nothing if it fails."""
    asked = ask(command, ANSWER_S, variables)
    return asked.stdout if asked and asked.returncode == 0 else ""


def _system(name: str) -> str:
    """Return the path of a program that may not be on the PATH of a plain user."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))) or name


def missing_library(error: BaseException) -> str:
    """Return what to say when mpi4py, which said ``error``, has found no library."""
    if isinstance(error, ModuleNotFoundError) and error.name == "mpi4py":
        return "mpi4py is not installed; pip install mpi4py, or all of it with pip install 'rankwise[mpich]'"
    asked = os.environ.get(VARIABLE)
    if asked and not any(os.path.exists(path) for path in asked.split(os.pathsep)):
        what = f"no MPI library found: {VARIABLE} names {asked}, which does not exist"
    elif asked:
        what = f"no MPI library found: {VARIABLE} names {asked}, which does not load ({_reason(error)})"
    else:
        what = "no MPI library found"
    launcher = used_launcher()
    library, line = line_to_enter(launcher) if launcher else ("", "")
    if launcher and line:
        where = ";" if asked else " where Python looks, but"
        return f"{what}{where} {launcher} belongs to {library}; enter this line: {line}"
    install = "pip install 'rankwise[mpich]' brings one"
    if launcher:
        return f"{what}, nor one of {launcher} that mpi4py can load; {install}, and the mpirun to start with"
    return f"{what}, and no mpirun; {install}, or load your site's MPI module"


def _reason(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[-1] if lines else type(error).__name__
