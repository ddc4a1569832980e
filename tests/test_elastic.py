"""Ranks die, the others go on in the same job, and end as if nothing had happened."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.config import RunConfig
from common.errors import JobError
from common.run_files import LOG_NAME
from ps.logfile.schema import Check
from ps.reader.commands.export import export
from ps.reader.commands.list_runs import list_runs
from ps.reader.commands.report import report
from ps.reader.commands.show import show
from ps.reader.commands.trace import trace
from ps.reader.commands.watch import watch
from ps.reader.row_audit import RowAudit
from ps.reader.run_view import RunView
from tests.ranks import MPIRUN, PROGRAMS, Result, environment, epochs, finish, mpirun, popen, records, wait_until
from tests.watched import events, processes
from workers.checkpoint.checkpoint_file import newest
from workers.elastic.ulfm import check_support
from workers.launch.mpi import FAULT_TOLERANT

ROWS = 1259
OPTIONS = ("--hidden", "8", "--batch-size", "100", "--epochs", "8", "--dtype", "float64", "--patience", "2",
           "--learning-rate", "0.1", "--seed", "1", "--output", "run")  # fmt: skip
"""With these the fifth epoch is the best, and the seventh the last."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of a job of two ranks that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    result = mpirun(2, "-m", "workers.run", *OPTIONS, cwd=folder)
    assert result.code == 0, result.err
    return folder / "run"


@pytest.fixture
def start(tmp_path: Path, mpi: str) -> Callable[..., Result]:
    """Run a job of n ranks that dies at some places, and see that none of it is left."""
    if mpi != "openmpi":
        pytest.skip("needs Open MPI")

    def run(n: int, deaths: str, *more: str) -> Result:
        program = [sys.executable, str(PROGRAMS / "dies_at.py"), deaths, "--elastic", *OPTIONS, *more]
        command = [MPIRUN, "--with-ft", "ulfm", "-np", str(n), *program]
        result = finish(popen(command, cwd=tmp_path, env=environment(TEST_JOB=str(tmp_path))), 90)
        wait_until(lambda: not list(processes(tmp_path)), f"processes are left: {list(processes(tmp_path))}")
        return result

    return run


def same_model(run: Path, undisturbed: Path) -> None:
    """Compare parameters with what they would have been."""
    with np.load(run / "model.npz") as ours, np.load(undisturbed / "model.npz") as theirs:
        assert ours.files == theirs.files
        for name in ours.files:
            if ours[name].dtype.kind == "U":  # facts of each run
                continue
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-10, atol=1e-13)


def rows_used(run: Path) -> str:
    """Return what the log says of the use of rows."""
    use = RowAudit()
    for record in RunView(run / LOG_NAME).read():
        use.add(record)
    (line,) = use.lines()
    return line


def check(run: Path, undisturbed: Path, dead: list[list[int]]) -> None:
    """Compare with what would have been, and prove from the log that no row was lost or used twice."""
    same_model(run, undisturbed)
    check_record, world = Check(), 0
    for record in records(run):
        assert not check_record(record)
        if record["kind"] == "header" or record.get("what") == "shrink":
            world = record["world"]
        if record["kind"] == "epoch":
            before = record["before"] or {"rows": 0}
            assert (len(record["rows"]), sum(record["rows"]) + before["rows"]) == (world, ROWS)
    whole = epochs(undisturbed)
    assert (
        rows_used(run) == f"Rows: every one of the {ROWS:,} training rows was used once in each of {len(whole)} epochs."
    )
    assert [e["epoch"] for e in epochs(run)] == [e["epoch"] for e in whole]
    for field in ("loss", "validation_loss", "validation_metric"):
        np.testing.assert_allclose([e[field] for e in epochs(run)], [e[field] for e in whole], rtol=1e-10)
    assert [r["dead"] for r in records(run) if r.get("what") == "shrink"] == dead
    told = sorted(r["rank"] for r in records(run) if r.get("what") == "death")
    assert told == sorted(rank for ranks in dead for rank in ranks)
    last, other = records(run)[-1], records(undisturbed)[-1]
    assert [r["kind"] for r in records(run)].count("end") == 1
    for field in ("kind", "status", "epochs", "best_epoch", "test_metric"):
        assert last[field] == other[field]


@pytest.mark.parametrize(
    ("n", "mode", "deaths", "dead"),
    [
        # one after the other, down to one, and the way to sum that was named stays
        (4, "allreduce --sum-algorithm ring", "3:2:5:compute,1:3:0:evaluation,2:4:13:compute", [[3], [1], [2]]),
        # one has the sum already and another has not; and one dies while the others put the job in order
        (5, "reduce-bcast", "2:2:5:exchange,4:2:0:moving,1:6:1:exchange", [[2, 4], [1]]),
        # the coordinator, twice, with messages under way, and two at once
        (5, "send-recv", "0:2:5:exchange,1:4:7:exchange,3:4:7:exchange", [[0], [1, 3]]),
        # the coordinator, with an epoch not yet in the log, and with one that is in the log but known to nobody;
        # a worker and the coordinator in checkpoints
        (
            5,
            "allreduce",
            "0:3:0:writing the log,1:4:0:deciding,3:5:0:checkpoint,2:6:0:checkpoint",
            [[0], [1], [3], [2]],
        ),
        # next to each other on the ring, whose others wait for ranks that have not died
        (4, "ring", "1:2:5:exchange,2:4:7:exchange,0:5:3:compute", [[1], [2], [0]]),
        # behind the last epoch
        (4, "reduce-bcast", "1:7:0:final test,0:0:0:writing the model,2:0:0:saving", [[1], [0, 2]]),
    ],
    ids=["worker", "behind", "coordinator", "epoch", "ring", "end"],
)
def test_the_others_go_on(
    tmp_path: Path,
    undisturbed: Path,
    start: Callable[..., Result],
    n: int,
    mode: str,
    deaths: str,
    dead: list[list[int]],
) -> None:
    result = start(n, deaths, "--mode", *mode.split(), "--checkpoint-every", "1")
    assert result.code == 0, result.out + result.err
    check(tmp_path / "run", undisturbed, dead)
    assert result.out.count("Continuing without rank") == len(dead)
    assert result.err.count("died (killed by SIGKILL") == sum(map(len, dead))
    left = [name for name in os.listdir(tmp_path / "run") if name.startswith(("failure", "progress", "death", "stack"))]
    assert not left
    told = [(d["rank"], d["host"], d["epoch"], d["step"], d["phase"]) for d in events(tmp_path, "death")]
    assert sorted(told) == sorted(where(text) for text in deaths.split(","))
    snapshot, faults = newest(tmp_path / "run")
    assert snapshot is not None
    assert not faults
    assert snapshot.about["position"]["epoch"] == 7
    assert snapshot.about["sum_way"] == ("ring" if "algorithm ring" in mode else "")


def where(death: str) -> tuple[int, str, int, int, str]:
    """Return rank, host, epoch, step and phase of a death, as the log should have them."""
    rank, epoch, step, place = death.split(":")
    phase = {"moving": "continuing without the dead", "deciding": "writing the log"}.get(place, place)
    return int(rank), os.uname().nodename, int(epoch), int(step), phase


def test_a_stop_ends_what_is_left_and_can_be_gone_on_with(
    tmp_path: Path, undisturbed: Path, start: Callable[..., Result]
) -> None:
    stopped = start(3, "1:2:3:compute,2:4:5:compute by TERM")
    assert stopped.code == 75, stopped.err
    end = records(tmp_path / "run")[-1]
    assert (end["status"], end["stopped_epoch"], end["stopped_step"]) == ("stopped", 4, 5)
    resumed = mpirun(2, "-m", "workers.run", "--resume", "run", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    same_model(tmp_path / "run", undisturbed)
    assert "used once in each of 7 epochs." in rows_used(tmp_path / "run")
    assert [(e["ranks_before"], e["ranks"]) for e in events(tmp_path, "resume")] == [(2, 2)]


def test_a_bug_ends_the_whole_job(tmp_path: Path, start: Callable[..., Result]) -> None:
    result = start(4, "2:1:3:compute,1:2:3:compute by a bug")
    assert result.code != 0
    assert "ValueError: this is the cause" in result.err
    assert "rank 1" in (tmp_path / "run" / "failure.txt").read_text()
    assert [e["dead"] for e in events(tmp_path, "shrink")] == [[2]]
    assert [e["rank"] for e in events(tmp_path, "death")] == [2, 1]


def test_if_all_die_that_is_told_and_can_be_gone_on_with(
    tmp_path: Path, undisturbed: Path, start: Callable[..., Result]
) -> None:
    """Also where the watchdogs of some have ended before: each rank has a node of its own."""
    deaths = "1:1:3:compute,0:2:3:compute,2:2:3:compute"
    start(3, deaths, "--checkpoint-every", "1", "--ranks-per-node", "1")  # a good end to mpirun
    assert "died (killed by SIGKILL" in (tmp_path / "run" / "failure.txt").read_text()
    assert events(tmp_path, "death")[0]["rank"] == 1
    assert sorted(e["rank"] for e in events(tmp_path, "death")) == [0, 1, 2]
    assert not [name for name in os.listdir(tmp_path / "run") if name.startswith(("progress", "death"))]
    resumed = mpirun(3, "-m", "workers.run", "--resume", "run", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    same_model(tmp_path / "run", undisturbed)
    assert "used once in each of 7 epochs." in rows_used(tmp_path / "run")


def test_steps_that_go_wrong_are_mended_by_those_who_are_left(tmp_path: Path, start: Callable[..., Result]) -> None:
    """A rank dies when its last words on a step that is left out are in the log, and the others do it all again."""
    faults = "nan:rank=0,step=16;diverge:rank=0,step=40;die:rank=2,step=55"
    result = start(4, "1:2:3:noting", "--nonfinite", "skip", "--heal", "--inject", faults, "--checkpoint-every", "1")
    assert result.code == 0, result.out + result.err
    assert [e["dead"] for e in events(tmp_path, "shrink")] == [[1], [2]]
    assert {(e["epoch"], e["step"]) for e in events(tmp_path, "skip")} == {(2, 3)}
    assert [e["ranks"] for e in events(tmp_path, "heal")] == [[0]]
    assert rows_used(tmp_path / "run").endswith("epochs, but for the 100 rows of 1 step left out.")
    snapshot, _ = newest(tmp_path / "run")
    assert snapshot is not None
    assert snapshot.about["skipped"] == [2, 3, 1]


def test_the_log_can_be_read(tmp_path: Path, start: Callable[..., Result], capsys: pytest.CaptureFixture[str]) -> None:
    """Also of a run whose nodes died, one rank of each or all of them."""
    deaths = "0:1:5:compute,1:1:5:compute,3:3:9:compute,4:3:0:grouping"
    result = start(6, deaths, "--ranks-per-node", "2")
    assert result.code == 0, result.out + result.err
    run = tmp_path / "run"
    assert not [name for name in os.listdir(run) if name.startswith(("failure", "progress", "death"))]
    assert [e["dead"] for e in events(tmp_path, "shrink")] == [[0, 1], [3, 4]]
    assert sorted(e["rank"] for e in events(tmp_path, "death")) == [0, 1, 3, 4]
    commands: dict[str, Callable[[], int]] = {
        "6, then 4, then 2 ranks": lambda: show(run),
        "Event shrink: rank 0, 1 on": lambda: watch(run),
        "6, then 4, then 2": lambda: list_runs(tmp_path),
        "of 6, then 4, then 2 ranks": lambda: trace(run, output=run / "trace.json"),
        "Wrote": lambda: report(run, output=run / "report.html"),
        "norm_ratio": lambda: export(run, csv=True),
        '"what": "shrink"': lambda: export(run, jsonl=True),
        "| Rank": lambda: export(run, markdown=True),
    }
    for words, command in commands.items():
        assert command() == 0
        assert words in capsys.readouterr().out


def test_before_the_first_step_a_death_ends_the_job(tmp_path: Path, start: Callable[..., Result]) -> None:
    """The run folder is there by then, but not what ranks need to go on."""
    result = start(3, "1:0:0:training")
    assert result.code != 0
    assert (tmp_path / "run" / "failure.txt").read_text().startswith("rankwise: rank 1 on ")
    assert result.err.count("rankwise: ") == 1, result.err
    assert "died (killed by SIGKILL) in phase: training" in result.err
    assert [e["rank"] for e in events(tmp_path, "death")] == [1]
    assert not events(tmp_path, "shrink")


@pytest.mark.parametrize("more", [(), ("--mode", "shared")])
def test_it_is_refused_where_it_cannot_be(tmp_path: Path, mpi: str, more: tuple[str, ...]) -> None:
    if mpi != "openmpi" and more:
        pytest.skip("refused for its MPI before")
    fault_tolerant = ("--with-ft", "ulfm") if more else ()
    command = [MPIRUN, *fault_tolerant, "-np", "2", sys.executable, "-m", "workers.run", "--elastic", *OPTIONS, *more]
    result = finish(popen(command, cwd=tmp_path))
    assert result.code == 2
    assert result.err.count("rankwise: elastic: ") == 1
    assert ("in mode shared" if more else "--with-ft ulfm") in result.err
    assert "python -m workers.supervise" in result.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "factors"}, "in mode factors a dead rank may take parameters along"),
        ({"mode": "sharded"}, "in mode sharded a dead rank takes its part of the optimizer's state along"),
        ({"mode": "auto"}, "in mode auto"),
        ({"rows": "shard", "shards": "by-rank"}, "an earlier version began with --rows shard"),
        ({"init": "per-rank"}, "goes with init broadcast"),
    ],
)
def test_so_is_what_would_not_end_the_same(
    monkeypatch: pytest.MonkeyPatch, mpi: str, options: dict[str, str], words: str
) -> None:
    if mpi != "openmpi":
        pytest.skip("refused for its MPI before")
    monkeypatch.setenv(FAULT_TOLERANT, "1")
    check_support(RunConfig(elastic=True), 2)
    with pytest.raises(JobError, match=words):
        check_support(RunConfig(elastic=True, **options), 2)  # type: ignore[arg-type]


def test_a_death_in_the_step_in_which_the_batch_size_changes(tmp_path: Path, mpi: str) -> None:
    """900 of 1259 rows are done in batches of 100; the 15th of 64 then has 60 left, of which none may be lost."""
    if mpi != "openmpi":
        pytest.skip("needs Open MPI")
    small = ("--hidden", "8", "--batch-size", "100", "--epochs", "3", "--dtype", "float64", "--output", "stopped")
    assert mpirun(3, str(PROGRAMS / "faulty.py"), "term", "1", "2", "9", *small, cwd=tmp_path).code == 75
    shutil.copytree(tmp_path / "stopped", tmp_path / "whole")
    resume = ("--batch-size", "64", "--resume")
    assert mpirun(3, "-m", "workers.run", *resume, "whole", cwd=tmp_path).code == 0
    program = [sys.executable, str(PROGRAMS / "dies_at.py"), "1:2:15:compute", "--elastic", *resume, "stopped"]
    command = [MPIRUN, "--with-ft", "ulfm", "-np", "3", *program]
    result = finish(popen(command, cwd=tmp_path, env=environment(TEST_JOB=str(tmp_path))), 90)
    assert "Continuing without rank 1" in result.out, result.err
    same_model(tmp_path / "stopped", tmp_path / "whole")
    assert "used once in each of 3 epochs" in rows_used(tmp_path / "stopped")
