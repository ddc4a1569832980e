"""The level of thread safety that MPI was started with: at a lower one waiting takes the core from other ranks."""

from collections.abc import Iterator

from workers.diagnosis.facts import Facts
from workers.diagnosis.finding import NOTE, OK, WARN, Finding

BEST = "MPI_THREAD_MULTIPLE"
VARIABLE = "MPI4PY_RC_THREAD_LEVEL"
"""By which mpi4py takes another one."""


def thread_level(facts: Facts) -> Iterator[Finding]:
    """Say the level, and who chose another one than the best."""
    if not facts.thread_level:
        return
    if facts.thread_level == BEST:
        yield Finding(OK, f"MPI thread level {facts.thread_level}")
    elif VARIABLE in facts.environment:
        yield Finding(
            WARN,
            f"MPI thread level {facts.thread_level}, as {VARIABLE}={facts.environment[VARIABLE]} says: ranks that wait "
            "do not give way to others",
            command=f"unset {VARIABLE}",
        )
    else:
        yield Finding(NOTE, f"MPI thread level {facts.thread_level}: this library has no higher one")
