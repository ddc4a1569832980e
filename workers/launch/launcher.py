"""The launcher of the MPI library that Python loads: which program it is, and what starts ranks with it."""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import ConfigError, LaunchError
from common.host import usable_cores
from workers.launch.hosts import LaunchHost, launcher_options
from workers.launch.launcher_kind import INTEL, MPICH, OPEN_MPI, Kind, kind_of
from workers.launch.site_files import loaded_from

NAMES = ("mpirun", "mpiexec", "mpiexec.hydra", "mpirun.mpich", "mpirun.openmpi")
"""What launchers are called; Debian has several, with a name for each."""


CROWDED = ("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")
CROWDED_4 = ("OMPI_MCA_rmaps_base_oversubscribe", "1")
"""What lets Open MPI start more ranks than there are cores: from version 5 on, and before."""


@dataclass(frozen=True, slots=True)
class Library:
    """An MPI library. ``path``: the file that was loaded, nothing where the system does not tell."""

    vendor: str
    version: tuple[int, ...]
    path: str

    def __str__(self) -> str:
        return f"{self.vendor} {'.'.join(map(str, self.version))}"


@dataclass(frozen=True, slots=True)
class Launcher:
    """A program that starts ranks of a library."""

    path: str
    library: Library

    @property
    def is_open_mpi(self) -> bool:
        """Whether it is Open MPI's, which refuses what others do: root, and more ranks than cores."""
        return self.library.vendor == OPEN_MPI

    def command(
        self, ranks: int, program: Sequence[str], hosts: Sequence[LaunchHost] = (), more: Sequence[str] = (),
        *, elastic: bool = False,
    ) -> list[str]:  # fmt: skip
        """Return the command that starts a program on so many ranks. Raises LaunchError if it cannot be elastic."""
        if elastic and not (self.is_open_mpi and self.library.version >= (5,)):
            raise LaunchError(
                f"elastic: needs Open MPI 5, but the MPI library is {self.library}; install 'rankwise[openmpi]' in an "
                "environment of its own, or leave --elastic out: rankwise supervise starts a job again that has died"
            )
        survives = ["--with-ft", "ulfm"] if elastic else []
        return [self.path, *survives, *launcher_options(self.path, hosts), "-np", str(ranks), *more, *program]

    def settings(self, ranks: int, *, placed: bool = False) -> dict[str, str]:
        """Return the variables to set for it, without those that are set already. ``placed``: whether hosts are given.

        They stand for ``--allow-run-as-root`` and ``--oversubscribe``, and hold for a supervisor's starts, too.
        """
        wanted: dict[str, str] = {}
        if self.is_open_mpi and os.geteuid() == 0:
            wanted |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        if self.is_open_mpi and not placed and ranks > usable_cores():
            name, value = CROWDED if self.library.version >= (5,) else CROWDED_4
            wanted[name] = value
        return {name: value for name, value in wanted.items() if name not in os.environ}


def loaded_library() -> Library:
    """Load the MPI library, but do not start MPI, and say which it is. Raises LaunchError if there is none."""
    from workers.launch.mpi import load_mpi

    vendor, version = load_mpi().get_vendor()
    return Library(vendor, tuple(version), loaded_from())


def starts(kind: Kind, library: Library) -> bool:
    """Say whether ranks that a launcher of this kind starts find each other with a library."""
    if OPEN_MPI in (kind.vendor, library.vendor):
        return kind.vendor == library.vendor and kind.version[:1] == library.version[:1]
    if library.vendor == INTEL:
        return kind.vendor == library.vendor
    return kind.vendor in (MPICH, INTEL)  # all others are made of MPICH, and start by the same protocol


def candidates(library: Library, prefix: str = sys.prefix) -> Iterator[str]:
    """Yield programs that may be the library's launcher, the likeliest first, each once."""
    seen = set()
    folders = [str(folder / "bin") for folder in Path(library.path).resolve().parents[:4]] if library.path else []
    for places in (*folders, str(Path(prefix) / "bin"), os.environ.get("PATH", os.defpath)):
        for name in NAMES:
            found = shutil.which(name, path=places)
            if found and os.path.realpath(found) not in seen:
                seen.add(os.path.realpath(found))
                yield found


def find(library: Library, asked: str = "") -> Launcher:
    """Return the launcher of a library, or the one that is asked for if it belongs to it.

    Raises ConfigError if there is none of that name, LaunchError if none belongs to the library.
    """
    if asked:
        found = shutil.which(os.path.expanduser(asked))  # which would take Path("./mpirun") for one on the PATH
        if found is None:
            raise ConfigError(f"mpirun: {asked} is not there or not a program; give its path with --mpirun")
        if starts(kind := kind_of(found), library):
            return Launcher(found, library)
        raise LaunchError(
            f"mpirun: {found} is {kind}, but the MPI library that Python loads is {library} "
            f"({library.path or 'place unknown'}); give the mpirun of that one, or leave --mpirun out"
        )
    looked = {}
    for found in candidates(library):
        looked[found] = kind_of(found)
        if starts(looked[found], library):
            return Launcher(found, library)
    others = ", ".join(f"{path} ({kind})" for path, kind in looked.items()) or "none"
    raise LaunchError(
        f"no launcher of the MPI library that Python loads, {library} ({library.path or 'place unknown'}); found: "
        f"{others}; load the module or install the package that the library is of, or name its mpirun with --mpirun"
    )


def shown(command: Sequence[str], settings: Mapping[str, str]) -> str:
    """Return a command as one types it."""
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in settings.items()), shlex.join(command)])
