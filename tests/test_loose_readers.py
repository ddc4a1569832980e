"""What readers say of ranks that do not keep in step; of those that do, not a word."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.run_files import LOG_NAME
from ps.logfile.deduplicated import DeduplicatedReader
from ps.logfile.records import Record
from ps.logfile.schema import Check
from ps.logfile.writer import RunLog
from ps.reader.commands.compare import compare
from ps.reader.commands.show import show
from ps.reader.commands.waiting_for import step_s, table
from ps.reader.commands.watch_screen import Lines
from ps.reader.commands.whatif import whatif
from ps.reader.export.csv_json import csv_lines
from ps.reader.export.markdown import markdown_lines
from ps.reader.report.data import RunData
from ps.reader.report.loose import has_any, loose
from ps.reader.report.page import _sections as sections
from ps.reader.run_view import RunView
from ps.text.loose import summary
from tests.synthetic import epoch, header

LOOSE: Record = {
    "pushes": [30, 30, 10, None], "staleness_mean": [1.0, 2.0, 4.0, None], "staleness_most": [3, 4, 9.0, None],
    "clock_gap": [5.0, 3.0, 0.0, 0.0], "late": [0, 1, 9, 0], "dropped": [0, 0, 2, 0], "drift": [0.01, 0.02, 0.031, 0.0],
    "update_share": [0.4, 0.4, 0.2, 0.0],
}  # fmt: skip
TITLE = "How loosely ranks kept in step"


def write(folder: Path, **more: Any) -> Path:
    folder.mkdir()
    log, head = RunLog(folder / LOG_NAME), header(4)
    log.append("header", **head)
    for number in (1, 2):
        log.append("epoch", **epoch(head, number, random.Random(0), {}) | more)
    log.close()
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """A run of each kind."""
    return write(tmp_path / "exact"), write(tmp_path / "loose", **LOOSE)


def test_a_line_says_what_all_ranks_did() -> None:
    assert summary(LOOSE) == (
        "staleness 1.86 (most 9), 5 steps ahead at most, 10 late, 2 dropped, drift 3.10 % at most"
    )  # (30 + 60 + 40) / 70 pushes
    assert summary({"staleness_mean": [1.0, 2.0]}) == "staleness 1.5"
    assert summary({}) == summary({"late": [0, None], "drift": [None]}) == ""


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (show, (TITLE, "had no rows left", "most stale", "steps ahead", "update %")),
        (lambda run: compare(run, run), ("out of step, last epoch", "10 late")),
        (whatif, ("did not keep in step",)),
    ],
)
def test_commands(
    read: Callable[[Path], int], words: tuple[str, ...], runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    exact, loose_run = runs
    read(loose_run)
    text = " ".join(capsys.readouterr().out.split())
    assert all(word in text for word in words)
    read(exact)
    text = " ".join(capsys.readouterr().out.split())
    assert not any(word in text for word in words)


def test_what_was_not_measured_is_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = {"sampled_steps": [], "share_all": [None] * 4, "share": {k: [None] * 4 for k in ("W1", "b1", "W2", "b2")}}
    for name, said in ("measured", True), ("not", False):
        run = write(tmp_path / name, **LOOSE | ({} if said else nothing))
        show(run)
        assert ("How certain the shares are" in capsys.readouterr().out) == said
        text = "".join(markdown_lines(DeduplicatedReader(run / LOG_NAME, Check())))
        assert ("## Contribution" in text) == said
        assert ("Contribution" in {section.title for section in sections(RunData(run))}) == said


def test_watch(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for run, said in zip(runs, (False, True), strict=True):
        view, lines = RunView(run / LOG_NAME), Lines()
        for record in view.read():
            lines.add(view, record)
        assert (", staleness 1.86 (most 9), 5 steps ahead" in capsys.readouterr().out) == said


def test_exports(runs: tuple[Path, Path]) -> None:
    for run, said in zip(runs, (False, True), strict=True):
        text = "".join(markdown_lines(DeduplicatedReader(run / LOG_NAME, Check())))
        assert (f"## {TITLE} in epoch 2" in text) == said
        lines = list(csv_lines(DeduplicatedReader(run / LOG_NAME, Check())))
        titles, *rows = (line.rstrip("\n").split(",") for line in lines)
        found = [row[titles.index("late")] for row in rows[:4]]
        assert found == (["0", "1", "9", "0"] if said else [""] * 4)


def test_the_report_has_a_section(runs: tuple[Path, Path]) -> None:
    exact, data = (RunData(run) for run in runs)
    assert not has_any(exact)
    assert has_any(data)
    section = loose(data)
    assert [chart.title for chart in section.charts] == ["Staleness", "Steps ahead", "Drift", "Share of the updates"]
    assert "most rank 2, 4." in section.charts[0].summary
    assert section.notes == ["In the epochs shown 20 late and 4 dropped gradients."]
    (by_rank,) = section.tables
    assert by_rank.rows[2] == ["2", "10", "4", "9", "0", "9", "2", "3.10", "20.00"]


def test_the_curve_of_k_by_hand() -> None:
    work = np.array([[1.0, 1.0, 1.0, 3.0], [1.0, 3.0, 1.0, 1.0], [1.0, 1.0, 2.0, 3.0]])
    assert step_s(work, 0.5) == pytest.approx([1.5, 1.5, 1.5 + 1 / 3, 3.5])
    found = table(work, 0.5)
    assert found is not None
    assert [line[0] for line in found.rows] == ["1", "2", "3", "4"]
    assert [line[4] for line in found.rows] == ["", "", "most a second", ""]
    assert float(found.rows[2][3]) == pytest.approx((3.5 / 4) / ((1.5 + 1 / 3) / 3), abs=0.01)


def test_without_a_gain_there_is_no_curve() -> None:
    assert table(np.ones((3, 4)), 0.1) is None
    assert table(np.ones((3, 1)), 0.1) is None
    assert table(np.zeros((3, 4)), 0.0) is None
