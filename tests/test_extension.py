"""What is added in this file alone, by a class or function and one line, works everywhere."""

import csv
import io
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import RunConfig
from common.data import sources
from common.data.dataset import Raw
from common.data.sources import SOURCES, Source
from common.errors import ConfigError, DataError
from ps.findings import detectors, starting
from ps.findings.detectors import Findings
from ps.findings.starting import before_training
from ps.findings.verdict import Detector, NotJudged, TrainingStart, Verdict
from ps.logfile import epoch_fields
from ps.logfile.epoch_fields import EPOCH_FIELDS, EpochField
from ps.logfile.reader import LogReader
from ps.logfile.records import Record
from ps.logfile.schema import Check
from ps.logfile.validation import NUMBER, by_rank
from ps.reader.export import csv_json
from ps.sync.mode import CostFormula, Mode, rounds
from ps.sync.modes import MODES, help_lines
from ps.sync.reducer import Reducer
from ps.sync.replicated import ReplicatedSync
from tests import synthetic
from tests.ranks import Result, epochs, finish, mpirun, popen, records


def extended(n: int, door: str, add: Callable[[], None], *arguments: str, cwd: Path) -> Result:
    """Run a door on n ranks, each of which has called ``add``, a function of this file, first."""
    code = f"import sys, {door}; from tests import test_extension as own; own.{add.__name__}(); sys.exit({door}.main())"
    return mpirun(n, "-c", code, *arguments, "--output", "run", cwd=cwd)


def read_with(cwd: Path, *arguments: str) -> str:
    """Return what a command of ``ps.log`` says of the run; it knows nothing of this file."""
    result = finish(popen([sys.executable, "-m", "ps.log", *arguments], cwd=cwd))
    assert result.code == 0, result.err
    return result.out


def check_readers(cwd: Path) -> str:
    """Return the text of ``show``, after ``report``, ``export --csv`` and the schema have taken the run too."""
    assert list(LogReader(cwd / "run" / "coordinator.msgpack", Check()).records())
    read_with(cwd, "report", "run", "--output", "report.html")
    table = list(csv.DictReader(io.StringIO(read_with(cwd, "export", "run", "--csv"))))
    assert {row["epoch"] for row in table} == {str(epoch["epoch"]) for epoch in epochs(cwd / "run")}
    return " ".join(read_with(cwd, "show", "run").split())


# a verdict


class SecondEpoch(Detector):
    """Reports that there was a second epoch."""

    def add(self, epoch: Record) -> Verdict | None:
        if epoch["epoch"] < 2:
            return None
        evidence = {"loss": epoch["loss"], "ranks": self.n_ranks}
        return Verdict(
            code="second-epoch", ranks=[0], text="a second epoch was trained", remedy="train one", evidence=evidence
        )


def add_verdict() -> None:
    detectors.OVER_EPOCHS[SecondEpoch] = ()


def test_a_verdict_is_a_class_and_a_line(tmp_path: Path) -> None:
    result = extended(2, "workers.run", add_verdict, "--epochs", "4", "--hidden", "4", cwd=tmp_path)
    assert result.code == 0, result.err
    assert result.out.count("Verdict (warning): A second epoch was trained") == 1
    (found,) = [r for r in records(tmp_path / "run") if r["kind"] == "verdict" and r["code"] == "second-epoch"]
    assert (found["ranks"], found["evidence"]) == ([0], {"loss": epochs(tmp_path / "run")[1]["loss"], "ranks": 2})
    assert "A second epoch was trained" in check_readers(tmp_path)
    assert "second epoch was trained" in (tmp_path / "report.html").read_text()
    assert "A second epoch was trained" in read_with(tmp_path, "watch", "run")


def test_a_verdict_may_also_be_found_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(code: str) -> Callable[[Any], Verdict]:
        return lambda facts: Verdict(code=code, ranks=[], text="", remedy="", evidence={"of": type(facts).__name__})

    monkeypatch.setitem(detectors.FROM_HEADER, found("header"), ())
    monkeypatch.setitem(starting.BETWEEN_RANKS, found("between"), ())
    monkeypatch.setitem(starting.FROM_BALANCE, found("balance"), ())
    monkeypatch.setitem(starting.FROM_BALANCE, found("silent"), ("between",))
    assert [v.code for v in Findings({**synthetic.header(2), "cores": [[0, 1]] * 2}).start()] == ["header"]
    nothing: Any = None
    balance = dict.fromkeys(("label_z", "label_distance", "target_z", "target_distance")) | {"rows": [1]}
    start = TrainingStart(nothing, RunConfig(), nothing, np.empty(0))
    assert [(v.code, v.evidence["of"]) for v in before_training(start, balance)[0]] == [
        ("between", "TrainingStart"),
        ("balance", "dict"),
    ]
    monkeypatch.setitem(starting.BETWEEN_RANKS, lambda facts: NotJudged("unsure", "too few rows"), ())
    assert before_training(start, balance)[1] == {"unsure": "too few rows"}


# a data source


def read_rings(config: RunConfig, rank: int, size: int) -> Raw:
    """Return points of two rings, which no straight line tells apart."""
    rng = np.random.default_rng(7)
    y = np.arange(200) % 2
    angle, radius = rng.uniform(0, 2 * np.pi, 200), 1 + y + 0.1 * rng.standard_normal(200)
    return Raw("rings", np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), y)


def add_data_source() -> None:
    SOURCES["rings"] = Source(read_rings)


def test_a_data_source_is_a_function_and_a_line(tmp_path: Path) -> None:
    options = ["--data", "rings", "--hidden", "8", "--epochs", "2"]
    result = extended(2, "workers.run", add_data_source, *options, cwd=tmp_path)
    assert result.code == 0, result.err
    header = records(tmp_path / "run")[0]
    assert (header["data"]["name"], header["data"]["features"], header["data"]["classes"]) == ("rings", 2, 2)
    assert "rings" in check_readers(tmp_path)
    assert "rings" in (tmp_path / "report.html").read_text()


def test_a_comparison_takes_it_too(tmp_path: Path) -> None:
    options = ["--data", "rings", "--hidden", "8", "--modes", "allreduce,shared", "--trials", "1", "--steps", "10"]
    result = extended(2, "workers.compare", add_data_source, *options, cwd=tmp_path)
    assert result.code == 0, result.err
    assert [r["mode"] for r in records(tmp_path / "run") if r["kind"] == "trial"] == ["allreduce", "shared"]
    assert "allreduce" in read_with(tmp_path, "show", "run")


def test_a_file_format_is_a_function_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_own(config: RunConfig, rank: int, size: int) -> Raw:
        table = np.load(config.data)
        return Raw(config.target, table[:, :-1], table[:, -1:])

    monkeypatch.setitem(SOURCES, ".own", Source(read_own, named_columns=True))
    with (tmp_path / "rows.OWN").open("wb") as file:
        np.save(file, np.ones((5, 3)))
    config = RunConfig(data=str(tmp_path / "rows.OWN"), target="last")
    sources.check_columns(config)
    raw = sources.read(config, 0, 1)
    assert (raw.name, raw.x.shape, raw.y.shape) == ("last", (5, 2), (5, 1))
    with pytest.raises(DataError, match=r"no file .*\.own"):
        sources.read(RunConfig(data="nowhere.own"), 0, 1)
    with pytest.raises(DataError, match=r"choose digits, reference, .* or \.own file"):
        sources.read(RunConfig(data="nothing"), 0, 1)
    with pytest.raises(ConfigError, match="digits has no named columns"):
        sources.check_columns(RunConfig(target="last"))


# a mode


class GatherSum(Reducer):
    """Gathers all packets on every rank, which adds them in rank order."""

    def sum(self) -> None:
        for chunk in self.chunks:
            table = np.empty((self.comm.size, len(chunk)), chunk.dtype)
            self.comm.Allgather(chunk, table)
            np.sum(table, axis=0, out=chunk)


GATHER_SUM = Mode(
    name="gather-sum",
    help="MPI_Allgather, then every rank adds",
    build=partial(ReplicatedSync, GatherSum),
    cost=CostFormula(lambda ranks, nodes: (rounds(ranks), ranks - 1), "lg P a + (P-1) m b"),
)


def add_mode() -> None:
    MODES[GATHER_SUM.name] = GATHER_SUM


def test_a_mode_is_a_class_and_a_line(tmp_path: Path) -> None:
    options = ["--epochs", "2", "--hidden", "8", "--dtype", "float64"]
    result = extended(3, "workers.run", add_mode, *options, "--mode", "gather-sum", cwd=tmp_path)
    assert result.code == 0, result.err
    known = mpirun(3, "-m", "workers.run", *options, "--output", "known", cwd=tmp_path)
    assert known.code == 0, known.err
    with np.load(tmp_path / "run" / "model.npz") as own, np.load(tmp_path / "known" / "model.npz") as other:
        assert own.files == other.files
        for name in (name for name in own.files if own[name].dtype.kind == "f"):
            np.testing.assert_allclose(own[name], other[name], rtol=1e-10)
    assert "Mode gather-sum" in check_readers(tmp_path)
    assert "gather-sum" in (tmp_path / "report.html").read_text()
    read_with(tmp_path, "trace", "run", "--output", "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {event["name"] for event in events if event["ph"] == "X"} >= {"forward", "backward", "wait", "transfer"}


def test_a_comparison_knows_its_cost(tmp_path: Path) -> None:
    modes = "allreduce,gather-sum"
    options = ["--hidden", "8", "--modes", modes, "--trials", "2", "--steps", "10", "--sizes", "1e3,1e4,1e5"]
    result = extended(2, "workers.compare", add_mode, *options, cwd=tmp_path)
    assert result.code == 0, result.err
    (fit,) = [record for record in records(tmp_path / "run") if record["kind"] == "fit"]
    assert {m["mode"]: m["formula"] for m in fit["modes"]}["gather-sum"] == "lg P a + (P-1) m b"
    assert "lg P a + (P-1) m b" in read_with(tmp_path, "show", "run")
    read_with(tmp_path, "report", "run", "--output", "report.html")


def test_the_help_lists_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODES, GATHER_SUM.name, GATHER_SUM)
    assert help_lines()["gather-sum"] == GATHER_SUM.help


# an epoch figure


SPEED = EpochField(
    "rows_per_s", by_rank(NUMBER), "rows/s", "rows over the seconds of the training loop", column="rows_per_s",
    derive=lambda rows: (rows["rows"] / rows["loop_s"]).tolist(),
)  # fmt: skip


def add_epoch_figure() -> None:
    EPOCH_FIELDS.append(SPEED)


def test_an_epoch_figure_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = extended(2, "workers.run", add_epoch_figure, "--epochs", "2", "--hidden", "4", cwd=tmp_path)
    assert result.code == 0, result.err
    for epoch in epochs(tmp_path / "run"):
        expected = [n / s for n, s in zip(epoch["rows"], epoch["loop_s"], strict=True)]
        assert epoch["rows_per_s"] == pytest.approx(expected)
    check_readers(tmp_path)  # a reader that does not know it takes the log all the same
    read_with(tmp_path, "trace", "run", "--output", "trace.json")
    monkeypatch.setattr(epoch_fields, "EPOCH_FIELDS", [*EPOCH_FIELDS, SPEED])
    monkeypatch.setattr(csv_json, "EPOCH_FIELDS", [*EPOCH_FIELDS, SPEED])
    log = tmp_path / "run" / "coordinator.msgpack"
    table = list(csv.DictReader(csv_json.csv_lines(LogReader(log, Check()))))
    first = epochs(tmp_path / "run")[0]
    assert [float(row["rows_per_s"]) for row in table[:2]] == first["rows_per_s"]
    assert "| `rows_per_s` | rows/s | by rank: rows over the seconds" in epoch_fields.markdown_table()
    header, *others = records(tmp_path / "run")
    check = Check()
    assert not check(header)
    wrong = next(record for record in others if record["kind"] == "epoch")
    assert check({**wrong, "rows_per_s": [1.0]}) == "epoch.rows_per_s has 1 entries for 2 ranks"
