"""The level of thread safety that the MPI library was asked for, against the one that suits this job."""

from collections.abc import Iterator

from workers.diagnosis.facts import Facts
from workers.diagnosis.finding import OK, Finding

MULTIPLE = "MPI_THREAD_MULTIPLE"


def thread_level(facts: Facts) -> Iterator[Finding]:
    """Say the level. Which one is faster depends on whether ranks outnumber cores."""
    if facts.thread_level:
        yield Finding(OK, f"MPI thread level {facts.thread_level}")
