"""``python -m ps.log``: finished, running and broken runs."""

import csv
import io
import itertools
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import RankwiseError
from common.host import boot_id, has_ended, host, process_start
from ps.logfile.records import Record, encode
from ps.reader.commands.cli import main
from ps.reader.commands.compare import compare
from ps.reader.commands.export import export
from ps.reader.commands.list_runs import list_runs
from ps.reader.commands.show import show
from ps.reader.commands.watch import watch
from ps.reader.commands.whatif import whatif
from ps.text.formatting import aligned
from tests.ranks import Result, epochs, finish, mpirun, popen, records, wait_until
from tests.synthetic import places, write_run

Job = Callable[..., Result]


def log(*arguments: str | Path, cwd: Path | None = None) -> Result:
    """Run a command of ``python -m ps.log`` here: most take less time than a process of their own."""
    out, err = io.BytesIO(), io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ps.log", *map(str, arguments)])
        patch.setattr(sys, "stdout", io.TextIOWrapper(out, "utf-8", write_through=True))
        patch.setattr(sys, "stderr", io.TextIOWrapper(err, "utf-8", write_through=True))
        patch.chdir(cwd or Path.cwd())
        with warnings.catch_warnings():
            # the command line's library sees pytest, and takes the call for a test without arguments
            warnings.filterwarnings("ignore", "Cyclopts application invoked without tokens")
            with pytest.raises(SystemExit) as end:
                main()
        assert isinstance(end.value.code, int)
        return Result(end.value.code, out.getvalue().decode(), err.getvalue().decode(), 0.0)


def write(folder: Path, found: list[Record]) -> Path:
    """Write a run of these records, with new numbers and checksums."""
    folder.mkdir(parents=True, exist_ok=True)
    strip = ("seq", "t", "crc")
    data = (
        encode(
            {"kind": r["kind"], "seq": i, **({"t": r["t"]} if "t" in r else {})}
            | {k: v for k, v in r.items() if k not in strip}
        )
        for i, r in enumerate(found)
    )
    (folder / "coordinator.msgpack").write_bytes(b"".join(data))
    return folder


BALANCE: Record = {
    "of": "shard",
    "rows": [100, 200, 0],
    "labels": [[60, 40], [100, 100], [0, 0]],
    "label_z": [1.5, -2.5, None],
    "label_distance": [0.5, 0.25, None],
    "target_mean": None,
    "target_variance": None,
    "target_z": None,
    "target_distance": None,
    "feature_mean": [[0.0], [1.0], None],
    "feature_distance": [None, 0.125, 0.75],
}


def table(out: str, title: str) -> list[list[str]]:
    """Return the words of the lines of the table with this title."""
    lines = out[out.index(title) :].splitlines()
    first = next(i for i, line in enumerate(lines) if line.strip().startswith("─")) + 1
    return [line.split() for line in itertools.takewhile(str.strip, lines[first:])]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the run of two modes, of 3 ranks and 4 epochs."""
    folder = tmp_path_factory.mktemp("runs")
    for mode in ("allreduce", "send-recv"):
        options = ["--mode", mode, "--epochs", "4", "--hidden", "8", "--output", f"runs/{mode}"]
        assert mpirun(3, "-m", "workers.run", *options, cwd=folder).code == 0
    return folder / "runs"


def test_show_prints_header_epochs_ranks_and_end(runs: Path) -> None:
    result = log("show", runs / "allreduce")
    assert result.code == 0, result.err
    last = epochs(runs / "allreduce")[-1]
    for text in (
        "allreduce: done",
        "Mode allreduce, 3 ranks on 1 node (",
        "1,259 rows train, 179 validate, 359 test",
        "64-8-10: 610 parameters",
        "End: done after 4 epochs",
        "Share of the update",
        "Norm ratio",
    ):
        assert text in result.out
    lines = [line.split() for line in result.out.splitlines()]
    assert [line[0] for line in lines if len(line) == 12 and line[0].isdigit()] == ["1", "2", "3", "4"]
    ranks = [line for line in lines if len(line) == 9 and line[0].isdigit()]
    assert [int(line[2]) for line in ranks] == last["rows"]
    assert [line[3:7] for line in ranks] == [
        [aligned(last[k])[r] for k in ("input_s", "compute_s", "wait_s", "transfer_s")] for r in range(3)
    ]


def test_show_prints_what_the_analytics_say(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ranks=3)
    last = epochs(run)[-1]
    out = log("show", run).out
    parallel, balance = (f"{100 * last['efficiency'][k]:.0f} %" for k in ("parallel", "load_balance"))
    assert f"Epoch 3: parallel efficiency {parallel} = load balance {balance} x communication " in out
    assert "bus bandwidth 1000 MB/s" in out
    assert "The ranks' gradients overlap much, like 1.5 independent ranks (95 %: 1.2 to 1.8)." in out
    assert "Batches above about 200 rows gain little (estimate). This run takes 64 rows a step." in out
    assert [line[2:] for line in table(out, "How certain the shares are, measured on 1 of 20 steps")] == [
        ["6.7", "to", "60.0", "%", "13.3", "to", "53.3", "%"]
    ] * 3
    assert "No verdict: none of the checks found anything." in out
    assert [line[4:] for line in table(out, "Contribution in epoch 3")] == [
        [f"{last[k][rank]:.4g}" for k in ("cosine_all", "leave_one_out_all")] for rank in range(3)
    ]


def test_show_prints_how_rows_are_spread(tmp_path: Path) -> None:
    run = write_run(tmp_path / "few", ranks=3, more=[("balance", BALANCE)])
    assert table(log("show", run).out, "Rows dealt to the ranks (shard); ") == [
        ["0", "100", "0.5", "1.5", "-"],
        ["1", "200", "0.25", "-2.5", "0.125"],
        ["2", "0", "-", "-", "0.75"],
    ]
    far = [0.0] * 40
    far[37] = -9.0
    many = dict.fromkeys(BALANCE) | {"of": "shard", "rows": [1] * 40, "feature_distance": far}
    run = write_run(tmp_path / "many", ranks=40, more=[("balance", many)])
    assert ["37", "1", "-9"] in table(log("show", run).out, "Rows dealt to the ranks (shard) (8 of 40")
    assert len(table(log("show", run, "--every").out, "Rows dealt to the ranks (shard); ")) == 40


def test_show_prints_of_many_ranks_those_that_stand_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ranks=200, slow={123: 3.0, 77: 0.2})
    out = log("show", run).out
    shown = [int(line[0]) for line in table(out, "Ranks in epoch 3 (8 of 200")]
    assert len(shown) == 8
    assert {123, 77} < set(shown)
    assert shown == sorted(shown)
    out = log("show", run, "--every").out
    assert len(table(out, "Ranks in epoch 3; ")) == len(table(out, "Share of the update")) == 200


def test_show_thins_many_epochs_but_keeps_the_last_and_the_one_asked_for(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", epochs=100, ranks=2)
    out = log("show", run, "--epoch", "50").out
    lines = table(out, "Epochs (one in 4; all with --every)")
    assert [int(line[0]) for line in lines] == [*range(1, 100, 4), 100]
    assert "Ranks in epoch 50" in out
    lines = table(log("show", run, "--every").out, "Epochs; ")
    assert [int(line[0]) for line in lines] == [*range(1, 101)]


def test_list_has_a_line_for_every_run(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write_run(runs / "done", epochs=5)
    time.sleep(0.01)  # newest first
    write_run(runs / "died", epochs=2, mode="shared", end="")
    (runs / "died" / "failure.txt").write_text("rank 1: out of memory")
    time.sleep(0.01)
    write_run(runs / "stopped", epochs=3, ranks=16, end="stopped")
    time.sleep(0.01)
    write_run(runs / "failed", epochs=0, end="failed")
    whole = (runs / "done" / "coordinator.msgpack").read_bytes()
    for name, data in (("empty", b""), ("damaged", whole[:5000] + bytes(5) + whole[5005:]), ("foreign", b"junk")):
        (runs / name).mkdir()
        (runs / name / "coordinator.msgpack").write_bytes(data)
    (runs / "no run").mkdir()
    (runs / "file").write_text("")
    (runs / "latest").symlink_to("failed")
    (tmp_path / "elsewhere").symlink_to(runs / "done")
    (runs / "linked").symlink_to(write_run(tmp_path / "outside"))
    result = log("list", runs)
    assert (result.code, result.err) == (0, "")
    lines = {line[0]: line for line in table(result.out, "Runs in")}
    assert set(lines) == {"done", "died", "stopped", "failed", "empty", "damaged", "foreign", "linked"}
    best = epochs(runs / "done")[-1]
    assert lines["done"][3:] == [
        "allreduce", "4", "5/30", f"{100 * best['validation_metric']:.2f}",
        f"{best['validation_loss']:.4g}", "5", "5.0", "done",
    ]  # fmt: skip
    assert lines["died"][3:6] == ["shared", "4", "2/30"]
    assert lines["died"][-1] == "died"
    assert lines["stopped"][4:6] == ["16", "3/30"]
    assert lines["failed"][5:] == ["0/30", "-", "-", "-", "-", "failed"]
    assert lines["damaged"][10:12] == ["damaged:", "byte"]
    assert "(another program's file?)" in " ".join(lines["foreign"])
    assert lines["empty"][-3:] == ["no", "record", "yet"]
    order = list(lines)
    assert order.index("failed") < order.index("stopped") < order.index("died") < order.index("done")


def test_list_names_the_best_epoch_not_the_last(tmp_path: Path) -> None:
    header, *rest = records(write_run(tmp_path / "made", epochs=4))
    for record in rest:
        if record["kind"] == "epoch":
            record |= {"validation_loss": 1.0 + abs(record["epoch"] - 2), "validation_metric": record["epoch"] / 8}
    write(tmp_path / "runs" / "a", [header, *rest])
    for record in rest:
        if record["kind"] == "epoch":
            record |= {"validation_loss": None, "validation_metric": None, "loss": abs(record["epoch"] - 3)}
    write(tmp_path / "runs" / "b", [header, *rest])
    chosen = {
        "modes": ["shared", "allreduce"],
        "trials": 5,
        "steps": 9,
        "dropped_steps": 1,
        "sizes": [],
        "left_out": [],
    }
    write(tmp_path / "runs" / "c", [{**header, "purpose": "comparison", "comparison": chosen}])
    lines = {line[0]: line for line in table(log("list", tmp_path / "runs").out, "Runs in")}
    assert lines["a"][6:9] == ["25.00", "1", "2"]
    assert lines["b"][6:9] == ["-", "0", "3"]
    assert " ".join(lines["c"][3:8]) == "comparison: shared, allreduce 4 -"


def test_list_says_that_there_is_nothing(tmp_path: Path) -> None:
    result = log("list", tmp_path)
    assert result.code == 0
    assert "No runs in" in result.out
    result = log("list", cwd=tmp_path)
    assert result.code == 1
    assert "rankwise: folder: cannot read runs (No such file or directory)" in result.err


def test_show_takes_the_latest_run_a_name_and_a_given_epoch(runs: Path) -> None:
    assert log("show", "send-recv", cwd=runs.parent).out.startswith("runs/send-recv: done")
    result = log("show", "--epoch", "2", cwd=runs.parent)
    assert "runs/latest" in result.out
    assert "Mode send-recv" in result.out
    assert "Ranks in epoch 2" in result.out
    result = log("show", "--epoch", "9", cwd=runs.parent)
    assert result.code == 1
    assert "no epoch 9 in this log; it has 1 to 4" in result.err


def test_compare_puts_modes_side_by_side(runs: Path) -> None:
    result = log("compare", runs / "allreduce", runs / "send-recv")
    assert result.code == 0, result.err
    rows = {line[:44].strip(): line[44:].split() for line in result.out.splitlines()}
    assert rows["mode"] == ["allreduce", "send-recv"]
    assert len(rows["median sync per step, us"]) == len(rows["median wait per step, us"]) == 2
    assert all(float(v.replace(",", "")) > 0 for v in rows["median transfer per step, us"])
    assert float(rows["largest parameter difference from the first"][1]) < 1e-4
    shares = rows["communication, % of the time"]
    assert 0 < float(shares[0]) < 100
    assert any(name.startswith("seconds to loss") for name in rows)


def test_exports_hold_the_numbers_of_the_log(runs: Path, tmp_path: Path) -> None:
    found = epochs(runs / "allreduce")
    table = list(csv.DictReader(io.StringIO(log("export", runs / "allreduce", "--csv").out)))
    assert [(int(r["epoch"]), int(r["rank"])) for r in table] == [(e, r) for e in range(1, 5) for r in range(3)]
    for row in table:
        epoch, rank = found[int(row["epoch"]) - 1], int(row["rank"])
        assert float(row["wait_s"]) == epoch["wait_s"][rank]
        assert float(row["share_W1"]) == epoch["share"]["W1"][rank]
        assert float(row["loss"]) == epoch["loss"]
    assert log("export", runs / "allreduce", "--jsonl", "--output", tmp_path / "x.jsonl").code == 0
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert lines == records(runs / "allreduce")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "."], "choose one of --csv, --jsonl, --markdown and --tensorboard"),
        (["shwo"], 'Did you mean "show"?'),
        (["show", "--epok"], "Did you mean --epoch?"),
        (["compare", "a"], "requires an argument"),
    ],
)
def test_bad_usage_is_one_message(arguments: list[str], message: str) -> None:
    result = log(*arguments)
    assert result.code == 2
    assert result.err.count("rankwise:") == 1
    assert message in result.err


def test_no_run_here(tmp_path: Path) -> None:
    for command in (["show"], ["watch"], ["whatif"], ["export", "--csv"]):
        result = log(*command, cwd=tmp_path)
        assert result.code == 1
        assert result.err.startswith("rankwise: no log at runs/latest")
        assert "Traceback" not in result.err


@pytest.mark.slow
@pytest.mark.any_mpi
def test_damage_is_one_message_with_its_place(runs: Path, tmp_path: Path) -> None:
    damaged = bytearray((runs / "allreduce" / "coordinator.msgpack").read_bytes())
    damaged[len(damaged) // 2] ^= 4
    (tmp_path / "bad.msgpack").write_bytes(damaged)
    for command in (["show"], ["export", "--csv"], ["export", "--jsonl"], ["watch"], ["whatif"]):
        result = log(command[0], tmp_path / "bad.msgpack", *command[1:])
        assert result.code == 1
        assert result.err.count("rankwise:") == 1
        assert "bad.msgpack: byte " in result.err


def test_a_torn_tail_is_told_and_left_out(runs: Path, tmp_path: Path) -> None:
    whole = (runs / "allreduce" / "coordinator.msgpack").read_bytes()
    (tmp_path / "coordinator.msgpack").write_bytes(whole[:-20])
    result = log("show", tmp_path)
    assert result.code == 0
    assert "are a record that was not finished" in result.out
    result = log("export", tmp_path, "--jsonl")
    assert result.code == 0
    assert len(result.out.splitlines()) == len(records(runs / "allreduce")) - 1
    assert "are an unfinished record and were left out" in result.err


@pytest.mark.slow
def test_a_long_log_of_many_ranks_is_shown_in_bounded_memory(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", epochs=4000, ranks=64)
    assert (run / "coordinator.msgpack").stat().st_size > 100e6
    program = (
        "from pathlib import Path; from ps.reader.commands.show import show\n"
        f"show(Path({str(run)!r}))\n"
        # not getrusage: its peak includes pytest's, from before the exec
        "print(*(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    result = finish(popen([sys.executable, "-c", program]))
    assert result.code == 0, result.err
    assert "Epochs (one in 128" in result.out
    assert "Ranks in epoch 4000" in result.out
    assert int(result.out.split()[-2]) < 80_000  # KiB


MISSING: Any = object()
COMMANDS: dict[str, Callable[[Path], object]] = {
    "show": show,
    "watch": watch,
    "compare": lambda run: compare(run, run),
    "list": lambda run: list_runs(run.parent),
    "whatif": lambda run: whatif(run, other=run),
    "csv": lambda run: export(run, csv=True),
    "jsonl": lambda run: export(run, jsonl=True),
    "markdown": lambda run: export(run, markdown=True),
}


@pytest.mark.slow
@pytest.mark.any_mpi
def test_wrong_fields_are_shown_or_refused_but_never_crash(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every field of every kind goes missing, then gets a value it must not have, under a checksum that is right."""
    monkeypatch.setattr("ps.logfile.follower.DOUBT_S", -1.0)  # what is wrong here stays wrong
    found = records(runs / "allreduce")
    header, epoch, end = found[0], epochs(runs / "allreduce")[0], found[-1]
    verdict = {"kind": "verdict", "t": 0.0, "code": "c", "severity": "error", "ranks": [0], "text": "t", "remedy": "r"}
    event = {"kind": "event", "t": 0.0, "what": "early-stop", "epoch": 1}
    balance = {"kind": "balance", "t": 0.0, **BALANCE}
    good = [header, {**verdict, "evidence": {}}, balance, epoch, event, end]
    refused: set[tuple[str, str, tuple[Any, ...]]] = set()
    wrongs: itertools.cycle[Any] = itertools.cycle([None, "x", [], math.nan, 1e300])
    for i, record in enumerate(good):
        for place in places({k: v for k, v in record.items() if k not in ("kind", "seq", "crc")}):
            never = ["x"] * (record["kind"] == "epoch" and len(place) == 1)  # else an optional number may pass
            for wrong in (MISSING, next(wrongs), *never):
                owner: Any = deepcopy(record)
                changed = [*good[:i], owner, *good[i + 1 :]]
                for key in place[:-1]:
                    owner = owner[key]
                owner[place[-1]] = wrong
                if wrong is MISSING:
                    del owner[place[-1]]
                run = write(tmp_path / "run", changed)
                for name, command in COMMANDS.items():
                    try:
                        command(run)
                    except RankwiseError:
                        refused.add((name, record["kind"], place))
                    except Exception as error:
                        raise AssertionError(f"{name}: {record['kind']} {place} = {wrong}") from error
    assert {place for name, _, place in refused if name == "jsonl"} <= {("t",), ("format",), ("v",)}
    assert all(("show", "epoch", (key,)) in refused for key in epoch if key not in ("kind", "seq", "crc"))
    capsys.readouterr()


def test_a_wrong_field_is_named_with_its_place(runs: Path, tmp_path: Path) -> None:
    found = records(runs / "allreduce")
    first = next(i for i, record in enumerate(found) if record["kind"] == "epoch")
    found[first]["share"]["W1"][1] = math.inf
    place = len((write(tmp_path / "b", found[:first]) / "coordinator.msgpack").read_bytes())
    result = log("show", write(tmp_path, found))
    assert result.code == 1
    assert f"byte {place}: epoch.share.'W1'[1] is inf, not a finite number or nil" in result.err
    exported = log("export", tmp_path, "--jsonl")
    assert json.loads(exported.out.splitlines()[first])["share"]["W1"][1] is None


def test_fields_and_kinds_of_later_versions_are_no_fault(runs: Path, tmp_path: Path) -> None:
    header, *rest = [{**record, "new": [1, None]} for record in records(runs / "allreduce")]
    later = [header, {"kind": "checkpoint", "t": 0.0}, *rest]
    for command in (["show"], ["watch"], ["whatif"], ["export", "--csv"]):
        assert log(command[0], write(tmp_path, later), *command[1:]).code == 0


@pytest.mark.parametrize("command", [["show"], ["watch"], ["whatif"], ["export", "--csv"], ["compare", "{}"]])
def test_names_are_no_markup_and_full_disks_no_traceback(command: list[str], runs: Path, tmp_path: Path) -> None:
    header, *rest = deepcopy(records(runs / "allreduce"))
    header["nodes"][0]["host"] = "[/y]"
    run = write(tmp_path / "[red]:smile:[" / "x]", [header, *rest])
    arguments = [sys.executable, "-m", "ps.log", command[0], str(run), *(a.format(run) for a in command[1:])]
    whole = finish(popen(arguments))
    assert whole.code == 0, whole.err
    assert command[0] == "export" or str(run) in whole.out
    for ending in (">/dev/full", "| head -1; exit ${PIPESTATUS[0]}"):
        result = finish(popen(["bash", "-c", f'"$@" {ending}', "bash", *arguments]))
        assert (result.code, result.err.count("\n")) == ((1, 1) if "full" in ending else (0, 0)), result.err


def test_an_id_that_another_process_has_by_now_is_not_the_job(runs: Path, tmp_path: Path) -> None:
    header = {**records(runs / "allreduce")[0], "pid": os.getpid()}
    header["nodes"][0]["host"] = host()
    start = process_start(os.getpid())
    assert start
    for facts, state in (
        ({"pid_start": None, "boot_id": None}, "running"),
        ({"pid_start": start, "boot_id": boot_id()}, "running"),
        ({"pid_start": start - 1, "boot_id": boot_id()}, "died"),
        ({"pid_start": start, "boot_id": "another"}, "died"),
    ):
        assert f": {state}\n" in log("show", write(tmp_path, [header | facts])).out


def test_show_tells_the_last_epoch_from_the_saved_model(runs: Path, tmp_path: Path) -> None:
    header, *rest, end = deepcopy(records(runs / "allreduce"))
    header["config"]["patience"] = 2
    result = log("show", write(tmp_path, [header, *rest, {**end, "best_epoch": 2}]))
    assert ". Test with the parameters of epoch 2, the best: loss " in result.out
    assert "Last epoch: loss " in log("show", runs / "allreduce").out


def test_compare_survives_a_model_that_is_none(runs: Path, tmp_path: Path) -> None:
    run = write(tmp_path, records(runs / "allreduce"))
    np.save(tmp_path / "lone.npy", np.zeros(3))
    whole = (runs / "allreduce" / "model.npz").read_bytes()
    for broken in ((tmp_path / "lone.npy").read_bytes(), b"", whole[:-30], whole[:200] + bytes(50) + whole[250:]):
        (run / "model.npz").write_bytes(broken)
        result = log("compare", runs / "allreduce", run)
        assert result.code == 0, result.err
        assert "no model" in result.out
        assert result.err.count("\n") == 1
        assert "model.npz cannot be read as a model" in result.err


def test_a_process_that_nobody_has_buried_is_dead(runs: Path, tmp_path: Path) -> None:
    """As where a container's first process does not look after orphans."""
    process = popen([sys.executable, "-c", ""])
    wait_until(lambda: has_ended(process.pid), "it has not ended")
    facts = {"pid": process.pid, "pid_start": process_start(process.pid), "boot_id": boot_id()}
    header = {**records(runs / "allreduce")[0], **facts}
    header["nodes"][0]["host"] = host()
    assert ": died\n" in log("show", write(tmp_path, [header])).out
    process.communicate()
