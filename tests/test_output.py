"""What a run prints: its first lines, its progress on a terminal or in a file, the result, and how to go on."""

import itertools
import os
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest

from common import status_line
from common.status_line import ERASE, StatusLine
from common.wording import count, listed
from ps.coordinator import display
from ps.coordinator.display import Ended, Lines, Progress
from ps.coordinator.sync_table import LINES, SyncTable
from ps.text.formatting import time_left
from ps.text.run_facts import job_lines
from tests.ranks import MPIRUN, SharedStart, finish, popen, records
from tests.synthetic import header
from tests.terminal import Terminal, until

FIRST = [
    r"Mode allreduce, 2 ranks on 1 node \(\S+\)",
    r"Data digits: 1,259 rows train, 179 validate, 359 test; 64 features, 10 classes",
    r"Model mlp 64-8-10: 610 parameters, adam, batch 64, (\d+) epochs? of 20 steps",
]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    """Return jobs that share a start."""
    small = ["-m", "workers.run", "--hidden", "8"]
    jobs = {
        "few": [*small, "--epochs", "3"],
        "kept": [*small, "--epochs", "2"],
        "many": [*small, "--epochs", "230"],
        "all": [*small, "--epochs", "60", "--verbose"],
        "patient": [*small, "--epochs", "200", "--patience", "3", "--learning-rate", "0.1"],
        "skipping": [*small, "--epochs", "120", "--nonfinite", "skip", "--inject", "nan:rank=1,step=1145"],
    }
    return SharedStart(tmp_path_factory.mktemp("jobs"), {name: (2, options) for name, options in jobs.items()})


def lines_of(batch: SharedStart, name: str) -> list[str]:
    batch.run(name)
    return batch[name].out.splitlines()


def epochs_in(lines: list[str]) -> list[int]:
    return [int(found[1]) for line in lines if (found := re.match(r"Epoch (\d+)/", line))]


def test_the_first_three_lines_say_what_is_trained_where(batch: SharedStart) -> None:
    for name, epochs in (("few", "3"), ("many", "230")):
        lines = lines_of(batch, name)
        matches = [re.fullmatch(pattern, line) for pattern, line in zip(FIRST, lines, strict=False)]
        assert all(matches), lines[:3]
        assert matches[2]
        assert matches[2][1] == epochs
        assert max(map(len, lines[:3])) <= 80


def test_few_epochs_get_a_line_each_and_the_result_comes_last(batch: SharedStart) -> None:
    lines = lines_of(batch, "few")
    assert epochs_in(lines) == [1, 2, 3]
    run = batch.run("few")
    end = records(run)[-1]
    tested = f"Test: loss {end['test_loss']:.4g}, accuracy {100 * end['test_metric']:.2f} % (359 rows)"
    assert lines[-4:-1] == [
        tested,
        f"Saved in {run}: coordinator.msgpack, model.npz, text files.",
        f"Read: python -m ps.log show {run}",
    ]
    command = shlex.split(lines[-2].removeprefix("Read: "))
    assert command[0] == "python"
    read = finish(popen([sys.executable, *command[1:]]))
    assert read.code == 0, read.err
    assert read.out.startswith(f"{run}: done")


def test_a_finished_run_names_the_command_that_trains_on(batch: SharedStart) -> None:
    run = batch.run("kept")
    last = lines_of(batch, "kept")[-1]
    assert last == f"Train on: mpirun -np 2 python -m workers.run --resume {run} --epochs 4"
    words = [sys.executable if word == "python" else word for word in shlex.split(last.removeprefix("Train on: "))]
    again = finish(popen([MPIRUN, *words[1:]]))
    assert again.code == 0, again.err
    assert epochs_in(again.out.splitlines()) == [3, 4]


def test_commands_are_named_as_the_job_was_started(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "workers.rankwise", "train", "-n", "2", "--hidden", "8", "--epochs", "1"]
    result = finish(popen([*command, "--output", "my run"], cwd=tmp_path))
    assert result.code == 0, result.err
    *_, read, on = result.out.splitlines()
    assert read == "Read: rankwise log show 'my run'"
    assert on == "Train on: rankwise train -n 2 --resume 'my run' --epochs 2"
    for line in (read, on):
        words = shlex.split(line.partition(": ")[2])
        assert words[0] == "rankwise"
        assert finish(popen([*command[:4], *words[1:]], cwd=tmp_path)).code == 0


def test_many_epochs_are_thinned_but_for_the_first_the_last_and_those_with_events(batch: SharedStart) -> None:
    found = epochs_in(lines_of(batch, "many"))
    verdicts = sum(record["kind"] == "verdict" for record in records(batch.run("many")))
    assert found[:10] == list(range(1, 11))
    assert found[-1] == 230
    assert 40 <= len(found) <= 50 + verdicts
    skipping = lines_of(batch, "skipping")
    assert 58 in epochs_in(skipping)  # 1,145 = 57 x 20 + 5
    assert sum("From here on, one epoch in 3 gets a line" in line for line in skipping) == 1
    shown = epochs_in(lines_of(batch, "all"))
    assert shown == list(range(1, 61))
    stopped = lines_of(batch, "patient")
    end = records(batch.run("patient"))[-1]
    assert epochs_in(stopped)[-1] == end["epochs"] < 200
    at = next(i for i, line in enumerate(stopped) if line.startswith("Stopping early"))
    assert any(line.startswith(f"Epoch {end['epochs']}/200") for line in stopped[at - 2 : at])
    tested = next(line for line in stopped if line.startswith("Test: "))
    assert tested.endswith(f"(359 rows, with the parameters of epoch {end['best_epoch']})")


def test_the_table_of_sums_has_at_most_20_lines_and_all_epochs(batch: SharedStart) -> None:
    for name, epochs in (("few", 3), ("many", 230)):
        lines = lines_of(batch, name)
        start = next(i for i, line in enumerate(lines) if line.startswith("Time of the sums"))
        body = list(itertools.takewhile(re.compile(r" *\d").match, lines[start + 2 :]))
        assert len(body) + 2 <= LINES
        places = [re.match(r" *(\d+)(?: to (\d+))? ", line) for line in body]
        covered = [n for found in places if found for n in range(int(found[1]), int(found[2] or found[1]) + 1)]
        assert covered == list(range(1, epochs + 1))
        sums = [sum(r["sync_s"]) / 2 for r in records(batch.run(name)) if r["kind"] == "epoch"]
        lengths = [int(f[2] or f[1]) - int(f[1]) + 1 for f in places if f]
        means = [float(line.split()[-4]) for line in body]
        assert sum(mean * n for mean, n in zip(means, lengths, strict=True)) == pytest.approx(sum(sums), abs=2e-4)


def test_the_table_of_sums_of_any_number_of_epochs() -> None:
    for n in (1, 18, 19, 36, 37, 1000):
        table = SyncTable()
        for epoch in range(1, n + 1):
            table.add(epoch, (3.0, 1.0, 2.0, 6.0))
        lines = table.lines()
        assert len(lines) <= LINES
        assert len(lines) > min(n, 8) + 1
        assert all(line.split()[-4:] == ["3.000000", "1.000000", "2.000000", "50.0"] for line in lines[2:])
        assert lines[-1].split()[-5] == str(n)
    assert SyncTable().lines() == []


def test_one_rank_has_no_table_of_sums(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "workers.run", "--hidden", "8", "--epochs", "1", "--output", str(tmp_path / "run")]
    result = finish(popen(command, cwd=tmp_path))
    assert result.code == 0, result.err
    assert result.out.startswith("Mode allreduce, 1 rank on 1 node (")
    assert "1 epoch of 20 steps" in result.out
    assert "Time of the sums" not in result.out


def test_a_stopped_run_names_the_command_that_continues_it(tmp_path: Path) -> None:
    command = [MPIRUN, "-np", "2", sys.executable, "-m", "workers.run", "--hidden", "8", "--epochs", "100000"]
    process = popen([*command, "--output", "run"], cwd=tmp_path)
    assert process.stdout is not None
    head: list[str] = []
    while not head or not head[-1].startswith("Epoch 2/"):
        head.append(process.stdout.readline())
    os.kill(records(tmp_path / "run")[0]["pid"], signal.SIGTERM)
    result = finish(process)
    assert result.code == 75, result.err
    last = result.out.splitlines()[-1]
    assert last == "Continue: mpirun -np 2 python -m workers.run --resume run"
    words = [sys.executable if word == "python" else word for word in shlex.split(last.removeprefix("Continue: "))]
    again = popen([MPIRUN, *words[1:]], cwd=tmp_path)
    assert again.stdout is not None
    lines: list[str] = []
    while not lines or not lines[-1].startswith("Epoch "):
        lines.append(again.stdout.readline())
        assert lines[-1], lines
    pid = next(record["pid"] for record in reversed(records(tmp_path / "run")) if "pid" in record)
    os.kill(pid, signal.SIGTERM)
    assert finish(again).code == 75
    continued = r"Continues run at epoch [\d,]+(, after \d+ steps? of it)?; before it ran on 2 ranks\n"
    assert any(re.fullmatch(continued, line) for line in lines)


@pytest.mark.parametrize("n", [1, 2])
def test_a_terminal_shows_one_line_of_progress_that_gives_way(n: int, tmp_path: Path) -> None:
    """Without a launcher, which is asked to stop, and under one, whose rank 0 is killed: nothing is left behind."""
    launcher = [MPIRUN, "-np", "2"] if n > 1 else []
    options = ["--hidden", "8", "--epochs", "1000000", "--output", "run"]
    terminal = Terminal([*launcher, sys.executable, "-m", "workers.run", *options], columns=80, cwd=tmp_path)
    drawing = re.compile(r"\r\x1b\[K(Epoch [^:\r]* [^\r]*)\r(?!\n)")
    until(lambda: len(drawing.findall(terminal.text)) >= 3)
    os.kill(records(tmp_path / "run")[0]["pid"], signal.SIGKILL if launcher else signal.SIGTERM)
    code = terminal.finish()
    assert code == 75 or (launcher and code)
    plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in drawing.findall(terminal.text)]
    figures = r"Epoch [\d,]+/1,000,000( [━╸╺ ]+)?( loss [\d.e-]+, accuracy [\d.]+ %)?( ([\d:]+|[\d,]+ days?) left)?"
    for line in plain:
        assert len(line) <= 79
        assert re.fullmatch(figures, line), line
    assert any("left" in line and "━" in line for line in plain)
    lines = terminal.lines
    assert lines[0].startswith("Mode allreduce, ")
    assert not any("left" in line or "━" in line for line in lines), lines
    if launcher:
        assert any(line.startswith("rankwise: rank 0 on ") and "killed by SIGKILL" in line for line in lines), lines
    else:
        assert epochs_in(lines)
        assert "Continue: mpirun -np 1 python -m workers.run --resume run" in lines


def test_a_terminal_shows_the_last_epoch_and_the_result_at_the_end(tmp_path: Path) -> None:
    command = [MPIRUN, "-np", "2", sys.executable, "-m", "workers.run", "--hidden", "8", "--epochs", "4"]
    for more, shown in (([], [4]), (["--verbose"], [1, 2, 3, 4])):
        terminal = Terminal([*command, *more], columns=80, cwd=tmp_path)
        assert terminal.finish() == 0
        lines = [line for line in terminal.lines if line]
        assert epochs_in(lines) == shown
        assert lines[-2].startswith("Read: python -m ps.log show runs/")
    dumb = Terminal(command, columns=80, cwd=tmp_path, TERM="dumb")
    assert dumb.finish() == 0
    assert epochs_in(dumb.lines) == [1, 2, 3, 4]
    assert "\x1b" not in dumb.text


def test_a_launcher_in_a_file_or_in_the_background_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    found = status_line.launcher_terminal.__wrapped__
    monkeypatch.setattr(status_line, "eldest_launcher", lambda: (4711, "mpirun"))
    monkeypatch.setattr("os.readlink", lambda path: {"/proc/4711/fd/1": "/dev/pts/9"}[path])
    monkeypatch.setattr("os.open", lambda *_: 9)
    monkeypatch.setattr("os.close", lambda _: None)
    monkeypatch.setattr("os.isatty", lambda handle: handle == 9)
    fields = ["S", "1", "4711", "4000", "34816", "4711"]
    monkeypatch.setattr(status_line, "stat_fields", lambda _: fields)
    assert found() == "/dev/pts/9"
    fields[5] = "4712"  # the terminal listens to another job
    assert found() == ""
    fields[5] = "4711"
    monkeypatch.setattr("os.readlink", lambda path: "/home/me/out.txt")
    assert found() == ""
    monkeypatch.setattr("os.readlink", lambda path: "pipe:[1]")
    assert found() == ""
    monkeypatch.setattr("os.readlink", lambda path: (_ for _ in ()).throw(PermissionError()))
    assert found() == ""
    monkeypatch.setattr(display, "launcher_terminal", found)
    assert isinstance(display.make(3, False, lambda: (1, 0), 5), Lines)


class Written(StatusLine):
    """A line that keeps what would be on the terminal."""

    def __init__(self) -> None:
        super().__init__("/dev/null")
        self.texts: list[str] = []

    def _write(self, text: str) -> None:
        self.texts.append(text)


def test_nothing_is_drawn_while_a_line_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    line = Written()
    line.draw("one")
    line.erase()
    line.draw("two")
    clock[0] += 1
    line.draw("three")
    line.erase()
    line.erase()
    assert line.texts == [f"{ERASE}one\r", ERASE, f"{ERASE}three\r", ERASE]


def test_progress_knows_the_time_left_and_keeps_to_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    at = [1, 0]
    progress = Progress(Written(), lambda: (at[0], at[1]), 10, 20)
    progress._bar, progress._began = display.Bar(), (100.0, 0.0)
    assert "left" not in progress.text(101.0, 79)
    progress.epoch(Ended(1, "Epoch 1/10: loss 1", "loss 1", False))
    at[:] = [2, 10]  # 15 % in 30 s: 170 s are left
    assert progress.text(130.0, 79).endswith("loss 1 2:51 left")
    assert progress.text(130.0, 79).startswith("Epoch 2/10 ")
    for width in (40, 45, 60, 79, 200):
        text = re.sub(r"\x1b\[[\d;]*m", "", progress.text(130.0, width))
        assert len(text) <= width
        assert "2:51 left" in text
    at[:] = [0, 20]  # the final test
    assert "2/10" not in progress.text(160.0, 79)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    progress._bar = display.Bar()
    assert re.search(r"\[#+\.+\]", progress.text(160.0, 79))


def test_times_left() -> None:
    assert [time_left(s) for s in (0.2, 59.5, 3599, 7322.9, 90_000, 1e300)] == [
        "0:01", "1:00", "1:00:00", "2:02:03", "1 day", "11,574 days",
    ]  # fmt: skip


def test_numbers_of_things() -> None:
    assert [count(n, "node") for n in (0, 1, 2, 1259)] == ["0 nodes", "1 node", "2 nodes", "1,259 nodes"]
    assert count(1, "class", "classes") == "1 class"
    assert count(2, "class", "classes") == "2 classes"
    assert [listed(list("abcdef")[:n], 3) for n in range(5)] == ["", "a", "a and b", "a, b and c", "a, b, ... and d"]


def test_lines_of_other_jobs() -> None:
    head = header(300, nodes=40)
    assert job_lines(head)[0] == "Mode allreduce, 300 ranks on 40 nodes (node[0-39])"
    head["data"] |= {"classes": None, "targets": 1, "rows": {"train": 1, "validation": 0, "test": 0}, "features": 1}
    head["config"] |= {"mode": "auto", "batch_size": 0, "epochs": 1}
    head["steps_per_epoch"] = 1
    first, data, model = job_lines(head, "3, then 2")
    assert first.startswith("Mode auto (allreduce), 3, then 2 ranks on 40 nodes (")
    assert data == "Data synthetic: 1 row train, 0 validate, 0 test; 1 feature, 1 target"
    assert model.endswith(", adam, all rows in a batch, 1 epoch of 1 step")
