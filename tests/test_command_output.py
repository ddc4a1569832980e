"""Where commands of the log write: regular files, standard output, and nothing left when they are ended."""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from ps.reader.commands import cli
from tests.kinds import limited
from tests.ranks import environment, finish, popen
from tests.synthetic import write_run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a run, and go to the folder above it."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "good", epochs=2, ranks=2)
    return tmp_path / "runs"


@pytest.mark.parametrize("words", [["report", "runs/good"], ["trace", "runs/good"], ["export", "--csv", "runs/good"]])
def test_only_files_are_written_and_only_regular_ones_replaced(words: list[str], runs: Path) -> None:
    folder = runs.parent
    os.mkfifo("pipe")
    places = {"/": "is the root of all folders", "..": "is a folder", "runs": "is a folder",
              "pipe": "is a named pipe", "/dev/null": "is a device", "no/file": "No such file",
              "runs/good/coordinator.msgpack": "is the log itself"}  # fmt: skip
    if not os.geteuid():
        os.mknod("null", 0o20666, os.makedev(1, 3))
        places["null"] = "is a device"
    for place, what in places.items():
        before = os.lstat(place) if os.path.lexists(place) else None
        found = limited(partial(cli.main, [*words, "--output", place]), folder)
        assert found.code == 2, (place, found)
        assert found.err.startswith("rankwise: output: ")
        assert what in found.err
        assert found.err.count("\n") == 1
        assert before is None or os.path.samestat(os.lstat(place), before)
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize("place", ["-", "/dev/stdout"])
def test_standard_output_gets_what_is_written_and_nothing_else(place: str, runs: Path) -> None:
    trace = limited(lambda: cli.main(["trace", "runs/good", "-o", place]), runs.parent)
    assert trace.code == 0, trace
    assert json.loads(trace.out)["traceEvents"]
    assert "sampled steps" in trace.err
    page = limited(lambda: cli.main(["report", "runs/good", "-o", place]), runs.parent)
    assert page.out.endswith("</html>"), page.out[-200:]
    lines = limited(lambda: cli.main(["export", "--jsonl", "runs/good", "-o", place]), runs.parent)
    assert [json.loads(line)["kind"] for line in lines.out.splitlines()][::5] == ["header", "end"]
    assert not Path("-").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_ended_while_it_writes_leaves_no_temporary_file(number: int, runs: Path) -> None:
    """The file is written slowly: into it the command writes a trace, and waits in its middle."""
    slow = (
        "import sys, time\n"
        "from ps.reader.commands import cli, trace\n"
        "def write(file, timeline):\n"
        "    file.write(b'half')\n"
        "    print('writes', flush=True)\n"
        "    time.sleep(60)\n"
        "trace._write = write\n"
        "cli.main(['trace', 'runs/good', '-o', 'trace.json'])\n"
    )
    process = popen([sys.executable, "-c", slow], cwd=runs.parent, env=environment())
    assert process.stdout is not None
    assert process.stdout.readline() == "writes\n"
    assert list(runs.parent.glob(".trace.json.*.part"))
    process.send_signal(number)
    ended = finish(process)
    assert ended.code == -number
    assert "Traceback" not in ended.err
    assert not list(runs.parent.glob(".trace.json.*"))
    assert not Path("trace.json").exists()


def test_a_reader_that_has_gone_leaves_no_temporary_file(runs: Path) -> None:
    command = [sys.executable, "-m", "ps.log", "report", "runs/good", "-o", "page.html"]
    process = popen(command, cwd=runs.parent)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr is not None
    process.stderr.close()
    assert sorted(path.name for path in runs.parent.iterdir()) == ["page.html", "runs"]
