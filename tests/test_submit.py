"""Submitting to Slurm: the script as a function of its options, what cannot be had, and jobs on a real Slurm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import ConfigError
from common.slurm_time import minutes
from common.wording import duration
from slurm import cluster, script, submitting
from slurm.job import Job
from slurm.job import fields as job_fields
from slurm.options import SubmitConfig
from tests.conftest import ROOT
from tests.ranks import Result, environment, finish, popen

GOLDEN = ROOT / "tests" / "scripts"
MADE = {
    "short": SubmitConfig(),
    "sizes": SubmitConfig(
        nodes=3, ntasks_per_node=16, cpus_per_task=2, time="1-00:00:00", mem="64G", mpi="pmix",
        arguments=("--mode", "send-recv", "--data", "my file's.csv", "--epochs", "50"),
    ),
    "array": SubmitConfig(
        array="0-7%2", job_name='my "best" run', partition="long,short", account="p-12", qos="high", supervise=True,
        sbatch_args="--constraint='[rack1|rack2]' --exclusive --signal=B:USR1@300",
        arguments=("--seed", "%a", "--output=runs/seed-%a"),
    ),
}  # fmt: skip
MARK = "\n# What was submitted"
SHIPPED = "#!/bin/bash\n#SBATCH --nodes=2\n#SBATCH --time=1:00:00\n\nprintf '%s\\0' \"$@\"\n"
SINFO = """\
debug*|up|1:00:00|1-2|2|2|4000
long|up|7-00:00:00|1-infinite|8|64|257000
long|up|7-00:00:00|1-infinite|2|128+|1000000
old|drain|infinite|1-infinite|1|8|16000
later|down|infinite|1-infinite|1|8|16000
"""


def made(name: str) -> str:
    """Return what is kept in a file: all but the shipped script's own lines, which stand below."""
    config = MADE[name]
    shipped = script.template(config)
    whole = script.batch_script(shipped, config, "/opt/my venv", safe_path=name == "array")
    head, rest = whole.split(MARK)
    ours, body = rest.split("\n\n", 1)
    assert shipped.endswith(f"\n\n{body}")
    lines = [line for line in head.splitlines() if not line.startswith("# ")]
    return "\n".join([*lines, MARK.strip() + ours, ""])


@pytest.mark.parametrize("name", MADE)
def test_the_script_is_a_function_of_the_options(name: str) -> None:
    """``python -m tests.test_submit`` writes the files anew."""
    assert made(name) == (GOLDEN / f"{name}.sbatch").read_text()


@pytest.mark.parametrize("name", MADE)
def test_bash_takes_the_script(name: str) -> None:
    text = script.batch_script(script.template(MADE[name]), MADE[name], "/opt/my venv")
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


HOSTILE = (
    "; touch hacked", "$(touch hacked)", "`touch hacked`", "' ; touch hacked ; '", '"; touch hacked; "', "\\", "\\'",
    "'", '"', "a\nb", "\n#SBATCH --wrap=x\ntouch hacked", "$HOME", "${PATH}", "*", "~", "!!", "&& touch hacked",
    "| touch hacked", "> hacked", "", " ", "\t", "--", "-x", "é€\u2028", "\x1b[2J", "#", "%a", "a%ab", "\r", "{a,b}",
    "$SLURM_ARRAY_TASK_ID", "%a$(touch hacked)%a", "'%a'", "<(touch hacked)", "=ls",
)  # fmt: skip


@pytest.mark.parametrize("array", ["", "3-5"], ids=["job", "array"])
def test_bash_gets_each_argument_as_it_was_given(array: str, tmp_path: Path) -> None:
    text = script.batch_script(SHIPPED, SubmitConfig(arguments=HOSTILE, array=array, job_name="$(touch hacked)"))
    result = subprocess.run(
        ["bash"], input=text.encode(), env={"SLURM_ARRAY_TASK_ID": "4"}, cwd=tmp_path, capture_output=True, check=True
    )
    expected = [word.replace("%a", "4") if array else word for word in HOSTILE]
    assert result.stdout.decode().split("\0")[:-1] == expected
    assert result.stderr == b""
    assert list(tmp_path.iterdir()) == []


def test_so_do_paths_of_python_and_types_of_mpi(tmp_path: Path) -> None:
    text = script.batch_script(SHIPPED, SubmitConfig(mpi="pmi2"), "/opt/a'; touch hacked; $(touch hacked)")
    text += 'printf "%s\\n" "$VIRTUAL_ENV" "${PATH%%:*}" "$SLURM_MPI_TYPE"\n'
    result = subprocess.run(["bash"], input=text, cwd=tmp_path, text=True, capture_output=True, check=True)
    prefix = "/opt/a'; touch hacked; $(touch hacked)"
    assert result.stdout.splitlines() == ["\0" + prefix, f"{prefix}/bin", "pmi2"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"job_name": "a\n#SBATCH --wrap=reboot"}, "job_name: got 'a\\n#SBATCH"),
        ({"partition": "a b"}, "partition: got 'a b'"),
        ({"partition": "$(reboot)"}, "partition: got"),
        ({"account": "x\ny"}, "account: got"),
        ({"qos": "-x"}, "qos: got"),
        ({"mpi": "pmix; reboot"}, "mpi: got"),
        ({"time": "soon"}, "time: got 'soon'; allowed is minutes,"),
        ({"mem": "much"}, "mem: got"),
        ({"array": "1-"}, "array: got"),
        ({"array": "5-3"}, "array: got '5-3'; allowed is from a number to a higher one up to 4,000,000"),
        ({"array": "0-99999999999999999999"}, "array: got '0-99999999999999999999'"),
        ({"supervise": True, "mpi": "pmix"}, "mpi: got 'pmix'; the supervisor starts ranks by mpirun"),
        ({"nodes": -1}, "nodes: got -1; allowed is at least 1"),
        ({"cpus_per_task": 0}, "cpus_per_task: got 0; allowed is at least 1"),
        ({"sbatch_args": "--wrap=x\ny"}, "sbatch_args: got 'y'"),
        ({"sbatch_args": "'--x=a\n#SBATCH --y'"}, "sbatch_args: got"),
        ({"sbatch_args": "--nodes=3"}, "sbatch_args: got '--nodes=3'; give --nodes to this command"),
        ({"sbatch_args": "'"}, "sbatch_args: got"),
        ({"sbatch_args": "--clusters=b", "watch": True}, "watch: a job on another cluster"),
        ({"arguments": ("\udc80",)}, "command line: got"),
    ],
)
def test_values_that_no_script_may_hold(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SubmitConfig(**given)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("1:30", 1.5), ("2:00:00", 120), ("1-0", 1440), ("1-2:30", 1590), ("1-02:30:30", 1590.5)],
)
def test_times_are_read_as_slurm_reads_them(text: str, expected: float) -> None:
    assert minutes(text) == expected
    assert minutes("UNLIMITED") == float("inf")


def test_durations_in_words() -> None:
    said = [duration(s) for s in (0, 59.4, 90, 3600, 18_600, 3599.6, 86_400, 100_000)]
    assert said == ["0 s", "59 s", "1 min 30 s", "1 h", "5 h 10 min", "1 h", "1 d", "1 d 4 h"]


def refused(**wanted: str) -> str:
    """Return what is said of a job that asks for this on the cluster of SINFO, or nothing."""
    try:
        cluster.check({name.replace("_", "-"): value for name, value in wanted.items()}, cluster.read(SINFO))
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"partition": "lnog"}, "partition: there is no 'lnog' (did you mean 'long'?). This cluster has:"),
        ({"nodes": "3"}, "nodes: got 3; allowed is at most 2 in debug"),
        ({"partition": "long", "nodes": "11"}, "nodes: got 11; allowed is at most 10 in long"),
        ({"ntasks_per_node": "3"}, "ntasks-per-node: got 3 tasks a node; in debug its nodes have 2 CPUs"),
        ({"partition": "long", "ntasks_per_node": "65", "nodes": "3"}, "ntasks-per-node: got 65 tasks a node; in long"),
        ({"cpus_per_task": "4"}, "cpus-per-task: got 1 task a node with 4 CPUs each; in debug its nodes have 2 CPUs"),
        ({"time": "2:00:00"}, "time: got 2:00:00; allowed is at most 1:00:00 in debug"),
        ({"mem": "8G"}, "mem: got 8G; the nodes of debug have 4000 MB"),
        ({"partition": "old"}, "partition: old takes no jobs now (drain)"),
        ({"time": "0"}, "time: got 0; allowed is at most 1:00:00 in debug"),
        ({"nodes": "9", "time": "infinite"}, "nodes: got 9; allowed is at most 2 in debug; time: got infinite;"),
    ],
)  # fmt: skip
def test_what_no_node_can_give_is_told_with_what_there_is(wanted: dict[str, str], message: str) -> None:
    said = refused(**wanted)
    assert said.startswith(f"submit: {message}")
    assert "\n  debug (default): 2 nodes (2 x 2 CPUs 4000 MB), time limit 1:00:00\n" in said
    assert "\n  long: 10 nodes (8 x 64 CPUs 251 GB, 2 x 128 CPUs 977 GB), time limit 7-00:00:00\n" in said


@pytest.mark.parametrize(
    "wanted",
    [
        {}, {"nodes": "2", "ntasks_per_node": "2", "time": "60", "mem": "4000M"},
        {"partition": "long", "ntasks_per_node": "128", "nodes": "2"}, {"partition": "debug,long", "nodes": "10"},
        {"partition": "later"}, {"clusters": "other", "nodes": "99"}, {"overcommit": "", "ntasks_per_node": "8"},
        {"qos": "long", "time": "9:00:00"},
    ],
)  # fmt: skip
def test_what_can_be_had_is_not_refused(wanted: dict[str, str]) -> None:
    assert refused(**wanted) == ""


def test_the_run_folder_is_found_in_the_arguments() -> None:
    given = {
        ("--output", "a"): "a", ("--output=a b",): "a b", ("-oa",): "a", ("-o", "a-%a"): "a-%a",
        ("--epochs", "2"): "runs/slurm-7",
    }  # fmt: skip
    for arguments, folder in given.items():
        assert Job("7", SubmitConfig(arguments=arguments), "").run == Path(folder)
    assert Job("7", SubmitConfig(arguments=("-o", "a-%a"), array="3-4"), "").run == Path("a-3/3")
    assert Job("7", SubmitConfig(), "rankwise-%j.out").output == Path.cwd() / "rankwise-7.out"
    assert Job("7", SubmitConfig(array="3-4"), "%A_%a.out").output == Path.cwd() / "7_3.out"
    assert Job("7", SubmitConfig(job_name="a"), "/tmp/%x %%%j%u").output == Path("/tmp/a %7%u")
    assert Job("7", SubmitConfig(array="3-4"), "").run == Path("runs/slurm-7_3")
    elsewhere = Job("7", SubmitConfig(sbatch_args="--chdir='/a b'"), "%j.out")
    assert (elsewhere.run, elsewhere.output) == (Path("/a b/runs/slurm-7"), Path("/a b/7.out"))


def test_a_job_is_read_from_scontrol_whatever_its_name_and_folder_are() -> None:
    job = Job("7", SubmitConfig(job_name="x JobState=FAILED "), "")
    line = (
        "JobId=7 JobName=x JobState=FAILED  UserId=me(0) JobState=RUNNING Reason=None NodeList=n[1-2] ExitCode=0:0 "
        "WorkDir=/a JobState=COMPLETED b StdOut=/a JobState=COMPLETED b/my file.out Power= "
    )
    found = job_fields(line, job)
    assert (found["JobState"], found["NodeList"], found["Power"]) == ("RUNNING", "n[1-2]", "")
    assert job_fields("JobId=7 StdOut=/a b/my file.out\n", job)["StdOut"] == "/a b/my file.out"


def test_variables_of_sbatch_are_heeded_unless_an_option_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PARTITION": "long", "TIMELIMIT": "30", "MEM_PER_NODE": "5G", "OUTPUT": "x"}.items():
        monkeypatch.setenv(f"SBATCH_{name}", value)
    submitting._forget_variables(SubmitConfig(time="20"))
    assert submitting.of_variables() == {"partition": "long", "mem": "5G"}
    assert "SBATCH_OUTPUT" not in os.environ


def test_a_file_without_a_line_of_options_is_no_array(tmp_path: Path) -> None:
    (tmp_path / "options.txt").write_text("# nothing yet\n")
    with pytest.raises(ConfigError, match="has no line of options"):
        SubmitConfig(lines=str(tmp_path / "options.txt"))


def test_a_line_of_options_is_a_task(tmp_path: Path) -> None:
    file = tmp_path / "my options.txt"
    file.write_text("--seed 3\n# not this one\n\n--seed 4 -o mine\n")
    config = SubmitConfig(lines=str(file), arguments=("--epochs", "2"))
    text = script.batch_script(script.template(config), config)
    assert f"\nset -- '{file}' --epochs 2\n" in text
    assert "\n#SBATCH --array=1-2\n" in text
    assert Job("7", config, "").run == Path("runs/slurm-7_1")
    assert Job("7", SubmitConfig(lines=str(file), array="2", arguments=("--epochs", "2")), "").run == Path("mine")
    file.write_text("--seed 3\n--sede 4\n")
    wrong = submit("--dry-run", "--lines", str(file), folder=tmp_path)
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.startswith(f"rankwise: line 2 of {file}: Unknown option: --sede. Did you mean --seed?")


def submit(*arguments: str, folder: Path, **variables: str) -> Result:
    return finish(popen([sys.executable, "-m", "slurm.submit", *arguments], env=environment(**variables), cwd=folder))


def test_without_slurm_it_is_one_message(tmp_path: Path) -> None:
    result = submit("--nodes", "2", folder=tmp_path, PATH=str(tmp_path))
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith(
        "rankwise: submit: sinfo is not on the PATH, so this is no machine that Slurm's jobs are"
    )
    printed = submit("--nodes", "2", "--dry-run", "--", "--epochs", "3", folder=tmp_path, PATH=str(tmp_path))
    assert printed.code == 0, printed.err
    assert "\n#SBATCH --nodes=2\n" in printed.out
    assert "\nset -- --epochs 3\n" in printed.out
    wrong = submit("--dry-run", "--", "--mode", "nope", folder=tmp_path, PATH=str(tmp_path))
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.startswith("rankwise: mode: unknown value 'nope'")
    assert list(tmp_path.iterdir()) == []


if __name__ == "__main__":
    for one in MADE:
        (GOLDEN / f"{one}.sbatch").write_text(made(one))
