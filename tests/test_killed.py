"""What a job leaves behind that SIGKILL ends in its middle, launcher and ranks at once: every reader reads it."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from common.run_files import FAILURE_NAME
from ps.reader.commands.export import export
from ps.reader.commands.list_runs import list_runs
from ps.reader.commands.plot import plot
from ps.reader.commands.report import report
from ps.reader.commands.show import show
from ps.reader.commands.trace import trace
from ps.reader.commands.watch import watch
from ps.reader.commands.whatif import whatif
from tests.ranks import MPIRUN, epochs, finish, kill_all, popen, records, wait_for_epochs, wait_until

RANKS = 2
Print = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kill a job that is training, and return what it left."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    command = [MPIRUN, "-np", str(RANKS), sys.executable, "-m", "workers.run", "--epochs", "100000", "--hidden", "16"]
    process = popen([*command, "--output", str(folder)], cwd=folder.parent)
    wait_for_epochs(process, folder, 6)
    assert kill_all(str(folder)) >= RANKS + 1
    assert finish(process).code != 0
    last = folder / FAILURE_NAME  # written by the process that watches the ranks, in two steps
    wait_until(lambda: last.exists() and last.read_text(), "nobody tells of the death")
    return folder


def test_every_command_tells_the_death(run: Path, capsys: Print) -> None:
    assert records(run)[-1]["kind"] != "end"
    assert show(run) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "/run: died" in said
    assert "The job died: rankwise: rank" in said
    assert watch(run) == 1
    assert "The job died: rankwise: rank" in capsys.readouterr().out
    assert list_runs(run.parent) == 0
    (line,) = [line.split() for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["run"]][1:]
    assert line[-1] == "died"
    assert f"{epochs(run)[-1]['epoch']}/100000" in line


def test_report_trace_pictures_and_replay(run: Path, tmp_path: Path, capsys: Print) -> None:
    assert report(run, output=tmp_path / "report.html") == 0
    page = (tmp_path / "report.html").read_text()
    assert "State: died." in page
    assert f"{len(epochs(run)):,} of 100,000" in page
    assert trace(run, output=tmp_path / "trace.json") == 0
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {e["tid"] for e in events if e["name"] == "backward"} == {1, 2}
    assert plot(run, output=tmp_path) == 0
    assert (tmp_path / "loss_plot.png").stat().st_size > 1000
    assert whatif(run) == 0
    assert "as it was (replay)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["csv", "jsonl", "markdown"])
def test_exports(run: Path, tmp_path: Path, kind: str) -> None:
    output = tmp_path / "out"
    whole: Callable[..., int] = export
    assert whole(run, **{kind: True}, output=output) == 0
    text = output.read_text()
    if kind == "csv":
        assert len(list(csv.reader(text.splitlines()))) == 1 + RANKS * len(epochs(run))
    elif kind == "jsonl":
        assert [json.loads(line)["seq"] for line in text.splitlines()] == [r["seq"] for r in records(run)]
    else:
        assert text.startswith("# Run run: died\n")


def test_tensorboard(run: Path, tmp_path: Path) -> None:
    assert export(run, tensorboard=tmp_path / "events") == 0
    assert list((tmp_path / "events").rglob("*tfevents*"))
