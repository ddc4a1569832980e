"""``python -m ps.log plot``: which pictures, what is in them, and that they are pictures."""

import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import ConfigError, RankwiseError
from common.run_files import LOG_NAME
from ps.logfile.records import Record
from ps.logfile.writer import RunLog
from ps.reader.commands import plot as plot_module
from ps.reader.commands import plot_figures
from ps.reader.commands.plot import plot, point
from ps.reader.commands.plot_figures import Figures, Point
from ps.reader.run_view import RunView
from tests.ranks import epochs, finish, popen, records
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
    points = [point(record, names) for record in found if record["kind"] == "epoch"]
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
    assert shows(run / "loss_plot.png", plot_figures.COLOURS[0])
    assert shows(run / "loss_plot.png", plot_figures.COLOURS[1])
    assert shows(run / "sync_time_plot.png", plot_figures.BLACK)
    for colour in (*plot_figures.COLOURS[:4], plot_figures.BLACK):
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
        def __init__(self, view: RunView, names: list[str], points: list[Point], stride: int, **more: bool) -> None:
            super().__init__(view, names, points, stride, **more)
            made.append(len(points))
            assert (float(points[0]["epoch"]), float(points[-1]["epoch"])) == (1, 50)
            assert self.loss().axes[-1].get_xlabel() == f"epoch (one in {stride} drawn)"

    monkeypatch.setattr(plot_module, "DRAWN_EPOCHS", 20)
    monkeypatch.setattr(plot_module, "Figures", Counted)
    plot(run, output=tmp_path / "out")
    assert made == [14]  # 1, 5, ..., 49 and 50
    monkeypatch.setattr(plot_figures, "MANY_POINTS", 50)
    monkeypatch.setattr(plot_figures, "WINDOWS", 5)
    (axes,) = of_run(run).sync_time().axes
    assert axes.get_xlabel() == "epoch; lines are moving medians"
    raw, calm = axes.lines[0].get_ydata(), axes.lines[1].get_ydata()
    assert calm[20] == np.median(raw[15:26])
    assert calm[0] == np.median(raw[:6])


def test_many_ranks_are_a_map_and_few_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """256 ranks: at most 16 files, in which the ranks stand out that do, in far less than 5 s of computing."""
    changes = []
    for number in range(30):
        shares = [1 / 256] * 256
        for rank, times in ((7, 3.0), (99, -2.0), (200, 1.5)):
            shares[rank] = times * (1 + 0.01 * number) / 256
        changes.append({"share_all": shares})
    run = with_epochs(tmp_path / "run", changes, ranks=256, nodes=4)
    began = time.process_time()
    assert plot(run, output=tmp_path / "new" / "folder") == 0
    assert time.process_time() - began < 5
    files = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert len(files) <= 16
    assert {f"contribution_plot_rank_{rank}.png" for rank in (7, 99, 200)} < files
    assert {"loss_plot.png", "sync_time_plot.png", "contribution_plot_all_ranks.png"} < files
    assert pixels(tmp_path / "new" / "folder" / "contribution_plot_all_ranks.png").shape == (540, 1080, 3)
    out = capsys.readouterr().out
    assert "Of 256 ranks, those that stand out have a picture of their own: " in out
    assert "7" in out.split("own: ")[1]


def test_the_map_holds_every_share_of_every_rank(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", epochs=20, ranks=40, nodes=2)
    axes, bar = of_run(run).contribution_map().axes
    (mesh,) = axes.collections
    expected = [[40 * record["share_all"][rank] for record in epochs(run)] for rank in range(40)]
    np.testing.assert_allclose(mesh.get_array(), expected)
    assert axes.get_ylim() == (39.5, -0.5)
    assert axes.get_ylabel() == "rank"
    assert [text.get_text() for text in axes.texts] == ["node0", "node1"]
    assert bar.get_ylabel().startswith("share of the update, as a multiple of an equal one")


def test_one_rank_far_off_does_not_rule_the_colours(tmp_path: Path) -> None:
    usual: list[Record] = [{"share_all": [0.02 + 0.001 * (rank % 3) for rank in range(50)]} for _ in range(10)]
    usual[4] = {"share_all": [-900.0, *[None] * 49]}
    axes, _ = of_run(with_epochs(tmp_path / "run", usual, ranks=50)).contribution_map().axes
    low, high = axes.collections[0].get_clim()
    assert (low + high) / 2 == pytest.approx(1)
    assert high - low < 0.3
    assert axes.collections[0].get_array().mask[1:, 4].all()


def test_very_many_ranks_share_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot_figures, "DRAWN_ROWS", 4)
    run = write_run(tmp_path / "run", epochs=2, ranks=9)
    axes, _ = of_run(run).contribution_map().axes
    (mesh,) = axes.collections
    first = [9 * np.mean(record["share_all"][:3]) for record in epochs(run)]
    np.testing.assert_allclose(mesh.get_array()[0], first)
    assert mesh.get_array().shape == (3, 2)
    assert axes.get_ylabel() == "rank (a row is the mean of 3)"


@pytest.mark.parametrize(("ranks", "files"), [(14, 16), (15, 11)])
def test_at_most_16_files(tmp_path: Path, ranks: int, files: int) -> None:
    drawn = of_run(write_run(tmp_path / "run", epochs=2, ranks=ranks))
    assert 2 + drawn.many + len(drawn.single) == files


def test_of_many_parameters_the_first_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", ranks=1, sizes=(4, 4, 4, 4, 4, 4))
    plot(run)
    assert "Contributions are drawn of the first 8 of 10 parameters." in capsys.readouterr().out


def test_values_far_off_do_not_flatten_the_others(tmp_path: Path) -> None:
    usual = [{"share_all": [0.3, 0.3, 0.4]} for _ in range(100)]
    odd = {"share_all": [-500.0, 501.0, 0.0], "sync_s": [9.0, 1e-4, 1e-4]}
    drawn = of_run(with_epochs(tmp_path / "run", [*usual[:50], odd, *usual[50:]]))
    limits = drawn.share_limits()
    assert limits[0] > -0.2
    assert limits[1] < 1
    (axes,) = drawn.contribution(0, limits).axes
    assert axes.get_xlabel() == "epoch; 1 value beyond the axis"
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
@pytest.mark.parametrize("files", [16, 4], ids=["by rank", "map"])
def test_extremes_are_drawn(tmp_path: Path, change: Record, files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot_figures, "DRAWN_FILES", files)
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


def test_settings_in_a_run_folder_are_not_read(tmp_path: Path) -> None:
    """They may have matplotlib start LaTeX, and with it any command."""
    run = write_run(tmp_path / "run", epochs=2, ranks=1)
    (run / "matplotlibrc").write_text("text.usetex: True\n")
    result = finish(popen([sys.executable, "-m", "ps.log", "plot", ".", "--output", "pictures"], cwd=run))
    assert result.code == 0, result.err
    assert (run / "pictures" / "loss_plot.png").is_file()
