"""Logs of runs that several jobs trained: every reader shows each epoch once, whatever the number of ranks was."""

import csv
import io
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.errors import LogError
from common.host import boot_id, host, process_start
from common.run_files import LOG_NAME
from ps.coordinator import outputs
from ps.logfile.deduplicated import DeduplicatedReader, find_rewinds
from ps.logfile.reader import LogReader
from ps.logfile.records import Record
from ps.logfile.schema import Check
from ps.logfile.writer import RunLog
from ps.reader import console
from ps.reader.commands.compare import compare
from ps.reader.commands.export import export
from ps.reader.commands.list_runs import list_runs
from ps.reader.commands.plot import plot
from ps.reader.commands.report import report
from ps.reader.commands.show import show
from ps.reader.commands.trace import trace
from ps.reader.commands.watch import watch
from ps.reader.commands.watch_screen import Picture
from ps.reader.commands.whatif import whatif
from ps.reader.run_view import RunView
from tests.conftest import ROOT
from tests.ranks import epochs, mpirun, records
from tests.report_page import Page
from tests.synthetic import STEPS, Again, epoch, header, write_run

Print = pytest.CaptureFixture[str]
ALL = [1, 2, 3, 4, 5, 6, 7, 8]
WORLDS = [2, 2, 4, 4, 4, 3, 3, 3]


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """Return a run of three jobs: killed in epoch 6 and gone on with in epoch 3, then stopped in epoch 6."""
    again = [Again(3, 4, step=9, until=5, checkpoints=3), Again(6, 3, step=4, end="stopped")]
    return write_run(tmp_path / "grown", epochs=8, ranks=2, again=again)


@pytest.fixture
def shrunk(tmp_path: Path) -> Path:
    """Return a run that lost a rank when all steps of epoch 3 were done, but not its end."""
    return write_run(tmp_path / "shrunk", epochs=5, ranks=4, nodes=2, again=[Again(3, 3, step=STEPS, dead=(3,))])


def rewrite(run: Path, found: list[Record]) -> None:
    """Write a log of these records anew."""
    (run / LOG_NAME).unlink()
    log = RunLog(run / LOG_NAME)
    for record in found:
        log.append(record["kind"], **{k: v for k, v in record.items() if k not in ("kind", "seq", "t", "crc")})
    log.close()


def counted(run: Path) -> list[Record]:
    return [r for r in DeduplicatedReader(run / LOG_NAME, Check()).records() if r["kind"] == "epoch"]


def load(run: Path) -> RunView:
    view = RunView(run / LOG_NAME)
    assert sum(1 for _ in view.read())
    return view


def test_each_epoch_counts_once(grown: Path, shrunk: Path) -> None:
    assert [r["epoch"] for r in epochs(grown)] == [1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8]
    assert [r["epoch"] for r in counted(grown)] == ALL
    assert [len(r["rows"]) for r in counted(grown)] == WORLDS
    assert [(r["epoch"], len(r["rows"])) for r in counted(shrunk)] == [(1, 4), (2, 4), (3, 3), (4, 3), (5, 3)]
    steps = [r["epoch"] for r in DeduplicatedReader(grown / LOG_NAME).records() if r["kind"] == "steps"]
    assert steps == ALL


def test_a_later_job_may_go_back_farther(tmp_path: Path) -> None:
    again = [Again(4, 2, until=6), Again(2, 2, until=5)]
    run = write_run(tmp_path / "run", epochs=3, ranks=2, again=again)
    assert [r["epoch"] for r in epochs(run)] == [1, 2, 3, 4, 5, 6, 4, 5, 2, 3]
    assert [r["seq"] for r in counted(run)] == [epochs(run)[i]["seq"] for i in (0, 8, 9)]
    redone = load(run).superseded
    assert sorted(redone.values()) == [2, 5]


def test_a_run_that_died_again_before_an_epoch(tmp_path: Path, capsys: Print) -> None:
    """What the last job did not come to do again is not there."""
    run = write_run(tmp_path / "run", epochs=0, ranks=2, again=[Again(3, 4, until=5)], end="")
    assert [r["epoch"] for r in counted(run)] == [1, 2]
    view = load(run)
    assert view.last["epoch"] == 2
    assert len(view.last["rows"]) == 2
    assert show(run) == 0
    assert whatif(run) == 0
    assert report(run, output=run / "r.html") == 0
    assert "on 1 node" in capsys.readouterr().out


def test_the_words_of_the_events_elsewhere_change_nothing(tmp_path: Path) -> None:
    verdict = {"code": "x", "severity": "info", "ranks": [], "text": "what", "remedy": "resume", "evidence": {}}
    run = write_run(tmp_path / "run", more=[("verdict", verdict), ("event", {"what": "resumed"})])
    assert find_rewinds(run / LOG_NAME) == []
    assert [r["epoch"] for r in counted(run)] == [1, 2, 3]


def test_damage_is_told_where_it_is(grown: Path, capsys: Print) -> None:
    path = grown / LOG_NAME
    data = bytearray(path.read_bytes())
    reader = LogReader(path)
    third = [reader.start for record in reader.records() if record["kind"] == "epoch"][2]
    data[third + 200] ^= 1
    path.write_bytes(data)
    with pytest.raises(LogError) as caught:
        export(grown, csv=True)
    assert caught.value.offset == third
    assert len(capsys.readouterr().out.splitlines()) == 1 + 2 * 2


def test_lists_by_rank_are_judged_by_the_ranks_in_force(grown: Path) -> None:
    found = records(grown)
    last = next(r for r in reversed(found) if r["kind"] == "epoch")
    last["wait_s"] = [0.0] * 4
    rewrite(grown, found)
    with pytest.raises(LogError, match="wait_s has 4 entries for 3 ranks"):
        show(grown)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ranks": 5}, "event.ranks is 5, but world 4"),
        ({"ranks": "4", "world": "4"}, "event.world is '4', not a number of ranks"),
        ({"epoch": -1}, "event.epoch is -1"),
        ({"nodes": None}, "event.nodes is None"),
        ({"cores": [[0]]}, "cores has 1 entries for 4 ranks"),
    ],
)
def test_events_that_are_not_ours_are_refused(grown: Path, change: Record, said: str) -> None:
    found = records(grown)
    next(r for r in found if r.get("what") == "resume").update(change)
    rewrite(grown, found)
    with pytest.raises(LogError, match=said):
        show(grown)


def test_ranks_that_are_no_number_are_refused(grown: Path) -> None:
    found = records(grown)
    event = next(r for r in found if r.get("what") == "resume")
    event["ranks"] = float("nan")
    event.pop("world", None)
    rewrite(grown, found)
    with pytest.raises(LogError, match="event"):
        show(grown)


def test_an_event_without_the_facts_of_the_job(grown: Path, capsys: Print) -> None:
    """All that is needed are place and ranks."""
    found = records(grown)
    names = ("kind", "what", "epoch", "step", "ranks_before", "ranks")
    short = [{k: r[k] for k in names} if r.get("what") == "resume" else r for r in found]
    rewrite(grown, short)
    assert [len(r["rows"]) for r in counted(grown)] == WORLDS
    assert show(grown) == 0
    assert "2, then 4, then 3 ranks" in capsys.readouterr().out


def test_another_number_of_epochs(grown: Path, capsys: Print) -> None:
    found = records(grown)
    next(r for r in found if r.get("what") == "resume")["epochs"] = 9
    rewrite(grown, found)
    assert list_runs(grown.parent) == 0
    assert " 8/9 " in capsys.readouterr().out


def test_show_tells_jobs_and_that_each_row_was_used_once(grown: Path, shrunk: Path, capsys: Print) -> None:
    assert show(grown, every=True) == 0
    out = capsys.readouterr().out
    assert "Rows: every one of the 1,280 training rows was used once in each of 8 epochs.\n" in out
    assert "Event checkpoint: checkpoint-60.npz (the last of 3)" in out
    assert "another job resumed at epoch 3 after 9 of its steps, with 4 ranks, 2 before" in out
    jobs = [line.split() for line in out[out.index("Jobs of this run (3)") :].splitlines()[3:6]]
    assert jobs[0][-6:] == ["3", "died;", "3", "epochs", "done", "again"]
    assert jobs[1][-6:] == ["stopped", "after", "epoch", "6,", "step", "4"]
    assert jobs[2][-1] == "done"
    assert show(shrunk, epoch=1) == 0
    out = capsys.readouterr().out
    assert "rank 3 on node0 died; 3 of 4 ranks continued at epoch 3 after 20 of its steps" in out
    assert "lost rank 3" in out
    assert "used once in each of 5 epochs" in out
    ranks = [line.split() for line in out[out.index("Ranks in epoch 1") :].splitlines()[3:7]]
    assert [line[1] for line in ranks] == ["node0", "node0", "node1", "node1"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": [427, 427, 425]}, "epoch 7 used 1,279 of 1,280, 1 too few"),
        ({"before": {"steps": 1, "rows": 64, "loss_sum": 1.0}}, "epoch 7 used 1,344 of 1,280, 64 too many"),
        ({"epoch": 9}, "epoch 9 stands where 7 belongs"),
        ({"rows": [427, 427, 362], "skipped": 1}, ""),
        (
            {"rows": [427, 427, 358], "skipped": 1},
            "epoch 7 used 1,212 of 1,280, 1 too few besides those of steps left out",
        ),
    ],
)
def test_rows_that_were_lost_or_used_twice_are_told(grown: Path, change: Record, said: str, capsys: Print) -> None:
    found = records(grown)
    next(r for r in reversed(found) if r["kind"] == "epoch" and r["epoch"] == 7).update(change)
    rewrite(grown, found)
    assert show(grown) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Rows: "))
    if said:
        assert f"not every training row was used once in each epoch: {said}" in line
    else:
        assert line.endswith("used once in each of 8 epochs, but for the 64 rows of 1 step left out.")


@pytest.mark.parametrize("lost", [0, 64])
def test_steps_left_out_before_a_resume_are_counted(tmp_path: Path, lost: int, capsys: Print) -> None:
    """The finishing job's record does not tell of them; one that was done again was not left out."""
    head, rng = header(2), random.Random(0)
    again = write_run(tmp_path / "other", epochs=1, ranks=2, again=[Again(1, 2, step=9)], end="")
    resume = {k: v for k, v in records(again)[1].items() if k not in ("kind", "seq", "t", "crc")}
    last = epoch(head, 1, rng, {}, 9)
    last["before"]["rows"] -= 64 + lost
    skips = [("event", {"what": "skip", "epoch": 1, "step": step, "not_finite": {"1": ["W1"]}}) for step in (4, 12)]
    run = write_run(tmp_path / "run", epochs=0, ranks=2, more=[*skips, ("event", resume), ("epoch", last)], end="")
    assert show(run) == 0
    out = capsys.readouterr().out
    if lost:
        assert "epoch 1 used 1,152 of 1,280, 64 too few besides those of steps left out" in out
    else:
        assert "used once in the one epoch, but for the 64 rows of 1 step left out" in out
    assert "Event skip: epoch 1, step 4 was left out; not finite: rank 1: W1" in out


def test_many_events_are_summed_up(tmp_path: Path, capsys: Print) -> None:
    heal = {"what": "heal", "epoch": 1, "ranks": [1], "parameters": {"1": ["W1", "b1"]}}
    run = write_run(tmp_path / "run", more=[("event", {**heal, "step": step}) for step in range(100)])
    assert show(run) == 0
    out = capsys.readouterr().out
    assert "Event heal: 80 earlier ones are in the log" in out
    assert out.count("repaired from the majority: rank 1 in W1, b1") == 20
    assert len(load(run).events) == 20


def test_an_end_that_was_gone_on_from_is_none(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", epochs=3, ranks=2, again=[Again(3, 2, end="stopped")], end="")
    assert load(run).state.startswith("no end yet")
    found = records(run)
    alive = {
        "pid_start": process_start(1),
        "boot_id": boot_id(),
        "pid": 1,
        "nodes": [{"host": host(), "ranks": [0, 1]}],
    }
    next(r for r in found if r.get("what") == "resume").update(alive)
    rewrite(run, found)
    assert load(run).state == "running"
    next(r for r in found if r.get("what") == "resume").update(alive, pid=2**22 + 1)
    rewrite(run, found)
    assert load(run).state == "died"


def test_those_who_went_on_without_a_rank_may_die_too(shrunk: Path) -> None:
    found = records(shrunk)[:-1]
    alive = {"pid_start": process_start(1), "boot_id": boot_id(), "pid": 1, "nodes": [{"host": host(), "ranks": [0]}]}
    next(r for r in found if r.get("what") == "shrink").update(alive)
    rewrite(shrunk, found)
    assert load(shrunk).state == "running"
    (shrunk / "failure.txt").write_text(
        "rankwise: rank 0 died"
    )  # of one without which they go on there is no such file
    assert load(shrunk).state == "died"


def test_who_died_first_is_in_the_history(grown: Path, capsys: Print) -> None:
    found = records(grown)
    at = next(i for i, r in enumerate(found) if r.get("what") == "resume")
    found.insert(at, {"kind": "event", "what": "death", "rank": 1, "host": "node7", "message": "rank 1 died"})
    rewrite(grown, found)
    assert show(grown) == 0
    assert "died, first rank 1 on node7; 3 epochs done again" in capsys.readouterr().out


def test_a_rank_that_the_job_went_on_without_is_not_what_it_died_of(tmp_path: Path, capsys: Print) -> None:
    run = write_run(tmp_path / "run", epochs=5, ranks=4, again=[Again(3, 3, step=STEPS, dead=(3,)), Again(5, 2)])
    found = records(run)
    at = next(i for i, r in enumerate(found) if r.get("what") == "shrink")
    found[at + 1 : at + 1] = [
        {"kind": "event", "what": "death", "rank": rank, "host": "node7", "message": f"rank {rank} died"}
        for rank in (3, 1)
    ]
    rewrite(run, found)
    assert show(run) == 0
    assert "died, first rank 1 on node7" in capsys.readouterr().out


def test_the_reader_in_the_documentation_counts_each_epoch_once(grown: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "log-format.md").read_text(), re.DOTALL)
    code = blocks[1].replace("runs/latest", str(grown))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [(int(n), int(world), int(rows)) for n, _, world, rows in lines] == [
        (n, world, 1280) for n, world in zip(ALL, WORLDS, strict=True)
    ]


def test_exports_hold_each_epoch_once(grown: Path, tmp_path: Path, capsys: Print) -> None:
    assert export(grown, csv=True) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    expected = [(str(n), str(rank)) for n, world in zip(ALL, WORLDS, strict=True) for rank in range(world)]
    assert [(line["epoch"], line["rank"]) for line in lines] == expected
    assert {line["checkpoint_s"] for line in lines} == {"0.001"}
    assert export(grown, jsonl=True) == 0
    assert [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()] == list(
        range(len(records(grown)))
    )
    assert export(grown, markdown=True) == 0
    text = capsys.readouterr().out
    assert "## Jobs of this run (3)" in text
    assert "Ranks in epoch 8" in text
    outputs.save_tables(tmp_path, grown / LOG_NAME)
    assert len((tmp_path / "sync_times.txt").read_text().splitlines()) == 1 + 8
    assert len((tmp_path / "contributions.txt").read_text().splitlines()) == 1 + sum(WORLDS)


def test_tensorboard_has_each_epoch_once(grown: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    assert export(grown, tensorboard=tmp_path / "tb") == 0
    (path,) = (tmp_path / "tb").iterdir()
    assert path.read_bytes().count(b"learning_rate") == 8


def test_hosts_are_those_of_the_job(grown: Path, capsys: Print) -> None:
    found = records(grown)
    next(r for r in found if r.get("what") == "resume")["nodes"] = [{"host": "elsewhere", "ranks": [0, 1, 2, 3]}]
    rewrite(grown, found)
    assert export(grown, csv=True) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [line["host"] for line in lines if line["rank"] == "0"] == ["node0"] * 2 + ["elsewhere"] * 3 + ["node0"] * 3
    assert trace(grown, output=grown / "trace.json") == 0
    events = json.loads((grown / "trace.json").read_text())["traceEvents"]
    groups = {e["args"]["name"]: e["pid"] for e in events if e["name"] == "process_name"}
    assert set(groups) == {"run", "node node0", "node elsewhere"}
    of_epoch_4 = {
        (e["pid"], e["tid"]) for e in events if e["ph"] == "X" and e["args"].get("epoch") == 4 and "step" in e["args"]
    }
    assert of_epoch_4 == {(groups["node elsewhere"], rank + 1) for rank in range(4)}


def test_the_trace_has_a_row_for_each_rank_of_any_job(grown: Path, capsys: Print) -> None:
    assert trace(grown, output=grown / "trace.json") == 0
    events = json.loads((grown / "trace.json").read_text())["traceEvents"]
    assert [e["args"]["name"] for e in events if e["name"] == "thread_name"] == [
        "epochs",
        *(f"rank {r}" for r in range(4)),
    ]
    assert [e["args"]["epoch"] for e in events if e["ph"] == "X" and "step" not in e["args"]] == ALL
    assert "8 sampled steps of 2, then 4, then 3 ranks" in capsys.readouterr().out


def test_whatif_takes_the_epochs_of_the_last_ranks_and_says_so(grown: Path, shrunk: Path, capsys: Print) -> None:
    assert whatif(grown, other=shrunk) == 0
    out = capsys.readouterr().out
    assert "3 ranks, medians of 2 epochs" in out
    assert "Left out: 5 epochs before the number of ranks changed and 1 epoch that several jobs share." in out


def test_compare_and_list_tell_of_the_jobs(grown: Path, shrunk: Path, capsys: Print) -> None:
    assert compare(grown, shrunk) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["epochs", "8", "5"] in lines
    assert ["jobs", "3", "2"] in lines
    assert ["epochs", "done", "again", "3", "0"] in lines
    assert list_runs(grown.parent) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("grown"))
    assert "2, then 4, then 3" in line
    assert "8/30" in line


def test_plot_draws_ranks_that_came_and_went(grown: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert plot(grown, output=tmp_path / "out") == 0
    assert len(list((tmp_path / "out").glob("contribution_plot_rank_*.png"))) == 4


def test_the_report_has_the_history_and_marks_it(grown: Path, shrunk: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    assert report(grown, output=tmp_path / "one.html") == 0
    page = Page(tmp_path / "one.html")
    assert (2, "History") in page.headings
    assert "every one of the 1,280 training rows was used once in each of 8 epochs" in page.text
    assert "died; 3 epochs done again" in page.text
    marked = [d["layout"] for d in page.drawings.values() if d["layout"].get("shapes")]
    assert len(marked) >= 6
    for layout in marked:
        assert [shape["x0"] for shape in layout["shapes"]] == [2.5, 5.5]
        assert [note["text"] for note in layout["annotations"]] == ["4 ranks", "3 ranks"]
    (split,) = (d for d in page.drawings.values() if any(t.get("name") == "checkpoint" for t in d["choices"][0]))
    of_rank_3 = {trace["name"]: trace["y"][4] for trace in split["choices"][0]}
    long = np.mean([r["compute_s"][3] for r in counted(grown) if len(r["rows"]) == 4])
    assert of_rank_3["compute"] == pytest.approx(long, rel=1e-3)
    assert of_rank_3["checkpoint"] == 0.001
    assert report(grown, shrunk, output=tmp_path / "two.html") == 0
    assert "2, then 4, then 3" in Page(tmp_path / "two.html").text


def test_watch_goes_back(grown: Path, capsys: Print, monkeypatch: pytest.MonkeyPatch) -> None:
    assert watch(grown) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("Event resume: another job resumed at epoch 3 after 9 of its steps, with 4 ranks, 2 before")
    assert lines[at - 4].startswith("Epoch 5/30")
    assert lines[at + 1].startswith("Epoch 3/30")
    assert lines[-1].startswith("End: done")
    picture, view = Picture(console.make(live=True)), RunView(grown / LOG_NAME)
    drawn: list[tuple[int, list[int]]] = []
    with picture:
        for record in LogReader(grown / LOG_NAME, Check()).records():
            view.add(record)
            picture.add(view, record)
            if record["kind"] == "event":
                picture.draw(view)
                drawn.append((view.last.get("epoch", 0), [number for number, _ in picture.losses.kept()]))
    assert "Epoch 5: " in capsys.readouterr().out  # the last picture, with the ranks of the epoch before its event
    assert drawn[-2:] == [(0, [1, 2]), (5, [1, 2, 3, 4, 5])]


def test_a_real_resume_at_another_number_of_ranks(tmp_path: Path, capsys: Print) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    options = ("--hidden", "8", "--batch-size", "50", "--epochs", "4", "--checkpoint-every", "2")
    assert mpirun(3, "-m", "workers.run", *options, "--output", str(whole)).code == 0
    shutil.copytree(whole, run)
    for path in run.iterdir():
        if path.name not in (LOG_NAME, "config.toml", "checkpoint-52.npz"):
            path.unlink()
    reader = LogReader(run / LOG_NAME)
    next(r for r in reader.records() if r["kind"] == "epoch" and r["epoch"] == 3)
    (run / LOG_NAME).write_bytes((run / LOG_NAME).read_bytes()[: reader.offset + 9])
    result = mpirun(2, "-m", "workers.run", "--resume", str(run))
    assert result.code == 0, result.err
    assert [len(r["rows"]) for r in counted(run)] == [3, 3, 2, 2]
    commands: list[Callable[[], int]] = [
        lambda: show(run), lambda: watch(run), lambda: list_runs(tmp_path), lambda: compare(whole, run),
        lambda: whatif(run, other=whole), lambda: report(run, output=tmp_path / "r.html"),
        lambda: plot(run, output=tmp_path / "out"), lambda: trace(run, output=tmp_path / "t.json"),
        lambda: export(run, csv=True), lambda: export(run, markdown=True), lambda: export(run, jsonl=True),
        lambda: export(run, tensorboard=tmp_path / "tb"),
    ]  # fmt: skip
    assert [command() for command in commands] == [0] * len(commands)
    out = capsys.readouterr().out
    assert "Rows: every one of the 1,259 training rows was used once in each of 4 epochs." in out
    assert (run / "sync_times.txt").read_text().count("\n") == 1 + 4
