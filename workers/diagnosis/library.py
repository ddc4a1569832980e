"""The MPI library that Python loads, why that one, and the launcher that belongs to it; MPI is not started."""

import os
import shlex
import shutil
import site
import sys
from collections.abc import Iterator
from pathlib import Path

from common.errors import RankwiseError
from common.ranges import named_hosts, named_ranks
from workers.diagnosis.facts import Facts, grouped
from workers.diagnosis.finding import FAIL, OK, WARN, Finding
from workers.launch import launcher
from workers.launch.launcher_kind import kind_of
from workers.launch.mpi_library import VARIABLE


def reason(path: str) -> str:
    """Return why Python takes the library in this file, as mpi4py looks for it: the first place that has one."""
    asked = os.environ.get(VARIABLE, "")
    real = os.path.realpath(path)
    if any(os.path.realpath(one) == real for one in asked.split(os.pathsep) if one):
        return f"named by {VARIABLE}"
    places = {
        sys.prefix: "the package in this Python environment",
        site.getuserbase(): "the package among this user's",
        sys.base_prefix: "beside the Python that this environment is made of",
    }
    for place, why in places.items():
        if path and Path(path).is_relative_to(place) and place not in ("/usr", "/"):
            return why
    for folder in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        if folder and os.path.dirname(real) == os.path.realpath(folder):
            return f"found by LD_LIBRARY_PATH, {folder}"
    return "found where the system looks for libraries"


def library_and_launcher(asked: str = "") -> Iterator[Finding]:
    """Look at both as a process does that is to start ranks. ``asked``: the launcher to take, if one is given."""
    try:
        library = launcher.loaded_library()
        why = f": {reason(library.path)}" if library.path else ""
        yield Finding(OK, f"MPI library {library}, {library.path or 'place unknown'}{why}")
        found = launcher.find(library, asked)
    except RankwiseError as error:
        text, _, remedy = str(error).rpartition("; ")
        yield Finding(FAIL, text, remedy)
        return
    yield Finding(OK, f"its launcher, {found.path}")
    on_path = shutil.which("mpirun")
    if not asked and on_path and not launcher.starts(kind := kind_of(on_path), library):
        yield Finding(
            WARN,
            f"mpirun on the PATH is another one, {on_path} ({kind})",
            "Start with rankwise train, which finds the right one, or have it found first:",
            command=f"export PATH={shlex.quote(os.path.dirname(found.path))}:$PATH",
        )


def libraries_of_ranks(facts: Facts) -> Iterator[Finding]:
    """Say which library the ranks have loaded, and which launcher started them; they may differ between hosts."""
    groups = grouped((rank, (rank.library, rank.library_path)) for rank in facts.ranks)
    (library, path), *others = sorted(groups, key=lambda group: -len(groups[group]))
    why = f": {reason(path)}" if path else ""
    by = f"; started by {facts.launcher}" if facts.launcher else ""
    yield Finding(OK, f"MPI library {library}, {path or 'place unknown'}{why}{by}")
    for one in others:
        ranks = groups[one]
        yield Finding(
            WARN if one[0] == library else FAIL,
            f"{named_ranks([rank.rank for rank in ranks])} on {named_hosts(rank.host for rank in ranks)} "
            f"{'has' if len(ranks) == 1 else 'have'} another one, {one[0]}, {one[1]}",
            "Before the start, if all hosts have the file:",
            command=f"export {VARIABLE}={shlex.quote(path)}" if path else "",
        )


def versions_of_ranks(facts: Facts) -> Iterator[Finding]:
    """Say whether all ranks have the same Python and packages."""
    groups = grouped((rank, tuple(rank.versions.items())) for rank in facts.ranks)
    usual, *others = sorted(groups, key=lambda group: -len(groups[group]))
    yield Finding(OK, f"all ranks: {_named(usual)}" if not others else f"most ranks: {_named(usual)}")
    for one in others:
        ranks = groups[one]
        differing = tuple(item for item in one if item not in usual)
        yield Finding(
            FAIL if any(name in ("rankwise", "msgpack") for name, _ in differing) else WARN,
            f"{named_ranks([rank.rank for rank in ranks])} on {named_hosts(rank.host for rank in ranks)}: "
            f"{_named(differing)}",
            f"Give all hosts the same environment: {sys.prefix}",
        )


def _named(versions: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions)
