"""A job of two ranks that exchange something: whether launcher and library work together, seen from outside."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping

from workers.launch.launcher import Launcher, shown
from workers.launch.start import environment, program

RANKS = 2
LIMIT_S = 60.0
KEPT_LINES = 6


def exchange(found: Launcher, limit_s: float = LIMIT_S) -> tuple[str, str]:
    """Run it; return what was found, and what to do about it: nothing if all is well. Raises LaunchError."""
    command = found.command(RANKS, program("workers.launch.exchange", ()))
    settings = found.settings(RANKS)
    again = f"To see more, run: {shown(command, settings)}"
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace", env=environment(settings), start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return f"{found.path} cannot be run ({error.strerror})", "Give another with --mpirun."
    try:
        out, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"{RANKS} ranks did not end within {limit_s:.0f} s", f"They may wait for a network. {again}"
    if process.returncode:
        said = (errors.strip() or out.strip()).splitlines()[:KEPT_LINES]
        return f"{RANKS} ranks ended with exit code {process.returncode}: {' | '.join(said)[:600]}", again
    return judge(_result(out), again)


def _result(out: str) -> Mapping[str, object]:
    """Return what rank 0 printed; nothing if it is not there."""
    for line in out.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}


def judge(result: Mapping[str, object], again: str) -> tuple[str, str]:
    """Return in words how an exchange went, and what to do about it."""
    if result.get("ranks") != RANKS:
        return f"{RANKS} ranks were started, but {result.get('ranks', 'none')} answered", again
    if not result["sum_is_right"]:
        return f"{RANKS} ranks summed a vector, and the sum is wrong", f"Use another MPI library. {again}"
    if result["node_ranks"] == RANKS and not result["memory_is_shared"]:
        return f"{RANKS} ranks share memory, but do not see each other's numbers", f"Use another MPI library. {again}"
    seconds = float(str(result["seconds"]))
    return f"{RANKS} ranks summed 1 MB in {seconds * 1e3:.2f} ms, and share memory", ""
