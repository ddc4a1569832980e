"""Hosts for the tests of this folder. Under Open MPI: MPICH's ranks reach each other past the network."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import need
from tests.hosts.machines import Hosts, missing, running


@pytest.fixture
def start_hosts(mpi: str) -> Iterator[Callable[..., Hosts]]:
    """Start hosts as ``tests.hosts.machines.running`` does, without its first argument; they end with the test."""
    if mpi != "openmpi":
        pytest.skip("between namespaces of one machine MPICH bypasses the network")
    need(not missing(), f"for several hosts: {', '.join(missing())}")
    with contextlib.ExitStack() as stack:

        def start(count: int, rate: str = "", clocks: dict[int, int] | None = None) -> Hosts:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hosts-", ignore_cleanup_errors=True))
            return stack.enter_context(running(Path(folder), count, rate, clocks))

        yield start
