"""``python -m ps.log plot``: which pictures, what is in them, and that they are pictures."""

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import ConfigError, RankwiseError
from common.run_files import LOG_NAME
from ps.logfile.records import Record
from ps.logfile.writer import RunLog
from ps.reader.commands import plot as plot_module
from ps.reader.commands.plot import Figures, Point, plot, point
from ps.reader.run_view import RunView
from tests.ranks import epochs, records
from tests.synthetic import epoch, header, write_run


def pixels(path: Path) -> Any:
    """Return a PNG's pixels, (height, width, 3) from 0 to 255."""
    from PIL import Image

    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def shows(path: Path, colour: str) -> bool:
    """Say whether a good many pixels are of a colour."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((abs(pixels(path) - wanted).max(axis=2) < 30).sum()) > 100


def of_run(run: Path, stride: int = 1) -> Figures:
    found = records(run)
    names = list(found[0]["model"]["parameters"])
    points = [point(record, names, 64) for record in found if record["kind"] == "epoch"]
    view = RunView(run / LOG_NAME)
    for record in found:
        view.add(record)
    return Figures(view, names, points, stride)


def with_epochs(folder: Path, changes: list[Record], ranks: int = 3, **of_header: Any) -> Path:
    """Write a run of epochs in which some fields are changed."""
    head, rng = header(ranks, **of_header), random.Random(0)
    found = [("epoch", epoch(head, i, rng, {}) | change) for i, change in enumerate(changes, 1)]
    return write_run(folder, epochs=0, ranks=ranks, more=found, end="", **of_header)


def test_pictures_of_a_killed_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", epochs=12, ranks=3, end="")
    data = (run / LOG_NAME).read_bytes()
    (run / LOG_NAME).write_bytes(data[:-50])
    assert plot(run) == 0
    captured = capsys.readouterr()
    names = ["loss_plot.png", "sync_time_plot.png", *(f"contribution_plot_rank_{rank}.png" for rank in range(3))]
    assert captured.out.splitlines() == [str(run / name) for name in names]
    assert "unfinished record" in captured.err
    assert sorted(path.name for path in run.iterdir()) == sorted([LOG_NAME, *names])
    for name in names:
        assert pixels(run / name).shape == (540, 1080, 3)
    assert shows(run / "loss_plot.png", plot_module.COLOURS[0])
    assert shows(run / "loss_plot.png", plot_module.COLOURS[1])
    assert shows(run / "sync_time_plot.png", plot_module.BLACK)
    for colour in (*plot_module.COLOURS[:4], plot_module.BLACK):
        assert shows(run / names[-1], colour)


def test_lines_hold_the_figures_of_the_log(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", epochs=20, ranks=4, slow={1: 2.0}, nodes=2)
    found, drawn = epochs(run), of_run(run)
    loss, metric = drawn.loss().axes
    assert list(loss.lines[0].get_xdata()) == list(range(1, 21))
    assert list(loss.lines[0].get_ydata()) == [e["loss"] for e in found]
    assert list(loss.lines[1].get_ydata()) == [e["validation_loss"] for e in found]
    assert list(metric.lines[0].get_ydata()) == [e["validation_metric"] for e in found]
    (sync,) = drawn.sync_time().axes
    assert sync.get_ylabel() == "wait and transfer (ms per epoch)"
    means = [1e3 * sum(e["sync_s"]) / 4 for e in found]
    assert np.allclose(sync.lines[1].get_ydata(), means)
    assert np.allclose(sync.lines[0].get_ydata(), [1e3 * max(e["sync_s"]) for e in found])
    assert sync.get_ylim()[0] == 0
    (share,) = drawn.contribution(2, (0.0, 1.0)).axes
    assert share.get_title(loc="left").startswith("Contribution of rank 2 on node1")
    assert "%" in share.get_ylabel()
    texts = [text.get_text() for text in share.get_legend().get_texts()]
    assert texts == ["equal share", "W1", "b1", "W2", "b2", "all parameters"]
    lines = {tuple(line.get_ydata()) for line in share.lines}
    for values in (*(tuple(e["share"][name][2] for e in found) for name in ("W1", "b2")),
                   tuple(e["share_all"][2] for e in found)):  # fmt: skip
        assert values in lines


def test_long_runs_are_thinned_and_calmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", epochs=50, ranks=2)
    made: list[int] = []

    class Counted(Figures):
        def __init__(self, view: RunView, names: list[str], points: list[Point], stride: int) -> None:
            super().__init__(view, names, points, stride)
            made.append(len(points))
            assert (float(points[0]["epoch"]), float(points[-1]["epoch"])) == (1, 50)
            assert self.loss().axes[-1].get_xlabel() == f"epoch (one in {stride} drawn)"

    monkeypatch.setattr(plot_module, "DRAWN_EPOCHS", 20)
    monkeypatch.setattr(plot_module, "Figures", Counted)
    plot(run, output=tmp_path / "out")
    assert made == [14]  # 1, 5, ..., 49 and 50
    monkeypatch.setattr(plot_module, "MANY_POINTS", 50)
    monkeypatch.setattr(plot_module, "WINDOWS", 5)
    (axes,) = of_run(run).sync_time().axes
    assert axes.get_xlabel() == "epoch; lines are moving medians"
    raw, calm = axes.lines[0].get_ydata(), axes.lines[1].get_ydata()
    assert calm[20] == np.median(raw[15:26])
    assert calm[0] == np.median(raw[:6])


def test_of_many_ranks_the_first_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plot_module, "DRAWN_RANKS", 2)
    run = write_run(tmp_path / "run", ranks=5, sizes=(4, 4, 4, 4, 4, 4))
    plot(run, output=tmp_path / "new" / "folder")
    out = capsys.readouterr().out
    assert "Contributions are drawn of the first 2 of 5 ranks." in out
    assert "Contributions are drawn of the first 8 of 10 parameters." in out
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 4


def test_values_far_off_do_not_flatten_the_others(tmp_path: Path) -> None:
    usual = [{"share_all": [0.3, 0.3, 0.4]} for _ in range(100)]
    odd = {"share_all": [-500.0, 501.0, 0.0], "sync_s": [9.0, 1e-4, 1e-4]}
    drawn = of_run(with_epochs(tmp_path / "run", [*usual[:50], odd, *usual[50:]]))
    limits = drawn.share_limits()
    assert limits[0] > -0.2
    assert limits[1] < 1
    (axes,) = drawn.contribution(0, limits).axes
    assert axes.get_xlabel() == "epoch; 1 value(s) lie beyond the axis"
    early = [{"share_all": [-0.19, 0.6, 0.59]}, *usual]
    drawn = of_run(with_epochs(tmp_path / "early", early))
    assert drawn.share_limits()[0] < -0.19  # a moderate one is shown


@pytest.mark.parametrize(
    "change",
    [
        {"share_all": [None] * 3, "share": dict.fromkeys(("W1", "b1", "W2", "b2"), [None] * 3)},
        {"validation_loss": None, "validation_metric": None},
        {"loss": 1e308, "share_all": [1e308, -1e308, None], "sync_s": [1e308] * 3, "wait_s": [1e308] * 3},
        {key: [0.0] * 3 for key in ("sync_s", "wait_s", "transfer_s")},
    ],
    ids=["undefined", "no validation", "huge", "no time"],
)
def test_extremes_are_drawn(tmp_path: Path, change: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot_module, "DRAWN_RANKS", 1)
    run = with_epochs(tmp_path / "run", [change])
    assert plot(run) == 0
    loss, *metric = of_run(run).loss().axes
    assert len(metric) == (0 if "validation_loss" in change else 1)
    assert loss.get_yscale() == ("log" if "loss" in change else "linear")


def test_names_are_no_formulas(tmp_path: Path) -> None:
    run = write_run(tmp_path / "$x_{$" / "run_$\\frac$", epochs=0, end="")
    head = header(2)
    head["nodes"][0]["host"] = "$\\host{$ 世界"
    head["model"]["parameters"] = {"_hidden": [1], "$\\w{$": [1], "x" * 60: [1]}
    (run / LOG_NAME).unlink()
    log = RunLog(run / LOG_NAME)
    log.append("header", **head)
    log.append("epoch", **epoch(head, 1, random.Random(0), {}))
    log.close()
    assert plot(run) == 0
    (axes,) = of_run(run).contribution(0, (0.0, 1.0)).axes
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts[1:4] == ["_hidden", "$\\w{$", f"{'x' * 37}..."]


def test_a_log_without_epochs_is_one_message(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", epochs=0, end="")
    with pytest.raises(RankwiseError, match="no epoch in this log, so there is nothing to draw"):
        plot(run, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", epochs=1, ranks=1)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot make"):
        plot(run, output=tmp_path / "file")
    (tmp_path / "out" / "loss_plot.png").mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot write"):
        plot(run, output=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["loss_plot.png"]  # nothing half written


def test_matplotlib_is_asked_for_and_pyplot_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", epochs=1, ranks=1)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert plot(run, output=tmp_path / "out") == 0
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RankwiseError, match=r"pip install 'rankwise\[report\]'"):
        plot(run, output=tmp_path / "out")
