"""Wires of mode ``ring``: bits, errors that are fed back, what is not finite, checkpoints, and what is refused."""

import itertools
import shutil
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from common.config import RunConfig
from common.errors import JobError
from common.flat import N_SLOTS
from ps.sync.modes import AUTO, MODES
from ps.sync.ring import WiredSum
from ps.sync.wires.bf16 import from_bf16, to_bf16
from ps.sync.wires.int8 import UNIT, Int8Wire
from ps.sync.wires.packet_wire import WireSetup
from tests.ranks import SharedStart, epochs, mpirun, program, records
from workers.checkpoint.checkpoint_file import newest
from workers.checkpoint.origin import Origin
from workers.training.fit import check_fit, check_wire

ALONE = SimpleNamespace(rank=0, size=1)
LOSSY = ("bf16", "int8", "powersgd", "topk")
SMALL = ("-m", "workers.run", "--mode", "ring", "--epochs", "3", "--hidden", "32", "--test-fraction", "0")


@pytest.mark.parametrize(
    "n", [1, 2, 3, pytest.param(4, marks=pytest.mark.slow), pytest.param(7, marks=pytest.mark.slow)]
)
def test_wires_sum_to_the_bits_of_a_plain_loop(n: int) -> None:
    assert program(n, "wires.py").out == f"ok {n}\n"


def config(**options: object) -> RunConfig:
    return RunConfig(**options)  # type: ignore[arg-type]


def nearest_bf16(x: float) -> int:
    """Return the bits of the bf16 number nearest to a float32 one, by looking at both of its neighbours."""
    bits: int = struct.unpack("<I", struct.pack("<f", x))[0]
    if x != x:
        return 0x7FC0
    below, above = bits >> 16, (bits >> 16) + 1
    low, high = (bits - (below << 16)), ((above << 16) - bits)
    return below if low < high or (low == high and below % 2 == 0) else above


def test_bf16_rounds_to_the_nearest_and_ties_to_even() -> None:
    """All upper halves, each with lower halves at a tie, beside it and away from it: zeros, denormals, infinities."""
    uppers, lowers = np.arange(1 << 16, dtype=np.uint32), np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    bits = ((uppers[:, None] << 16) | lowers).reshape(-1)
    numbers = bits.view(np.float32)
    halves, work, back = np.empty(len(bits), np.uint16), np.empty(1 << 14, np.uint32), np.empty_like(numbers)
    with np.errstate(all="ignore"):
        to_bf16(numbers, halves, work)
        from_bf16(halves, back)
    np.testing.assert_array_equal(np.isnan(back), np.isnan(numbers))
    some = np.flatnonzero(~np.isnan(numbers))[::7]
    assert halves[some].tolist() == [nearest_bf16(x) for x in numbers[some].tolist()]
    exact = lowers.tolist().index(0)
    kept = back.reshape(-1, len(lowers))[:, exact].view(np.uint32)
    finite = ~np.isnan(kept.view(np.float32))
    np.testing.assert_array_equal(kept[finite], (uppers << 16)[finite])
    for x, expected in itertools.zip_longest((1.0, -0.0, np.inf, 3.4e38, 1e-45), (0x3F80, 0x8000, 0x7F80, 0x7F80, 0)):
        with np.errstate(all="ignore"):
            to_bf16(np.array([x], np.float32), halves[:1], work)
        assert halves[0] == expected


@pytest.mark.parametrize(("factor", "within"), [(0.0, 0.0), (3e-43, 1.0), (1e-30, 1 / 254), (1e30, 1 / 254)])
def test_int8_keeps_the_sizes_of_blocks_apart(factor: float, within: float) -> None:
    """Numbers of blocks are right to 1/254 of the block's largest; denormals may become zeros, but nothing else."""
    numbers = np.random.default_rng(0).standard_normal(2 * UNIT + 5).astype(np.float32)
    numbers[UNIT : 2 * UNIT] *= np.float32(factor)
    setup = WireSetup(cast("Any", ALONE), np.zeros(N_SLOTS + len(numbers), np.float32), {}, RunConfig())
    wire = Int8Wire(setup)
    codes, back = np.empty(wire.coded_bytes(len(numbers)), np.uint8), np.empty_like(numbers)
    assert len(codes) == len(numbers) + 3 * 4
    wire.encode(numbers.copy(), codes)
    wire.decode(codes, back)
    for a, most in ((0, 1 / 254), (UNIT, within), (2 * UNIT, 1 / 254)):
        block = slice(a, a + UNIT)
        wrong = float(np.abs(back[block] - numbers[block]).max())
        assert wrong <= 1.0001 * most * float(np.abs(numbers[block]).max())


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    """Return jobs that end by themselves; batches of 50 rows are unequal on 3 ranks."""
    jobs: dict[str, tuple[str, ...]] = {
        "exact": ("--batch-size", "50", "--dtype", "float64", "--checkpoint-every", "1")
    }
    jobs["all"] = (*jobs["exact"], "--wire", "topk", "--wire-keep", "1")
    jobs["all-nodes"] = (*jobs["all"], "--ranks-per-node", "2")
    for wire in LOSSY:
        keep = ("--wire-keep", "0.1") if wire == "topk" else ()
        jobs[wire] = (*jobs["exact"], "--wire", wire, *keep, "--ranks-per-node", "2" if wire == "int8" else "0")
        jobs[f"nan-{wire}"] = ("--wire", wire, "--inject", "nan:rank=1,step=7")
        jobs[f"skip-{wire}"] = (*jobs[f"nan-{wire}"], "--nonfinite", "skip", "--ranks-per-node", "2")
    jobs["heal"] = ("--wire", "topk", "--heal", "--inject", "diverge:rank=1,step=7")
    named = {name: (3, [*SMALL, *options]) for name, options in jobs.items()}
    return SharedStart(tmp_path_factory.mktemp("wires"), named)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all", "all-nodes"])
def test_sending_all_numbers_is_exact(batch: SharedStart, name: str) -> None:
    with np.load(batch.run("exact") / "model.npz") as ours, np.load(batch.run(name) / "model.npz") as theirs:
        for parameter in ("W1", "b1", "W2", "b2"):
            np.testing.assert_allclose(theirs[parameter], ours[parameter], rtol=1e-10, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wire", "within", "share"),
    [("bf16", 0.05, 0.251), ("int8", 0.05, 0.14), ("topk", 0.5, 0.23), ("powersgd", 0.3, 0.4)],
)
def test_a_wire_sends_less_and_trains_as_well(batch: SharedStart, wire: str, within: float, share: float) -> None:
    """In float64, of which bf16 sends a quarter, and int8 an eighth; exact sums of sampled steps come to it."""
    exact, ours = epochs(batch.run("exact")), epochs(batch.run(wire))
    assert ours[-1]["loss"] < ours[0]["loss"]
    assert ours[-1]["loss"] != exact[-1]["loss"]
    assert ours[-1]["loss"] == pytest.approx(exact[-1]["loss"], rel=within)
    for record in ours:  # measured with the exact sums
        assert sum(record["share_all"]) == pytest.approx(1, abs=1e-6)
    steps, n_bytes = ours[0]["steps"], 8 * 2 * (64 * 32 + 32 + 32 * 10 + 10)
    ranks = 2 if wire == "int8" else 3  # of those that have a wire
    sent = max(ours[0]["sent_bytes"]) - len(ours[0]["sampled_steps"]) * 2 * n_bytes * (ranks - 1) / ranks
    assert sent / steps <= share * n_bytes * (ranks - 1) / ranks + 300 * (ranks - 1)


@pytest.mark.slow
@pytest.mark.parametrize("wire", LOSSY)
def test_a_nan_is_found_and_its_rank_named(batch: SharedStart, wire: str) -> None:
    result = batch[f"nan-{wire}"]
    assert result.code == 1
    assert "rankwise: not finite at epoch 1, step 7: rank 1: loss, W1, b1, W2, b2; all ranks stopped" in result.err


@pytest.mark.slow
@pytest.mark.parametrize("wire", LOSSY)
def test_a_step_that_is_left_out_leaves_no_trace(batch: SharedStart, wire: str) -> None:
    run = epochs(batch.run(f"skip-{wire}"))
    assert [r["skipped"] for r in run] == [1, 0, 0]
    assert np.isfinite([r["loss"] for r in run]).all()
    assert run[-1]["loss"] < run[0]["loss"]


@pytest.mark.slow
def test_a_rank_that_differs_is_healed(batch: SharedStart) -> None:
    run = batch.run("heal")
    assert [r["ranks"] for r in records(run) if r.get("what") == "heal"] == [[1]]
    assert records(run)[-1]["status"] == "ok"


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_a_resumed_run_takes_up_what_was_not_sent(batch: SharedStart, tmp_path: Path, n: int) -> None:
    shutil.copytree(batch.run("topk"), tmp_path / "run")
    snapshot, _ = newest(tmp_path / "run")
    assert snapshot is not None
    assert all(np.count_nonzero(snapshot.arrays[f"wire_error/{name}"]) for name in ("W1", "b1", "W2", "b2"))
    result = mpirun(n, "-m", "workers.run", "--resume", str(tmp_path / "run"), "--epochs", "5")
    assert result.code == 0, result.err
    losses = [r["loss"] for r in epochs(tmp_path / "run")]
    assert losses == sorted(losses, reverse=True)
    after, _ = newest(tmp_path / "run")
    assert after is not None
    assert "wire_error/W1" in after.arrays


@pytest.mark.parametrize("mode", [AUTO, *(name for name, mode in MODES.items() if not mode.wires)])
def test_a_mode_that_no_wire_goes_with_says_so(mode: str) -> None:
    check_wire(config(mode=mode), Origin())
    with pytest.raises(
        JobError, match=rf"wire: bf16 has no effect in mode {mode}; use --wire float32, or .* ring"
    ) as got:
        check_wire(config(mode=mode, wire="bf16"), Origin())
    assert got.value.exit_code == 2


def test_bytes_to_ranks_of_other_nodes_are_counted_alone() -> None:
    reducer: Any = SimpleNamespace(comm=SimpleNamespace(rank=1), _wire=SimpleNamespace(sent_to={0: 7, 2: 20, 3: 4}))
    topology: Any = SimpleNamespace(leaders=[0, 0, 2, 2])
    assert WiredSum.between_bytes(reducer, topology) == 24


def test_a_way_to_sum_that_the_wire_does_not_take_is_refused() -> None:
    check_fit(config(mode="local", sum_algorithm="ring"), Origin(), 2)
    with pytest.raises(JobError, match=r"ring has no effect in mode local with --wire topk; .* allreduce, .*") as got:
        check_fit(config(mode="local", sum_algorithm="ring", wire="topk"), Origin(), 2)
    assert got.value.exit_code == 2


@pytest.mark.parametrize("wire", ["float32", "bf16", "int8"])
def test_an_option_of_another_wire_is_refused(wire: str) -> None:
    check_wire(config(mode="ring", wire="topk", wire_keep=0.1), Origin())
    with pytest.raises(
        JobError, match=f"wire_keep: has no effect with --wire {wire}; leave it out, or choose --wire topk"
    ):
        check_wire(config(mode="ring", wire=wire, wire_keep=0.1), Origin())
