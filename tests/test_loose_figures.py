"""Figures that only modes give whose ranks do not keep in step: in the record where they were measured."""

from typing import Any, cast

import numpy as np
import pytest
from mpi4py import MPI

from common.flat import Array
from ps.logfile.epoch_fields import EPOCH_FIELDS, epoch_spec
from ps.logfile.validation import Validator
from ps.metrics.epoch_record import epoch_record
from ps.metrics.rank_row import RankRow, row_type

LOOSE = [field.name for field in EPOCH_FIELDS if field.loose]
FACTS = {"epoch": 1, "steps": 4, "before": None, "skipped": 0, "sampled_steps": [1, 2], "learning_rate": 0.1,
         "elapsed_s": 1.0}  # fmt: skip


def rows(**given: list[float]) -> Array:
    """Return what three ranks could hand in: the figures given, no other of these."""
    table = np.ones(3, row_type(1))
    for name in LOOSE:
        table[name] = given.get(name, np.nan)
    return table


def record(table: Array) -> dict[str, Any]:
    found = epoch_record(table, FACTS, ["w"], 8)
    return {**found, "noise_scale": None, "validation_loss": None, "validation_metric": None}


def fault(found: dict[str, Any]) -> str:
    check = Validator()
    check.world, check.parameters = 3, {"w": [1]}.keys()
    return check.fault(found, epoch_spec())


def test_an_exact_mode_logs_none_of_them() -> None:
    found = record(rows())
    assert not set(LOOSE) & found.keys()
    assert not fault(found)


def test_what_any_rank_gave_is_listed_and_nil_for_the_others() -> None:
    found = record(rows(pushes=[4, np.nan, 3], drift=[0.5, np.inf, 0.25]))
    assert found["pushes"] == [4, None, 3]
    assert [type(value) for value in found["pushes"]] == [int, type(None), int]
    assert found["drift"] == [0.5, None, 0.25]
    assert found["bus_bytes_per_s"] == pytest.approx(3.5 / 4 * record(rows())["bus_bytes_per_s"])  # of 4 steps
    assert set(LOOSE) & found.keys() == {"pushes", "drift"}
    assert not fault(found)
    assert fault({**found, "pushes": [4, 0.5, 3]}) == ".pushes[1] is 0.5, not a whole number or nil"


class Alone:
    """A communicator of one rank."""

    rank, size = 0, 1

    def Gather(self, own: Array, table: Array) -> None:  # noqa: N802
        table[...] = own


def test_a_row_has_what_the_mode_gave() -> None:
    names = (row_type(1).fields or {}).keys() - set(LOOSE)
    figures = {**dict.fromkeys(names, 0.0), "late": 2}
    table = RankRow(1).gather(cast("MPI.Comm", Alone()), figures)
    assert table is not None
    assert table["late"] == 2
    assert np.isnan(table["pushes"]).all()
