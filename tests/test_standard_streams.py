"""Commands whose standard input, output or error is closed, on a full disk, or read by nobody: no traceback."""

import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common import standard_streams
from common.errors import RankwiseError
from tests.ranks import environment, records
from tests.synthetic import write_run

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
SHOW, NO_LOG = "ps.log show log", "ps.log show no-log"
TRAIN, WRONG = "workers.run --epochs 1 --hidden 4 --output {}", "workers.run --epochs 0"
HELP, VERSION = "workers.run --help", "workers.run --version"
BENCH = "workers.bench --layers 8,4,2 --batch 8 --rounds 2 --mode allreduce --json {}.json"
SUPERVISE = "workers.supervise -np 1 -- --epochs 1 --hidden 4 --output {}"
NONE_GIVEN = "workers.supervise"
CLOSED = (">&-", "2>&-", "<&-", "<&- >&- 2>&-")
UNWRITABLE = "rankwise: output: cannot be written (No space left on device)\n"


def run_all(cases: list[tuple[str, str]], folder: Path) -> list[tuple[int, str]]:
    """Run commands in a shell, each with a redirection; return their codes and what they wrote to either stream.

    That goes to a file in between, lest a redirection of one stream be one of the other.
    """
    write_run(folder / "log", epochs=3, ranks=2)

    def run(number: int, command: str, redirection: str) -> tuple[int, str]:
        kept = folder / f"{number}.out"
        whole = f"{shlex.quote(sys.executable)} -m {command.format(f'out-{number}')} {redirection}"
        with kept.open("w") as file:
            code = subprocess.run(
                ["bash", "-o", "pipefail", "-c", whole], stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=folder,
                env=environment(), timeout=100, check=False,
            ).returncode  # fmt: skip
        return code, kept.read_text()

    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(run, range(len(cases)), *zip(*cases, strict=True)))


def check(cases: list[tuple[str, str, int, str]], folder: Path) -> None:
    """``cases``: command, redirection, and the code and the last line of all that can be read afterwards."""
    found = run_all([case[:2] for case in cases], folder)
    for (command, redirection, code, last), (got, text) in zip(cases, found, strict=True):
        assert (got, "Traceback" in text, "Exception ignored" in text) == (code, False, False), (
            f"{command} {redirection}: {text}"
        )
        if last:
            assert text.endswith(last), f"{command} {redirection}: {text}"


@pytest.mark.slow
def test_closed_streams_are_none_of_a_commands_business(tmp_path: Path) -> None:
    codes = {SHOW: 0, NO_LOG: 1, "ps.log --help": 0, TRAIN: 0, WRONG: 2, HELP: 0, BENCH: 0, SUPERVISE: 0, NONE_GIVEN: 2}
    check([(command, closed, code, "") for command, code in codes.items() for closed in CLOSED], tmp_path)
    runs = sorted(path.parent for path in tmp_path.glob("out-*/coordinator.msgpack"))
    assert len(runs) == 2 * len(CLOSED)
    for run in runs:  # no line that was meant for a terminal is in a file that got its number
        assert records(run)[-1]["status"] == "ok"
    assert len(list(tmp_path.glob("out-*.json"))) == len(CLOSED)


@pytest.mark.slow
@needs_full
def test_a_full_disk_is_one_message_where_the_output_is_the_result(tmp_path: Path) -> None:
    cases = [(command, ">/dev/full", 1, UNWRITABLE) for command in (SHOW, "ps.log --help", HELP, VERSION, BENCH)]
    cases += [(command, "2>/dev/full", code, "") for command, code in ((NO_LOG, 1), (WRONG, 2), (NONE_GIVEN, 2))]
    cases += [(command, ">/dev/full 2>/dev/full", code, "") for command, code in ((SHOW, 1), (HELP, 1), (TRAIN, 0))]
    cases += [(TRAIN, ">/dev/full", 0, ""), (TRAIN, "2>/dev/full", 0, ""), (BENCH, "2>/dev/full", 0, "")]
    check(cases, tmp_path)
    assert len(list(tmp_path.glob("out-*.json"))) == 2  # a file that was asked for is written all the same


def test_a_reader_that_has_seen_enough_is_no_fault(tmp_path: Path) -> None:
    commands = (SHOW, "ps.log --help", "ps.log watch log", TRAIN, HELP, VERSION, BENCH, "workers.supervise --help")
    check([(command, "| true", 0, "") for command in commands], tmp_path)


FAILS = """
from docs.examples.own_model import SkipNet

class Net(SkipNet):
    def loss_grad(self, *arguments):
        raise RuntimeError("on purpose")
"""


@needs_full
def test_a_rank_that_fails_ends_the_job_though_it_cannot_say_why(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(FAILS)
    command = "workers.run --model fails:Net --no-check-model --output {}"
    redirections = (">&- 2>&-", ">/dev/full 2>/dev/full", ">/dev/full")
    for code, _ in run_all([(command, redirection) for redirection in redirections], tmp_path):
        assert code == 1
    for number in range(len(redirections)):
        assert "RuntimeError: on purpose" in (tmp_path / f"out-{number}" / "failure.txt").read_text()


def test_the_three_are_open_for_processes_that_are_started(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys\n"
        "from common import standard_streams\n"
        "standard_streams.open_closed()\n"
        "assert os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY) > 2\n"
        "print('nowhere'); sys.stderr.write('nowhere'); assert sys.stdin.read() == ''\n"
        "inner = 'import os; [os.fstat(n) for n in range(3)]'\n"
        "sys.exit(subprocess.run([sys.executable, '-c', inner]).returncode)\n"
    )
    whole = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {shlex.quote(str(tmp_path / 'file'))} <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", whole], env=environment(), check=False).returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


def test_an_error_of_a_file_is_not_one_of_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileNotFoundError), standard_streams.as_result():
        os.stat("no-such-file")
    with pytest.raises(RankwiseError, match=r"^output: cannot be written"), standard_streams.as_result():
        raise OSError(28, "No space left on device")
    standard_streams.complain("one line")
    assert capsys.readouterr().err == "one line\n"
