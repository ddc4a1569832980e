"""The doctor as users start it: alone, on the ranks of a launcher, and where nothing works."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from common.version import VERSION
from tests.conftest import ROOT
from tests.ranks import (
    ENVIRONMENT,
    MPIRUN,
    PROGRAMS,
    WAIT_S,
    Result,
    environment,
    finish,
    kill_all,
    mpirun,
    popen,
    wait_until,
)
from workers.diagnosis import trial_job
from workers.diagnosis.checks import JOB, PROCESS

DOCTOR = ("-P", "-m", "workers.doctor")
OF_ONE_HOST = set(JOB) - {"clocks"}


def bare(**changes: str) -> dict[str, str]:
    """Return an environment in which nothing is set for a launcher: the command must."""
    kept = {name: value for name, value in environment().items() if name not in ENVIRONMENT}
    return {**kept, "OMPI_MCA_btl": "^ofi", **changes}


def alone(*arguments: str, cwd: Path, **changes: str) -> Result:
    return finish(
        popen([sys.executable, "-P", "-m", "workers.rankwise", "doctor", *arguments], cwd=cwd, env=bare(**changes))
    )


@pytest.mark.slow
def test_alone_it_starts_ranks_by_the_launcher_of_the_library(tmp_path: Path) -> None:
    result = alone("-n", "2", cwd=tmp_path)
    assert result.code == 0, result.out + result.err
    assert "fail" not in result.out
    assert f"ok    rankwise {VERSION}, {ROOT}\n" in result.out
    assert f"ok    its launcher, {MPIRUN}\n" in result.out
    assert re.search(r"^ok    2 ranks on 1 host: 2 on ", result.out, re.MULTILINE)
    assert re.search(r"^ok    messages within a host: .* \(ranks 0 and 1\)$", result.out, re.MULTILINE)
    assert re.search(r"^Ready.* Begin with: rankwise train -n 2$", result.out, re.MULTILINE)
    assert result.out.count("Python 3") == 2  # its own, and that of all ranks
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 4])
def test_on_ranks_it_prints_one_object(n: int, tmp_path: Path) -> None:
    result = mpirun(n, *DOCTOR, "--json", "--output", str(tmp_path / "runs" / "new"), cwd=tmp_path)
    assert result.code == 0, result.out + result.err
    (found,) = (json.loads(line) for line in result.out.splitlines())
    (host,) = found["job"]["hosts"]
    assert (found["ok"], found["job"]["ranks"], host["ranks"]) == (True, n, list(range(n)))
    assert len(host["affinity"]) == len(host["threads"]) == n
    checks = {one["check"] for one in found["findings"]}
    assert checks <= {*PROCESS, *OF_ONE_HOST}
    assert {"library", "versions", "cores", "binding", "threads", "blas", "shared memory", "run folder"} <= checks
    assert len(found["measured"]["sums"]) == 3
    assert all(one["seconds"] > 0 for one in found["measured"]["sums"])
    assert len(found["measured"]["pairs"]) == {1: 0, 2: 1, 4: 2}[n]
    folder = next(one["text"] for one in found["findings"] if one["check"] == "run folder")
    assert f"runs go to {tmp_path}/runs/new, which will be made in {tmp_path}:" in folder
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.any_mpi
def test_a_launcher_starts_it_by_its_other_name(tmp_path: Path) -> None:
    env = environment(OMP_NUM_THREADS="9")
    result = mpirun(2, "-P", "-m", "workers.rankwise", "doctor", cwd=tmp_path, env=env)
    assert result.code == 0, result.out + result.err
    assert "warn" in result.out
    assert "\n      unset OMP_NUM_THREADS\n" in result.out
    assert result.out.count("2 ranks on 1 host") == 1


@pytest.mark.slow
@pytest.mark.any_mpi
def test_wrong_options(tmp_path: Path) -> None:
    for arguments, words in (
        (("--jsn",), "Unknown option: --jsn"),
        (("--stall-seconds", "0"), "stall_seconds: got 0.0"),
    ):
        result = finish(popen([sys.executable, *DOCTOR, *arguments], cwd=tmp_path, env=bare()))
        assert (result.code, words in result.err, result.err.count("\n")) == (2, True, 1), result.err
    result = alone("-n", "3", "--dry-run", cwd=tmp_path)
    assert f"{MPIRUN} -np 3 {sys.executable} -P -m workers.doctor --json" in result.out


def test_without_a_library_it_looks_at_the_rest(tmp_path: Path) -> None:
    result = alone("--json", cwd=tmp_path, MPI4PY_LIBMPI="/nonexistent/libmpi.so")
    assert result.code == 1
    found = json.loads(result.out)
    (failed,) = (one for one in found["findings"] if one["state"] == "fail")
    assert (failed["check"], "no MPI library found" in failed["text"]) == ("launcher", True)
    assert {"cores", "threads", "blas", "shared memory", "run folder"} <= {one["check"] for one in found["findings"]}


@pytest.mark.parametrize(
    ("script", "limit_s", "words"),
    [
        ("sleep 1000", 1.0, "did not end within 1 s"),
        ("echo no network >&2; exit 3", WAIT_S, "ended with exit code 3: no network"),
        ("echo hello", WAIT_S, "none answered"),
        (
            'echo \'{"format": "rankwise-doctor", "findings": [], "job": {"ranks": 1}, "measured": {}}\'',
            WAIT_S,
            "but 1",
        ),
    ],
)
def test_ranks_that_do_not_work(tmp_path: Path, script: str, limit_s: float, words: str) -> None:
    path = tmp_path / "mpirun"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    outcome = trial_job.run([str(path)], {}, os.environ, 2, limit_s)
    (one,) = outcome.findings
    assert (one.state, words in one.text) == ("fail", True), one
    assert str(path) in one.command
    assert "cannot be run" in trial_job.run([str(tmp_path / "none")], {}, os.environ, 2, limit_s).findings[0].text


@pytest.mark.slow
def test_a_rank_that_does_not_answer(tmp_path: Path) -> None:
    """It is suspended: no launcher sees that, and the others would wait for ever."""
    command = [MPIRUN, "-np", "2", sys.executable, str(PROGRAMS / "doctor_stops.py"), "--stall-seconds", "2"]
    begin = time.monotonic()
    process = popen(command, cwd=tmp_path)
    try:
        result = finish(process)
    finally:
        kill_all(str(PROGRAMS / "doctor_stops.py"))
    assert result.code != 0
    assert time.monotonic() - begin < WAIT_S / 2
    assert re.search(
        r"^fail  no answer for [27] s in step '(clocks|the folder of runs)': a rank has died or hangs",
        result.out,
        re.MULTILINE,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_the_ranks_that_it_started(tmp_path: Path, number: int, code: int) -> None:
    path = tmp_path / "mpirun"
    path.write_text(
        f"#!/bin/sh\ncase $1 in --version) exec {MPIRUN} --version;; esac\n"
        f"touch {tmp_path}/began; exec {sys.executable} -c 'import time; time.sleep(1000)' {tmp_path}/ranks\n"
    )
    path.chmod(0o755)
    process = popen([sys.executable, *DOCTOR, "--mpirun", str(path)], cwd=tmp_path, env=bare())
    wait_until((tmp_path / "began").exists, process=process)
    process.send_signal(number)
    assert finish(process).code == code
    assert kill_all(f"{tmp_path}/ranks") == 0
