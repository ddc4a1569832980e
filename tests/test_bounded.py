"""Readers keep no more of a long or wide log than of another one: some figures of evenly spread epochs."""

import random
from pathlib import Path
from typing import Any

import pytest

from common import limits
from common.limits import EVENTS, FINDINGS, ITEMS
from common.run_files import LOG_NAME
from ps.logfile.reader import LogReader
from ps.logfile.writer import RunLog
from ps.reader import run_summary
from ps.reader.commands import whatif
from ps.reader.commands.show import show
from ps.reader.comparison_view import ComparisonView
from ps.reader.run_view import RunView
from tests import synthetic
from tests.synthetic import write_run

FINDING = {"code": "odd", "severity": "info", "ranks": [], "text": "odd", "remedy": "none", "evidence": {}}


def test_a_summary_finds_when_a_loss_was_reached_in_so_many_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_summary, "ITEMS", 100)
    head, rng, summary = synthetic.header(2), random.Random(0), run_summary.Summary()
    for number in range(1, 3001):
        record = synthetic.epoch(head, number, rng, {})
        summary.add(
            record | {"kind": "epoch", "elapsed_s": float(number), "loss": 1000 / number if number % 3 else 1000.0}
        )
    assert len(summary.lows.kept()) <= 100
    assert len(summary.medians.kept()) <= 100
    assert (summary.epochs, summary.least_loss) == (3000, 1000 / 2999)
    reached = summary.time_to(1.0)
    assert reached is not None
    assert 1000 <= reached <= 1000 + 2 * summary.lows.stride
    assert summary.time_to(1000 / 2999) == 2999  # what runs are compared at is the least loss of one of them
    assert summary.time_to(0.1) is None


def test_a_replay_keeps_seven_fields_of_so_many_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", epochs=300, ranks=16)

    def kept() -> list[dict[str, Any]]:
        epochs = whatif.Epochs()
        for record in LogReader(run / LOG_NAME).records():
            if record["kind"] == "epoch":
                epochs.add(record)
            assert len(epochs.whole.kept()) <= limits.EPOCHS_BY_RANK
        return epochs.whole.kept()

    assert 100 <= len(kept()) <= 200
    assert set(kept()[0]) == {"steps", *whatif.BY_RANK}
    monkeypatch.setattr(limits, "NUMBERS", 3_000)  # of 16 ranks x 7 fields in an epoch
    assert 14 <= len(kept()) <= 27
    monkeypatch.setattr(limits, "NUMBERS", 1)
    assert 4 <= len(kept()) <= whatif.LEAST_EPOCHS


def test_findings_events_and_sweeps_are_limited_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", epochs=1, end="")
    log = RunLog(run / LOG_NAME, new=False)
    for i in range(FINDINGS + 50):
        log.append("verdict", **FINDING | {"ranks": [i % 4]})
        log.append("event", what=f"of later versions {i}")
        log.append("event", what="error", message=f"error {i}")
    log.close()
    view, contents = RunView(run / LOG_NAME), ComparisonView()
    for record in LogReader(run / LOG_NAME).records():
        view.add(record)
    for i in range(ITEMS + 1):
        contents.add({"kind": "sweep", "n": i})
    assert (len(view.verdicts), view.n_verdicts) == (FINDINGS, FINDINGS + 50)
    assert len(view.counts) == FINDINGS
    assert len(view.events) <= FINDINGS + EVENTS
    assert len(contents.sweeps) == ITEMS
    assert show(run) == 0
    said = capsys.readouterr().out
    assert said.count("Note: odd") == FINDINGS
    assert "50 more verdicts are in the log" in said
