"""The reference experiment to the printed digit, and what the log says about it."""

import re
from pathlib import Path

import numpy as np
import pytest

from ps.sync.modes import MODES
from tests.ranks import SharedStart, epochs, records

CONFIG = str(Path(__file__).parent.parent / "docs" / "examples" / "reference.toml")


def verdicts(run: Path) -> list[str]:
    """Return the codes of a run's verdicts."""
    return [r["code"] for r in records(run) if r["kind"] == "verdict"]


REPLICAS = [name for name, mode in MODES.items() if mode.exact and mode.apart and mode.replicas]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    """Return runs of the experiment: in its modes, with a broadcast, on rows that are sound."""
    folder = tmp_path_factory.mktemp("reference")
    rng = np.random.default_rng(3)
    x = rng.standard_normal((100, 10))
    healthy, exact = str(folder / "healthy.npz"), str(folder / "exact.npz")
    np.savez(healthy, X=x, y=x @ rng.random(10) + 0.1 * rng.standard_normal(100))
    # rows far from 0: what the fits leave is rounding, from which nothing follows
    x = np.random.default_rng(2).standard_normal((400, 5)) + 1e4
    np.savez(exact, X=x, y=x @ np.arange(1.0, 6.0))
    sound = ["--data", exact, "--rows", "shard", "--model", "linear", "--no-standardize", "--epochs", "1",
             "--learning-rate", "1e-12"]  # fmt: skip
    jobs = {mode: ["--config", CONFIG, "--verbose", "--mode", mode] for mode in REPLICAS}
    jobs["broadcast"] = ["--config", CONFIG, "--init", "broadcast"]
    jobs["healthy"] = ["--config", CONFIG, "--data", healthy, "--init", "broadcast"]
    jobs |= {dtype: [*sound, "--dtype", dtype] for dtype in ("float64", "float32")}
    return SharedStart(folder, {name: (4, ["-m", "workers.run", *options]) for name, options in jobs.items()})


@pytest.mark.parametrize("mode", REPLICAS)
def test_published_figures(batch: SharedStart, mode: str) -> None:
    run = batch.run(mode)
    lines = batch[mode].out.splitlines()
    which = [line for line in lines if line.startswith("Contribution here is the norm ratio |g_i| / |sum_j g_j|")]
    assert len(which) == 1
    assert lines[lines.index(which[0]) + 1].startswith("Process 0, Epoch 1: grad_W mean")
    assert (run / "contributions.txt").read_text().splitlines()[0] == f"# {which[0]}"
    at = lines.index("Process 1, Epoch 1: grad_W mean = -0.0283, grad_b mean = -0.0010")
    assert lines[at + 1] == "Process 1, Epoch 1: Contribution to W = 8.99%, b = 0.05%"
    assert re.fullmatch(r"Process 1, Epoch 1: Sync time = \d\.\d{6} seconds", lines[at + 2])
    assert "Process 0, Epoch 10: grad_W mean = -0.2028, grad_b mean = -0.3872" in lines
    assert "Process 0, Epoch 10: Contribution to W = 23.67%, b = 20.40%" in lines
    text = (run / "model_parameters.txt").read_text()
    weights, bias = text.split("\n\n")
    assert weights.splitlines()[:3] == ["W:", "9.505355511359944720e-02", "8.608506196416068068e-01"]
    assert len(weights.splitlines()) == 11
    assert bias == "b:\n1.276012244831889186e-01\n"
    for epoch in epochs(run):
        assert epoch["norm_ratio"]["W"][2] > 1.1
        assert epoch["norm_ratio"]["b"][2] > 1.06  # 106.06 % in epoch 1 up to 110.92 % in epoch 10


@pytest.mark.parametrize("mode", REPLICAS)
def test_verbose_lines_come_in_rank_order(batch: SharedStart, mode: str) -> None:
    lines = [line for line in batch[mode].out.splitlines() if line.startswith("Process")]
    found = [re.match(r"Process (\d), Epoch (\d+)", line) for line in lines]
    expected = [(str(r), str(e)) for e in range(1, 11) for r in range(4) for _ in range(3)]
    assert [m.groups() for m in found if m] == expected


@pytest.mark.parametrize("mode", REPLICAS)
def test_the_log_names_all_three_faults(batch: SharedStart, mode: str) -> None:
    run = batch.run(mode)
    verdicts = {r["code"]: r for r in records(run) if r["kind"] == "verdict"}
    faults = [code for code in verdicts if code != "more-ranks-than-cores"]  # this machine's
    assert faults == ["replicas-differ", "targets-differ", "pulls-against", "local-loss-misleads"]
    assert verdicts["pulls-against"]["ranks"] == [0]
    assert "not broadcast" in verdicts["replicas-differ"]["text"]
    assert verdicts["replicas-differ"]["ranks"] == [1, 2, 3]
    assert max(verdicts["replicas-differ"]["evidence"]["max_abs_difference"]) == pytest.approx(0.958, abs=5e-4)
    assert verdicts["targets-differ"]["text"] == (
        "The ranks' data do not follow one linear relation: one fit per rank leaves error 0.077, one for all 0.587. "
        "All hold 25 rows: this is not imbalance"
    )
    local = verdicts["local-loss-misleads"]
    assert "loss on rank 0's rows alone rises" in local["text"]
    assert local["evidence"]["loss"] == pytest.approx([0.443, 0.436], abs=5e-4)
    assert local["evidence"]["rank_0_loss"] == pytest.approx([0.118, 0.124], abs=5e-4)
    first = epochs(run)[0]
    assert first["share_all"] == pytest.approx([-0.193, -0.010, 1.091, 0.111], abs=6e-4)
    assert first["loss_by_rank"] == pytest.approx([0.118, 0.177, 1.312, 0.166], abs=6e-4)


def test_with_a_broadcast_the_replicas_are_equal(batch: SharedStart) -> None:
    run = batch.run("broadcast")
    log = records(run)
    assert all(len(set(r["fingerprint"])) == 1 for r in log if r["kind"] == "epoch")
    assert "replicas-differ" not in [r["code"] for r in log if r["kind"] == "verdict"]
    ratios = [100 * r for r in epochs(run)[0]["norm_ratio"]["W"]]
    assert ratios == pytest.approx([18.1, 6.5, 113.7, 10.1], abs=0.06)


@pytest.mark.parametrize("name", ["healthy", "float64", "float32"])
def test_sound_rows_get_no_verdict(batch: SharedStart, name: str) -> None:
    """Healthy shards, and exact rows in the order of the file."""
    assert [v for v in verdicts(batch.run(name)) if v != "more-ranks-than-cores"] == []
