"""Findings on runs of mode ``local``, both ways. All records are made up."""

import random
from collections.abc import Callable

import pytest

from ps.findings.detectors import Findings
from ps.logfile.records import Record
from tests import synthetic


def head(ranks: int = 4, **options: object) -> Record:
    """Return a header of a run with 1,000 rows, 100 a step."""
    header = {**synthetic.header(ranks, mode="local"), "cores": [[rank] for rank in range(ranks)]}
    header["data"]["rows"]["train"] = 1000
    header["config"] |= {"batch_size": 100, "epochs": 4, "sync_every": 5, **options}
    return header


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"outer_momentum": 0.5}, ""),  # 8 averages, 8 are needed
        ({"outer_momentum": 0.5, "epochs": 3}, "has 6 averages, but with an outer momentum of 0.5"),
        ({"outer_momentum": 0.9}, "over about 10 of them: at least 40 are needed"),
        ({"outer_momentum": 0.9, "epochs": 20}, ""),
        ({"outer_momentum": 0.1, "ranks": 9}, "at least 9 are needed"),
        ({"epochs": 1}, ""),
        ({"outer_momentum": 0.5, "sync_every": 16, "epochs": 7}, "has 7 averages"),  # one an epoch
        ({"outer_momentum": 0.9, "mode": "allreduce"}, ""),
        ({"outer_momentum": 0.9, "batch_size": 0}, "has 4 averages"),
    ],
)
def test_few_averages(options: dict[str, float], said: str) -> None:
    found = Findings(head(int(options.pop("ranks", 4)), **options)).start()
    assert [verdict.code for verdict in found] == ["few-averages"] * bool(said)
    assert said in "".join(verdict.text for verdict in found)


@pytest.mark.parametrize(
    ("of_epoch", "at"),
    [
        (lambda k: (0.3, 1.0), 4),  # the first epoch is the lowest so far
        (lambda k: (0.3, 1 / k), 0),  # it learns
        (lambda k: (0.05, 1.0), 0),
        (lambda k: (0.3 if k % 2 else 0.05, 1.0), 7),
        (lambda k: (0.3 if k % 3 == 0 else 0.05, 1.0), 0),
    ],
)
def test_drift(of_epoch: Callable[[int], tuple[float, float]], at: int) -> None:
    header = head()
    findings, found, rng = Findings(header), [], random.Random(1)
    for number in range(1, 13):
        drift, loss = of_epoch(number)
        record = {**synthetic.epoch(header, number, rng, {}), "drift": [drift, None, drift, drift], "loss": loss}
        found += [(number, verdict.code, verdict.evidence["drift"]) for verdict in findings.add(record)]
    assert [one for one in found if one[1] == "drift"] == [(at, "drift", 0.3)] * bool(at)


def test_the_exchange_of_averages_counts_once_a_round() -> None:
    """Two averages of 0.1 s in ten steps: with a median of 0.1 s a step it would look as if they were not rare."""
    header, rng = head(sync_every=5), random.Random(1)
    findings, found = Findings(header), []
    for number in range(1, 8):
        record = synthetic.epoch(header, number, rng, {})
        n = record["steps"]
        averages = {"pushes": [2] * 4, "transfer_s": [0.5] * 4, "transfer_median_s": [0.25] * 4}
        found += findings.add(
            {**record, "compute_s": [0.3] * 4, "input_s": [0.0] * 4, "reduce_s": [0.0] * 4, **averages}
        )
    (bound,) = [verdict for verdict in found if verdict.code == "communication-bound"]
    assert bound.evidence["exchange_s_per_step"] == pytest.approx(0.5 / n)
    assert "raise --sync-every above 5" in bound.remedy
