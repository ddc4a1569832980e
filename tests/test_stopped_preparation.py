"""A preparation that is asked to stop, or killed, ends at once and leaves nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import EXIT_STOPPED
from tests.ranks import MPIRUN, PROGRAMS, environment, finish, popen, wait_until

COMMANDS = {"prepare": ("t.csv", "-o", "prepared"), "run": ("--data", "t.csv", "--epochs", "1")}
OPEN_MPI = "Open MPI" in subprocess.run([MPIRUN, "--version"], capture_output=True, text=True, check=True).stdout


class Job:
    """Two ranks whose children are in the middle of a piece."""

    def __init__(self, folder: Path, command: str) -> None:
        self.folder, self._shown = folder, folder / "shown"
        self._shown.mkdir()
        rows = "".join(f"{i}.5,{'ab'[i % 2]},{i}\n" for i in range(200))
        (folder / "t.csv").write_text(f"x,kind,y\n{rows}")
        arguments = (str(PROGRAMS / "endless.py"), command, *COMMANDS[command], "--target", "y")
        self.process = popen(
            [MPIRUN, "-np", "2", sys.executable, *arguments], cwd=folder, env=environment(SHOWN_IN=str(self._shown))
        )
        wait_until(lambda: len([*self._shown.iterdir()]) == 2, "children at work", self.process)
        pids = [[int(pid) for pid in path.name.split("-")] for path in self._shown.iterdir()]
        self.children, self.ranks = [child for child, _ in pids], sorted(rank for _, rank in pids)

    def leaves_nothing(self) -> bool:
        """Say whether children and files are gone."""
        alive = [pid for pid in self.children if Path(f"/proc/{pid}").exists()]
        left = [path for path in self.folder.rglob("*") if path.suffix == ".part" or path.name in ("prepared", "log")]
        return not alive and not left


@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_to_one_rank_stops_all(tmp_path: Path, command: str) -> None:
    job = Job(tmp_path, command)
    os.kill(job.ranks[1], signal.SIGUSR1)
    result = finish(job.process)
    assert result.code == EXIT_STOPPED, result.err
    said = [line for line in result.err.splitlines() if line.startswith("rankwise:")]
    assert said == ["rankwise: stopped while the data were prepared; nothing is left of that"]
    assert "Traceback" not in result.err
    assert job.leaves_nothing()


def test_ctrl_c_at_the_launcher(tmp_path: Path) -> None:
    job = Job(tmp_path, "prepare")
    job.process.send_signal(signal.SIGINT)
    result = finish(job.process)
    if OPEN_MPI:  # which shows nothing more of what ranks print, and kills them half a second later
        assert result.code != 0
    else:
        assert result.code == EXIT_STOPPED, result.err
        assert result.err.count("rankwise: stopped while the data were prepared") == 1
    wait_until(job.leaves_nothing, "nothing is left")


def test_killed_ranks_leave_nothing(tmp_path: Path) -> None:
    job = Job(tmp_path, "prepare")
    for rank in job.ranks:
        os.kill(rank, signal.SIGKILL)
    assert finish(job.process).code != 0
    wait_until(job.leaves_nothing, "nothing is left")
