"""``python -m ps.log whatif``: the replay against figures worked out by hand."""

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import LogError, RankwiseError
from common.run_files import LOG_NAME
from ps.logfile.records import Record
from ps.logfile.writer import RunLog
from ps.reader.commands.whatif import dealt_by_speed, replay, rows_by_speed, whatif, without_straggler
from tests.synthetic import epoch, header, write_run


def write(folder: Path, changes: list[Record], ranks: int = 4, **of_header: Any) -> Path:
    """Write a run of as many epochs as there are changes to the synthetic one."""
    folder.mkdir()
    log, head = RunLog(folder / LOG_NAME), header(ranks)
    log.append("header", **head | of_header)
    for number, change in enumerate(changes, 1):
        log.append("epoch", **epoch(head, number, random.Random(0), {}) | change)
    log.close()
    return folder


def times(compute: list[float], transfer: float = 1.0, loop: float = 10.0, **more: list[float]) -> Record:
    zeros = [0.0] * len(compute)
    return {
        "compute_s": compute,
        "transfer_s": [transfer] * len(compute),
        "loop_s": [loop] * len(compute),
        "input_s": zeros,
        "reduce_s": zeros,
        "sampling_s": zeros,
        "rows": [100] * len(compute),
    } | more


def table(text: str) -> dict[str, list[float]]:
    """Return the figures of the table by the first words of its lines."""
    lines = itertools.takewhile(str.strip, text[text.index("as fast") :].splitlines()[2:])
    found = (line.rsplit(None, 3) for line in lines)
    return {name.strip(): [float(figure) for figure in figures] for name, *figures in found}


def test_the_model_against_figures_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whatif(write(tmp_path / "run", [times([2.0, 2.0, 2.0, 4.0])]))
    out = capsys.readouterr().out
    assert "gives 5 s an epoch, 50 % less than the 10 s recorded" in out
    found = table(out)
    assert found["as it was (replay)"] == [5, 0, 1]
    assert found["without the straggler: rank 3 like the median of the others"] == [3, 2, 1.67]
    assert found["rows dealt by speed (--balance speed)"] == [3.286, 1.71, 1.52]  # work: 400 / 175
    assert found["perfect balance: every rank works the mean time"] == [3.5, 1.5, 1.43]
    assert found["without any communication (lower bound)"] == [4, 1, 1.25]
    rows = [line.split() for line in out.splitlines() if " node0 " in line]
    assert [int(row[-1]) for row in rows] == [115, 114, 114, 57]  # 114.29, three times, and 57.14


def test_work_holds_input_and_measuring_and_exchange_holds_the_summing(tmp_path: Path) -> None:
    """A slice's owner sums it in its compute time; with another mode it would not."""
    zero_and_two = [0.0, 2.0]
    own = replay(
        [times([3.0, 5.0], input_s=[0.5, 0.5], sampling_s=[0.25, 0.25], reduce_s=zero_and_two) | {"steps": 20}]
    )
    assert own.work_s.tolist() == [3.75, 3.75]
    assert own.exchange_s == 1 + 1
    assert own.epoch_s == 5.75


def test_the_first_of_many_epochs_is_left_out_and_medians_are_taken() -> None:
    slow = times([100.0, 100.0], transfer=50.0, loop=200.0) | {"steps": 1}
    rest = [times([float(c), 1.0], loop=float(c)) | {"steps": 20} for c in (2, 9, 3)]
    own = replay([slow, *rest])
    assert (own.epochs, own.skipped) == (3, True)
    assert own.work_s.tolist() == [3.0, 1.0]
    assert (own.exchange_s, own.recorded_s, own.steps) == (1.0, 3.0, 20)
    assert replay([slow, *rest[:2]]).epochs == 3


def test_dealing_by_speed_gains_what_the_formula_says() -> None:
    """Seconds a row 1, 1, 1, 2: max(t) sum(1/t) / P = 1.75."""
    work, rows = np.array([1.0, 1.0, 1.0, 2.0]), np.ones(4)
    assert work.max() / dealt_by_speed(work, rows).max() == pytest.approx(1.75)
    assert without_straggler(work).tolist() == [1, 1, 1, 1]
    assert without_straggler(np.array([5.0, 5.0])).tolist() == [5, 5]


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10**6)), min_size=1, max_size=50),
)
def test_rows_dealt_by_speed_add_up(ranks: list[tuple[float, int]]) -> None:
    work, rows = np.array([w for w, _ in ranks]), np.array([float(n) for _, n in ranks])
    dealt = rows_by_speed(work, rows)
    assert dealt.sum() == rows.sum()
    assert (dealt >= 0).all()
    assert np.isfinite(dealt_by_speed(work, rows)).all()


def test_a_straggler_of_a_long_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whatif(write_run(tmp_path / "run", epochs=300, ranks=32, slow={21: 3.0}))
    out = capsys.readouterr().out
    assert "the first left out" in out
    found = table(out)
    gain = next(figures for name, figures in found.items() if "rank 21 like" in name)
    assert gain[2] == pytest.approx(0.31 / 0.11, rel=0.1)
    assert "8 of 32 ranks that stand out" in out


def test_another_modes_transfer_takes_the_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write(tmp_path / "run", [times([4.0, 4.0]) | {"steps": 10}], ranks=2)
    summed = times([4.0, 4.0], transfer=0.5, reduce_s=[0.5, 0.5]) | {"steps": 20}
    other = write(tmp_path / "other", [summed], ranks=2, packet_bytes=8)
    whatif(run, other=other)
    found = table(capsys.readouterr().out)
    name = f"transfer of {other}, mode allreduce (measured with 8 bytes, unlike this run)"
    assert found[name] == [4.5, 0.5, 1.11]  # 1 s in 20 steps, of which this run has 10


def test_a_comparison_tells_the_transfer_of_each_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write(tmp_path / "run", [times([4.0, 4.0]) | {"steps": 10}], ranks=2)
    (tmp_path / "comparison").mkdir()
    log = RunLog(tmp_path / "comparison" / LOG_NAME)
    log.append("header", **header(2), purpose="comparison")
    log.append("comparison", **comparison({"allreduce": (0.1, 0.0), "shared": (0.01, 0.01)}))
    log.close()
    whatif(run, other=tmp_path / "comparison")
    found = table(capsys.readouterr().out)
    assert found["transfer of mode allreduce"][0] == 5
    assert found["transfer of mode shared"][0] == 4.2
    with pytest.raises(RankwiseError, match="and this comparison as --other"):
        whatif(tmp_path / "comparison")


def comparison(modes: dict[str, tuple[float, float]]) -> Record:
    """Return a record of medians of transfer and reduce by mode."""

    def interval(median: float) -> Record:
        return {"median": median, "low": median, "high": median}

    seconds = ("seconds", "step_s", "compute_s", "input_s", "wait_s", "time_to_loss_s")
    return {
        "trials": 5, "confidence": 0.95, "method": "", "loss": 1.0, "tolerance": 0.0, "fastest": "shared",
        "sentences": [],
        "modes": [
            {
                "mode": mode, **dict.fromkeys(seconds, interval(1.0)), "transfer_s": interval(transfer),
                "reduce_s": interval(reduce), "bus_bytes_per_s": None, "sent_bytes_most": 1, "sent_bytes_all": 1,
                "rank_peak_bytes": 1, "node_bytes": 1, "loss": 1.0, "parameter_difference": 0.0, "agrees": True,
                "outcome": "fastest", "ratio": 1.0, "p": None,
            }
            for mode, (transfer, reduce) in modes.items()
        ],
    }  # fmt: skip


def test_one_rank_has_no_straggler(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whatif(write_run(tmp_path / "run", ranks=1))
    assert list(table(capsys.readouterr().out)) == ["as it was (replay)", "without any communication (lower bound)"]


def test_what_cannot_be_replayed_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    with pytest.raises(RankwiseError, match="no epoch in this log"):
        whatif(write_run(tmp_path / "none", epochs=0, end=""))
    with pytest.raises(RankwiseError, match="no epoch in this log"):
        whatif(run, other=tmp_path / "none")
    with pytest.raises(RankwiseError, match="no log at"):
        whatif(run, other=tmp_path / "nowhere")
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(LogError, match="not a rankwise log"):
        whatif(run, other=tmp_path / "junk")


@pytest.mark.parametrize("number", [-1e300, -1.0, 0.0, 1e300])
def test_absurd_times_do_no_harm(tmp_path: Path, number: float, capsys: pytest.CaptureFixture[str]) -> None:
    absurd = times([number, 1.0], transfer=number, loop=number) | {"rows": [-(2**53), 2**53], "steps": -1}
    assert whatif(write(tmp_path / "run", [absurd], ranks=2), other=tmp_path / "run") == 0
    capsys.readouterr()
