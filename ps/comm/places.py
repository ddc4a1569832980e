"""Whether files lie where all ranks look for them: on every node, as large there."""

import os
from collections.abc import Sequence

from mpi4py import MPI

from common.errors import EXIT_USAGE, JobError
from common.host import host
from common.ranges import node_ranges
from ps.comm.agreement import at_root
from ps.comm.collectives import gather

LISTED = 8


def require_on_all(comm: MPI.Comm, paths: Sequence[str]) -> None:
    """Raise JobError if a path is there on some nodes only, or is another file on them. Collective.

    A path that no node has is left to whoever reads it.
    """
    looks = gather(comm, [_look(path) for path in paths])

    def judge() -> None:
        for path, found in zip(paths, zip(*looks, strict=True), strict=True):
            if fault := fault_of(path, dict(found)):
                raise JobError(f"data: {fault}", EXIT_USAGE)

    if paths:
        at_root(comm, judge)


def _look(path: str) -> list[int | str]:
    """Return this host with the size of a file, -1 for a folder, or with why there is none."""
    try:
        size: int | str = -1 if os.path.isdir(path) else os.stat(path).st_size
    except OSError as error:
        size = error.strerror or "it cannot be read"
    return [host(), size]


def fault_of(path: str, found: dict[str, int | str]) -> str:
    """Return what is wrong with a path by what each host has found, a size or why there is none; else nothing."""
    without = {name: size for name, size in found.items() if isinstance(size, str)}
    if not without:
        sizes = sorted({size for size in found.values() if isinstance(size, int)})
        if len(sizes) == 1:
            return ""
        each = "; ".join(f"{size:,} bytes on {_listed([n for n in found if found[n] == size])}" for size in sizes)
        return f"{path} is not the same file on all nodes: {each}; give every node the same file"
    if len(without) == len(found):
        return ""
    reason, others = next(iter(without.values())), [name for name in found if name not in without]
    return (
        f"{path} is not on {_listed(list(without))} ({reason}), but on {_listed(others)}; "
        "give a path that all nodes share, or copy it to each of them"
    )


def _listed(hosts: list[str]) -> str:
    return ", ".join(hosts) if len(hosts) <= LISTED else node_ranges(hosts)
