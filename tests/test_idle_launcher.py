"""A launcher that does not end after its job has failed: the watchdog ends it, unless it has something to do."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common import launcher_output
from tests.ranks import MPIRUN, environment, finish, popen
from workers.watchdog import launcher_process
from workers.watchdog.launcher_process import Launcher

STAYS = """#!{python}
import signal, subprocess, sys
subprocess.run([{mpirun!r}, *sys.argv[1:]])
signal.pause()
"""


@pytest.mark.slow
def test_the_job_ends_for_its_user(tmp_path: Path) -> None:
    launcher = tmp_path / "mpirun"
    launcher.write_text(STAYS.format(python=sys.executable, mpirun=MPIRUN))
    launcher.chmod(0o755)
    options = ["--hidden", "8", "--epochs", "2", "--output", "run", "--inject", "die:rank=1,step=5"]
    job = [str(launcher), "-np", "2", sys.executable, "-m", "workers.run", *options]
    result = finish(popen(job, cwd=tmp_path), 60)
    assert result.code == -signal.SIGTERM
    assert "rank 1 on " in result.err
    assert "was still there 5 s after all its ranks were gone; the watchdog ended it" in result.err


@pytest.fixture(autouse=True)
def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave to the tests' own process the streams it has: a watchdog would hold those of the launcher instead."""
    monkeypatch.setattr(launcher_output, "_streams", {})


def waiting(name: str, program: str, tmp_path: Path) -> "subprocess.Popen[str]":
    """Start a process of a name that is waiting once its first line is there."""
    script = tmp_path / name
    script.write_text(f"#!{sys.executable}\nimport signal, subprocess\n{program}\nprint(flush=True)\nsignal.pause()\n")
    script.chmod(0o755)
    process = popen([str(script)], env=environment())
    assert process.stdout is not None
    process.stdout.readline()
    return process


def end(process: "subprocess.Popen[str]") -> None:
    """End a process and what it started, if they are still there, and close its pipes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize(
    ("name", "program", "ends"),
    [
        ("mpirun", "", True),
        ("mpirun", "subprocess.Popen(['sleep', '60'])", False),  # it has something below it
        ("slurmstepd", "", False),  # it is not what a user waits for
        ("mpirun", "signal.signal(signal.SIGTERM, signal.SIG_IGN)", True),
        ("mpirun", "subprocess.Popen(['true'])", True),  # what is below it has ended, and it has not looked
    ],
)
def test_only_one_that_waits_for_nothing_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, program: str, ends: bool
) -> None:
    monkeypatch.setattr(launcher_process, "IDLE_S", 0.5)
    monkeypatch.setattr(launcher_process, "TERMINATE_S", 0.5)
    process = waiting(name, program, tmp_path)
    try:
        Launcher(process.pid, name).end_if_idle()
        if ends:
            process.wait(5)
        else:
            assert process.poll() is None
    finally:
        end(process)


def test_a_suspended_one_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_process, "IDLE_S", 0.5)
    process = waiting("mpirun", "", tmp_path)
    try:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        Launcher(process.pid, "mpirun").end_if_idle()
        os.kill(process.pid, signal.SIGUSR1)
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(5) == -signal.SIGUSR1  # SIGKILL would have ended it before
    finally:
        end(process)


@pytest.mark.parametrize(("name", "ends"), [("mpirun", True), ("prted", True), ("slurmstepd", False)])
def test_one_that_waits_for_a_lost_host_is_ended_whatever_is_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, ends: bool
) -> None:
    monkeypatch.setattr(launcher_process, "FORCED_S", 0.3)
    process = waiting(name, "subprocess.Popen(['sleep', '60'])", tmp_path)
    try:
        Launcher(process.pid, name).end_if_idle(forced=True)
        if ends:
            assert process.wait(5) == -signal.SIGKILL  # never 0, which would tell a script that all is well
        else:
            assert process.poll() is None
    finally:
        end(process)
