"""The coordinator when ranks have died: what it takes from the log and from the watchdogs, without a job around it."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.config import RunConfig
from common.errors import JobError
from common.rank_status import LOST, PAGE_BYTES, StatusRow
from common.run_files import LOG_NAME, death_notes, leave_death_note
from ps.coordinator.coordinator import Coordinator
from ps.coordinator.metric import Metric
from ps.coordinator.seat import CoordinatorSeat
from ps.logfile.reader import LogReader
from ps.logfile.writer import RunLog
from ps.metrics.epoch_sums import DoneBefore
from tests.ranks import records
from tests.synthetic import header, write_run
from tests.watched import events
from workers.checkpoint.job_state import JobState
from workers.elastic import failover, survivors
from workers.elastic.failover import take_stock
from workers.training.membership import Membership

FACTS = header(2)
HOSTS = ["node0", "node0", "node1"]


def survivor(folder: Path, **known: Any) -> Any:
    """Return as much of a job as a coordinator needs, of a rank that was told of one epoch and did a second."""
    first = {
        "epochs": 1,
        "best_loss": 0.0,
        "best_epoch": 1,
        "noise": [1.0, 1.0],
        "elapsed_s": 5.0,
        "at": time.time(),
    }
    job = SimpleNamespace(
        config=RunConfig(epochs=2, patience=1), rank_status=SimpleNamespace(folder=folder), seat=CoordinatorSeat(),
        state=JobState(epoch=2, before=DoneBefore(steps=20), last={"epoch": 1, "memory": first}),
        membership=Membership([0, 1, 2], HOSTS, time.time(), time.perf_counter()), **known,
    )  # fmt: skip
    job.collect_death_notes = lambda wait_s: job.membership.collect_death_notes(job.seat.here(), wait_s)

    def appoint(job: Any, folder: Path, facts: dict[str, Any], *, resumed: bool, lock: bool = True) -> Coordinator:
        coordinator = Coordinator(folder, job.config, facts, Metric({}), resumed=resumed, lock=lock)
        job.seat.appoint(coordinator)
        return coordinator

    job.appoint = appoint
    return job


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run of three ranks whose coordinator died when it had brought the second epoch to the log."""
    return write_run(tmp_path / "run", epochs=2, ranks=3, end="")


@pytest.fixture
def job(run: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what a rank holds that becomes the coordinator."""
    job = survivor(run)
    monkeypatch.setattr(failover, "appoint", job.appoint)
    return job


def test_what_the_log_says_is_kept_if_a_further_rank_dies_while_it_is_told(job: Any, run: Path) -> None:
    first = take_stock(job, [1, 2], FACTS)  # whose result comes to nobody
    assert first[1]["stop"]
    assert take_stock(job, [1], {**FACTS, "world": 1}) == first
    assert [(e["dead"], e["alive"]) for e in events(run.parent, "shrink")] == [([0], [1, 2]), ([2], [1])]
    assert job.seat.here().epochs == 2


def test_an_early_stop_is_told_once(job: Any, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(run / LOG_NAME, new=False)
    log.append("event", what="early-stop", epoch=2, best_epoch=1, best_validation_loss=0.0)
    log.close()
    _, decision = take_stock(job, [1, 2], FACTS)
    assert decision["stop"]
    assert len(events(run.parent, "early-stop")) == 1
    assert "2 ranks at the final test" in capsys.readouterr().out  # there is no third epoch


def test_training_does_not_wait_for_the_watchdogs(job: Any, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waits for a word"))
    take_stock(job, [1, 2], FACTS)
    assert not events(run.parent, "death")
    event = {"what": "death", "rank": 0, "host": "node0", "epoch": 2, "step": 0, "phase": "writing the log",
             "message": "rank 0 on node0 died", "noticed": 1.0}  # fmt: skip
    for _ in range(2):  # the second, if the coordinator before died between bringing it and taking it away
        assert leave_death_note(run, event)
        job.membership.collect_death_notes(job.seat.here(), 10.0)
        assert not death_notes(run)
    assert [e["rank"] for e in events(run.parent, "death")] == [0]
    assert failover._logged_job(job.seat.here().log.path).reported == {0}


def test_the_dead_of_a_node_that_is_gone_as_a_whole_are_lost_to_the_other_watchdogs(job: Any, run: Path) -> None:
    rows = run / "progress-0"
    rows.write_bytes(bytes(3 * PAGE_BYTES))
    take_stock(job, [1, 2], FACTS)
    data = rows.read_bytes()
    assert len(data) == 3 * PAGE_BYTES
    assert [StatusRow.unpack(data[rank * PAGE_BYTES :]).finished for rank in range(3)] == [LOST, 0, 0]


def test_a_lock_that_stays_is_gone_on_without(
    job: Any, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(failover, "LOCK_S", 0.05)
    held = RunLog(run / LOG_NAME, new=False)
    take_stock(job, [1, 2], FACTS)
    assert "continuing without the lock" in capsys.readouterr().err
    assert records(run)[-1]["what"] == "shrink"
    held.close()


def test_a_finding_is_one_of_the_ranks_it_was_made_of(job: Any, run: Path) -> None:
    log = RunLog(run / LOG_NAME, new=False)
    for code, numbers in (("straggler", [2]), ("straggler", [0]), ("shared-core", [1, 2]), ("loss-stalled", [])):
        log.append("verdict", code=code, ranks=numbers)
    log.close()
    take_stock(job, [1, 2], FACTS)
    assert job.seat.here().findings.reported == {("straggler", (1,)), ("shared-core", (0, 1)), ("loss-stalled", ())}
    assert len(list(LogReader(run / LOG_NAME).records())) == len(records(run))


def test_errors_without_a_death_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Survivors:
        announce = shrink = copy_from_furthest = find_nodes = rebuild = error = None

        def __init__(self, job: Any) -> None:
            pass

        def all_through(self, act: Callable[[], object]) -> bool:
            return False

    monkeypatch.setattr(survivors, "Survivors", Survivors)
    monkeypatch.setattr(survivors, "allgather", lambda comm, value: [value])
    with pytest.raises(JobError, match="again and again"):
        survivors.train(SimpleNamespace(comm=SimpleNamespace(size=2), train=None))  # type: ignore[arg-type]
