"""The processes that train for an estimator: ranks of their own for one job, or a helper that stays for many."""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from common.config import ONLY_ON_COMMAND_LINE, OPTIONS, RunConfig, to_toml
from common.errors import EXIT_OK, EXIT_STOPPED, EXIT_USAGE
from common.files import write_bytes
from common.option import is_own_model
from common.run_files import LOG_NAME
from workers.estimators.relay import Output, follow
from workers.launch import start
from workers.launch.environment_options import PREFIX

OF_LAUNCHERS = ("PMI", "HYDRA_", "HYDI_", "OMPI_COMM_", "OMPI_UNIVERSE", "OMPI_FILE", "OMPI_FIRST", "OMPI_APP", "PRTE_")
"""What the variables begin with that a launcher gives its ranks: a launcher below would take itself for one."""
PATIENCE_S = 5.0
"""How long a process may take to end by itself."""
OF_USERS = "PRTE_MCA_"
"""What those begin with, among them, by which users say how ranks are placed."""
STOP = signal.SIGUSR1
"""Every launcher hands it on, and the job stops after a step that all ranks agree on."""
TIED = (
    "import ctypes, os, runpy, sys\n"
    "parent = int(sys.argv.pop(1))\n"
    f"sys.platform == 'linux' and ctypes.CDLL(None).prctl(1, {int(STOP)})\n"
    "if os.getppid() != parent: sys.exit(1)\n"
    "runpy.run_module('workers.rankwise', run_name='__main__', alter_sys=True)\n"
)
"""A job that stops, and saves, when the process ends that waits for it."""


def environment() -> dict[str, str]:
    """Return the variables of a process that trains: no options, and nothing of a launcher around this process."""
    options = {PREFIX + name.upper() for name in OPTIONS}
    return {
        name: value
        for name, value in start.environment().items()
        if name not in options and (name.startswith(OF_USERS) or not name.startswith(OF_LAUNCHERS))
    }


def check(code: int, message: str) -> bool:
    """Return whether a job was stopped before its end. Raises ValueError for bad input, RuntimeError if it failed."""
    if code == EXIT_USAGE:
        raise ValueError(message)
    if code not in (EXIT_OK, EXIT_STOPPED):
        raise RuntimeError(message or f"training ended with exit code {code}")
    return code == EXIT_STOPPED


def _popen(command: list[str], **options: object) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own: Ctrl-C is for whoever waits for it."""
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), start_new_session=True, **options
    )


def _end_of(process: "subprocess.Popen[bytes]") -> int:
    """Return a file that can be read when a process has ended."""
    over, end = os.pipe()

    def wait() -> None:
        process.wait()
        os.close(end)

    threading.Thread(target=wait, name="end of ranks", daemon=True).start()
    return over


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _interrupter(process: "subprocess.Popen[bytes]", config: RunConfig) -> Callable[[], None]:
    """Return what Ctrl-C does: the first one stops training, if it has begun, and the next one ends it at once."""
    asked: list[bool] = []

    def interrupt() -> None:
        if asked or not (Path(config.output) / LOG_NAME).exists():
            _kill(process)
            raise KeyboardInterrupt
        asked.append(True)
        process.send_signal(STOP)

    return interrupt


def run_ranks(config: RunConfig, ranks: int, folder: Path, verbose: int | None) -> bool:
    """Run a job on ranks that are started for it; return whether it was stopped. ``folder``: for its options.

    Raises ValueError, RuntimeError, and KeyboardInterrupt if nothing was learned.
    """
    options = folder / "options.toml"
    left_out = ("output", *ONLY_ON_COMMAND_LINE)
    values = {name: value for name, value in config.as_dict().items() if name not in left_out}
    write_bytes(options, to_toml(values).encode(), sync=False)
    arguments = ["train", "-n", str(ranks), "--config", str(options), "--output", config.output]
    if config.start_from:
        arguments += ["--from", config.start_from]
    if is_own_model(config.model):  # a class that only a file names might be somebody else's
        arguments += ["--model", config.model]
    output = Output(verbose)
    command = [sys.executable, "-P", "-c", TIED, str(os.getpid()), *arguments]
    with _popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            over = _end_of(process)
            try:
                follow(process, over, output, _interrupter(process, config))
            finally:
                os.close(over)
            code = process.wait()
        except BaseException:
            _kill(process)
            raise
        finally:
            output.close()
    return check(code, output.message())


class HelperGoneError(Exception):
    """A helper has ended, of whatever cause; with what it said."""


class Helper:
    """A process in which one rank trains, and which stays: starting one for each of many short fits took longer."""

    def __init__(self) -> None:
        self._replies, end = os.pipe()
        try:
            command = [sys.executable, "-P", "-m", "workers.estimators.helper", str(end)]
            self.process = _popen(command, stdin=subprocess.PIPE, pass_fds=(end,))
        finally:
            os.close(end)

    def run(self, config: RunConfig, verbose: int | None) -> bool:
        """Do what ``run_ranks`` does, on one rank; after other exceptions it is of no use. Raises HelperGoneError."""
        output = Output(verbose)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(config.as_dict()).encode() + b"\n")
            self.process.stdin.flush()
            follow(self.process, self._replies, output, _interrupter(self.process, config))
        except BrokenPipeError as error:
            raise HelperGoneError from error
        finally:
            output.close()
        answer = os.read(self._replies, 1 << 20)
        if not answer:
            raise HelperGoneError(output.message())
        reply = json.loads(answer)
        return check(reply["code"], reply["message"])

    def end(self) -> None:
        """Let it end by itself, as it does when its input ends."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def close(self, patience_s: float = 0.0) -> None:
        """End it, at once or after so many seconds: the MPI library may have to remove its own files first."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(patience_s)
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.__exit__(None, None, None)
        os.close(self._replies)


class Helpers:
    """Those that are there and have nothing to do; fits in several threads at a time have one each."""

    def __init__(self) -> None:
        self._idle: list[Helper] = []
        self._lock = threading.Lock()

    def run(self, config: RunConfig, verbose: int | None) -> bool:
        """Run a job in a helper; see ``run_ranks``."""
        helper = self._take()
        try:
            stopped = helper.run(config, verbose)
        except HelperGoneError as error:
            helper.close()
            raise RuntimeError(str(error) or "the process that trained has ended") from None
        except (ValueError, RuntimeError):
            self._give_back(helper)
            raise
        except BaseException:
            helper.close()
            raise
        self._give_back(helper)
        return stopped

    def _take(self) -> Helper:
        """Return one that lives, a new one if there is none."""
        with self._lock:
            while self._idle:
                helper = self._idle.pop()
                if helper.process.poll() is None:
                    return helper
                helper.close()
        return Helper()

    def _give_back(self, helper: Helper) -> None:
        with self._lock:
            self._idle.append(helper)

    def close(self) -> None:
        """End all that have nothing to do."""
        for helper in self._idle:
            helper.end()
        while self._idle:
            self._idle.pop().close(PATIENCE_S)

    def forget(self) -> None:
        """Leave them to the process that this one is a copy of."""
        self._lock = threading.Lock()
        while self._idle:
            self._idle.pop().process.returncode = 0  # not to be waited for here


HELPERS = Helpers()
"""Of this process; they end with it."""
atexit.register(HELPERS.close)
os.register_at_fork(after_in_child=HELPERS.forget)
