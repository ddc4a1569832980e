"""The doctor on several hosts: what is planted on them is found, and the line that it names mends a job that hangs."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.machines import Hosts
from tests.ranks import MPIRUN, PROGRAMS, Result, environment, finish, popen

BRIDGE = ("ip link add docker0 type bridge", "ip addr add 172.17.0.1/16 dev docker0", "ip link set docker0 up")


def examine(hosts: Hosts, *arguments: str, **variables: str) -> Result:
    """Run the doctor on one rank of each host; a variable that is empty is left to the library."""
    command = [MPIRUN, "--host", hosts.places(*[1] * hosts.count), "-np", str(hosts.count), sys.executable]
    env = {name: value for name, value in {**environment(), **hosts.environment(), **variables}.items() if value}
    return finish(popen(hosts.command(1, *command, str(PROGRAMS / "doctor_later.py"), *arguments), env=env))


def plant_bridges(hosts: Hosts) -> None:
    """Give each host a bridge with the same address, as Docker does."""
    for host in range(1, hosts.count + 1):
        for line in BRIDGE:
            hosts.run(host, *line.split())


@pytest.mark.slow
def test_what_is_wrong_with_hosts_is_found(start_hosts: Callable[..., Hosts], tmp_path: Path) -> None:
    hosts = start_hosts(2, "100mbit")
    plant_bridges(hosts)
    hosts.hide(2, tmp_path)
    hosts.run(2, "mount", "-o", "remount,size=16m", "/dev/shm")
    result = examine(hosts, "--json", "--output", str(tmp_path), CLOCK_OF_N2="4000")
    assert result.code == 1, result.out + result.err
    found = json.loads(next(line for line in result.out.splitlines() if line.startswith("{")))
    (pair,) = found["measured"]["pairs"]
    assert pair["hosts"] == ["n1", "n2"]
    assert 0.5 < 8 * pair["rate"] / 100e6 < 1.05
    told: dict[str, list[dict[str, Any]]] = {}
    for one in found["findings"]:
        if one["state"] != "ok":
            told.setdefault(one["check"], []).append(one)
    assert told["run folder"][-1]["state"] == "fail"
    assert f"n2 does not see what n1 wrote to {tmp_path} (there: tmpfs)" in told["run folder"][-1]["text"]
    assert "the clock of n2 is 4,000.0 s ahead of that of n1" in told["clocks"][0]["text"]
    assert told["shared memory"][0]["about"] == "n2"
    assert "docker0 (172.17.0.0/16) is the same on n1, n2" in told["interfaces"][0]["text"]
    assert re.search(r"reach .* over eth0, which is set to 10,000 Mbit/s", told["messages"][0]["text"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_messages_over_a_bridge_are_given_up_and_the_line_that_is_named_mends_it(
    start_hosts: Callable[..., Hosts], tmp_path: Path
) -> None:
    hosts = start_hosts(2)
    plant_bridges(hosts)
    options = ("--stall-seconds", "4", "--output", str(tmp_path))
    stuck = examine(hosts, *options, OMPI_MCA_btl_tcp_if_include="")
    assert stuck.code != 0
    assert not hosts.processes(1) + hosts.processes(2)
    if "received unexpected process identifier" in stuck.err:  # it has met itself over the bridge, and gives up
        return
    assert "fail  no answer for 4 s in step 'the first messages'" in stuck.out, stuck.out + stuck.err
    assert "docker0 172.17.0.1/16 (bridge)" in stuck.out
    line = re.search(r"export (OMPI_MCA_\S+) (PRTE_MCA_\S+)", stuck.out)
    assert line
    mended = examine(hosts, *options, **dict(pair.split("=") for pair in line.groups()))
    assert mended.code == 0, mended.out + mended.err
    assert "network eth0" in mended.out
    assert "joins all hosts, and carried the messages" in mended.out
