"""``python -m ps.log report``: what the page says and draws, without a browser."""

import itertools
import re
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.metrics.mode_comparison import summarise
from ps.reader.report.colours import PALETTE
from ps.reader.report.figures import block_means, quantiles, spread
from tests.ranks import epochs, records
from tests.report_page import Page, fields_of, log_of, make_page
from tests.synthetic import header, write_run

VERDICTS = [
    (
        "straggler",
        "warning",
        [2],
        "rank 2 on node1 is slow",
        "look at its host",
        {"z": 12.34567, "seconds": [0.1, 0.25]},
    ),
    ("replicas-differ", "error", [1], "replicas differ from the start", "broadcast them", {}),
]
MORE = [
    ("verdict", dict(zip(("code", "severity", "ranks", "text", "remedy", "evidence"), values, strict=True)))
    for values in VERDICTS
]


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., Page]:
    """Make the page of a run that never was, or of the given ones."""
    return partial(make_page, tmp_path)


def test_page_is_accessible_and_asks_for_nothing(page: Callable[..., Page]) -> None:
    made = page(ranks=4, nodes=2, more=MORE)
    assert len(made.ids) == len(set(made.ids))
    places = [str(attrs["href"]).removeprefix("#") for tag, attrs in made.tags if tag == "a"]
    assert places[0] == "findings"
    assert len(places) == sum(level == 2 for level, _ in made.headings)
    assert set(places) <= set(made.ids)
    levels = [level for level, _ in made.headings]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    attributes = [attrs for _, attrs in made.tags]
    assert made.source.startswith("<!DOCTYPE html>")
    assert ("html", {"lang": "en"}) in made.tags
    assert "<title>Run run – rankwise</title>" in made.source
    plots = [attrs for attrs in attributes if attrs.get("class") == "plot"]
    assert len(plots) == len(made.drawings) >= 10
    for attrs in plots:
        assert attrs["aria-labelledby"] in made.ids
        assert attrs["aria-describedby"] in made.ids
    labelled = [attrs["for"] for tag, attrs in made.tags if tag == "label"]
    assert labelled == [attrs["id"] for tag, attrs in made.tags if tag == "select"]
    assert not [attrs for attrs in attributes if {"src", "srcset", "action"} & set(attrs)]
    assert all(str(attrs.get("href", "#")).startswith("#") for attrs in attributes)
    assert not re.search(r"@import|url\(|https?://", made.source)
    (policy,) = (attrs["content"] for attrs in attributes if attrs.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'; script-src 'sha256-")


def test_findings_come_first_and_the_gravest_on_top(page: Callable[..., Page]) -> None:
    made = page(ranks=4, more=MORE)
    assert [text for level, text in made.headings if level == 2] == [
        "Findings", "Learning", "Contribution", "Time", "History", "Configuration and environment",
    ]  # fmt: skip
    parts = ("Test accuracy", "Error replicas-differ, rank 1", "Warning straggler, rank 2", "Loss")
    order = [made.text.index(part) for part in parts]
    assert order == sorted(order)
    assert "Remedy: Look at its host." in made.text
    assert "z 12.3457 seconds 0.1, 0.25" in made.text
    assert "No verdict" not in made.text


def test_a_healthy_run_is_said_to_be(page: Callable[..., Page]) -> None:
    made = page(ranks=2)
    assert "No verdict: none of the checks found anything to report." in made.text
    assert "Not judged" not in made.text


def test_what_could_not_be_judged_is_no_pass(page: Callable[..., Page], tmp_path: Path) -> None:
    reasons = {"straggler": "fewer than 5 epochs", "communication-bound": "busy", "noise-scale-exceeded": "busy"}
    last = records(write_run(tmp_path / "own", ranks=2))[-1]
    end = {key: value for key, value in last.items() if key not in ("kind", "seq", "t", "crc")}
    end["not_judged"] = reasons
    text = page(write_run(tmp_path / "busy", ranks=2, end="", more=[("end", end)])).text
    assert "none of the checks" not in text
    assert "No verdict. Not judged: straggler (fewer than 5 epochs); communication-bound, noise-scale-exceeded" in text
    del end["not_judged"]  # a log of an earlier version
    old = page(write_run(tmp_path / "old", ranks=2, end="", more=[("end", end)])).text
    assert "No verdict." in old
    assert "none of the checks" not in old


def test_charts_hold_the_numbers_of_the_log(page: Callable[..., Page], tmp_path: Path) -> None:
    made = page(ranks=3, epochs=5, slow={1: 2.0})
    log = epochs(tmp_path / "run")
    (training, validation), *_ = made.chart("Loss")["choices"]
    assert training["x"] == [1, 2, 3, 4, 5]
    assert training["y"] == pytest.approx([e["loss"] for e in log], rel=1e-3)
    assert validation["y"] == pytest.approx([e["validation_loss"] for e in log], rel=1e-3)
    share = made.chart("Share of the update by rank")
    chance = log[0]["chance_low"][0], log[0]["chance_high"][0]
    half = (chance[1] - chance[0]) / 2 / np.sqrt([1, 2, 3, 4, 5])  # five epochs are less off than one
    low, high, *lines = share["choices"][0]
    assert low["y"] == pytest.approx(1 / 3 - half, rel=1e-3)
    assert high["y"] == pytest.approx(1 / 3 + half, rel=1e-3)
    for key, traces in zip(["", "W1", "b1", "W2", "b2"], (lines, *share["choices"][1:5]), strict=True):
        for rank in range(3):
            own = [(e["share"][key] if key else e["share_all"])[rank] for e in log]
            assert traces[rank]["y"] == pytest.approx(np.cumsum(own) / np.arange(1, 6), rel=1e-3)
    (single,) = [trace for trace in share["choices"][6] if trace["name"] == "of single epochs"]
    assert single["y"] == pytest.approx([e["share_all"][1] for e in log], rel=1e-3)
    ends = [trace["y"][-1] for trace in share["choices"][6] if "interval" in trace["name"]]
    assert np.diff(ends) == pytest.approx([1.6 / 3 / np.sqrt(5)], rel=1e-3)
    assert "Shares are measured on 1 of 20 steps." in made.text
    (heat,) = made.chart("Waiting for the last rank")["choices"][0]
    assert np.array(heat["z"]) == pytest.approx(np.array([e["wait_s"] for e in log]).T, rel=1e-3)
    split = {trace["name"]: trace["y"] for trace in made.chart("Time by rank")["choices"][0]}
    assert list(split) == ["input", "compute", "wait", "transfer", "sampling", "evaluation", "checkpoint"]
    compute = np.mean([e["compute_s"] for e in log], axis=0)
    assert split["compute"] == pytest.approx([compute.mean(), *compute], rel=1e-3)
    assert re.search(r"Longest computed rank 1, 0\.\d+ s an epoch, (1\.9|2\.0)\d times the median", made.text)
    means = np.mean([e["share_all"] for e in log], axis=0)
    assert f"rank {means.argmin()} had the smallest mean share, {100 * means.min():.2f} %" in made.text
    ratios = log[0]["norm_ratio_all"]
    assert f"In epoch 1 the smallest norm ratio was rank {ratios.index(min(ratios))}'s" in made.text


def test_summing_slices_is_shown_beside_computing(page: Callable[..., Page], tmp_path: Path) -> None:
    run = write_run(tmp_path / "plain" / "run", epochs=2, ranks=2)
    header = {k: v for k, v in records(run)[0].items() if k not in ("kind", "seq", "t", "crc")}
    summing = [("epoch", fields | {"reduce_s": [0.03, 0.05]}) for fields in fields_of(run)]
    made = page(log_of(tmp_path / "summing", ("header", header), *summing), run)
    with_it, without = (
        {trace["name"]: trace["y"] for trace in made.drawings[chart]["choices"][0]}
        for chart in re.findall(r'id="(chart-[0-9]+)-title">Time by rank<', made.source)
    )
    assert with_it["summing"] == pytest.approx([0.04, 0.03, 0.05])
    compute = np.mean([e["compute_s"] for e in epochs(run)], axis=0) - [0.03, 0.05]
    assert with_it["compute"][1:] == pytest.approx(compute.tolist(), rel=1e-3)
    assert "summing" not in without
    bars = made.chart("Time of a step")["choices"][0]
    assert [bar["name"] for bar in bars][:3] == ["input", "compute", "summing"]


@pytest.mark.parametrize("ranks", [1, 4, 17, 40])
def test_plotly_knows_every_property(ranks: int, page: Callable[..., Page]) -> None:
    import plotly.graph_objects as go

    made = page(ranks=ranks, epochs=2)
    for drawing in made.drawings.values():
        for traces in drawing["choices"]:
            go.Figure(data=traces, layout=drawing["layout"])
            assert 0 < len(traces) <= 16


def test_a_long_run_of_many_ranks_is_cut_down(page: Callable[..., Page]) -> None:
    made = page(ranks=40, epochs=450, sizes=(4, 3))
    assert "Charts over epochs show one epoch in 4, the first and the last among them." in made.text
    for drawing in made.drawings.values():
        for trace in (trace for traces in drawing["choices"] for trace in traces):
            assert len(trace["x"]) <= 200
            if trace["type"] != "heatmap":
                assert len(trace["x"]) == len(trace["y"])
    assert made.chart("Loss")["choices"][0][0]["x"][-1] == 450
    assert "12 of 450 epochs" in made.text
    assert len(made.source) < 1.5e6


def test_several_runs_stand_side_by_side(page: Callable[..., Page], tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"{i}" / "run", mode=mode, seed=i) for i, mode in enumerate(("allreduce", "send-recv"))
    ]
    made = page(*runs)
    assert [text for level, text in made.headings if level == 2] == [
        "Runs side by side", "Findings", "run (1)", "run (2)",
    ]  # fmt: skip
    bars = made.chart("Time of a step")["choices"][0]
    assert [bar["name"] for bar in bars] == ["input", "compute", "wait", "transfer", "sampling"]
    assert [bar["x"] for bar in bars] == [["run (1)", "run (2)"]] * 5
    log = epochs(runs[1])
    compute = 1e6 * np.mean([e["compute_s"] for e in log]) / log[0]["steps"]
    assert bars[1]["y"][1] == pytest.approx(compute, rel=1e-3)
    curve = made.chart("Loss over time")["choices"][0][1]
    assert curve["x"] == pytest.approx([e["elapsed_s"] for e in log])
    assert "send-recv" in made.text


def test_rows_of_the_ranks(page: Callable[..., Page]) -> None:
    balance = {
        "of": "shard",
        "rows": [100, 200, 0],
        "labels": [[75, 25], [100, 100], [0, 0]],
        "label_z": [5.0, -3.5, None],
        "label_distance": [0.25, 0.125, None],
        **dict.fromkeys(("target_mean", "target_variance", "target_z", "target_distance", "feature_mean")),
        "feature_distance": [None, 0.5, 0.75],
    }
    made = page(ranks=3, more=[("balance", balance)])
    labels, features = made.chart("Distance to the rows of all ranks")["choices"][0]
    assert (labels["y"], features["y"]) == ([0.25, 0.125, None], [None, 0.5, 0.75])
    assert "Farthest in labels is rank 0, at 0.25. Farthest in features is rank 2, at 0.75." in made.text
    first, second = made.chart("Labels by rank")["choices"][0]
    assert first["x"] == ["all", "0", "1", "2"]
    assert first["y"] == pytest.approx([175 / 300, 0.75, 0.5, 0.0], rel=1e-3)
    assert second["y"] == pytest.approx([125 / 300, 0.25, 0.5, 0.0], rel=1e-3)


def trials(seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return the fields of trials of 10 steps, in which the loss falls from 2 to 1."""
    parts = ("compute_s", "reduce_s", "input_s", "wait_s", "transfer_s")
    return [
        {"round": number, "place": 1, "mode": mode, "steps": 10, "seconds": 10 * step_s, "step_s": step_s,
         **dict.fromkeys(parts, step_s / 4), "bus_bytes_per_s": 1e9, "sent_bytes": [100, 50], "rank_peak_bytes": 10**7,
         "node_bytes": 2 * 10**7, "loss": 1.0, "curve_s": [5 * step_s, 10 * step_s], "curve_loss": [2.0, 1.0],
         "parameter_difference": 0.0, "parameter_scale": 1.0, "replicas_equal": True}
        for mode, own in seconds.items() for number, step_s in enumerate(own, 1)
    ]  # fmt: skip


def test_a_comparison_of_modes(page: Callable[..., Page], tmp_path: Path) -> None:
    made = trials({"allreduce": [1.0, 1.1, 1.2, 1.3, 1.4], "send-recv": [2.0, 2.1, 2.2, 2.3, 2.4]})
    asked = {
        "modes": ["allreduce", "send-recv"],
        "trials": 5,
        "steps": 10,
        "dropped_steps": 2,
        "sizes": [],
        "left_out": [],
    }
    head = header(2) | {"purpose": "comparison", "comparison": asked}
    records = [("trial", fields) for fields in made]
    found = summarise(made, "float64")
    whole = page(log_of(tmp_path / "whole", ("header", head), *records, ("comparison", found)))
    for sentence in found["sentences"]:
        assert sentence in whole.text
    bars = whole.chart("Time of a step")["choices"][0]
    assert [bar["name"] for bar in bars] == ["input", "compute", "wait", "transfer"]
    assert bars[1]["x"] == ["allreduce", "send-recv"]
    assert bars[1]["y"] == pytest.approx([1.2e6 / 4, 2.2e6 / 4], rel=1e-3)
    assert whole.chart("Loss over time")["choices"][0][1]["x"] == [10.0, 20.0]
    assert "Nothing was trained" not in whole.text
    assert whole.headings[0] == (1, "Comparison whole")
    killed = page(log_of(tmp_path / "killed", ("header", head), *records[:3]))
    assert "No result was written; this is what the" in killed.text
    assert "No verdict yet" in killed.text


def test_the_reference_experiment_shows_its_three_faults(page: Callable[..., Page], reference_run: Path) -> None:
    made = page(reference_run)
    for text in (
        "Replicas differ from the start",
        "do not follow one linear relation",
        "The loss on rank 0's rows alone",
        "110.98 %",
        "-19.",
    ):
        assert text in made.text


def luminance(colour: str) -> float:
    """Return the relative luminance of #rrggbb (WCAG 2.2)."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("page_colour", ["#ffffff", "#14181d"])
def test_chart_colours_stand_out_from_both_pages(page_colour: str) -> None:
    """WCAG 2.2, 1.4.11: 3 to 1 for what is not text."""
    assert f"--page: {page_colour};" in resources.files("ps.reader.report").joinpath("page.css").read_text()
    for colour in PALETTE:
        low, high = sorted((luminance(colour), luminance(page_colour)))
        assert (high + 0.05) / (low + 0.05) >= 3, colour


def test_figures_that_sum_up_others() -> None:
    assert block_means(np.array([1.0, 3.0, 5.0]), 2).tolist() == [2.0, 5.0]
    assert block_means(np.array([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]), 2).tolist() == [[2.0, 3.0], [9.0, 9.0]]
    (middle,) = quantiles(np.array([[1.0, 2.0, 9.0], [np.nan, 4.0, np.nan], [np.nan] * 3]), (0.5,))
    assert middle.tolist()[:2] == [2.0, 4.0]
    assert np.isnan(middle[2])
    assert spread(3, 12) == [0, 1, 2]
    assert spread(100, 4) == [0, 33, 66, 99]
