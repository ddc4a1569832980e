"""The command ``rankwise``: it starts ranks by the launcher of the MPI in use, and opens all else by its name."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from common import host
from common.errors import ConfigError, LaunchError
from common.version import VERSION
from tests.conftest import need
from tests.ranks import (
    ENVIRONMENT,
    MPIRUN,
    WAIT_S,
    Result,
    environment,
    finish,
    mpirun,
    popen,
    records,
    wait_for_epochs,
)
from workers.launch import examples, launcher, start
from workers.launch.launch_options import LaunchConfig, number_of_ranks, slurm_cpus, split
from workers.launch.launcher import Launcher, Library, starts
from workers.launch.launcher_kind import Kind, read_kind
from workers.launch.site_files import loaded_from

ROOT = Path(__file__).parent.parent
RANKWISE = [sys.executable, "-P", "-m", "workers.rankwise"]
SHORT = ("--epochs", "1", "--hidden", "8")
MPICH = Library("MPICH", (5, 0, 2), "")
OPEN_MPI = Library("Open MPI", (5, 0, 11), "")
OPEN_MPI_4 = Library("Open MPI", (4, 1, 4), "")


def bare(**changes: str) -> dict[str, str]:
    """Return an environment in which nothing is set for a launcher: the command must."""
    kept = {name: value for name, value in environment().items() if name not in ENVIRONMENT}
    return {**kept, "OMPI_MCA_btl": "^ofi", **changes}


def rankwise(*arguments: str, cwd: Path, **changes: str) -> Result:
    return finish(popen([*RANKWISE, *arguments], cwd=cwd, env=bare(**changes)))


# ---- what ranks are started with


@pytest.mark.parametrize(
    ("given", "own", "others"),
    [
        ("-n 4 --data x.csv", ["-n", "4"], ["--data", "x.csv"]),
        ("-np 4 --epochs 3", ["-np", "4"], ["--epochs", "3"]),
        ("--data x -n4", ["--ranks", "4"], ["--data", "x"]),
        ("-np4", ["--ranks", "4"], []),
        ("-np=4", ["--ranks", "4"], []),
        ("--np 4", ["--ranks", "4"], []),
        ("--ranks=4 --verbose", ["--ranks=4"], ["--verbose"]),
        ("--dry-run --dry_run --mode shared", ["--dry-run", "--dry-run"], ["--mode", "shared"]),
        ("--hosts a:2 b:2 --seed 1", ["--hosts", "a:2", "b:2"], ["--seed", "1"]),
        ("--launcher-args -bind-to --seed 1", ["--launcher-args=-bind-to"], ["--seed", "1"]),
        ("--launcher_args=-x -n 2", ["--launcher-args=-x", "-n", "2"], []),
        ("-n 2 -- -n 3", ["-n", "2"], ["-n", "3"]),
        ("-n", ["-n"], []),
        ("-n --mode x", ["-n"], ["--mode", "x"]),
        ("-n -3 --mode x", ["-n=-3"], ["--mode", "x"]),
        ("--hidden 3 4 -o run", [], ["--hidden", "3", "4", "-o", "run"]),
    ],
)
def test_options_of_the_start_are_told_apart(given: str, own: list[str], others: list[str]) -> None:
    assert split(given.split()) == (own, others)


@pytest.mark.parametrize(
    ("options", "variables", "ranks", "why"),
    [
        ({"ranks": 3}, {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8"}, 3, ""),
        ({}, {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8"}, 8, "task of this Slurm job"),
        ({}, {"SLURM_JOB_ID": "1", "SLURM_JOB_CPUS_PER_NODE": "16(x2),8", "SLURM_CPUS_PER_TASK": "4"}, 10, "CPUs"),
        ({"hosts": "a:2,b:3"}, {}, 5, "slot of 2 hosts"),
        ({"hosts": "a:2,b:3", "ranks": 4}, {}, 4, ""),
        ({}, {}, host.usable_cores(), "core"),
        ({}, {"SLURM_NTASKS": "8"}, host.usable_cores(), "core"),
    ],
)
def test_how_many_ranks(options: dict[str, object], variables: Mapping[str, str], ranks: int, why: str) -> None:
    found, said = number_of_ranks(LaunchConfig(**options), variables)  # type: ignore[arg-type]
    assert found == ranks
    assert why in said
    assert bool(said) == bool(why)


@pytest.mark.parametrize(("text", "cpus"), [("16(x2),8", 40), ("4", 4), ("", 0), ("x", 0), ("4,x", 0)])
def test_cpus_of_a_slurm_job(text: str, cpus: int) -> None:
    assert slurm_cpus(text) == cpus


def test_usable_cores_are_no_more_than_the_quota(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    assert host.cpu_quota(tmp_path, own) == 0
    (tmp_path / "a" / "b" / "cpu.max").write_text("max 100000\n")
    assert host.cpu_quota(tmp_path, own) == 0
    (tmp_path / "a" / "cpu.max").write_text("350000 100000\n")
    assert host.cpu_quota(tmp_path, own) == 3
    (tmp_path / "a" / "b" / "cpu.max").write_text("20000 100000\n")
    assert host.cpu_quota(tmp_path, own) == 1
    assert host.cpu_quota(tmp_path, tmp_path / "none") == 0
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("200000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert host.cpu_quota(tmp_path, tmp_path / "none") == 2
    below = tmp_path / "cpu" / "job"
    below.mkdir()
    (below / "cpu.cfs_quota_us").write_text("100000\n")
    (below / "cpu.cfs_period_us").write_text("100000\n")
    own.write_text("3:memory:/other\n2:cpuacct,cpu:/job\n0::/\n")
    assert host.cpu_quota(tmp_path, own) == 1


def test_two_threads_of_a_core_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        (tmp_path / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "topology" / "core_cpus_list").write_text(siblings)
    monkeypatch.setattr(host, "CPUS", tmp_path)
    monkeypatch.setattr(host, "cpu_quota", lambda: 0)
    monkeypatch.setattr(host, "affinity", lambda: [0, 1, 2, 3])
    assert host.usable_cores() == 2
    monkeypatch.setattr(host, "affinity", lambda: [0, 2, 7])
    assert host.usable_cores() == 2
    monkeypatch.setattr(host, "cpu_quota", lambda: 1)
    assert host.usable_cores() == 1


# ---- which launcher


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("mpirun (Open MPI) 5.0.11\n\nReport bugs", Kind("Open MPI", (5, 0, 11))),
        ("mpirun.openmpi (OpenRTE) 4.1.4\n", Kind("Open MPI", (4, 1, 4))),
        ("prterun (PRRTE) 3.0.13\n", Kind("Open MPI", (3, 0, 13))),
        ("HYDRA build details:\n    Version:                                 4.0.2\n", Kind("MPICH", (4, 0, 2))),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.12 Build 2", Kind("Intel MPI", (2021, 12))),
        ("Python 3.11.2", Kind("", ())),
        ("", Kind("", ())),
    ],
)
def test_what_a_launcher_says_that_it_is(text: str, kind: Kind) -> None:
    assert read_kind(text) == kind


@pytest.mark.parametrize(
    ("kind", "library", "fits"),
    [
        (Kind("MPICH", (4, 0)), MPICH, True),
        (Kind("Open MPI", (5, 0)), MPICH, False),
        (Kind("MPICH", (4, 0)), OPEN_MPI, False),
        (Kind("Open MPI", (5, 0, 1)), OPEN_MPI, True),
        (Kind("Open MPI", (4, 1)), OPEN_MPI, False),
        (Kind("MPICH", (4, 0)), Library("MVAPICH", (3, 0), ""), True),
        (Kind("MPICH", (4, 0)), Library("Intel MPI", (2021, 12), ""), False),
        (Kind("", ()), MPICH, False),
    ],
)
def test_which_launcher_starts_which_library(kind: Kind, library: Library, *, fits: bool) -> None:
    assert starts(kind, library) is fits


def fake(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_the_launcher_beside_the_library_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Debian: several of them in one folder, the plain name being the other's; the library lies deeper."""
    fake(tmp_path / "bin" / "mpirun", "mpirun (Open MPI) 4.1.4")
    own = fake(tmp_path / "bin" / "mpirun.mpich", "HYDRA build details: Version: 4.0.2")
    lib = tmp_path / "lib" / "x86_64-linux-gnu" / "libmpich.so.12"
    lib.parent.mkdir(parents=True)
    lib.touch()
    monkeypatch.setenv("PATH", "/nonexistent")
    found = launcher.find(Library("MPICH", (4, 0, 2), str(lib)))
    assert found.path == str(own)
    other = launcher.find(Library("Open MPI", (4, 1, 4), str(lib)))
    assert other.path == str(tmp_path / "bin" / "mpirun")


def test_no_launcher_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = fake(tmp_path / "mpirun", "mpirun (Open MPI) 4.1.4")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(launcher, "candidates", lambda _: iter([str(wrong)]))
    message = rf"no launcher of the MPI library.*MPICH 5.0.2.*found: {wrong} \(Open MPI 4.1.4\); .* --mpirun"
    with pytest.raises(LaunchError, match=message):
        launcher.find(MPICH)
    with pytest.raises(LaunchError, match=f"mpirun: {wrong} is Open MPI 4.1.4, but the MPI library .* is MPICH 5.0.2"):
        launcher.find(MPICH, str(wrong))
    with pytest.raises(ConfigError, match="mpirun: nosuch is not there or not a program"):
        launcher.find(MPICH, "nosuch")


def test_the_library_of_this_process_is_known(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.write_text(
        "7f00-7f01 r--p 0 08:01 1   /opt/site/python/mpi4py/MPI.mpich.so\n"
        "7f02-7f03 r-xp 0 08:01 2   /opt/mpi/lib/libmpi.so.40.30.4\n7f04-7f05 rw-p 0 00:00 0 [heap]\n"
    )
    assert loaded_from(str(maps)) == "/opt/mpi/lib/libmpi.so.40.30.4"
    assert loaded_from(str(tmp_path / "none")) == ""


@pytest.mark.parametrize(
    ("library", "root", "ranks", "names"),
    [
        (MPICH, True, 9, []),
        (OPEN_MPI, False, 2, []),
        (OPEN_MPI, True, 2, ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"]),
        (OPEN_MPI, False, 3, ["PRTE_MCA_rmaps_default_mapping_policy"]),
        (OPEN_MPI_4, False, 3, ["OMPI_MCA_rmaps_base_oversubscribe"]),
    ],
)
def test_what_the_launcher_needs_is_set(
    monkeypatch: pytest.MonkeyPatch, library: Library, ranks: int, names: list[str], *, root: bool
) -> None:
    for name in (*ENVIRONMENT, "OMPI_MCA_rmaps_base_oversubscribe"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(launcher, "usable_cores", lambda: 2)
    assert list(Launcher("mpirun", library).settings(ranks)) == names
    for name in names:
        monkeypatch.setenv(name, "mine")
    assert Launcher("mpirun", library).settings(ranks) == {}


def test_elastic_needs_open_mpi_5() -> None:
    assert Launcher("m", OPEN_MPI).command(2, ["p"], elastic=True) == ["m", "--with-ft", "ulfm", "-np", "2", "p"]
    for library in (MPICH, OPEN_MPI_4):
        with pytest.raises(LaunchError, match=f"elastic: needs Open MPI 5, but the MPI library is {library}"):
            Launcher("m", library).command(2, ["p"], elastic=True)


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, False),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, True),
        ({"PMI_SIZE": "1"}, True),
        ({"SLURM_JOB_ID": "1"}, False),
        ({"SLURM_JOB_ID": "1", "SLURM_STEP_NUM_TASKS": "1", "PMI_SIZE": "1"}, False),  # the shell of salloc
        ({"SLURM_JOB_ID": "1", "SLURM_STEP_NUM_TASKS": "4"}, True),
        ({"SLURM_JOB_ID": "1", "PMI_SIZE": "4", "SLURM_STEP_NUM_TASKS": "1"}, True),
    ],
)
def test_a_rank_is_known(variables: Mapping[str, str], *, rank: bool) -> None:
    assert start.is_rank(variables) is rank


# ---- real starts


def test_training_where_folders_have_our_names(tmp_path: Path) -> None:
    """And a model class from that folder; all that the launcher needs is set, for root and 3 ranks on 2 cores, too."""
    for name in ("common", "ps", "workers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    shutil.copy(ROOT / "docs" / "examples" / "own_model.py", tmp_path / "mymodel.py")
    result = rankwise("train", "-n", "3", "--epochs", "1", "--model", "mymodel:SkipNet", "-o", "run", cwd=tmp_path)
    assert result.code == 0, result.err
    assert result.err == ""
    header = records(tmp_path / "run")[0]
    assert header["world"] == 3
    assert header["config"]["model"] == "mymodel:SkipNet"
    assert header["versions"]["rankwise"] == VERSION
    assert header["threads"]["set_by"] == "rankwise"


def test_a_number_of_ranks_is_chosen_and_said(tmp_path: Path) -> None:
    result = rankwise("train", "--dry-run", *SHORT, cwd=tmp_path)
    n = host.usable_cores()
    assert result.code == 0, result.err
    assert re.fullmatch(rf"rankwise: starting {n} ranks?, .*; -n N starts N\n", result.err)
    assert f"-np {n} {shlex.quote(sys.executable)} -P -m workers.run --epochs 1 --hidden 8\n" in result.out
    assert shlex.quote(MPIRUN) in result.out
    typed = finish(popen(["sh", "-c", result.out], cwd=tmp_path, env=bare()))
    assert typed.code == 0, typed.err
    assert "Test: loss" in typed.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "-n", "2", "--epoch", "3"], 2, "Unknown option: --epoch. Did you mean --epochs?"),
        (["train", "-n", "2", "--mode", "alreduce"], 2, "mode: unknown value 'alreduce' (did you mean 'allreduce'"),
        (["train", "-n", "0"], 2, "ranks: got 0; allowed is at least 1"),
        (["train", "-n", "-3"], 2, "ranks: got -3; allowed is at least 1"),
        (["train", "-n", "two"], 2, 'ranks: got "two"; allowed is a whole number'),
        (["train", "-n"], 2, "requires an argument"),
        (["train", "--dry-rn"], 2, "Unknown option: --dry-rn. Did you mean --dry-run?"),
        (["bench", "--hostfle", "x"], 2, "Unknown option: --hostfle. Did you mean --hostfile?"),
        (["compare", "--nodes", "a,b"], 2, "Unknown option: --nodes. Did you mean --hosts?"),
        (["train", "--num-procs", "4"], 2, "Unknown option: --num-procs. Did you mean --ranks?"),
        (["train", "-n", "2", "--hosts", "a;b"], 2, "hosts: got 'a;b'"),
        (["train", "-n", "2", "--launcher-args", "'"], 2, "launcher_args: got"),
        (["train", "-n", "2", "--mpirun", "nosuch"], 2, "mpirun: nosuch is not there"),
        (["bench", "-n", "2", "--layers", "784"], 2, "layers: got 784; allowed are at least two"),
        (["compare", "-n", "2", "--mode", "shared"], 2, "mode: is an option of runs"),
        (["trian"], 2, "unknown command 'trian' (did you mean 'train'?)"),
        (["show"], 2, "unknown command 'show' (did you mean 'log show'?)"),
        (["run"], 2, "unknown command 'run' (did you mean 'train'?)"),
        (["--epochs", "3"], 2, "got --epochs; a command comes first, as in rankwise train --epochs"),
        (["log", "shwo"], 2, 'Unknown command "shwo". Did you mean "show"?'),
        (["doctor", "--host", "a"], 2, "Unknown option: --host"),
        (["examples"], 2, "examples: got 0 folders; write rankwise examples DIR"),
        (["completion", "csh"], 2, "completion: got 'csh'; allowed is bash, zsh, fish"),
        (["supervise", "-np", "2", "--restart", "3"], 2, "Unknown option: --restart. Did you mean --restarts?"),
    ],
)
def test_wrong_commands_are_told_without_starting_ranks(
    tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    result = rankwise(*arguments, cwd=tmp_path)
    assert result.code == code
    assert message in result.err
    assert result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_exit_code_of_the_job_passes_through(tmp_path: Path) -> None:
    result = rankwise("train", "-n", "2", "--data", "none.csv", cwd=tmp_path)
    assert result.code == 2
    assert result.err.count("rankwise: ") == 1
    assert "data: no file" in result.err


def test_signals_reach_the_job(tmp_path: Path) -> None:
    """The launcher has this process's number: nothing stands between."""
    process = popen(
        [*RANKWISE, "train", "-n", "2", "--epochs", "1000000", *SHORT[2:], "-o", "run"], cwd=tmp_path, env=bare()
    )
    wait_for_epochs(process, tmp_path / "run", 1)
    assert (
        "mpirun" in Path(f"/proc/{process.pid}/cmdline").read_text()
        or "prterun" in Path(f"/proc/{process.pid}/cmdline").read_text()
    )
    process.send_signal(signal.SIGUSR1)
    result = finish(process)
    assert result.code == 75, result.err


def test_under_a_launcher_it_is_that_rank(tmp_path: Path) -> None:
    result = mpirun(2, *RANKWISE[1:], "train", *SHORT, "-o", "run", cwd=tmp_path)
    assert result.code == 0, result.err
    assert records(tmp_path / "run")[0]["world"] == 2
    result = mpirun(2, *RANKWISE[1:], "train", "-n", "2", cwd=tmp_path)
    assert result.code == 2
    assert result.err.count("rankwise: -n: a launcher started this process as a rank already") == 1
    result = mpirun(2, *RANKWISE[1:], "trian", cwd=tmp_path)
    assert result.code == 2
    assert result.err.count("unknown command 'trian'") == 1
    assert mpirun(2, *RANKWISE[1:], "--version", cwd=tmp_path).out.count(VERSION) == 1


@pytest.mark.parametrize("elastic", ["--elastic", "RANKWISE_ELASTIC"])
def test_elastic_jobs_get_what_they_need_or_one_message(tmp_path: Path, elastic: str, mpi: str) -> None:
    """However it was asked for."""
    options = [elastic] if elastic.startswith("-") else []
    changes = {} if options else {elastic: "1"}
    result = rankwise("train", "-n", "3", *SHORT, "-o", "run", *options, cwd=tmp_path, **changes)
    if mpi == "openmpi":
        assert result.code == 0, result.err
        assert records(tmp_path / "run")[0]["config"]["elastic"] is True
    else:
        assert result.code == 2
        assert result.err.startswith("rankwise: elastic: needs Open MPI 5, but the MPI library is MPICH")
        assert result.err.count("\n") == 1


def test_the_supervisor_starts_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    result = rankwise("supervise", "-n", "3", "--", *SHORT, "-o", "run", cwd=tmp_path)
    assert result.code == 0, result.err
    assert records(tmp_path / "run")[0]["world"] == 3
    assert "supervise: done; 1 attempt with 3 ranks" in result.out


def test_bench_and_log_and_compare(tmp_path: Path) -> None:
    quick = ("--rounds", "1", "--steps", "2", "--batch", "24", "--mode", "allreduce", "shared")
    result = rankwise("bench", "-n", "2", "--layers", "12", "8", "3", *quick, "-o", "f.json", cwd=tmp_path)
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "f.json").read_text())
    assert (found["job"]["ranks"], found["options"]["layers"]) == (2, [12, 8, 3])
    assert list(found["modes"]) == ["allreduce", "shared"]
    two = ("--modes", "allreduce,shared", "--trials", "1", "--steps", "2", "--hidden", "4,4")
    result = rankwise("compare", "-n", "2", *two, "-o", "run", cwd=tmp_path)
    assert result.code == 0, result.err
    assert records(tmp_path / "run")[0]["config"]["hidden"] == [4, 4]
    result = rankwise("log", "show", "run", cwd=tmp_path)
    assert result.code == 0, result.err
    assert "shared" in result.out
    assert rankwise("log", "show", "none", cwd=tmp_path).code == 1


# ---- what needs no ranks


def test_help_needs_no_mpi_library(tmp_path: Path) -> None:
    none = {"MPI4PY_LIBMPI": "/nonexistent/libmpi.so"}
    for name in ("train", "bench", "compare"):
        result = rankwise(name, "--help", cwd=tmp_path, **none)
        assert result.code == 0, result.err
        assert "allreduce" in result.out
        assert "--ranks" in result.out
    result = rankwise("train", "-n", "2", cwd=tmp_path, **none)
    assert result.code == 2
    assert result.err.startswith("rankwise: ")
    assert result.err.count("\n") == 1
    result = rankwise("--version", cwd=tmp_path, **none)
    assert result.out.startswith(f"rankwise {VERSION} on Python ")
    result = rankwise("doctor", cwd=tmp_path, **none)
    assert result.code == 1
    assert re.search(r"^fail  .*MPI library", result.out, re.MULTILINE)
    assert "1 check failed" in result.out


@pytest.mark.parametrize(
    ("name", "usage"),
    [("doctor", " [OPTIONS]"), ("completion", " bash|zsh|fish"), ("examples", " DIR [OPTIONS]")],
)
def test_help_of_small_commands_says_what_they_take(tmp_path: Path, name: str, usage: str) -> None:
    result = rankwise(name, "--help", cwd=tmp_path)
    assert result.code == 0, result.err
    assert result.out.startswith(f"Usage: rankwise {name}{usage}\n")
    assert "Options()" not in result.out


def test_names_of_modes_without_mpi_are_the_same() -> None:
    from ps.sync import mode_names
    from ps.sync.modes import exact, help_lines

    assert mode_names.read() == help_lines()
    assert sorted(mode_names.exact()) == sorted(exact())


def test_versions_are_of_this_copy(tmp_path: Path) -> None:
    """Whatever another installation says of itself."""
    other = tmp_path / "rankwise-9.9.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: rankwise\nVersion: 9.9\n")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    for command in (
        "workers.rankwise",
        "workers.run",
        "workers.bench",
        "workers.compare",
        "workers.supervise",
        "ps.log",
    ):
        result = finish(popen([sys.executable, "-P", "-m", command, "--version"], env=bare(PYTHONPATH=path)))
        assert result.code == 0, result.err
        assert result.out.startswith(f"rankwise {VERSION} on Python {sys.version.split()[0]}"), command


@pytest.mark.parametrize(
    "arguments", ["--help", "--version", "train --help", "train -n 2 --dry-run", "completion bash"]
)
def test_output_that_is_closed_or_full_or_not_read(tmp_path: Path, arguments: str) -> None:
    command = f"{shlex.join(RANKWISE)} {arguments}"
    for redirected, code in ((">&-", 0), ("| true; exit ${PIPESTATUS[0]}", 0), (">/dev/full", 1)):
        result = finish(popen(["bash", "-c", f"{command} {redirected}"], cwd=tmp_path, env=bare()))
        assert result.code == code, redirected
        assert "Traceback" not in result.err
        assert result.err.count("rankwise: ") == code


# ---- examples


def test_examples_are_copied_and_never_overwrite_in_silence(tmp_path: Path) -> None:
    result = rankwise("examples", "mine", cwd=tmp_path)
    assert result.code == 0, result.err
    names = {"README.md", "houses.csv", "own_model.py", "reference.toml", "supervise.sbatch", "train.sbatch"}
    assert {path.name for path in (tmp_path / "mine").iterdir()} >= names
    assert {Path(line).name for line in result.out.splitlines()} >= names
    assert rankwise("examples", "mine", cwd=tmp_path).code == 0
    (tmp_path / "mine" / "houses.csv").write_text("mine")
    (tmp_path / "mine" / "train.sbatch").unlink()
    result = rankwise("examples", "mine", cwd=tmp_path)
    assert result.code == 2
    assert "examples: houses.csv in mine would be overwritten" in result.err
    assert (tmp_path / "mine" / "houses.csv").read_text() == "mine"
    assert not (tmp_path / "mine" / "train.sbatch").exists()
    assert rankwise("examples", "mine", "--overwrite", cwd=tmp_path).code == 0
    assert (tmp_path / "mine" / "houses.csv").read_bytes() == examples.sources()["houses.csv"].read_bytes()
    (tmp_path / "file").touch()
    assert "cannot write to file" in rankwise("examples", "file", cwd=tmp_path).err


def test_the_examples_train(tmp_path: Path) -> None:
    examples.copy(tmp_path)
    for options in (
        ["--data", "houses.csv", "--target", "price", "--model", "linear", "--epochs", "2"],
        ["--config", "reference.toml"],
    ):
        result = rankwise("train", "-n", "2", *options, cwd=tmp_path)
        assert result.code == 0, result.err


# ---- completion


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("completion")

    def write(shell: str) -> Path:
        path = folder / f"_{shell}"
        if not path.exists():
            result = rankwise("completion", shell, cwd=folder)
            assert result.code == 0, result.err
            path.write_text(result.out)
        return path

    return write


def completed(shell: str, path: Path, words: str, cwd: Path) -> set[str]:
    """Return what the shell offers for the last of these words."""
    if shell == "bash":
        made = f"COMP_WORDS=({words}); COMP_CWORD=$(({len(words.split())} - 1)); COMPREPLY=()"
        text = f'. {path}; {made}; _rankwise; printf "%s\\n" "${{COMPREPLY[@]}}"'
    else:
        text = f"source {path}; complete -C {words.replace(chr(34) * 2, '')!r}"
    result = subprocess.run([shell, "-c", text], capture_output=True, text=True, cwd=cwd, timeout=WAIT_S, check=True)
    return {line.split("\t")[0] for line in result.stdout.splitlines()}


@pytest.mark.parametrize("shell", ["bash", "fish"])
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("rankwise tra", {"train"}),
        ("rankwise train --mode s", {"send-recv", "shared", "sharded"}),
        ("rankwise train --optimizer adam", {"adam", "adamw"}),
        ("rankwise train -n 2 --model lo", {"logistic"}),
        ("rankwise bench --dtype float3", {"float32"}),
        ("rankwise log comp", {"compare"}),
        ("rankwise log export --mark", {"--markdown"}),
        ("rankwise completion z", {"zsh"}),
        ("rankwise train --learning-r", {"--learning-rate"}),
        ("rankwise train --ranks-per", set()),
    ],
)
def test_shells_complete(
    script: Callable[[str], Path], tmp_path: Path, shell: str, words: str, offered: set[str]
) -> None:
    need(shutil.which(shell), shell)
    assert completed(shell, script(shell), words, tmp_path) - {""} == offered


def test_bash_completes_files(script: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "own.csv").touch()
    assert completed("bash", script("bash"), "rankwise train --data o", tmp_path) == {"own.csv"}


def test_zsh_takes_the_script(script: Callable[[str], Path], tmp_path: Path) -> None:
    need(shutil.which("zsh"), "zsh")
    text = f"autoload -U compinit; compinit -u -D; source {script('zsh')}; print $_comps[rankwise]"
    result = finish(popen(["zsh", "-fc", text], cwd=tmp_path))
    name = result.out.strip()
    assert f"\n{name}() {{" in script("zsh").read_text()
    assert "send-recv" in script("zsh").read_text()
