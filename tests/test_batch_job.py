"""What the batch scripts hand over to: names, folder, options, start and signals of a job, without a Slurm."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.errors import ConfigError
from common.run_files import LOG_NAME
from ps.logfile.records import FORMAT, VERSION
from ps.logfile.writer import RunLog
from tests.conftest import ROOT
from tests.ranks import Result, environment, finish, mpirun, popen, wait_until
from workers.batch.batch_id import BatchId
from workers.batch.option_lines import options_of_task
from workers.batch.options import BatchConfig, own_options
from workers.batch.rank_start import ON_A_NODE, find_mpi_type, find_start
from workers.batch.run_end import RunEnd
from workers.launch.launcher import Library
from workers.launch.srun_mpi import remedy

JOB = {"SLURM_JOB_ID": "7"}
TASK = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2", "SLURM_RESTART_COUNT": "3"}
LISTED = (
    "MPI plugin types are...\n\tpmix\n\tnone\n\tcray_shasta\n\tpmi2\nspecific pmix plugin versions available: pmix_v4\n"
)
RUN = ("python", "-m", "workers.run")


def test_a_task_of_an_array_is_not_called_by_the_number_of_the_array() -> None:
    job, task = BatchId(JOB), BatchId(TASK)
    assert (job.job, job.task, job.restarts) == ("7", -1, 0)
    assert (task.job, task.task, task.restarts) == ("7_2", 2, 3)
    with pytest.raises(ConfigError, match="SLURM_JOB_ID is not set"):
        BatchId({})


KNOWN, ALONE, BROKEN = "found 2 2\nfound 2 2\n", "found 2 1\nfound 2 1\n", "srun: error: cannot load"
"""What two ranks of a trial say: they know of each other; not that they share a node; nothing."""


@pytest.mark.parametrize(
    ("vendor", "listed", "trial", "found", "why"),
    [
        ("MPICH", LISTED, BROKEN, "pmi2", ""),
        ("Open MPI", LISTED, KNOWN, "pmix", ""),
        ("Open MPI", LISTED, ALONE, "", "under srun --mpi=pmix ranks do not know which of them share a node"),
        ("Open MPI", LISTED, "found 1 1\nfound 1 1\n", "", "srun --mpi=pmix does not work here"),
        ("Open MPI", LISTED, BROKEN, "", "srun --mpi=pmix does not work here"),
        ("Open MPI", "srun: MPI types are...\nsrun: none\nsrun: pmi2\n", KNOWN, "", "srun --mpi=list has nothing"),
        ("MPICH", "srun: MPI types are...\nsrun: none\n", KNOWN, "", "srun --mpi=list has nothing"),
        ("Cray MPICH", LISTED, KNOWN, "cray_shasta", ""),
    ],
)
def test_srun_gets_the_mpi_that_the_library_needs(vendor: str, listed: str, trial: str, found: str, why: str) -> None:
    def ask(*command: str) -> tuple[int, str]:
        if command[1] == "--mpi=list":
            return 0, listed
        assert command[1:4] == ("--mpi=pmix", "-N1", "-n2")
        return int(trial == BROKEN), trial

    kind, reason = find_mpi_type(Library(vendor, (5, 0), ""), ask, {"SLURM_TASKS_PER_NODE": "1,2(x3)"})
    assert (kind, reason.startswith(why)) == (found, True)


@pytest.mark.slow
def test_ranks_of_the_trial_say_how_many_are_on_their_node() -> None:
    result = mpirun(2, "-c", ON_A_NODE)
    assert (result.code, result.out.splitlines()) == (0, ["found 2 2"] * 2), result.err


def test_a_single_rank_on_each_node_need_not_know_of_others_there() -> None:
    def ask(*command: str) -> tuple[int, str]:
        return (0, LISTED) if command[1] == "--mpi=list" else (0, "found 1 1\n") if command[3] == "-n1" else (1, "")

    assert find_mpi_type(Library("Open MPI", (5, 0), ""), ask, {"SLURM_TASKS_PER_NODE": "1(x3)"}) == ("pmix", "")


def test_what_was_used_already_is_no_remedy() -> None:
    assert remedy("MPICH", "none") == "srun --mpi=pmi2 (see srun --mpi=list), or mpirun inside sbatch"
    assert remedy("Open MPI", "pmi2") == "srun --mpi=pmix (see srun --mpi=list), or mpirun inside sbatch"
    assert remedy("MPICH", "pmi2") == remedy("Open MPI", "pmix_v4") == "mpirun inside sbatch"


def test_the_user_may_choose_what_starts_ranks(capsys: pytest.CaptureFixture[str]) -> None:
    start = find_start({**JOB, "SLURM_MPI_TYPE": "pmix_v4", "SLURM_CPUS_PER_TASK": "3"})
    assert start.words == ("srun", "-K1", "--mpi=pmix_v4", "--cpus-per-task=3")
    fewer = {"SLURM_NTASKS": "6", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "2"}  # than at the first start
    assert find_start({**JOB, **fewer, "SLURM_MPI_TYPE": "pmi2"}).words[4:] == ("--ntasks=4",)
    start = find_start({**JOB, "SLURM_MPI_TYPE": "none", "SLURM_NTASKS": "4"})
    assert start.words[0].endswith(("mpirun", "mpiexec"))
    assert start.words[1:] == ("-np", "4")
    assert "SLURM_MPI_TYPE=none" in capsys.readouterr().err


def test_a_task_takes_its_line(tmp_path: Path) -> None:
    file = tmp_path / "options.txt"
    file.write_text("# of two runs\n\n--hidden 8 --data 'a b.csv'\n  --hidden 16; rm $(x)\n--hidden '8\n")
    assert options_of_task(str(file), 1) == ["--hidden", "8", "--data", "a b.csv"]
    assert options_of_task(str(file), 2) == ["--hidden", "16;", "rm", "$(x)"]
    for task, said in ((0, "none for task 0; submit with --array=1-3"), (4, "task 4"), (3, "No closing quotation")):
        with pytest.raises(ConfigError, match=said):
            options_of_task(str(file), task)
    with pytest.raises(ConfigError, match="this job is no task of an array; submit it with --array=1-3"):
        options_of_task(str(file), -1)
    file.write_text("\ufeff--data 'a\u2028b.csv'\r\n", newline="")
    assert options_of_task(str(file), 1) == ["--data", "a\u2028b.csv"]
    with pytest.raises(ConfigError, match="has 1 line of options, none for task 2"):
        options_of_task(str(file), 2)
    with pytest.raises(ConfigError, match="no-such-file cannot be read"):
        options_of_task("no-such-file", 1)
    file.write_text("")
    with pytest.raises(ConfigError, match="write a line"):
        options_of_task(str(file), 1)


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ((), ["--resume", "auto", "--output", "runs/slurm-7"]),
        (("--output", "a"), ["--resume", "auto"]),
        (("-oa",), ["--resume", "auto"]),
        (("--config", "run.toml"), ["--resume", "auto"]),
        (("--resume", "a"), []),
        (("--resume=a",), []),
    ],
)
def test_a_run_folder_is_added_unless_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], added: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text('output = "of-file"\n')
    config = BatchConfig(ranks=True, resume=True, program=(*RUN, *given))
    assert own_options(config, BatchId(JOB)) == [*RUN, *given, *added]


def test_each_task_of_a_sweep_has_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "options.txt"
    file.write_text("--seed 1\n--seed 2\n")

    def options(*given: str) -> list[str]:
        return own_options(BatchConfig(resume=True, lines=str(file), program=(*RUN, *given)), BatchId(TASK))[3:]

    assert options("--epochs", "3") == [
        "--epochs",
        "3",
        "--seed",
        "2",
        "--resume",
        "auto",
        "--output",
        "runs/slurm-7_2",
    ]
    assert options("--output", "all") == ["--seed", "2", "--resume", "auto", "--output", "all/2"]
    file.write_text("--seed 1\n--seed 2 --output own\n")
    assert options("--output", "all") == ["--seed", "2", "--output", "own", "--resume", "auto"]


def test_the_supervisor_gets_its_folder_behind_its_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    program = ("python", "-m", "workers.supervise", "-np", "4", "--hosts", "a,b", "--", "--epochs", "3")
    assert own_options(BatchConfig(program=program), BatchId(JOB)) == [*program, "--output", "runs/slurm-7"]


@pytest.mark.parametrize(
    ("tasks", "each", "ranks"), [("6", "2", "4"), ("3", "2", "3"), ("2", "1", "2"), ("5", "", "5")]
)
def test_the_supervisor_starts_no_more_ranks_than_the_nodes_that_are_left_have_tasks(
    tmp_path: Path, tasks: str, each: str, ranks: str
) -> None:
    for name, text in (("python", 'printf "%s\\n" "$@"'), ("scontrol", "echo n1; echo n2")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": tasks}
    variables |= {"SLURM_NTASKS_PER_NODE": each, "PATH": f"{tmp_path}:{os.environ['PATH']}", "VIRTUAL_ENV": "x"}
    result = finish(popen(["bash", str(ROOT / "slurm" / "supervise.sbatch"), "--data", "a b"], env=variables))
    assert (result.code, result.err) == (0, "")
    words = ["-m", "workers.supervise", "-np", ranks, "--hosts", "n1,n2", "--", "--data", "a b"]
    assert result.out.splitlines()[-len(words) :] == words


class FakeSlurm:
    """A folder with an srun that runs a program as one task, and a scontrol that only notes what it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables = environment(
            PATH=f"{folder}:{os.environ['PATH']}", SLURM_MPI_TYPE="pmi2", SLURM_EXPORT_ENV="NONE", **TASK
        )
        self.tool("srun", 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"')
        self.tool("scontrol", '[ "$1" = requeue ] || exit; echo "$@" >> scontrol.log; kill -TERM $PPID')

    def tool(self, name: str, text: str) -> None:
        """Put one of Slurm's commands there."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def start(self, code: str, *options: str) -> "subprocess.Popen[str]":
        """Start a batch job whose program is this code."""
        command = [sys.executable, "-m", "workers.batch_job", *options, "--", sys.executable, "-c", code]
        return popen(command, cwd=self.folder, env=self.variables)

    def queued_again(self) -> list[str]:
        """Return what scontrol was told."""
        log = self.folder / "scontrol.log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    return FakeSlurm(tmp_path)


SHOW = "import json, os, sys; print(json.dumps([os.environ['SLURM_EXPORT_ENV'], os.environ['OMP_NUM_THREADS']]))"
STOP = (
    "import pathlib, signal, sys, time; n = []; signal.signal(signal.SIGUSR1, lambda *_: n.append(1)); "
    "pathlib.Path('ready').touch()\nwhile not n: time.sleep(0.01)\ntime.sleep(0.3); print(len(n)); sys.exit({})"
)


def test_ranks_get_the_environment_of_the_script(slurm: FakeSlurm) -> None:
    result = finish(slurm.start(SHOW, "--ranks"))
    assert result.code == 0, result.err
    started, shown = result.out.splitlines()[0], result.out.splitlines()[1]
    assert shlex.split(started)[:4] == ["Starting:", "srun", "-K1", "--mpi=pmi2"]
    assert json.loads(shown) == ["ALL", "1"]


def stopped(slurm: FakeSlurm, numbers: tuple[int, ...], code: int, *options: str) -> Result:
    """Send signals to a job whose program then ends with a code."""
    process = slurm.start(STOP.format(code), *options)
    wait_until((slurm.folder / "ready").exists, "no program", process)
    for number in numbers:
        process.send_signal(number)
    return finish(process)


def test_a_time_limit_queues_this_task_again(slurm: FakeSlurm) -> None:
    result = stopped(slurm, (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1), 75, "--requeue")
    assert result.out.splitlines()[-1] == "1", "asked more than once"
    assert result.code == -signal.SIGTERM, "Slurm ends it"
    assert slurm.queued_again() == ["requeue 7_2"]


@pytest.mark.parametrize(
    ("number", "code", "options"),
    [(signal.SIGTERM, 75, ("--requeue",)), (signal.SIGUSR1, 1, ("--requeue",)), (signal.SIGUSR1, 75, ())],
    ids=["asked to stop", "failed", "no requeue"],
)
def test_a_job_that_is_not_queued_again(slurm: FakeSlurm, number: int, code: int, options: tuple[str, ...]) -> None:
    assert stopped(slurm, (number,), code, *options).code == code
    assert slurm.queued_again() == []


def test_a_request_before_the_program_listens_costs_nothing(slurm: FakeSlurm) -> None:
    asks = "import os, signal, time; os.kill(os.getppid(), signal.SIGUSR1); time.sleep(20)"
    result = finish(slurm.start(asks, "--requeue"))
    assert result.code == -signal.SIGTERM, result.err
    assert slurm.queued_again() == ["requeue 7_2"]


def test_a_request_before_the_program_is_started_leaves_it_out(slurm: FakeSlurm) -> None:
    slurm.variables.pop("SLURM_MPI_TYPE")
    slurm.tool("srun", "kill -USR1 $PPID; echo pmi2")
    result = finish(slurm.start("print('started')", "--ranks", "--requeue"))
    assert (result.code, result.out) == (-signal.SIGTERM, "Asked to stop before anything was started.\n"), result.err
    assert slurm.queued_again() == ["requeue 7_2"]


@pytest.mark.parametrize(
    ("shown", "queued"),
    [
        ("COMPLETING Reason=TimeLimit", True),
        ("COMPLETING Reason=None", False),
        ("RUNNING Reason=None", False),
        ("", True),
    ],
    ids=["limit", "scancel", "TERM", "no answer"],
)
def test_a_job_that_is_cancelled_while_it_saves_does_not_come_back(
    slurm: FakeSlurm, shown: str, *, queued: bool
) -> None:
    show = f'[ "$1" = --oneliner ] && echo "JobId=9 JobState={shown} Dependency=(null)" && exit\n'
    slurm.tool("scontrol", show + 'echo "$@" >> scontrol.log; kill -TERM $PPID')
    result = stopped(slurm, (signal.SIGUSR1, signal.SIGTERM), 75, "--requeue")
    assert result.code == (-signal.SIGTERM if queued else 75)
    assert slurm.queued_again() == ["requeue 7_2"] * queued


LEAVE = (
    "import pathlib, sys; pathlib.Path('run/2/coordinator.msgpack').open('ab').write(pathlib.Path('new').read_bytes())"
)


@pytest.mark.parametrize(("ends", "code"), [(["stopped"], 75), (["ok"], 0), (["stopped", "ok"], 0), ([], 0)], ids=str)
def test_a_stop_that_the_launcher_keeps_to_itself_is_read_off_the_log(
    slurm: FakeSlurm, ends: list[str], code: int
) -> None:
    """Open MPI's mpirun ends with 0 when a signal has killed its daemon on another node."""
    for name in ("run/2", "other"):
        (slurm.folder / name).mkdir(parents=True)
        log = RunLog(slurm.folder / name / LOG_NAME, new=True)
        log.append("header", format=FORMAT, v=VERSION)
        log.append("end", status="stopped")  # of the job before
        before = (slurm.folder / name / LOG_NAME).stat().st_size
        if name == "other":
            for status in ends:
                log.append("end", status=status)
    (slurm.folder / "new").write_bytes((slurm.folder / "other" / LOG_NAME).read_bytes()[before:])
    command = [sys.executable, "-m", "workers.batch_job", "--", sys.executable, "-c", LEAVE, "--output", "run"]
    result = finish(popen(command, cwd=slurm.folder, env=slurm.variables))
    assert result.code == code, result.err


def test_ranks_that_go_on_saving_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = RunEnd(["python", "--output", str(tmp_path)])
    assert not end.is_stopped(0.0)  # nothing was written
    log = RunLog(tmp_path / LOG_NAME, new=True)
    log.append("header", format=FORMAT, v=VERSION)
    assert not end.is_stopped(0.0)
    monkeypatch.setattr(time, "sleep", lambda seconds: log.append("end", status="stopped"))
    assert end.is_stopped()
    assert not RunEnd(["python", "--resume", str(tmp_path)]).is_stopped(0.0)  # that was the job before


@pytest.mark.parametrize(
    "tool", ["echo 'Requested operation not permitted' >&2; exit 1", None], ids=["refused", "none"]
)
def test_a_job_that_slurm_does_not_queue_again_is_told_so(slurm: FakeSlurm, tool: str | None) -> None:
    if tool:
        slurm.tool("scontrol", tool)
    else:
        (slurm.folder / "scontrol").unlink()
        slurm.variables["PATH"] = str(slurm.folder)
    result = stopped(slurm, (signal.SIGUSR1,), 75, "--requeue")
    assert result.code == 75
    assert result.err.count("rankwise: not queued again: scontrol requeue 7_2 ended with ") == 1
    assert "Traceback" not in result.err


def test_after_a_hundred_restarts_it_is_told_why_it_ends(slurm: FakeSlurm) -> None:
    slurm.variables["SLURM_RESTART_COUNT"] = "100"
    result = stopped(slurm, (signal.SIGUSR1,), 75, "--requeue")
    assert (result.code, slurm.queued_again()) == (75, [])
    assert "rankwise: not queued again after 100 restarts" in result.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no program given"),
        (("--ranks", "--", "python"), "SLURM_JOB_ID is not set"),
        (("--rank",), "Unknown option: --rank"),
    ],
)
def test_wrong_use_ends_with_one_message(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    result = finish(popen([sys.executable, "-m", "workers.batch_job", *arguments], cwd=tmp_path))
    assert (result.code, result.out, result.err.count("rankwise:")) == (2, "", 1)
    assert said in result.err
