"""``python -m ps.log trace``: what a viewer of Chrome traces asks for, and what a rank did when."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import ConfigError, LogError, RankwiseError
from common.run_files import LOG_NAME
from ps.logfile.records import Record
from ps.reader.commands import trace as trace_module
from ps.reader.commands.trace import IN_PLACE, trace
from ps.sync.modes import MODES
from tests.ranks import Result, records
from tests.synthetic import epoch, header, steps, write_run

Event = dict[str, Any]
STRIP = ("kind", "seq", "t", "crc")


def traced(run: Path, tmp_path: Path) -> list[Event]:
    """Trace a run and return the events, judged as strictly as any importer does."""
    assert trace(run, output=tmp_path / "trace.json") == 0
    whole = json.loads((tmp_path / "trace.json").read_text(), parse_constant=pytest.fail)  # NaN is not JSON
    events: list[Event] = whole["traceEvents"]
    timed = [event for event in events if event["ph"] != "M"]
    assert events[: -len(timed)] == [event for event in events if event["ph"] == "M"]  # names come first
    assert {event["ph"] for event in timed} <= {"X", "C"}
    for event in events:
        assert type(event["pid"]) is int
        assert event["pid"] > 0
        if event["ph"] != "M" or event["name"].startswith("thread"):
            assert type(event["tid"]) is int
            assert event["tid"] > 0
    free: dict[tuple[int, int], int] = {}
    for event in timed:
        assert type(event["ts"]) is int
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert type(event["dur"]) is int
            assert event["dur"] > 0
            row = event["pid"], event["tid"]
            assert event["ts"] >= free.get(row, 0), f"slices overlap: {event}"
            free[row] = event["ts"] + event["dur"]
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert set(free) <= named
    assert {pid for pid, _ in named} <= {e["pid"] for e in events if e["name"] == "process_name"}
    return events


def of_rank(events: list[Event], rank: int) -> list[Event]:
    return [event for event in events if event["ph"] == "X" and event["tid"] == rank + 1]


def ending(slices: list[Event], name: str) -> list[int]:
    return [event["ts"] + event["dur"] for event in slices if event["name"] == name]


def test_phases_of_every_rank_are_those_of_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", epochs=2, ranks=5, nodes=2, slow={3: 2.0})
    events = traced(run, tmp_path)
    assert capsys.readouterr().out == f"{tmp_path}/trace.json: 2 sampled steps of 5 ranks\n"
    _, first, sampled, *_ = records(run)
    begin, moments = round(1e6 * sampled["begin_s"]), {k: v[0] for k, v in sampled["moments_us"].items()}
    for rank in range(5):
        own = {name: begin + values[rank] for name, values in moments.items()}
        expected = [
            ("input", own["input"], own["begin"]),
            ("forward", own["begin"], own["forward"]),
            ("backward", own["forward"], own["backward"]),
            ("wait", own["arrived"], own["last"]),
            ("transfer", own["last"], own["left"]),
            ("measure", own["left"], own["measured"]),
            ("update", own["measured"], own["updated"]),
        ]
        lasting = [phase for phase in expected if phase[1] < phase[2]]
        assert [(e["name"], e["ts"], e["ts"] + e["dur"]) for e in of_rank(events, rank)[: len(lasting)]] == lasting
        assert all(event["args"]["step"] == 11 for event in of_rank(events, rank))
    assert "wait" not in {event["name"] for event in of_rank(events, 3)}  # the last rank: a phase of no length
    losses = [event for event in events if event["ph"] == "C"]
    assert [event["args"]["loss"] for event in losses] == [r["loss"] for r in records(run) if r["kind"] == "epoch"]
    assert losses[0]["ts"] == begin + round(1e6 * max(first["loop_s"]))


def test_ranks_are_grouped_by_node_in_order(tmp_path: Path) -> None:
    events = traced(write_run(tmp_path / "run", ranks=5, nodes=2), tmp_path)
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert names == {1: "node node0", 2: "node node1", 3: "run"}
    rows = {e["tid"]: (e["pid"], e["args"]["name"]) for e in events if e["name"] == "thread_name"}
    assert rows == {**{r + 1: (1 if r < 3 else 2, f"rank {r}") for r in range(5)}, 6: (3, "epochs")}
    order = {e["pid"]: e["args"]["sort_index"] for e in events if e["name"] == "process_sort_index"}
    assert order[3] < order[1] < order[2]


def test_waits_of_a_step_end_at_the_same_moment(tmp_path: Path) -> None:
    events = traced(write_run(tmp_path / "run", epochs=1, ranks=6, slow={4: 3.0}), tmp_path)
    ends = [ending(of_rank(events, rank), "wait") for rank in range(6) if rank != 4]
    assert len({end for own in ends for end in own}) == 1
    assert all(len(own) == 1 for own in ends)
    assert ending(of_rank(events, 4), "backward") == ends[0]


def changed(folder: Path, change: Callable[[Record], object], mode: str = "allreduce") -> Path:
    """Write a run of one epoch whose record of sampled steps is changed first."""
    import random

    head = header(3, mode=mode)
    record = epoch(head, 1, random.Random(0), {})
    sampled = steps(head, record)
    change(sampled)
    more = [("epoch", record), ("steps", sampled)]
    return write_run(folder, epochs=0, ranks=3, mode=mode, more=more)


def test_what_follows_the_update_in_modes_with_slices(tmp_path: Path) -> None:
    def delay(record: Record) -> None:
        record["moments_us"]["end"][0] = [t + 70 for t in record["moments_us"]["updated"][0]]

    for mode, names in (
        ("shared", ["transfer and summing", "measure", "update", "wait"]),
        ("allreduce", ["transfer", "measure", "update"]),
        ("sharded", ["transfer", "measure", "update", "transfer"]),
    ):
        events = traced(changed(tmp_path / mode, delay, mode), tmp_path)
        assert [event["name"] for event in of_rank(events, 0)][-len(names) :] == names


def test_modes_that_share_the_parameters_are_known() -> None:
    """Readers do not load the table of modes, which loads MPI."""
    assert set(IN_PLACE) == {name for name, mode in MODES.items() if not mode.replicas}


def test_clocks_that_are_off_make_no_overlap(tmp_path: Path) -> None:
    def shift(record: Record) -> None:
        moments = record["moments_us"]
        record["steps"] = [11, 12]
        for values in moments.values():
            values.append([t - 3 for t in values[0]])  # a second step that begins before the first has ended
        moments["last"][0] = [t + 10**6 for t in moments["last"][0]]  # after this rank has left
        moments["forward"][0][1] -= 10**9
        moments["end"][0][2] = -(2**53)

    events = traced(changed(tmp_path / "run", shift), tmp_path)
    names = {event["name"] for event in of_rank(events, 0)}
    assert "wait" in names
    assert "transfer" not in names


def test_long_logs_are_thinned_evenly_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trace_module, "SLICES", 9 * 4 * 10)
    monkeypatch.setattr(trace_module, "ITEMS", 12)
    events = traced(write_run(tmp_path / "run", epochs=50, ranks=4), tmp_path)
    assert "8 sampled steps (one in 8 of 50) of 4 ranks" in capsys.readouterr().out
    kept = [event["args"]["epoch"] for event in of_rank(events, 0) if event["name"] == "forward"]
    assert kept == [*range(1, 50, 8), 50]
    assert sum(1 for event in events if event["ph"] == "C") <= 12


def test_a_killed_run_is_traced_up_to_its_last_whole_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", epochs=3, end="")
    data = (run / LOG_NAME).read_bytes()
    (run / LOG_NAME).write_bytes(data[:-50])  # into the last record of sampled steps
    events = traced(run, tmp_path)
    assert "an unfinished record and were left out" in capsys.readouterr().err
    assert {event["args"]["epoch"] for event in of_rank(events, 0)} == {1, 2}


def test_a_log_without_steps_is_one_message(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", epochs=0, end="")
    with pytest.raises(RankwiseError, match="no sampled step in this log, so there is nothing to trace"):
        trace(run, output=tmp_path / "trace.json")
    (run / LOG_NAME).write_bytes(b"")
    with pytest.raises(RankwiseError, match="nothing to trace"):
        trace(run, output=tmp_path / "trace.json")
    assert not (tmp_path / "trace.json").exists()


def test_damage_and_unwritable_places_leave_no_file(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="cannot write"):
        trace(run, output=tmp_path / "missing" / "trace.json")
    damaged = bytearray((run / LOG_NAME).read_bytes())
    damaged[len(damaged) // 2] ^= 4
    (run / LOG_NAME).write_bytes(damaged)
    with pytest.raises(LogError, match="byte "):
        trace(run, output=tmp_path / "trace.json")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("value", [1e300, -1e300])
def test_absurd_times_are_no_traceback(tmp_path: Path, value: float) -> None:
    traced(changed(tmp_path / "run", lambda record: record.update(begin_s=value)), tmp_path)
    huge = changed(tmp_path / "huge", lambda record: record["moments_us"]["left"].__setitem__(0, [2**63, -(2**63), 0]))
    traced(huge, tmp_path)


@pytest.mark.parametrize("mode", ["allreduce", "shared"])
def test_real_steps_follow_each_other(mode: str, job: Callable[..., Result], tmp_path: Path) -> None:
    assert job(3, "--mode", mode, "--epochs", "3", "--hidden", "64").code == 0
    events = traced(tmp_path / "run", tmp_path)
    transfer = "transfer and summing" if mode == "shared" else "transfer"
    for rank in range(3):
        own = of_rank(events, rank)
        assert {"forward", "backward", transfer, "update"} <= {event["name"] for event in own}
        assert {event["args"]["epoch"] for event in own} == {1, 2, 3}
    by_step: dict[tuple[int, int], set[int]] = {}
    for rank in range(3):
        for event in of_rank(events, rank):
            if event["name"] == transfer:
                by_step.setdefault((event["args"]["epoch"], event["args"]["step"]), set()).add(event["ts"])
    assert len(by_step) == 3 * 8
    assert all(len(begins) == 1 for begins in by_step.values())  # from the last rank's arrival on, on all ranks
