"""What is shown of a preparation that takes long: nothing at first, then a line on a terminal, or few lines."""

import os
import pty

import pytest

from common.status_line import ERASE
from workers.preparation import progress
from workers.preparation.progress import Progress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_few_lines_where_there_is_no_terminal(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "launcher_terminal", lambda: "")
    shown = Progress(clock=clock)
    shown.begin("Preparing t.csv")
    for i in range(1, 601):
        clock.now = 100 + i / 10
        shown.show(i / 600)
    shown.close()
    assert capsys.readouterr().out.splitlines() == [
        "Preparing t.csv: 3 %, 0:59 left", "Preparing t.csv: 20 %, 0:49 left", "Preparing t.csv: 53 %, 0:29 left",
    ]  # fmt: skip


def test_nothing_is_said_of_a_short_one(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "launcher_terminal", lambda: "")
    shown = Progress(clock=clock)
    shown.begin("Preparing t.csv")
    clock.now += 1.9
    shown.show(0.9)
    shown.close()
    assert capsys.readouterr().out == ""


def test_it_never_goes_back(clock: Clock) -> None:
    shown = Progress(clock=clock)
    shown.begin("Preparing t.csv")
    for done in (0.5, 0.25, 7.0):
        shown.show(done)
        assert shown.text(clock.now + 10) == f"Preparing t.csv: {'100 %' if done > 1 else '50 %, 0:11 left'}"
    shown.begin("Preparing again")
    assert shown.text(clock.now) == "Preparing again: 0 %"


def test_one_line_on_a_terminal(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.setattr(progress, "launcher_terminal", lambda: os.ttyname(theirs))
    shown = Progress(clock=clock)
    shown.begin("Preparing t.csv")
    for seconds, done in ((1.0, 0.1), (2.0, 0.25), (2.1, 0.3), (5.0, 0.5)):
        clock.now = 100 + seconds
        shown.show(done)
    shown.close()
    drawn = b""
    while drawn.count(ERASE.encode()) < 3:  # the terminal may hand it over in parts
        drawn += os.read(ours, 1000)
    assert drawn.decode().split(ERASE) == [
        "",
        "Preparing t.csv: 25 %, 0:07 left\r",
        "Preparing t.csv: 50 %, 0:06 left\r",
        "",
    ]
    for handle in (ours, theirs):
        os.close(handle)
