"""All checks, a line each: those of this process, and those of a job's facts; in the order in which they are told."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from workers.diagnosis import (
    clocks,
    kernels,
    library,
    networks,
    placement,
    run_folder,
    shared_memory,
    software,
    thread_level,
    transfer,
)
from workers.diagnosis.facts import Facts
from workers.diagnosis.finding import Finding

PROCESS: dict[str, Callable[[], Iterator[Finding]]] = {
    "python": software.python,
    "packages": software.packages,
    "extras": software.extras,
    "current folder": software.current_folder,
}
"""What needs no MPI."""
START: dict[str, Callable[[str], Iterator[Finding]]] = {"launcher": library.library_and_launcher}
"""What a process looks at that is to start ranks, with the launcher that is asked for; ranks themselves know more."""
JOB: dict[str, Callable[[Facts], Iterator[Finding]]] = {
    "ranks": placement.ranks_and_hosts,
    "library": library.libraries_of_ranks,
    "versions": library.versions_of_ranks,
    "cores": placement.cores,
    "binding": placement.binding,
    "threads": placement.threads,
    "blas": kernels.blas,
    "shared memory": shared_memory.shared_memory,
    "run folder": run_folder.run_folder,
    "clocks": clocks.clocks,
    "interfaces": networks.interfaces,
    "messages": transfer.pairs,
    "sums": transfer.sums,
    "thread level": thread_level.thread_level,
}
"""What reads the facts of a job."""


def of_process(checks: dict[str, Callable[[], Iterator[Finding]]]) -> Iterator[Finding]:
    """Yield what these checks find here."""
    for name, check in checks.items():
        for finding in check():
            yield replace(finding, check=name)


def of_job(facts: Facts, names: Iterable[str] = JOB) -> Iterator[Finding]:
    """Yield what these checks, all if none are named, find in a job's facts."""
    for name in names:
        for finding in JOB[name](facts):
            yield replace(finding, check=name)
