"""Several hosts, and one is cut off, or has no run folder, or another clock: the right one is named, and all ends."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ps.logfile.records import Record
from tests.hosts.machines import Hosts
from tests.ranks import MPIRUN, Result, environment, finish, popen, records, wait_for_epochs, wait_until

Start = Callable[..., Hosts]
STALL_S, ABORT_S = 4, 8
OPTIONS = ("--hidden", "8", "--epochs", "1000000")
LIMITS = ("--stall-seconds", str(STALL_S), "--abort-stall", str(ABORT_S))


@contextlib.contextmanager
def job(hosts: Hosts, run: Path, *options: str, ft: bool = False) -> Iterator["subprocess.Popen[str]"]:
    """Start a job of two ranks on each of three hosts."""
    command = [MPIRUN, *(("--with-ft", "ulfm") if ft else ()), "--host", hosts.places(2, 2, 2), "-np", "6"]
    command += [sys.executable, "-m", "workers.run", *(options if "--abort-stall" in options else LIMITS + options)]
    command += [*OPTIONS, "--output", str(run)]
    process = popen(hosts.command(1, *command), env={**environment(), **hosts.environment()})
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def end_of(process: "subprocess.Popen[str]", hosts: Hosts) -> Result:
    """Return how a job ended, once nothing of it is left on any host."""
    result = finish(process)
    wait_until(lambda: not any(hosts.processes(host) for host in (1, 2, 3)), "processes are left")
    return result


def running(hosts: Hosts, host: int, text: str) -> dict[int, bytes]:
    """Return the environment of the processes of a host with a text in their command lines."""
    found = {}
    for pid in hosts.processes(host):
        with contextlib.suppress(OSError):
            if text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found[pid] = Path(f"/proc/{pid}/environ").read_bytes()
    return found


def strike(hosts: Hosts, rank: int, number: int) -> None:
    """Send a signal to a rank."""
    mark = f"OMPI_COMM_WORLD_RANK={rank}".encode()
    ranks = running(hosts, rank // 2 + 1, "workers.run")
    (pid,) = [pid for pid, variables in ranks.items() if mark in variables.split(b"\0")]
    os.kill(pid, number)


def seen(run: Path, *whats: str) -> list[Record]:
    """Return events of these kinds."""
    return [record for record in records(run) if record.get("what") in whats]


@pytest.mark.slow
def test_a_host_whose_cable_is_pulled_is_named(start_hosts: Start, tmp_path: Path) -> None:
    hosts, run = start_hosts(3), tmp_path / "run"
    with job(hosts, run) as process:
        wait_for_epochs(process, run, 1)
        hosts.unplug(3)
        result = end_of(process, hosts)
    assert result.code not in (0, 75)
    assert "rankwise: host n3 (ranks 4-5) has not answered for " in result.err, result.err
    assert "host n3 (ranks 4-5) has not answered for " in (run / "failure.txt").read_text()
    lost = seen(run, "death", "host-lost", "stall", "abort")
    assert {event["what"] for event in lost} == {"host-lost"}
    assert {(*event["hosts"], *event["ranks"]) for event in lost} == {("n3", 4, 5)}
    assert lost[-1]["seconds"] < ABORT_S + 5


@pytest.mark.slow
def test_so_is_one_that_is_cut_off_before_training(start_hosts: Start, tmp_path: Path) -> None:
    hosts, run = start_hosts(3), tmp_path / "run"
    # one that never had a link waits 5 times as long, n3 itself too
    with job(hosts, run, "--stall-seconds", "2", "--abort-stall", "3") as process:
        wait_until(lambda: running(hosts, 3, "watchdog"), "no watchdog", process)
        hosts.unplug(3)
        result = end_of(process, hosts)
    assert result.code not in (0, 75)
    assert "host n3 (ranks 4-5) has not answered for " in result.err, result.err


@pytest.mark.slow
def test_elastic_says_why_it_does_not_continue_without_a_host(start_hosts: Start, tmp_path: Path) -> None:
    hosts, run = start_hosts(3), tmp_path / "run"
    with job(hosts, run, "--elastic", ft=True) as process:
        wait_for_epochs(process, run, 1)
        hosts.unplug(3)
        end_of(process, hosts)
    text = (run / "failure.txt").read_text()
    assert "host n3 (ranks 4-5) has not answered for " in text
    assert "Open MPI's launcher ends a job that has lost a host" in text


@pytest.mark.slow
@pytest.mark.parametrize(("number", "rank"), [(signal.SIGKILL, 4), (signal.SIGSTOP, 3)])
def test_without_a_common_folder_and_clock_the_right_rank_is_named(
    start_hosts: Start, tmp_path: Path, number: int, rank: int
) -> None:
    hosts, run = start_hosts(3, "", {2: 5000}), tmp_path / "run"
    for host in (2, 3):
        hosts.hide(host, tmp_path)
    with job(hosts, run) as process:
        wait_for_epochs(process, run, 1)
        strike(hosts, rank, number)
        result = end_of(process, hosts)
    for host in (2, 3):
        hosts.show(host, tmp_path)
    assert result.code not in (0, 75)
    (unshared,) = seen(run, "folder-not-shared")
    assert unshared["hosts"] == ["n2", "n3"]
    assert result.err.count(unshared["message"]) == 1
    found = seen(run, "death", "host-lost", "stall")
    assert [(event["what"], *event.get("ranks", [event.get("rank")])) for event in found] == [
        ("stall" if number == signal.SIGSTOP else "death", rank)
    ]
    assert f"rank {rank} on n{rank // 2 + 1} " in (run / "failure.txt").read_text()
