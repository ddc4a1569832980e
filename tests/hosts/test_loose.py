"""Wires that send less between hosts: a comparison by the loss shows what they save."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts.machines import Hosts
from tests.ranks import MPIRUN, environment, finish, popen, records

RATE = "900mbit"


@pytest.mark.slow
def test_a_comparison_shows_what_a_wire_saves(start_hosts: Callable[..., Hosts], tmp_path: Path) -> None:
    hosts, run = start_hosts(3, RATE), tmp_path / "run"
    command = [MPIRUN, "--host", hosts.places(1, 1, 1), "-np", "3", sys.executable, "-m", "workers.compare",
               "--until-loss", "0.4", "--trials", "1", "--hidden", "256", "--batch-size", "16", "--modes",
               "ring,ring:wire=bf16,k-of-n", "--output", str(run)]  # fmt: skip
    result = finish(popen(hosts.command(1, *command), env={**environment(), **hosts.environment()}))
    assert result.code == 0, result.err
    found = {m["mode"]: m for m in records(run)[-2]["modes"]}
    assert all(m["reached"] == 1 for m in found.values())
    exact, short = (found[name]["host_bytes_to_loss"] for name in ("ring", "ring:wire=bf16"))
    assert 0.5 < short / exact < 0.75  # sampled steps take an exact sum as well: a few of an epoch's 79
