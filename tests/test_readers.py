"""``python -m ps.log``: finished, running and broken runs."""

import csv
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import RankwiseError
from common.host import boot_id, host, process_start
from ps.log import Record, encode
from ps.log_writer import RunLog
from ps.reader.compare import compare
from ps.reader.export import export
from ps.reader.show import show
from ps.reader.watch import watch
from tests.ranks import MPIRUN, Result, epochs, finish, mpirun, popen, records

Job = Callable[..., Result]


def log(*arguments: str | Path, **options: object) -> Result:
    return finish(popen([sys.executable, "-m", "ps.log", *map(str, arguments)], **options))


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
        "mode allreduce, 3 ranks on 1 node(s)",
        "1259 rows train, 179 validate, 359 test",
        "64-8-10, 610 parameters",
        "End: ok after 4 epoch(s)",
        "Share of the update",
        "Norm ratio",
    ):
        assert text in result.out
    lines = [line.split() for line in result.out.splitlines()]
    assert [line[0] for line in lines if len(line) == 11][-4:] == ["1", "2", "3", "4"]  # "97.77 %" is two words
    ranks = [line for line in lines if len(line) == 12 and line[0] in "012"]
    assert [int(line[2]) for line in ranks] == last["rows"]
    assert [line[6:9] for line in ranks] == [
        [f"{last[k][r]:.6f}" for k in ("compute_s", "wait_s", "transfer_s")] for r in range(3)
    ]


def test_show_takes_the_latest_run_a_name_and_a_given_epoch(runs: Path) -> None:
    assert log("show", "send-recv", cwd=runs.parent).out.startswith("runs/send-recv: done")
    result = log("show", "--epoch", "2", cwd=runs.parent)
    assert "runs/latest" in result.out
    assert "mode send-recv" in result.out
    assert "Ranks in epoch 2" in result.out
    result = log("show", "--epoch", "9", cwd=runs.parent)
    assert result.code == 1
    assert "no epoch 9 in this log; it has 1 to 4" in result.err


def test_compare_puts_modes_side_by_side(runs: Path) -> None:
    result = log("compare", runs / "allreduce", runs / "send-recv")
    assert result.code == 0, result.err
    rows = {line[:42].strip(): line[42:].split() for line in result.out.splitlines()}
    assert rows["mode"] == ["allreduce", "send-recv"]
    assert len(rows["median sync per step, us"]) == len(rows["median wait per step, us"]) == 2
    assert all(float(v) > 0 for v in rows["median transfer per step, us"])
    assert float(rows["largest parameter difference to the first"][1]) < 1e-4
    shares = rows["share of communication"]
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
        (["export", "."], "choose one of --csv and --jsonl"),
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
    for command in (["show"], ["watch"], ["export", "--csv"]):
        result = log(*command, cwd=tmp_path)
        assert result.code == 1
        assert result.err.startswith("rankwise: no log at runs/latest")
        assert "Traceback" not in result.err


def test_damage_is_one_message_with_its_place(runs: Path, tmp_path: Path) -> None:
    damaged = bytearray((runs / "allreduce" / "coordinator.msgpack").read_bytes())
    damaged[len(damaged) // 2] ^= 4
    (tmp_path / "bad.msgpack").write_bytes(damaged)
    for command in (["show"], ["export", "--csv"], ["export", "--jsonl"], ["watch"]):
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
    assert len(result.out.splitlines()) == 5
    assert "unfinished record, left out" in result.err


def test_watch_follows_a_running_job_to_its_end(tmp_path: Path) -> None:
    job = popen([MPIRUN, "-np", "2", sys.executable, "-m", "workers.run", "--epochs", "60"], cwd=tmp_path)
    deadline = time.monotonic() + 20
    file = tmp_path / "runs" / "latest" / "coordinator.msgpack"
    while not file.exists() or not file.stat().st_size:  # it is there before its first record
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running = log("show", cwd=tmp_path)
    result = log("watch", cwd=tmp_path)
    assert finish(job).code == 0
    assert "latest: running" in running.out or "latest: done" in running.out
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert [line.split(":")[0] for line in lines[1:61]] == [f"Epoch {e}/60" for e in range(1, 61)]
    assert lines[-1].startswith("End: ok")


def test_watch_ends_when_the_job_was_killed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "workers.run", "--epochs", "100000", "--output", str(run)]
    job = popen(command, cwd=tmp_path)
    deadline = time.monotonic() + 20
    while not (run / "coordinator.msgpack").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    watcher = popen([sys.executable, "-m", "ps.log", "watch", str(run)])
    time.sleep(0.5)
    job.kill()
    finish(job)
    result = finish(watcher, timeout=20)
    assert result.code == 1
    assert "The job died" in result.out


@pytest.mark.slow
def test_a_long_log_of_many_ranks_in_bounded_memory(tmp_path: Path, runs: Path) -> None:
    header, epoch, *_ = records(runs / "allreduce")
    ranks = 64
    log_file = RunLog(tmp_path / "coordinator.msgpack")
    strip = ("kind", "seq", "t", "crc")

    def widen(value: object) -> object:
        if isinstance(value, dict):
            return {k: widen(v) for k, v in value.items()}
        return (value * ranks)[:ranks] if isinstance(value, list) and len(value) == 3 else value

    nodes = [{"host": "a", "ranks": list(range(ranks))}]
    fields = {k: widen(v) for k, v in header.items() if k not in strip} | {"world": ranks, "nodes": nodes}
    log_file.append("header", **fields)
    body = {k: widen(v) for k, v in epoch.items() if k not in strip}
    for number in range(1, 10_001):
        log_file.append("epoch", **{**body, "epoch": number})
    log_file.close()
    program = (
        "from pathlib import Path; from ps.reader.show import show\n"
        f"show(Path({str(tmp_path)!r}), 0, every=False)\n"
        # not getrusage: its peak includes pytest's, from before the exec
        "print(*(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    result = finish(popen([sys.executable, "-c", program]))
    assert result.code == 0, result.err
    assert "Epochs (one in 256" in result.out
    assert "Ranks in epoch 10000" in result.out
    assert int(result.out.split()[-2]) < 200_000  # KiB, for a log of 150 MB


MISSING: Any = object()
COMMANDS: dict[str, Callable[[Path], object]] = {
    "show": lambda run: show(run, 0, every=False),
    "watch": watch,
    "compare": lambda run: compare([run, run]),
    "csv": lambda run: export(run, csv=True, jsonl=False, output=None),
    "jsonl": lambda run: export(run, csv=False, jsonl=True, output=None),
}


def places(value: object, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every field, and to the first entry of every list."""
    inner = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, entry in inner:
        yield (*place, key)
        yield from places(entry, (*place, key))


def test_wrong_fields_are_shown_or_refused_but_never_crash(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every field of every kind goes missing or gets a value it must not have, under a checksum that is right."""
    header, epoch, *_, end = records(runs / "allreduce")
    verdict = {"kind": "verdict", "t": 0.0, "code": "c", "severity": "error", "ranks": [0], "text": "t", "remedy": "r"}
    event = {"kind": "event", "t": 0.0, "what": "early-stop", "epoch": 1}
    good = [header, {**verdict, "evidence": {}}, epoch, event, end]
    refused: set[tuple[str, str, tuple[Any, ...]]] = set()
    wrongs: list[Any] = [MISSING, None, "x", [], math.nan, 1e300]
    for i, record in enumerate(good):
        for place in places({k: v for k, v in record.items() if k not in ("kind", "seq", "crc")}):
            for wrong in wrongs:
                changed = deepcopy(good)
                owner: Any = changed[i]
                for key in place[:-1]:
                    owner = owner[key]
                owner[place[-1]] = wrong
                if wrong is MISSING:
                    del owner[place[-1]]
                write(tmp_path, changed)
                for name, command in COMMANDS.items():
                    try:
                        command(tmp_path)
                    except RankwiseError:
                        refused.add((name, record["kind"], place))
                    except Exception as error:
                        raise AssertionError(f"{name}: {record['kind']} {place} = {wrong}") from error
    assert {place for name, _, place in refused if name == "jsonl"} <= {("t",), ("format",), ("v",)}
    assert all(("show", "epoch", (key,)) in refused for key in epoch if key not in ("kind", "seq", "crc"))
    capsys.readouterr()


def test_a_wrong_field_is_named_with_its_place(runs: Path, tmp_path: Path) -> None:
    found = records(runs / "allreduce")
    found[2]["share"]["W1"][1] = math.inf
    place = len((write(tmp_path / "b", found[:2]) / "coordinator.msgpack").read_bytes())
    result = log("show", write(tmp_path, found))
    assert result.code == 1
    assert f"byte {place}: epoch.share.'W1'[1] is inf, not a finite number or nil" in result.err
    exported = log("export", tmp_path, "--jsonl")
    assert json.loads(exported.out.splitlines()[2])["share"]["W1"][1] is None


def test_fields_and_kinds_of_later_versions_are_no_fault(runs: Path, tmp_path: Path) -> None:
    header, epoch, *rest = records(runs / "allreduce")
    later = [{**header, "new": [1]}, {**epoch, "new": None}, {"kind": "checkpoint", "t": 0.0}, *rest]
    for command in (["show"], ["watch"], ["export", "--csv"]):
        assert log(command[0], write(tmp_path, later), *command[1:]).code == 0


@pytest.mark.parametrize("command", [["show"], ["watch"], ["export", "--csv"], ["compare", "{}"]])
def test_names_are_no_markup_and_full_disks_no_traceback(command: list[str], runs: Path, tmp_path: Path) -> None:
    header, epoch, *rest = deepcopy(records(runs / "allreduce"))
    header["nodes"][0]["host"] = "[/y]"
    run = write(tmp_path / "[red]:smile:[" / "x]", [header, epoch, *rest])
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
