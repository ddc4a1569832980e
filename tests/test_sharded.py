"""Mode ``sharded``: both halves of a sum, and an optimizer's state of which each rank has a part."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import RunConfig
from ps.sync.halves import slices_of
from tests.ranks import Result, SharedStart, program, records
from workers.training.memory_need import vector_bytes

Job = Callable[..., Result]
RUN = ("-m", "workers.run", "--hidden", "16", "--batch-size", "100", "--dtype", "float64", "--optimizer", "adam",
       "--weight-decay", "0.001", "--clip", "0.5")  # fmt: skip
WHOLE, HALF = (*RUN, "--epochs", "4"), (*RUN, "--epochs", "2", "--checkpoint-every", "1")
CHANGES = [("sharded", "allreduce"), ("shared", "sharded")]


@given(n=st.integers(0, 5000), size=st.integers(1, 40))
def test_slices_cover_the_vector_in_whole_lines(n: int, size: int) -> None:
    slices = slices_of(n, size)
    assert len(slices) == size
    assert (slices[0].start, slices[-1].stop) == (0, n)
    for before, after in pairwise(slices):
        assert before.stop == after.start
        assert after.start % 16 == 0 or after.start == n
    lengths = [s.stop - s.start for s in slices]
    assert max(lengths) - min(lengths) < 32


@pytest.mark.parametrize(
    "n", [1, 2, 3, pytest.param(4, marks=pytest.mark.slow), pytest.param(7, marks=pytest.mark.slow)]
)
def test_halves_have_the_bits_of_their_order(n: int) -> None:
    assert program(n, "halves.py").out == f"ok {n}\n"


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    folder = tmp_path_factory.mktemp("sharded")
    named: dict[str, tuple[int, tuple[str, ...]]] = {"whole": (3, WHOLE)}
    for old, new in CHANGES:
        named[f"old-{old}"] = (3, (*HALF, "--mode", old))
        before = folder / "3" / f"old-{old}"
        named[f"new-{new}"] = (2, ("-m", "workers.run", "--resume", str(before), "--mode", new, "--epochs", "4"))
    return SharedStart(folder, named)


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_a_run_goes_on_in_another_mode_on_other_ranks(batch: SharedStart, old: str, new: str) -> None:
    """The state is collected for a checkpoint, and divided anew."""
    whole, run = batch.run("whole"), batch.run(f"old-{old}")
    assert batch[f"new-{new}"].code == 0, batch[f"new-{new}"].err
    with np.load(whole / "model.npz") as expected, np.load(run / "model.npz") as found:
        for name in (name for name in expected.files if expected[name].dtype.kind == "f"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-10, atol=1e-13, err_msg=name)
    headers = [record for record in records(run) if record["kind"] == "header"]
    last = [record for record in records(run) if record["kind"] == "epoch"][-1]
    assert (last["epoch"], len(last["rows"])) == (4, 2)
    n = headers[0]["model"]["n_parameters"]
    assert headers[0]["sync"]["divides_state"] == (old == "sharded")
    most = 2 * 8 * (n / 3 + 16)
    assert (headers[0]["sync"]["state_bytes"] <= most) == (old != "allreduce")


def test_ranks_cannot_start_apart(job: Job, tmp_path: Path) -> None:
    result = job(2, "--mode", "sharded", "--init", "per-rank")
    assert result.code == 2
    assert result.err.count("rankwise:") == 1
    assert "mode sharded keeps parameters that are those of all ranks" in result.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("optimizer", "numbers"), [("sgd", 0), ("momentum", 1), ("adam", 2)])
def test_the_memory_check_knows_that_the_state_is_divided(optimizer: str, numbers: int) -> None:
    n, ranks = 8_000_000, 4
    topology: Any = SimpleNamespace(comm=SimpleNamespace(size=ranks), local=SimpleNamespace(size=1))
    config = RunConfig(optimizer=optimizer)
    whole, own = (vector_bytes(topology, config, mode, n) for mode in ("allreduce", "sharded"))
    assert whole == 4 * (16 + (2 + numbers) * n)
    assert own == 4 * (16 + 2 * n + (1 + numbers) * n // ranks)  # and what comes from the rank before
