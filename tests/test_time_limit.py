"""Whether a job that will not get done within its time limit is told so, and when that limit is."""

from pathlib import Path
from typing import Any

import pytest

from ps.findings import time_limit as finding
from ps.findings.detectors import Findings
from ps.findings.verdict import Verdict
from ps.logfile.records import Record
from ps.logfile.writer import RunLog
from tests import synthetic
from workers.training.time_limit import time_limit

HOUR = 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(finding.TimeLimit, "clock", made)
    return made


def watch(
    clock: Clock, *seconds: float, epochs: int = 20, limit: dict[str, Any] | None = None, first: int = 1, **config: Any
) -> list[Verdict]:
    """Return what is said of epochs that took so long; ``limit``: besides a job of 2 h of which 1 h is left."""
    header: Record = synthetic.header(2)
    header["config"] |= {"epochs": epochs, **config}
    facts = {"ends": clock.now + HOUR, "limit_s": 2 * HOUR, "requeues": 100, "restarts": 0, "source": "test"}
    header["time_limit"] = {**facts, **(limit or {})}
    detector, found = finding.TimeLimit(header), []
    for number, spent in enumerate(seconds, first):
        clock.now += spent
        verdict = detector.add({"epoch": number, "before": None})
        found += [verdict] if verdict else []
    return found


def test_a_job_that_is_queued_again_is_told_how_often(clock: Clock) -> None:
    # 20 epochs of half an hour: 9.5 h more after the first, of which this job does 28 min; it took 1 h to begin, so
    # each of the next ones trains for 58 min
    (found,) = watch(clock, HOUR / 2)
    assert (found.code, found.severity, found.ranks) == ("time-limit", "info", [])
    assert found.text == "needs 9 h 30 min more, limit in 30 min: will be requeued 10 times"
    assert found.evidence["needed_s"] == 9.5 * HOUR
    (found,) = watch(clock, HOUR / 2, limit={"requeues": 3})
    assert "would have to be requeued 10 times, but will be only 3 times" in found.text
    assert found.severity == "warning"
    (found,) = watch(clock, HOUR / 2, limit={"requeues": 0})
    assert (found.severity, found.remedy.count("train.sbatch")) == ("warning", 0)
    assert (
        found.text == "needs 9 h 30 min more, limit in 30 min: will be ended about epoch 1 of 20, and not queued again"
    )


def test_a_job_that_is_not_is_told_where_it_ends(clock: Clock) -> None:
    (found,) = watch(clock, HOUR / 4, limit={"requeues": None})
    assert found.severity == "warning"
    assert found.text == (
        "needs 4 h 45 min more, limit in 45 min: will be ended about epoch 4 of 20, and not queued again"
    )
    assert "a time limit of at least 6 h 28 min" in found.remedy
    (found,) = watch(clock, HOUR / 4, limit={"requeues": None, "limit_s": None})
    assert "will be ended about epoch 4" in found.text


def test_with_patience_it_is_an_upper_bound(clock: Clock) -> None:
    (found,) = watch(clock, HOUR / 2, patience=3)
    assert found.text.startswith("needs up to 9 h 30 min more, ")
    assert "--patience may stop it before" in found.remedy


def test_a_resumed_run_needs_what_is_left_of_it(clock: Clock) -> None:
    assert watch(clock, 1800.0, first=20) == []
    assert watch(clock, 600.0, 600.0, 600.0, first=16) == []
    (found, *_) = watch(clock, 1200.0, 1200.0, first=15)
    assert found.text.startswith("needs 1 h 40 min more, limit in 40 min: will be requeued ")


def test_what_fits_or_is_not_certain_is_not_reported(clock: Clock) -> None:
    assert watch(clock, *[170.0] * 20) == []
    assert watch(clock, 300.0, *[100.0] * 19) == []  # the first epoch takes longer
    assert watch(clock, 1.0, 0.001, 0.001, 0.001, epochs=100_000) == []
    assert watch(clock, 1.0, 1.0, epochs=100_000) == []  # too short to say anything
    assert len(watch(clock, 1.0, 1.0, 1.0, epochs=100_000)) == 1
    assert watch(clock, 2 * HOUR) == []  # the limit is that of an earlier job
    header = synthetic.header(2)
    assert finding.TimeLimit(header).add({"epoch": 1, "before": None}) is None


def test_a_time_limit_too_short_to_get_on_is_told(clock: Clock) -> None:
    (found,) = watch(clock, 10.0, epochs=1000, limit={"ends": clock.now + 100, "limit_s": 110.0})
    assert "too short to be requeued 2 min before its end and get on" in found.text
    assert found.severity == "warning"


def test_a_job_that_is_stopped_earlier_than_the_scripts_ask_for_has_less_time(clock: Clock) -> None:
    (found,) = watch(clock, HOUR / 2, limit={"stop_before_s": 600.0})  # 20 min, and each of the next jobs 50
    assert found.text == "needs 9 h 30 min more, limit in 30 min: will be requeued 11 times"
    (found,) = watch(clock, 10.0, epochs=1000, limit={"ends": clock.now + 500, "limit_s": 510.0, "stop_before_s": 600})
    assert "too short to be requeued 10 min before its end and get on" in found.text


@pytest.mark.parametrize(("restarts", "again"), [(0, True), (2, False)])
def test_another_job_is_told_again_but_not_one_that_was_queued_again(
    restarts: int, again: bool, tmp_path: Path
) -> None:
    def make() -> Findings:
        return Findings({**synthetic.header(2), "time_limit": {"restarts": restarts, "requeues": 100}})

    log = RunLog(tmp_path / "coordinator.msgpack", new=True)
    log.append("header", **{k: v for k, v in synthetic.header(2).items() if k not in ("kind", "seq", "t", "crc")})
    verdict = Verdict(code="time-limit", ranks=[], text="x", remedy="y", evidence={})
    log.append("verdict", **verdict.fields())
    findings = make()
    findings.recall(tmp_path / "coordinator.msgpack")
    assert (("time-limit", ()) in findings.reported) is not again


def test_where_the_limit_is_found() -> None:
    def never(job: str) -> str:
        raise AssertionError(job)

    new = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "2000", "SLURM_JOB_START_TIME": "500"}
    assert time_limit(new, never) == {
        "ends": 2000.0, "limit_s": 1500.0, "requeues": None, "stop_before_s": None, "restarts": 0,
        "source": "SLURM_JOB_END_TIME",
    }  # fmt: skip
    asked = []

    def squeue(job: str) -> str:
        asked.append(job)
        return "1:00:00|2:00:00\n"

    old = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2", "RANKWISE_REQUEUES": "98"}
    found = time_limit({**old, "SLURM_RESTART_COUNT": "2", "RANKWISE_STOP_BEFORE": "300"}, squeue, lambda: 100.0)
    assert found == {
        "ends": 3700.0, "limit_s": 7200.0, "requeues": 98, "stop_before_s": 300.0, "restarts": 2, "source": "squeue",
    }  # fmt: skip
    assert asked == ["7_2"]
    assert (time_limit({**old, "RANKWISE_JOB_ENDS": "5000"}, never) or {})["ends"] == 5000.0
    assert time_limit({"SLURM_JOB_END_TIME": "2000"}, never) is None  # no job: a shell that has kept a variable
    for answer in ("UNLIMITED|UNLIMITED", "INVALID|1:00", "", "x", "1|2|3"):
        assert time_limit({"SLURM_JOB_ID": "7"}, lambda _, said=answer: said) is None  # type: ignore[misc]
    for value in ("", "soon", "nan", "inf", "-1", "1e300"):
        assert time_limit({"RANKWISE_JOB_ENDS": value}, never) is None
