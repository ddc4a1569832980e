"""Networks between hosts as they are found: a firewall, and a second network that leads nowhere."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import need
from tests.hosts import firewall
from tests.hosts.machines import Hosts
from tests.ranks import MPIRUN, environment, finish, popen, records, wait_for_epochs, wait_until

Start = Callable[..., Hosts]
OPTIONS = ("--hidden", "8", "--epochs", "1000000", "--stall-seconds", "4", "--abort-stall", "8")


def start(hosts: Hosts, run: Path, **variables: str) -> "subprocess.Popen[str]":
    """Start a job of two ranks on each of two hosts; a variable that is empty is left to the library."""
    command = [MPIRUN, "--host", hosts.places(2, 2), "-np", "4", sys.executable, "-m", "workers.run", *OPTIONS]
    env = {**environment(), **hosts.environment(), **variables}
    return popen(hosts.command(1, *command, "--output", str(run)), env={k: v for k, v in env.items() if v})


def strike(hosts: Hosts, rank: int, number: int) -> None:
    """Send a signal to a rank of the second host."""
    mark = f"OMPI_COMM_WORLD_RANK={rank}".encode()
    for pid in hosts.processes(2):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes(), Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if b"workers.run" in words[0] and mark in words[1]:
                os.kill(pid, number)


@pytest.mark.slow
def test_behind_a_firewall_the_rank_that_dies_is_named(start_hosts: Start, tmp_path: Path) -> None:
    """No watchdog can call another; once they have found that out, they see each other's ranks in the run folder."""
    need(not firewall.missing(), f"a firewall: {firewall.missing()}")
    hosts, run = start_hosts(2), tmp_path / "run"
    firewall.drop(hosts, firewall.WATCHDOGS)
    process = start(hosts, run, **firewall.LAUNCHER)
    wait_for_epochs(process, run, 1)
    wait_until(lambda: any(event.get("what") == "watchdog-files" for event in records(run)), "not noticed", process)
    time.sleep(2)  # a look at the folder on either side
    strike(hosts, 3, signal.SIGKILL)
    result = finish(process)
    wait_until(lambda: not hosts.processes(1) + hosts.processes(2), "processes are left")
    assert result.code not in (0, 75)
    assert result.err.count("rankwise: rank 3 on n2 died (killed by SIGKILL)") == 1, result.err
    assert "rank 3 on n2 died" in (run / "failure.txt").read_text()
    named = [event["rank"] for event in records(run) if event.get("what") == "death"]
    assert named in ([], [3])  # nobody may know that rank 0 is gone, and then nobody writes to its log


@pytest.mark.slow
def test_where_the_network_leads_nowhere_it_is_told_what_chooses_another(start_hosts: Start, tmp_path: Path) -> None:
    hosts = start_hosts(2)
    hosts.add_network()  # which Open MPI takes as well, if nobody says which to take
    result = finish(start(hosts, tmp_path / "run", OMPI_MCA_btl_tcp_if_include=""))
    assert not hosts.processes(1) + hosts.processes(2)
    assert result.code not in (0, 75)
    assert "before the job had started; MPI may have taken a network that leads nowhere: n" in result.err, result.err
    assert "with Open MPI export OMPI_MCA_btl_tcp_if_include=eth0 PRTE_MCA_prte_if_include=eth0" in result.err
