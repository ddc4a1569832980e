"""The comparison command: real jobs, their table, their log, and how they end."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.run_files import LOG_NAME
from ps.logfile.reader import LogReader
from ps.logfile.records import Record
from ps.logfile.schema import Check
from ps.reader.commands.show_comparison import print_comparison
from ps.reader.comparison_view import ComparisonView
from ps.reader.console import Paper
from ps.reader.run_view import RunView
from ps.sync.modes import MODES, exact
from tests.ranks import MPIRUN, Result, finish, mpirun, popen, records, wait_until
from workers.benchmark.runner import order

SMALL = ("--dtype", "float64", "--hidden", "8", "--steps", "20")
QUICK = (*SMALL, "--trials", "3")


def compare(n: int, folder: Path, *arguments: str) -> Result:
    return mpirun(n, "-m", "workers.compare", *arguments, "--output", "run", cwd=folder)


def checked(folder: Path) -> list[Record]:
    """Return the records of the comparison, each judged by the schema."""
    return list(LogReader(folder / "run" / "coordinator.msgpack", Check()).records())


def of_kind(found: list[Record], kind: str) -> list[Record]:
    return [record for record in found if record["kind"] == kind]


def show(folder: Path) -> Result:
    return finish(popen([sys.executable, "-m", "ps.log", "show", "run"], cwd=folder))


def check_trials(found: list[Record], modes: list[str], ranks: int) -> None:
    """Every mode once a round, in the order of the round, from the same start to the same end, its parts a whole."""
    trials = of_kind(found, "trial")
    numbers = sorted({trial["round"] for trial in trials})
    for number in numbers:
        own = [trial for trial in trials if trial["round"] == number]
        assert [trial["mode"] for trial in own] == [modes[i] for i in order(len(modes), number - 1)]
        assert [trial["place"] for trial in own] == list(range(1, len(modes) + 1))
    for trial in trials:
        assert trial["step_s"] == pytest.approx(trial["seconds"] / trial["steps"])
        parts = sum(trial[f"{part}_s"] for part in ("compute", "input", "wait", "transfer"))
        assert parts <= trial["step_s"] * (1 + 1e-9)  # the mean of ranks against the slowest
        assert 0 <= trial["reduce_s"] <= trial["compute_s"]
        assert (trial["reduce_s"] > 0) == (trial["mode"] in ("shared", "factors", "send-recv"))
        assert len(trial["sent_bytes"]) == ranks
        assert trial["rank_peak_bytes"] > 10**6
        assert trial["loss"] == pytest.approx(trials[0]["loss"], rel=1e-10)
        assert trial["curve_loss"] == pytest.approx(trials[0]["curve_loss"], rel=1e-10)
        assert trial["curve_loss"][-1] < trial["curve_loss"][0]
        assert trial["parameter_difference"] <= 1e-10 * trial["parameter_scale"]
        assert trial["replicas_equal"] is True


def test_all_modes_and_sizes_on_two_ranks(tmp_path: Path) -> None:
    result = compare(2, tmp_path, *QUICK, "--sizes", "1e2,1e4,1e5")
    assert result.code == 0, result.out + result.err
    found = checked(tmp_path)
    header, end = found[0], found[-1]
    assert header["purpose"] == "comparison"
    assert header["comparison"]["modes"] == exact()
    assert (header["comparison"]["steps"], header["steps_per_epoch"], header["world"]) == (20, 20, 2)
    assert (end["kind"], end["status"], end["epochs"]) == ("end", "ok", 0)
    check_trials(found, exact(), 2)
    assert len(of_kind(found, "trial")) == 3 * len(exact())
    (comparison,) = of_kind(found, "comparison")
    assert {m["mode"] for m in comparison["modes"]} == set(exact())
    assert all(m["agrees"] for m in comparison["modes"])
    assert [sweep["n"] for sweep in of_kind(found, "sweep")] == [100, 10_000, 100_000]
    (fit,) = of_kind(found, "fit")
    assert fit["packet_bytes"] == header["packet_bytes"]
    for mode in fit["modes"]:
        assert [point["bytes"] for point in mode["points"]][-1] == 8 * (
            100_000 + (16 if MODES[mode["mode"]].replicas and not MODES[mode["mode"]].divides_state else 0)
        )
        assert (mode["alpha_s"] is None) == (mode["predicted"] == [])
        assert mode["alpha_s"] is not None or mode["note"]
    read = show(tmp_path)
    assert read.code == 0, read.err
    for text in (result.out, read.out):
        assert all(mode in text for mode in exact())
        for words in (
            "Modes, least median first: 3 trials of 20 steps",
            "ms a step",
            "s to loss",
            "difference",
            "So few trials",
            "Sums of vectors",
            "Latency a and time per byte b",
            "extrapolations",
        ):
            assert words in text  # fmt: skip


def test_one_rank_from_a_file_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('mode = "auto"\nhidden = [8]\nepochs = 1\nbatch_size = 0\noptimizer = "sgd"\n')
    result = compare(1, tmp_path, "--config", "run.toml", "--trials", "2", "--steps", "3", "--sizes", "10,100",
                     "--modes", "shared,allreduce")  # fmt: skip
    assert result.code == 0, result.out + result.err
    found = checked(tmp_path)
    assert found[0]["comparison"]["modes"] == ["shared", "allreduce"]
    assert found[0]["config"]["batch_size"] == 0
    assert of_kind(found, "trial")[0]["bus_bytes_per_s"] is None
    assert all("one rank" in mode["note"] for mode in of_kind(found, "fit")[0]["modes"])
    assert show(tmp_path).code == 0


@pytest.mark.slow
def test_three_uneven_ranks_on_two_nodes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((103, 5))
    np.savez(tmp_path / "rows.npz", X=x, y=x[:, :2])
    options = ("--data", "rows.npz", "--test-fraction", "0", "--validation-fraction", "0", "--batch-size", "10",
               "--learning-rate", "0.05", "--ranks-per-node", "2", "--modes", "factors,send-recv,shared")  # fmt: skip
    result = compare(3, tmp_path, *QUICK, *options)
    assert result.code == 0, result.out + result.err
    found = checked(tmp_path)
    assert [node["ranks"] for node in found[0]["nodes"]] == [[0, 1], [2]]
    check_trials(found, ["factors", "send-recv", "shared"], 3)
    assert found[-1]["metric"] == "r2"


def test_without_steps_a_short_epoch_is_repeated(tmp_path: Path) -> None:
    result = compare(1, tmp_path, "--data", "digits", "--hidden", "4", "--batch-size", "0", "--trials", "1",
                     "--modes", "allreduce")  # fmt: skip
    assert result.code == 0, result.out + result.err
    found = checked(tmp_path)
    assert found[0]["steps_per_epoch"] == 1
    assert of_kind(found, "trial")[0]["seconds"] > 0.02  # meant to be a quarter of a second
    assert of_kind(found, "trial")[0]["steps"] > 1


@pytest.mark.slow
def test_a_trial_leaves_no_memory_to_the_next(tmp_path: Path) -> None:
    result = compare(1, tmp_path, "--dtype", "float64", "--hidden", "1000", "1000", "--steps", "1", "--trials", "4",
                     "--modes", "allreduce")  # fmt: skip
    assert result.code == 0, result.out + result.err
    peaks = [trial["rank_peak_bytes"] for trial in of_kind(checked(tmp_path), "trial")]
    assert peaks[-1] - peaks[0] < 2e7  # parameters, gradient and adam's two take 34 MB; the first keeps the reference


def test_modes_that_cannot_start_here_are_left_out(tmp_path: Path) -> None:
    result = compare(2, tmp_path, *QUICK, "--init", "per-rank", "--modes", "shared,allreduce,send-recv")
    assert result.code == 0, result.out + result.err
    found = checked(tmp_path)
    assert found[0]["comparison"]["modes"] == ["allreduce", "send-recv"]
    assert [left["mode"] for left in found[0]["comparison"]["left_out"]] == ["shared"]
    assert 'Left out: shared: init = "per-rank"' in result.out
    assert "Left out: shared" in show(tmp_path).out
    assert of_kind(found, "trial")[0]["replicas_equal"] is None


def test_a_size_beyond_the_memory_is_left_out(tmp_path: Path) -> None:
    result = compare(2, tmp_path, *QUICK, "--modes", "shared", "--sizes", "10,1e10")
    assert result.code == 0, result.out + result.err
    assert "Left out: sums of 10,000,000,000 numbers: " in result.out
    assert "this node needs 480 GB" in result.out
    found = checked(tmp_path)
    assert [sweep["n"] for sweep in of_kind(found, "sweep")] == [10]
    assert "one size" in of_kind(found, "fit")[0]["modes"][0]["note"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--modes", "allredce"], 2, "modes: unknown value 'allredce' (did you mean 'allreduce'?)"),
        (["--modes", "shared", "--init", "per-rank"], 1, "modes: none can start here; shared: init"),
        (["--data", "nowhere.npz"], 2, "nowhere.npz"),
        (["--learning-rate", "1e30", "--optimizer", "sgd"], 1, "give a smaller --learning-rate than 1e+30"),
    ],
)
def test_faults_end_with_one_message(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    result = compare(2, tmp_path, *QUICK, *arguments)
    assert result.code == code, result.err
    said = [line for line in result.err.splitlines() if line.startswith("rankwise: ")]
    assert len(said) == 1
    assert message in said[0]
    assert "Traceback" not in result.err


def wait_for_trials(process: "subprocess.Popen[str]", folder: Path, n: int) -> None:
    path = folder / "run" / "coordinator.msgpack"
    wait_until(lambda: path.exists() and len(of_kind(records(path.parent), "trial")) >= n, f"no {n} trials", process)


LONG = ("--trials", "1000", "--modes", "allreduce,shared")


def test_a_signal_stops_all_ranks_and_what_was_measured_can_be_read(tmp_path: Path, mpi: str) -> None:
    command = [MPIRUN, "-np", "2", sys.executable, "-m", "workers.compare", *SMALL, *LONG, "--output", "run"]
    process = popen(command, cwd=tmp_path)
    wait_for_trials(process, tmp_path, 4)
    process.send_signal(signal.SIGUSR1)
    result = finish(process)
    assert result.code == 75, result.err
    assert "stopped by a signal; what was measured is in run" in result.err
    assert records(tmp_path / "run")[-1]["status"] == "stopped"
    read = show(tmp_path)
    assert read.code == 0
    assert "No result was written" in read.out
    assert "Modes, least median first" in read.out


def test_a_killed_comparison_can_be_read(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "workers.compare", *SMALL, *LONG, "--output", "run"]
    process = popen(command, cwd=tmp_path)
    wait_for_trials(process, tmp_path, 4)
    process.kill()
    finish(process)
    checked(tmp_path)
    read = show(tmp_path)
    assert read.code == 0
    assert "Modes, least median first" in read.out
    assert "died" in read.out


def test_a_log_that_says_too_little_is_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trials of another program, whose curves are empty."""
    from tests.synthetic import write_run

    trial = {
        "round": 1, "place": 1, "mode": "x", "steps": 0,
        **dict.fromkeys(("seconds", "step_s", "compute_s", "reduce_s", "input_s", "wait_s", "transfer_s"), 0.0),
        "bus_bytes_per_s": None, "sent_bytes": [0] * 4, "rank_peak_bytes": 0, "node_bytes": 0, "loss": 0.0,
        "curve_s": [], "curve_loss": [], "parameter_difference": 0.0, "parameter_scale": 0.0, "replicas_equal": None,
    }  # fmt: skip
    write_run(tmp_path / "run", epochs=0, more=[("trial", trial), ("trial", {**trial, "curve_loss": [1.0]})])
    view, measured = RunView(tmp_path / "run" / LOG_NAME), ComparisonView()
    for record in view.read():
        measured.add(record)
    assert len(measured.trials) == 2
    print_comparison(Paper(), view, measured)
    printed = capsys.readouterr().out
    assert "comparison of modes" in printed
    assert "Modes, least median first" not in printed


@pytest.mark.slow
def test_several_nodes_have_costs_of_their_own(tmp_path: Path) -> None:
    sizes = ("--sizes", "1e2,1e4,1e5", "--ranks-per-node", "2")
    result = compare(4, tmp_path, *QUICK, "--modes", "allreduce,shared", *sizes)
    assert result.code == 0, result.out + result.err
    (fit,) = of_kind(checked(tmp_path), "fit")
    for mode in fit["modes"]:
        assert min(mode["network_alpha_s"], mode["network_beta_s_per_byte"], mode["alpha_s"]) >= 0
        assert [p["nodes"] for p in mode["predicted"]] == [8, 128, 2048]
    for text in (result.out, show(tmp_path).out):
        assert "Predicted efficiency in %" in text
        assert "between nodes 2 lg K A + 2 (K-1)/K m B" in " ".join(text.split())
