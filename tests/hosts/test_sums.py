"""Sums between hosts: what the log says that ranks send is what interfaces count, and the way to sum is measured."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts.machines import Hosts
from tests.ranks import MPIRUN, environment, finish, popen, records


def train(hosts: Hosts, places: tuple[int, ...], folder: Path, *options: str) -> None:
    command = [MPIRUN, "--host", hosts.places(*places), "-np", str(sum(places)), sys.executable, "-m", "workers.run"]
    given = () if "--resume" in options else ("--output", str(folder))
    result = finish(popen(hosts.command(1, *command, *options, *given), env={**environment(), **hosts.environment()}))
    assert result.code == 0, result.err


@pytest.mark.slow
def test_ranks_send_what_the_interfaces_count(start_hosts: Callable[..., Hosts], tmp_path: Path) -> None:
    hosts, short = start_hosts(3), ("--batch-size", "64", "--epochs", "2")  # over 3 ranks unequal rows
    for mode, way, places in (
        ("allreduce", "ring", (1, 1, 1)), ("reduce-bcast", "node-all-library", (2, 2)), ("allreduce", "ring", (2, 2)),
        ("shared", "node-one-library", (2, 1)), ("send-recv", "auto", (2, 1)),
        ("ring --wire bf16", "auto", (1, 1, 1)), ("ring --wire topk", "auto", (2, 1)),
    ):  # fmt: skip
        folder, before = tmp_path / f"{mode}-{way}-{len(places)}", [hosts.sent(i) for i in (1, 2, 3)]
        options = ("--mode", *mode.split(), "--sum-algorithm", way, "--hidden", "512", "512")
        train(hosts, places, folder, *options, *short)
        counted = [hosts.sent(i) - n for i, n in zip((1, 2, 3), before, strict=True)]
        log = records(folder)
        by_rank = [sum(n) for n in zip(*(r["sent_bytes"] for r in log if r["kind"] == "epoch"), strict=True)]
        for host, node in enumerate(log[0]["nodes"]):
            sent = sum(by_rank[rank] for rank in node["ranks"])
            assert 0.98 * sent <= counted[host] <= 1.1 * sent + 3_000_000, (mode, way, host)


@pytest.mark.slow
def test_the_way_is_measured_and_kept_on_resume(start_hosts: Callable[..., Hosts], tmp_path: Path) -> None:
    hosts, run = start_hosts(2), tmp_path / "run"
    train(hosts, (2, 2), run, "--epochs", "1")
    train(hosts, (2, 2), run, "--resume", str(run), "--epochs", "2")
    log = records(run)
    first = log[0]["sync"]["sum"]
    assert first["way"] in {one["way"] for one in first["measured"]} >= {"library", "node-all-library", "ring"}
    (resumed,) = [r for r in log if r["kind"] == "event" and r["what"] == "resume"]
    assert resumed["sync"]["sum"] == {"way": first["way"], "measured": None}
    assert log[0]["timing"]["offset_error_s"] > 0
    assert all(seconds > 0 for r in log if r["kind"] == "epoch" for seconds in r["transfer_s"])
