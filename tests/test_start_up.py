"""A job whose ranks do not all come into MPI: it ends with one message that names them, and signals end it quietly."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from common import start_network
from common.errors import ConfigError
from common.host import host
from common.launcher_place import LauncherPlace
from common.node_ranks import NodeRanks
from common.process_table import Process, find_launcher, processes
from common.start_state import ranks
from common.start_watch import StartWatch
from common.start_words import LIMIT, read_limit
from tests.conftest import ROOT, need
from tests.ranks import MPIRUN, Result, environment, epochs, finish, popen
from workers.diagnosis.remedies import choose_interface
from workers.launch.run_options import parse

RANK = "r=${OMPI_COMM_WORLD_RANK-$PMI_RANK}"
HOST = host()
NODE = {"PMI_SIZE": "2", "MPI_LOCALNRANKS": "2", "PMI_FD": "9"}
STOPS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGURG", "SIGHUP")
UNTIL_READY = """
import os, signal, time
from common.process_table import processes, variables
ready = []
while not ready:
    time.sleep(0.05)
    ready = [p.parent for p in processes().values() if p.name == 'rankwise-wait' and 'START_TEST' in variables(p.pid)
             and variables(p.pid)['START_TEST'] == os.environ['START_TEST']]
"""
"""What a library runs on one rank until another one waits in MPI."""


def library(folder: Path, name: str, code: str) -> Path:
    """Write a package that hides an installed one from who has its folder in PYTHONPATH."""
    place = folder / "path" / name
    place.mkdir(parents=True)
    (place / "__init__.py").write_text(f"{code}\n")
    return place.parent


def start(folder: Path, only: str, *, n: int = 3, seconds: str = "60", launcher: tuple[str, ...] = ()) -> Result:
    """Start ranks by a shell that does something before, which sees the number of its rank as ``$r``."""
    train = f"exec {sys.executable} -m workers.run --epochs 1 --hidden 8 --output {folder / 'run'}"
    env = environment(**{LIMIT: seconds, "START_TEST": str(folder)})
    command = [MPIRUN, *launcher, "-np", str(n), "sh", "-c", f"{RANK}; {only}; {train}"]
    return finish(popen(command, cwd=folder, env=env))


def told(result: Result, rank: int | None = 1) -> str:
    """Return the only message of a job that ended badly, which names a rank and its host."""
    assert result.code not in (0, 75), result.out + result.err
    said = [line for line in result.err.splitlines() if "rankwise:" in line]
    assert len(said) == 1, result.err
    assert "Traceback" not in result.err
    assert rank is None or (f"rank {rank}" in said[0] and HOST in said[0]), said
    return said[0]


def prefer(path: Path, rank: int = 1) -> str:
    """Return what has one rank look for libraries in a folder first."""
    return f'[ $r = {rank} ] && export PYTHONPATH="{path}:$PYTHONPATH"'


NEVER_BEGIN = ("exit 0", "exit 3", "exec /nowhere/python -m workers.run")
BUSY = "import time\nuntil = time.monotonic() + 6\nwhile time.monotonic() < until:\n    pass\n"
REAL = "import sys; sys.path.remove(__path__[0][:-8]); del sys.modules['msgpack']; import msgpack"
STOPPED = ("numpy", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
ASLEEP = ("msgpack", "import time; time.sleep(1000)")
NODES = ("-launcher", "fork", "-hosts", "n1:2,n2:2")
Waited = Callable[[str], Result]


@pytest.fixture(scope="module")
def waited(tmp_path_factory: pytest.TempPathFactory, mpi: str) -> Waited:
    """Return what gives the result of a start that mostly waits; all of them are made at the same time."""
    folder = tmp_path_factory.mktemp("waited")

    def of(name: str) -> Result:
        place = folder / str(list(starts).index(name))
        place.mkdir()
        return starts[name](place)

    starts: dict[str, Callable[[Path], Result]] = {
        "busy": lambda place: start(place, prefer(library(place, "msgpack", BUSY + REAL)), n=2, seconds="2"),
        "stopped": lambda place: start(place, prefer(library(place, *STOPPED)), seconds="3"),
        "asleep": lambda place: start(place, prefer(library(place, *ASLEEP)), seconds="3"),
        "no Python": lambda place: start(place, "[ $r = 1 ] && exec sleep 1000", seconds="3"),
        **{instead: partial(start, only=f"[ $r = 1 ] && {instead}") for instead in NEVER_BEGIN},
    }
    if mpi == "mpich":  # only its launcher pretends to have several nodes
        starts["nodes"] = lambda place: start(place, "[ $r -ge 2 ] && exit 3", n=4, seconds="3", launcher=NODES)
    with ThreadPoolExecutor(len(starts)) as pool:
        return dict(zip(starts, pool.map(of, starts), strict=True)).__getitem__


@pytest.mark.slow
@pytest.mark.parametrize("instead", NEVER_BEGIN)
def test_a_rank_that_never_begins_is_named(waited: Waited, mpi: str, instead: str) -> None:
    result = waited(instead)
    if mpi == "mpich" or instead == "exit 0":
        assert "did not start: its process has ended, or never began" in told(result)
    else:  # the launcher ends the job itself, and says which process it was
        assert result.code not in (0, 75)


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("numpy", "raise ImportError('libfoo.so.0: cannot open')", "ImportError: libfoo.so.0: cannot open"),
        ("numpy", "raise SystemExit(3)", "SystemExit: 3"),
        ("numpy", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", " died ("),
        ("numpy", "import os, signal; os.kill(os.getpid(), signal.SIGBUS)", "in /dev/shm: df -h /dev/shm"),
        ("numpy", "import os; os._exit(7)", "before the job had started"),
        ("mpi4py", "raise RuntimeError('a\\n' * 9000)", "mpi4py cannot be imported (RuntimeError: a a a"),
        ("msgpack", "x = (", "SyntaxError: '(' was never closed"),
        ("threadpoolctl", "import nothing_of_the_kind", "ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
    ],
)
def test_a_rank_with_a_broken_library_says_why(tmp_path: Path, name: str, code: str, reason: str) -> None:
    said = told(start(tmp_path, prefer(library(tmp_path, name, code))))
    assert reason in said
    assert len(said) < 1200
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("door", ["run", "doctor"])
def test_too_little_shared_memory_is_told_before_it_kills_all_ranks(tmp_path: Path, mpi: str, door: str) -> None:
    need(os.geteuid() == 0 and shutil.which("unshare"), "root and unshare (util-linux)")
    if mpi != "mpich":
        pytest.skip("Open MPI does with less room, and says so itself")
    ranks = [MPIRUN, "-np", "4", sys.executable, "-m", f"workers.{door}", "--output", str(tmp_path / "run")]
    mounted = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    result = finish(popen(["unshare", "--mount", "sh", "-c", mounted, "sh", *ranks]))
    assert result.code == 2
    assert "1.0 MB are free in /dev/shm, and MPI needs more than 4.2 MB there for 4 ranks" in told(result, None)


def test_what_all_ranks_lack_is_told_once(tmp_path: Path) -> None:
    path = library(tmp_path, "numpy", "raise ImportError('it is broken')")
    said = told(start(tmp_path, f'export PYTHONPATH="{path}:$PYTHONPATH"'), 0)
    assert "rank 0 on" in said
    assert "ImportError: it is broken" in said


def test_a_traceback_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    path = library(tmp_path, "numpy", "raise ImportError('it is broken')")
    env = environment(PYTHONPATH=f"{path}:{ROOT}", RANKWISE_DEBUG="1")
    result = finish(popen([sys.executable, "-m", "workers.run"], cwd=tmp_path, env=env))
    assert result.code == 1
    assert "Traceback" in result.err
    assert "rankwise: ImportError: it is broken" in result.err


def test_a_rank_that_is_stopped_is_named_after_the_time_limit(waited: Waited) -> None:
    said = told(waited("stopped"))
    assert "rank 1 (stopped by a signal or a debugger)" in said
    assert f"{LIMIT}=3" in said


def test_a_rank_without_a_sign_of_life_is_named_after_the_time_limit(waited: Waited) -> None:
    assert "rank 1 (importing, without a sign of life)" in told(waited("asleep"))


def test_a_process_that_is_no_python_yet_is_named_too(waited: Waited) -> None:
    assert "rank 1 (in sleep, without a sign of life)" in told(waited("no Python"))


def test_a_slow_rank_is_waited_for(waited: Waited) -> None:
    """It is busy for longer than the time limit, and then trains."""
    result = waited("busy")
    assert result.code == 0, result.err
    assert "accuracy" in result.out


def test_nodes_wait_for_each_other_as_long(waited: Waited, mpi: str) -> None:
    """Nobody on the first one can know why nobody is on the second."""
    if mpi != "mpich":
        pytest.skip("only MPICH's launcher pretends to have several nodes")
    said = told(waited("nodes"), None)
    assert f"ranks 0 and 1 on {HOST} waited " in said
    assert "for ranks 2 and 3 on other nodes, not all of which came, or can be reached: a firewall" in said


@pytest.mark.parametrize("name", STOPS)
def test_a_signal_during_imports_ends_the_job_quietly(tmp_path: Path, name: str) -> None:
    if signal.getsignal(signal.Signals[name]) is signal.SIG_IGN:
        pytest.skip("ignored where the tests were started, and then in a job, too")
    code = f"import os, signal, time; os.kill(os.getpid(), signal.{name}); time.sleep(100)"
    result = start(tmp_path, prefer(library(tmp_path, "numpy", code)), n=2)
    assert result.code == 128 + signal.Signals[name]
    assert "rankwise:" not in result.err
    assert "Traceback" not in result.err


def test_a_signal_to_a_rank_that_waits_in_mpi_ends_the_job(tmp_path: Path, mpi: str) -> None:
    """It waits in C, where Python's handlers do not run. Open MPI's launcher takes no exit code from others."""
    code = f"{UNTIL_READY}\nos.kill(ready[0], signal.SIGTERM)\ntime.sleep(100)"
    result = start(tmp_path, prefer(library(tmp_path, "numpy", code)), n=2)
    assert result.code in ((143,) if mpi == "mpich" else (143, 137))
    assert "rankwise:" not in result.err
    assert "Traceback" not in result.err


def test_a_rank_killed_during_imports_ends_the_job(tmp_path: Path) -> None:
    code = f"{UNTIL_READY}\nos.kill(os.getpid(), signal.SIGKILL)"
    result = start(tmp_path, prefer(library(tmp_path, "numpy", code)))
    if "rankwise:" in result.err:
        assert " before the job had started" in told(result)
    else:  # the launcher was faster, and tells of it
        assert result.code in (9, 137)


@pytest.mark.parametrize(
    "before",
    [
        "import os\ndef no(): raise BlockingIOError(11, 'no more processes')\nos.fork = no\n",
        "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n",  # its children leave nothing to wait for
    ],
)
def test_a_start_needs_no_guard_and_leaves_none(tmp_path: Path, before: str) -> None:
    run = f"{before}import runpy, sys; sys.argv[:1] = ['-m']; sys.orig_argv = ['-m', 'workers.run']"
    code = f"{run}; runpy.run_module('workers.run', run_name='__main__', alter_sys=True)"
    options = ["--epochs", "1", "--hidden", "8", "--output", str(tmp_path / "run")]
    result = finish(popen([MPIRUN, "-np", "2", sys.executable, "-c", code, *options], cwd=tmp_path))
    assert result.code == 0, result.err
    assert "Traceback" not in result.err
    assert len(epochs(tmp_path / "run")) == 1


def test_no_guard_is_left_when_training_runs(tmp_path: Path) -> None:
    command = [MPIRUN, "-np", "2", sys.executable, "-m", "workers.run", "--epochs", "100000", "--hidden", "8"]
    process = popen([*command, "--output", str(tmp_path / "run")], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not ((tmp_path / "run" / "coordinator.msgpack").exists() and epochs(tmp_path / "run")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    table = processes()
    launched, new = set(), {process.pid}
    while new:
        launched |= new
        new = {one.pid for one in table.values() if one.parent in new}
    names = [table[pid].name for pid in launched if pid in table]
    process.send_signal(signal.SIGUSR1)
    assert finish(process).code == 75
    assert len(names) > 2
    assert not [name for name in names if name.startswith("rankwise-")]


@pytest.mark.parametrize(
    ("module", "needs"),
    [("ps.log", "msgpack"), ("workers.supervise", "msgpack"), ("workers.rankwise", "msgpack"), ("workers.run", "numpy"),
     ("workers.bench", "numpy"), ("workers.compare", "numpy")],
)  # fmt: skip
def test_ctrl_c_during_imports_is_no_traceback(tmp_path: Path, module: str, needs: str) -> None:
    """Of any command, with or without ranks."""
    code = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(100)"
    path = library(tmp_path, needs, code)
    arguments = {"ps.log": ["list"], "workers.rankwise": ["log", "list"], "workers.supervise": ["-np", "2", "--"]}
    env = environment(PYTHONPATH=f"{path}:{ROOT}")
    result = finish(popen([sys.executable, "-m", module, *arguments.get(module, [])], cwd=tmp_path, env=env))
    assert result.code in (130, -signal.SIGINT)  # to a shell it is the same
    assert (result.out, result.err) == ("", "")


def test_ctrl_c_to_a_reader_is_no_traceback(tmp_path: Path) -> None:
    """It waits for a log that is not there yet, or has begun to read."""
    process = popen([sys.executable, "-m", "ps.log", "show", str(tmp_path)], cwd=tmp_path)
    time.sleep(0.2)  # any moment will do
    process.send_signal(signal.SIGINT)
    result = finish(process)
    assert "Traceback" not in result.err
    assert "KeyboardInterrupt" not in result.err


# The parts


def test_the_launcher_s_variables() -> None:
    ompi = {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}  # fmt: skip
    slurm = {"SLURM_PROCID": "4", "SLURM_STEP_NUM_TASKS": "7", "SLURM_LOCALID": "0", "SLURM_NODEID": "2",
             "SLURM_STEP_TASKS_PER_NODE": "2(x3),1", "SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0"}  # fmt: skip
    hydra = {"PMI_RANK": "1", "PMI_SIZE": "3", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "3", "PMI_FD": "9"}

    def found(variables: dict[str, str]) -> tuple[object, ...]:
        place = LauncherPlace(variables)
        return place.rank, place.size, place.local_rank, place.local_size, place.pmi, place.step

    assert found({}) == (0, 0, -1, -1, -1, "")
    assert found(ompi) == (3, 4, 1, 2, -1, "")
    assert found(slurm) == (4, 7, 0, 2, -1, "9.0")
    assert found({**slurm, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"})[-1] == "7_2.0"
    assert found(hydra) == (1, 3, 1, 3, 9, "")
    assert found({**slurm, "SLURM_STEP_NUM_TASKS": "2", **hydra}) == (1, 3, 1, 3, 9, "")  # mpirun in a batch job
    assert found({**slurm, "PMI_RANK": "4", "PMI_SIZE": "7", "PMI_FD": "9"}) == (4, 7, 0, 2, -1, "9.0")  # srun
    assert found({**slurm, "SLURM_STEP_NUM_TASKS": "1"})[1] == 0  # the shell of salloc
    assert found({**slurm, "SLURM_STEP_TASKS_PER_NODE": "2(x"}) == (4, 7, 0, -1, -1, "9.0")
    assert found({"PMI_RANK": "x", "PMI_SIZE": "²"})[1] == 0


def test_the_networks_of_a_host_are_named_with_the_variables_that_choose_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [("docker0", "172.17.0.1"), ("ib0", "10.1.0.1"), ("eth0", "10.0.0.1")]
    monkeypatch.setattr(start_network, "own_interfaces", lambda: found)
    said = start_network.network_hint("n1")
    assert "n1 has docker0 172.17.0.1, ib0 10.1.0.1, eth0 10.0.0.1; if the hosts reach each other by ib0: " in said
    for vendor, of_library in (("Open MPI", "Open MPI v5.0.8"), ("MPICH", "MPICH Device: ch4:ofi,ucx")):
        assert f"with {vendor} {choose_interface(vendor, of_library, 'ib0')}" in said
    del found[1:]
    assert "a firewall may be between the hosts" in start_network.network_hint("n1")


@pytest.mark.parametrize(
    ("size", "local_size", "known", "expected"),
    [
        (4, 4, {0: 0}, {0, 1, 2, 3}),
        (8, 4, {4: 0, 6: 2}, {4, 5, 6, 7}),
        (8, 4, {1: 0, 5: 2}, {1, 3, 5, 7}),  # dealt to two nodes in turn
        (8, 4, {4: 0}, {4, 5, 6, 7}),
        (8, 4, {0: 0, 3: 1, 4: 2}, {0, 3, 4}),  # in no order that is known
        (8, -1, {2: 0}, {2}),
    ],
)
def test_ranks_that_were_never_seen_follow_from_the_others(
    size: int, local_size: int, known: dict[int, int], expected: set[int]
) -> None:
    place = LauncherPlace({})
    place.size, place.local_size = size, local_size
    node = NodeRanks(0, place, complete=True)
    node.known = known
    assert node.expected() == expected


def test_one_guard_of_a_node_looks_at_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others only see that it is there, or many ranks would look at many, each of them."""
    watch = StartWatch(-1, -1, LauncherPlace({**NODE, "PMI_RANK": "1", "MPI_LOCALRANKID": "1"}))
    watch.parent = os.getppid()
    looks = []
    lower = Process(os.getppid(), f"{os.getppid()} (rankwise-wait) S 1 {' '.join('0' * 40)}")
    rank = Process(7, f"7 (python) S 1 {' '.join('0' * 40)}")

    def present() -> dict[int, list[Process]]:
        looks.append(0)
        return {0: [rank, lower], 1: [rank]}

    found: dict[int, Process | None] = {lower.pid: lower}
    monkeypatch.setattr(watch.node, "present", present)
    monkeypatch.setattr("common.start_watch.read_process", found.get)
    for _ in range(5):
        watch._look(1.0)
    assert (len(looks), watch._started_s) == (1, 5.0)
    found[lower.pid] = Process(lower.pid, f"{lower.pid} (rankwise-wait) T 1 {' '.join('0' * 40)}")
    watch._look(1.0)
    assert len(looks) == 2, "it is stopped, and sees nothing"
    found.clear()
    watch._look(1.0)
    assert len(looks) == 3, "it is gone"


def test_a_rank_that_cannot_see_others_does_not_miss_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container of its own, say, where its launcher is not to be seen either."""
    monkeypatch.setattr("common.process_table.LAUNCHERS", ("no such program",))
    launcher, complete = find_launcher(os.getpid())
    assert launcher > 0
    assert not complete


def test_processes_have_any_name() -> None:
    process = Process(7, f"7 (a) S (b) T 3 {' '.join('0' * 40)}")
    assert (process.name, process.parent, process.stopped, process.ended) == ("a) S (b", 3, True, False)
    with pytest.raises((ValueError, IndexError)):
        Process(7, "")
    assert processes()[os.getpid()].parent == os.getppid()


def test_words() -> None:
    assert ranks([3]) == "rank 3"
    assert ranks(list(range(20))) == "ranks 0, 1, 2, 3, 4, 5, 6, ... and 19"


@pytest.mark.parametrize("text", ["", "x", "-1", "nan", "inf", "1e999"])
def test_a_wrong_time_limit_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    assert read_limit("2.5") == 2.5
    with pytest.raises(ValueError, match=r"."):
        read_limit(text or "x")
    monkeypatch.setenv(LIMIT, text)
    with pytest.raises(ConfigError, match="allowed is a number of seconds"):
        parse([], {"allreduce": "-"})
