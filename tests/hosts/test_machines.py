"""The hosts are what other tests take them for: a network with a speed, clocks, folders and cables of their own."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts.machines import Hosts
from tests.ranks import MPIRUN, environment, finish, popen, records

SEND = """
import socket, sys, time
with socket.create_connection((sys.argv[1], 5001), timeout=10) as s:
    begin = time.perf_counter()
    s.sendall(bytes(int(sys.argv[2])))
    s.shutdown(socket.SHUT_WR)
    s.recv(1)
    print(time.perf_counter() - begin)
"""
TAKE = """
import socket
with socket.create_server(("", 5001)) as server:
    print("ready", flush=True)
    with server.accept()[0] as s:
        while s.recv(1 << 20):
            pass
        s.sendall(b"1")
"""


def seconds_to_send(hosts: Hosts, n_bytes: int) -> float:
    """Send from host 1 to host 2 by a plain socket."""
    taker = subprocess.Popen(hosts.command(2, sys.executable, "-c", TAKE), stdout=subprocess.PIPE, text=True)
    assert taker.stdout
    with taker:
        taker.stdout.readline()
        return float(hosts.run(1, sys.executable, "-c", SEND, hosts.address(2), str(n_bytes)))


def test_links_have_their_speed_and_count_bytes(start_hosts: Callable[..., Hosts]) -> None:
    hosts = start_hosts(2, "100mbit")
    before = hosts.sent(1)
    seconds = seconds_to_send(hosts, 2_000_000)
    assert 2_000_000 <= hosts.sent(1) - before <= 2_200_000
    assert seconds >= 0.9 * 8 * 2_000_000 / 100e6, "faster than the link"


def test_cables_clocks_and_folders_are_each_hosts_own(start_hosts: Callable[..., Hosts], tmp_path: Path) -> None:
    hosts = start_hosts(2, "", {2: 5000})
    now = (sys.executable, "-c", "import time; print(time.monotonic())")
    assert 4999 < float(hosts.run(2, *now)) - float(hosts.run(1, *now)) < 5010
    (tmp_path / "file").touch()
    hosts.hide(2, tmp_path)
    assert (hosts.run(1, "ls", str(tmp_path)), hosts.run(2, "ls", str(tmp_path))) == ("file\n", "")
    hosts.show(2, tmp_path)
    assert hosts.run(2, "ls", str(tmp_path)) == "file\n"
    hosts.unplug(2)
    with pytest.raises(RuntimeError, match=r"unreachable|No route|timed out"):
        hosts.run(1, sys.executable, "-c", SEND, hosts.address(2), "1")


@pytest.mark.slow
def test_a_job_trains_on_several_hosts(start_hosts: Callable[..., Hosts], tmp_path: Path) -> None:
    hosts = start_hosts(2, "", {2: 5000})  # and their clocks are far apart
    before, begin = hosts.sent(2), time.time()
    command = [MPIRUN, "--host", hosts.places(2, 2), "-np", "4", sys.executable, "-m", "workers.run"]
    options = ["--epochs", "2", "--output", str(tmp_path / "run")]
    result = finish(popen(hosts.command(1, *command, *options), env={**environment(), **hosts.environment()}))
    assert result.code == 0, result.err
    assert "4 ranks on 2 nodes (n1 and n2)" in result.out
    header, *rest = records(tmp_path / "run")
    assert header["nodes"] == [{"host": "n1", "ranks": [0, 1]}, {"host": "n2", "ranks": [2, 3]}]
    times = [record["t"] for record in (header, *rest)]
    assert times == sorted(times)
    assert begin < times[0] < times[-1] < time.time()
    assert 0 < header["timing"]["offset_error_s"] < 1
    for epoch in (record for record in rest if record["kind"] == "epoch"):
        # if the offset were not known, all time in sums would be waiting on the hosts whose clock is behind
        assert min(epoch["transfer_s"]) > 0
        assert all(0 <= wait < loop for wait, loop in zip(epoch["wait_s"], epoch["loop_s"], strict=True))
    assert hosts.sent(2) - before > 40 * 19_210 * 4, "less than the gradients of one rank"
    assert not hosts.processes(1) + hosts.processes(2)
