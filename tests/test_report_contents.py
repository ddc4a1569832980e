"""What stands on the report's page first, how its charts are scaled, and what it says of several runs."""

import itertools
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import OPTIONS
from ps.reader.report.charts import scaled
from ps.reader.report.colours import GREY, MEANINGS, ON_DARK, PALETTE, SHARED_TRANSFER, colour
from ps.reader.report.data import RunData
from ps.reader.report.differences import differences
from ps.reader.report.findings import findings
from ps.reader.report.tiles import duration, tiles
from tests.ranks import Result, epochs, records
from tests.report_page import Page, fields_of, log_of, make_page
from tests.synthetic import header, write_run


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., Page]:
    """Make the page of a run that never was, or of the given ones."""
    return partial(make_page, tmp_path)


def verdict(code: str, *ranks: int) -> tuple[str, dict[str, Any]]:
    """Return a verdict as a log's record."""
    texts = dict.fromkeys(("text", "remedy"), "x")
    return "verdict", {"code": code, "severity": "warning", "ranks": list(ranks), "evidence": {}, **texts}


def rewritten(source: Path, target: Path, change: Callable[[int, dict[str, Any]], None], **of_header: Any) -> Path:
    """Write a run's epochs again, each changed by its number from 0."""
    fields = fields_of(source)
    for number, own in enumerate(fields):
        change(number, own)
    head = header(len(fields[0]["rows"])) | of_header
    return log_of(target, ("header", head), *(("epoch", own) for own in fields))


def test_five_tiles_tell_what_a_run_came_to(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ranks=4, epochs=4, slow={1: 2.0}, more=[verdict("straggler", 1)])
    data, log = RunData(run), records(run)
    metric, loss, time, efficiency, found = tiles(data, findings(data))
    last = epochs(run)[-1]
    assert (metric.title, metric.value) == ("Test accuracy", "90.00 %")
    assert loss.value == f"{last['loss']:.4g}"
    assert f"validation {last['validation_loss']:.4g}" in loss.about
    assert time.value == duration(log[-1]["wall_s"] + 0.5)
    assert efficiency.value == f"{100 * np.median([e['efficiency']['parallel'] for e in epochs(run)]):.0f} %"
    assert (found.value, found.about, found.tone) == ("1", "1 warning", "warning")


def test_tiles_of_a_run_that_is_not_over_or_was_not_tested(tmp_path: Path) -> None:
    running = RunData(write_run(tmp_path / "running", epochs=2, end=""))
    metric, _, time, _, found = tiles(running, findings(running))
    assert (metric.title, metric.about) == ("Validation accuracy", "epoch 2; not tested")
    assert "up to the end of epoch 2" in time.about
    assert found.value == "none"
    begun = RunData(log_of(tmp_path / "begun", ("header", header(2))))
    assert [tile.value for tile in tiles(begun, [])] == ["–", "–", "0.5 s", "–", "none"]
    one = RunData(write_run(tmp_path / "one", ranks=1))
    assert tiles(one, [])[3].about == "one rank: nothing to wait for"


def test_a_run_that_could_not_be_judged_is_not_green(tmp_path: Path) -> None:
    end = {k: v for k, v in records(write_run(tmp_path / "own"))[-1].items() if k not in ("kind", "seq", "t", "crc")}
    for number, (reasons, about, tone) in enumerate([
        ({}, "state: done", "none"),
        ({"straggler": "the cores were busy"}, "state: done; 1 check could not judge", ""),
    ]):  # fmt: skip
        more = [("end", end | {"not_judged": reasons})]
        data = RunData(write_run(tmp_path / str(number), end="", more=more))
        found = tiles(data, [])[-1]
        assert (found.value, found.about, found.tone) == ("none", about, tone)


def test_durations_are_read_at_a_glance() -> None:
    found = [duration(seconds) for seconds in (0.0123, 59.9, 119.4, 119.6, 3599, 7199.9, 7200, 90061)]
    assert found == ["0.0123 s", "59.9 s", "119 s", "1 min 59 s", "59 min 59 s", "2 h 0 min", "2 h 0 min", "25 h 1 min"]


@pytest.mark.parametrize(
    ("faults", "more", "said"),
    [
        ("slow:rank=2,x=3", [verdict("straggler", 2)], ["straggler, rank 2 injected by --inject slow:rank=2,x=3"]),
        ("slow:rank=2,x=3", [verdict("straggler", 0)], ["was started with --inject slow:rank=2,x=3."]),
        ("skew", [verdict("skewed-labels", 0, 1)], ["skewed-labels, ranks 0, 1 injected by --inject skew"]),
        ("nan:rank=1,step=50", [("event", {"what": "error", "message": "not finite"})],
         ["job failed injected by --inject nan:rank=1,step=50 Not finite."]),
        ("slow:rank=1,x=2; skew", [verdict("straggler", 1), verdict("pulls-against", 0)],
         ["straggler, rank 1 injected by --inject slow:rank=1,x=2", "pulls-against, rank 0 injected by --inject skew"]),
    ],
)  # fmt: skip
def test_an_injected_fault_is_named_in_its_finding(
    faults: str, more: list[Any], said: list[str], page: Callable[..., Page]
) -> None:
    made = page(ranks=4, more=[("event", {"what": "inject", "faults": faults}), *more])
    for text in said:
        assert text in made.text
    assert len(re.findall(r"injected by --inject|was started with --inject", made.text)) == len(said)
    assert "none of the checks" not in made.text


def test_a_run_that_failed_is_not_called_healthy(page: Callable[..., Page]) -> None:
    made = page(end="failed", more=[("event", {"what": "error", "message": "not finite"})])
    assert "No verdict" not in made.text


def test_options_that_differ_from_the_defaults_are_marked(page: Callable[..., Page], tmp_path: Path) -> None:
    source, head = write_run(tmp_path / "source", ranks=2), header(2)
    head["data"] |= {"notes": ["The target is a class."]}
    head["config"] |= {"epochs": 7, "hidden": [32, 8], "inject": "skew"}
    made = page(log_of(tmp_path / "run", ("header", head), *(("epoch", own) for own in fields_of(source))))
    assert (
        "Options that differ from the defaults: hidden 32, 8 (default 256); epochs 7 (default 30); "
        'inject skew (default "").' in made.text
    )
    rows = re.findall(
        r'<tr( class="marked")?><th scope="row">(\w+)</th><td>[^<]*</td><td>([^<]*)</td></tr>', made.source
    )
    marked = [name for mark, name, _ in rows if mark]
    assert marked == ["hidden", "epochs", "inject"]
    assert {default for mark, name, default in rows if not mark and name in OPTIONS} == {"same"}
    assert not [attrs for tag, attrs in made.tags if tag == "details" and "open" in attrs]


def test_the_time_budget_adds_up_to_the_run(job: Callable[..., Result], tmp_path: Path) -> None:
    result = job(2, "--epochs", "4", "--checkpoint-every", "1")
    assert result.code == 0
    data, log = RunData(tmp_path / "run"), records(tmp_path / "run")
    budget, (head, end) = data.budget(), (log[0], log[-1])
    assert sum(budget.values()) == pytest.approx(head["launch_s"] + end["wall_s"], rel=1e-9)
    begin = next(record for record in log if record["kind"] == "steps")["begin_s"]
    assert budget["start-up"] == pytest.approx(head["launch_s"] + begin)
    for name in ("compute", "transfer", "evaluation", "checkpoint"):
        own = sum(
            np.mean(e[f"{name}_s"]) - np.mean(e["reduce_s"]) * (name == "compute") for e in epochs(tmp_path / "run")
        )
        assert budget[name.replace("transfer", data.times["transfer_s"])] == pytest.approx(own)
        assert own > 0
    assert head["launch_s"] > 0.02  # Python, NumPy and MPI must have been loaded
    assert 0 <= budget["rest"] < data.wall_s


def test_a_resumed_run_has_the_start_up_of_all_its_jobs(tmp_path: Path) -> None:
    from tests.synthetic import Again

    resumed = RunData(write_run(tmp_path / "resumed", epochs=4, again=[Again(3, 4)]))
    shrunk = RunData(write_run(tmp_path / "shrunk", epochs=4, again=[Again(3, 3, dead=(1,))]))
    assert (resumed.launch_s, shrunk.launch_s) == (1.0, 0.5)


def test_the_gradient_norm_is_the_slope_of_the_loss(job: Callable[..., Result], tmp_path: Path) -> None:
    """A small step of plain descent lowers the loss of all rows by rate times |g|^2."""
    options = ("--batch-size", "0", "--optimizer", "sgd", "--learning-rate", "1e-3", "--dtype", "float64")
    assert job(3, *options, "--epochs", "4").code == 0
    log = epochs(tmp_path / "run")
    for before, after in itertools.pairwise(log):
        assert before["loss"] - after["loss"] == pytest.approx(1e-3 * before["gradient_norm"] ** 2, rel=0.02)


def test_axes_are_logarithmic_where_values_span_decades(page: Callable[..., Page], tmp_path: Path) -> None:
    long, short = (write_run(tmp_path / f"of {n}", epochs=n) for n in (50, 5))
    assert page(long).chart("Loss")["layout"]["yaxis"]["type"] == "log"
    assert "type" not in page(short).chart("Loss")["layout"]["yaxis"]
    assert "type" not in scaled("x", np.array([0.0, 1.0, 1000.0]))
    mostly = scaled("x", np.array([0.0, *np.linspace(1, 1000, 20)]))
    assert (mostly["type"], mostly["title"]["text"]) == ("log", "x (0 is not drawn)")
    assert "type" not in scaled("x", np.array([-1.0, 1000.0]))
    assert "type" not in scaled("x", np.array([np.nan]))
    assert scaled("x", np.array([1.0, np.nan]), np.array([31.0]))["type"] == "log"


def test_the_reference_experiment_is_proved_by_the_loss_of_each_rank(
    page: Callable[..., Page], reference_run: Path
) -> None:
    lines = page(reference_run).chart("Loss by rank")["choices"][0]
    log = epochs(reference_run)
    for rank, line in enumerate(lines):
        assert line["y"] == pytest.approx([e["loss_by_rank"][rank] for e in log], rel=1e-3)
    assert lines[0]["y"][-1] > lines[0]["y"][0]
    assert lines[2]["y"][-1] < lines[2]["y"][0]


def test_what_is_zero_has_no_legend(page: Callable[..., Page], tmp_path: Path) -> None:
    def quiet(_: int, own: dict[str, Any]) -> None:
        own["checkpoint_s"], own["wait_s"] = [0.0] * 4, [0.0] * 4

    made = page(rewritten(write_run(tmp_path / "source"), tmp_path / "run", quiet))
    assert [trace["name"] for trace in made.chart("Time by rank")["choices"][0]] == [
        "input", "compute", "transfer", "sampling", "evaluation",
    ]  # fmt: skip
    assert "wait" not in [trace["name"] for trace in made.chart("Synchronization")["choices"][0]]
    assert "checkpoint" not in made.chart("Time budget")["choices"][0][0]["y"]


def test_one_outlier_does_not_rule_the_colours_of_the_map(page: Callable[..., Page], tmp_path: Path) -> None:
    def late(number: int, own: dict[str, Any]) -> None:
        own["wait_s"] = [5.0 if (number, rank) == (3, 1) else 0.01 + 0.001 * rank for rank in range(4)]

    made = page(rewritten(write_run(tmp_path / "source", epochs=20), tmp_path / "run", late))
    (heat,) = made.chart("Waiting for the last rank")["choices"][0]
    assert (heat["zmin"], heat["zmax"]) == (0.0, pytest.approx(0.013))
    assert heat["z"][1][3] == 5.0  # what the reader sees when pointing at it
    assert "The colours end at 0.013 s, so that a few large values do not rule them" in made.text
    (even,) = page(write_run(tmp_path / "even", slow={1: 1.5})).chart("Waiting for the last rank")["choices"][0]
    assert "zmax" not in even


def test_transfer_of_ranks_that_share_cores_is_called_so(page: Callable[..., Page], tmp_path: Path) -> None:
    source = write_run(tmp_path / "source")
    made = page(rewritten(source, tmp_path / "run", lambda *_: None, cores=[[0, 1]] * 4))
    assert "4 ranks share 2 cores of node0." in made.text
    assert "not meaningful: 4 ranks share 2 cores" in made.text
    bars = {trace["name"]: trace["marker"]["color"] for trace in made.chart("Time by rank")["choices"][0]}
    assert bars[SHARED_TRANSFER] == colour("transfer")
    assert "transfer" not in bars
    assert SHARED_TRANSFER not in page(source).text
    threads = {"per_rank": [2] * 4, "set_by": "OMP_NUM_THREADS"}
    made = page(rewritten(source, tmp_path / "threads", lambda *_: None, cores=[[0, 1, 2, 3]] * 4, threads=threads))
    assert "8 threads of 4 ranks share 4 cores of node0." in made.text


def test_colours_have_a_meaning(page: Callable[..., Page], tmp_path: Path) -> None:
    made = page(write_run(tmp_path / "few", ranks=3, slow={1: 1.5}), write_run(tmp_path / "more", ranks=4))
    seen: dict[str, set[str]] = {}
    for drawing in made.drawings.values():
        for trace in (trace for traces in drawing["choices"] for trace in traces):
            shade = (trace.get("line") or trace.get("marker", {})).get("color")
            if isinstance(shade, str) and "name" in trace:
                seen.setdefault(trace["name"], set()).add(shade)
    for name in ("training", "validation", "compute", "wait", "transfer", *(f"rank {r}" for r in range(4))):
        assert len(seen[name]) == 1, name
    assert len({MEANINGS[name] for name in MEANINGS if name != SHARED_TRANSFER}) == len(MEANINGS) - 1
    assert {GREY, *PALETTE} == set(ON_DARK)


def test_one_rank_gets_no_charts_of_ranks(page: Callable[..., Page]) -> None:
    titles = [text for _, text in page(ranks=1).headings]
    assert {"Loss", "Time budget", "Rows a second"} <= set(titles)
    assert not {"Contribution", "Loss by rank", "Waiting for the last rank", "Efficiency"} & set(titles)


def test_differences_come_with_intervals_or_with_none(tmp_path: Path) -> None:
    base = write_run(tmp_path / "base", epochs=30, seed=1)
    same = write_run(tmp_path / "same", epochs=30, seed=2)

    def double(_: int, own: dict[str, Any]) -> None:
        for key in ("compute_s", "input_s", "wait_s", "transfer_s", "sampling_s"):
            own[key] = [2 * seconds for seconds in own[key]]

    slow = rewritten(base, tmp_path / "slow", double)
    short = write_run(tmp_path / "short", epochs=5)
    table, notes = differences([RunData(run) for run in (base, same, slow, short)], ["base", "same", "slow", "short"])
    (_, equal, accuracy, loss), (_, twice, untested, _), (_, few, _, _) = table.rows
    value, low, high = map(float, re.findall(r"[0-9.]+", twice)[:3])
    assert low <= value <= high
    assert value == pytest.approx(2, rel=0.01)
    assert twice.endswith("differs")
    assert equal.endswith("no difference shown")
    reach = 1.959964 * math.sqrt(2 * (91 / 102) * (11 / 102) / 102)
    assert accuracy == f"+0.00 points ({-100 * reach:+.2f} to {100 * reach:+.2f}); no difference shown"
    assert "no interval" in loss
    assert untested == "-"
    assert few == "too few epochs for an interval (at least 7)"
    assert "python -m workers.compare" in notes[0]
