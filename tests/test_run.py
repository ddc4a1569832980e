"""The command as a user meets it: options, output, saved files, own data."""

import os
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.nn.functional import MeanSquaredError
from common.nn.mlp import Mlp
from common.rng import Stream, generator
from ps.sync.modes import exact
from tests.ranks import MPIRUN, Result, SharedStart, environment, epochs, finish, mpirun, popen, records

Job = Callable[..., Result]
SHORT = ("--epochs", "2", "--hidden", "8")


BAD_OPTIONS = [
    (["--mode", "alreduce"], "mode: unknown value 'alreduce' (did you mean 'allreduce' or 'reduce-bcast'?)"),
    (["--optimiser", "sgd"], "Did you mean --optimizer?"),
    (["--epochs", "ten"], '"ten"'),
    (["--epochs", "-1"], "epochs: got -1; allowed is at least 1"),
    (["--config", "none.toml"], "config: no file none.toml"),
    (["rows"], "rows"),
]
BAD_FILES = [
    ("epoch = 3\n", "Did you mean epochs?"),
    ("epochs = 'x'\n", "epochs"),
    ("epochs = \n", "{} is no TOML file"),
    ("mode = 'x'\n", "mode: unknown value 'x'"),
    ("\x00\xff", "{} is no TOML file"),
    ("[epochs]\na = 1\n", "epochs"),
]


def saved(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / "model.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    """Return jobs of which many share a start."""
    folder = tmp_path_factory.mktemp("jobs")
    jobs: dict[str, tuple[int, list[str]]] = {"plain": (3, [*SHORT]), "help": (3, ["--help"])}
    jobs["again"] = (3, ["--config", str(folder / "3" / "gelu" / "config.toml")])
    jobs = {"gelu": (3, [*SHORT, "--seed", "5", "--activation", "gelu"]), **jobs}
    for k, (arguments, _) in enumerate(BAD_OPTIONS):
        jobs[f"option-{k}"] = (3, arguments)
    for k, (text, _) in enumerate(BAD_FILES):
        (folder / f"{k}.toml").write_text(text, encoding="latin-1")
        jobs[f"file-{k}"] = (3, ["--config", str(folder / f"{k}.toml")])
    rng = np.random.default_rng(1)
    rows = str(folder / "rows.npz")
    np.savez(rows, X=rng.standard_normal((11, 3)), y=rng.standard_normal((11, 2)))
    full = ["--data", rows, "--model", "linear", "--rows", "shard", "--batch-size", "0", "--test-fraction", "0",
            "--validation-fraction", "0", "--no-standardize", "--no-standardize-target", "--dtype", "float64",
            "--epochs", "1", "--optimizer", "sgd", "--learning-rate", "0.5"]  # fmt: skip
    pieces = ["--epochs", "2", "--hidden", "1024", "600", "--batch-size", "256"]
    for mode in exact():
        jobs[f"full-{mode}"] = (3, ["--mode", mode, *full])
        jobs[f"pieces-{mode}"] = (2, ["--mode", mode, *pieces])
    jobs["few"] = (4, [*SHORT, "--batch-size", "3"])
    return SharedStart(folder, {name: (n, ["-m", "workers.run", *options]) for name, (n, options) in jobs.items()})


def test_default_job_reaches_97_percent_in_every_mode(tmp_path: Path) -> None:
    """Started as users do it, each by itself."""
    found = {}
    env = {name: value for name, value in environment().items() if name != "OMPI_MCA_btl"}
    for mode in exact():
        result = mpirun(4, "-m", "workers.run", "--mode", mode, cwd=tmp_path, env=env)
        assert result.code == 0, result.err
        assert result.err == ""
        accuracy = re.search(r"Test: loss [\d.e-]+, accuracy ([\d.]+) %", result.out)
        assert accuracy
        found[mode] = float(accuracy[1])
    assert min(found.values()) >= 97
    assert len(set(found.values())) == 1
    assert len(list((tmp_path / "runs").iterdir())) == len(exact()) + 1
    latest = tmp_path / "runs" / "latest"
    assert latest.is_symlink()
    assert records(latest)[0]["config"]["mode"] == exact()[-1]


def test_one_process_without_a_launcher(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "workers.run", *SHORT, "--output", str(tmp_path / "run")]
    result = finish(popen(command, cwd=tmp_path))
    assert result.code == 0, result.err
    assert records(tmp_path / "run")[0]["world"] == 1


def test_log_holds_what_every_rank_did(batch: SharedStart) -> None:
    run = batch.run("plain")
    header, *rest = records(run)
    assert header["kind"] == "header"
    kinds = [r["kind"] for r in rest if r["kind"] != "verdict"]  # of 3 ranks on fewer cores
    assert kinds == ["balance", "epoch", "steps", "epoch", "steps", "event", "end"]
    assert [r["what"] for r in rest if r["kind"] == "event"] == ["checkpoint"]  # to go on with more epochs from
    assert header["world"] == 3
    assert sorted(r for node in header["nodes"] for r in node["ranks"]) == [0, 1, 2]
    assert header["data"]["rows"] == {"train": 1259, "validation": 179, "test": 359}
    assert header["model"]["parameters"] == {"W1": [64, 8], "b1": [8], "W2": [8, 10], "b2": [10]}
    for key in ("mpi", "versions", "blas", "threads", "cores", "system"):
        assert header[key]
    for epoch in epochs(run):
        assert sum(epoch["rows"]) == 1259
        for name in header["model"]["parameters"]:
            assert sum(epoch["share"][name]) == pytest.approx(1, abs=1e-5)
            assert len(epoch["norm_ratio"][name]) == len(epoch["gradient_mean"][name]) == 3
        assert sum(epoch["share_all"]) == pytest.approx(1, abs=1e-5)
        for sync, wait, transfer in zip(epoch["sync_s"], epoch["wait_s"], epoch["transfer_s"], strict=True):
            assert sync == pytest.approx(wait + transfer)
            assert min(wait, transfer) >= 0
        assert min(epoch["compute_s"]) > 0
        measured = len(epoch["sampled_steps"])  # in steps of 64 or 43 rows, which 3 ranks share unequally
        assert epoch["sent_bytes"] == [header["packet_bytes"] * (epoch["steps"] + measured)] * 3
        weights = np.array(epoch["rows"]) / 1259
        assert epoch["loss"] == pytest.approx(float(weights @ epoch["loss_by_rank"]))
        assert len(set(epoch["fingerprint"])) == 1
    end = rest[-1]
    assert (end["status"], end["epochs"]) == ("ok", 2)
    assert end["test_metric"] > 0.2


@pytest.mark.parametrize("mode", exact())
def test_shares_add_up_when_the_packet_goes_in_many_pieces(batch: SharedStart, mode: str) -> None:
    """A mode that sends early must not let others' gradients into what counts as this rank's own."""
    run = batch.run(f"pieces-{mode}")
    assert records(run)[0]["packet_bytes"] > 2 << 20
    for epoch in epochs(run):
        assert sum(epoch["share_all"]) == pytest.approx(1, abs=1e-4)
        for shares in epoch["share"].values():
            assert sum(shares) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("mode", exact())
def test_contribution_is_what_the_formulas_say(batch: SharedStart, mode: str) -> None:
    """Full batch on uneven shards: the gradients of each rank's rows can be computed here from the saved start."""
    run = batch.run(f"full-{mode}")
    with np.load(batch.folder / "rows.npz") as arrays:
        x, y = arrays["X"], arrays["y"]
    (epoch,) = epochs(run)
    parts = [(x[a:b], y[a:b]) for a, b in ((0, 3), (3, 7), (7, 11))]
    after = saved(run)
    start = {"W": np.zeros((3, 2)), "b": np.zeros(2)}
    # the update was p -= 0.5 g; with g a function of p, solve for the start by the same formula
    Mlp((3, 2), "relu", MeanSquaredError()).init(start, generator(0, Stream.INIT, 0))
    means = []
    for px, py in parts:
        error = px @ start["W"] + start["b"] - py
        means.append({"W": px.T @ error / len(px), "b": error.mean(axis=0)})  # 2 / n_out = 1
    weights = [len(px) / 11 for px, _ in parts]
    for name in ("W", "b"):
        g = sum(w * m[name] for w, m in zip(weights, means, strict=True))
        np.testing.assert_allclose(after[name], start[name] - 0.5 * g, rtol=1e-12)
        plain = np.linalg.norm(sum(m[name] for m in means))
        for rank in range(3):
            own = means[rank][name]
            assert epoch["norm_ratio"][name][rank] == pytest.approx(np.linalg.norm(own) / plain)
            assert epoch["share"][name][rank] == pytest.approx(weights[rank] * np.vdot(own, g) / np.vdot(g, g))
            assert epoch["gradient_mean"][name][rank] == pytest.approx(own.mean())


def test_saved_configuration_repeats_the_run(batch: SharedStart) -> None:
    first, again = records(batch.run("gelu")), records(batch.run("again"))
    assert tomllib.loads((batch.run("gelu") / "config.toml").read_text())["activation"] == "gelu"
    assert first[-1]["fingerprint"] == again[-1]["fingerprint"] != records(batch.run("plain"))[-1]["fingerprint"]
    assert {**first[0]["config"], "output": ""} == {**again[0]["config"], "output": ""}


def test_flags_win_over_environment_over_file_over_defaults(job: Job, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('epochs = 1\nseed = 1\nhidden = [4]\nactivation = "tanh"\n')
    env = environment(RANKWISE_SEED="2", RANKWISE_ACTIVATION="sigmoid")
    assert job(1, "--config", str(tmp_path / "run.toml"), "--activation", "gelu", env=env).code == 0
    config = records(tmp_path / "run")[0]["config"]
    assert [config[k] for k in ("epochs", "hidden", "seed", "activation", "optimizer")] == [1, [4], 2, "gelu", "adam"]


def test_help_comes_once(batch: SharedStart) -> None:
    result = batch["help"]
    assert result.code == 0
    assert result.out.count("Usage:") == 1
    options = """mode model hidden activation loss data target epochs batch-size optimizer learning-rate schedule
        weight-decay clip patience init seed dtype output verbose debug config"""
    for option in options.split():
        assert f"--{option} " in result.out
    assert not (batch.folder / "3" / "help").exists()


def test_a_bad_option_is_answered_once_with_exit_code_2(tmp_path: Path) -> None:
    """By the launcher, too."""
    result = mpirun(3, "-m", "workers.run", *BAD_OPTIONS[0][0], cwd=tmp_path)
    assert result.code == 2
    assert result.err.count("rankwise:") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("k", range(len(BAD_OPTIONS)))
def test_so_is_any(batch: SharedStart, k: int) -> None:
    result = batch[f"option-{k}"]
    assert result.code == 2
    assert result.err.count("rankwise:") == 1
    assert BAD_OPTIONS[k][1] in result.err
    assert "Traceback" not in result.err
    assert not (batch.folder / "3" / f"option-{k}").exists()


@pytest.mark.parametrize("k", range(len(BAD_FILES)))
def test_bad_files_are_answered_once(batch: SharedStart, k: int) -> None:
    result = batch[f"file-{k}"]
    assert result.code == 2, result.err
    assert result.err.count("rankwise:") == 1
    assert BAD_FILES[k][1].format(f"{k}.toml") in result.err
    assert "Traceback" not in result.err


def test_unknown_environment_option_is_named(job: Job) -> None:
    result = job(2, *SHORT, env=environment(RANKWISE_EPOCH="3"))
    assert result.code == 2
    assert "did you mean 'RANKWISE_EPOCHS'" in result.err


def test_own_csv_regression(job: Job, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((203, 3))
    table = np.column_stack([x, 100 + x @ [3.0, -2.0, 0.5] + 0.01 * rng.standard_normal(203)])
    np.savetxt(tmp_path / "own.csv", table, delimiter=",", header="a,b,c,price", comments="")
    result = job(3, "--data", "own.csv", "--target", "price", "--model", "linear", "--optimizer", "sgd",
                 "--learning-rate", "0.1", "--schedule", "cosine")  # fmt: skip
    assert result.code == 0, result.err
    end = records(tmp_path / "run")[-1]
    assert end["metric"] == "r2"
    assert end["test_metric"] > 0.999


def test_own_npz_binary_logistic(job: Job, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((150, 2))
    np.savez(tmp_path / "own.npz", X=x, y=x[:, 0] > x[:, 1], X_test=x[:20], y_test=x[:20, 0] > x[:20, 1])
    result = job(2, "--data", "own.npz", "--model", "logistic", "--learning-rate", "0.05")
    assert result.code == 0, result.err
    assert records(tmp_path / "run")[-1]["test_metric"] >= 0.95


def test_early_stopping_is_agreed_and_keeps_the_best(job: Job, tmp_path: Path) -> None:
    options = ["--patience", "2", "--epochs", "100", "--learning-rate", "0.05", "--hidden", "32"]
    assert job(3, *options).code == 0
    log = records(tmp_path / "run")
    losses = [r["validation_loss"] for r in log if r["kind"] == "epoch"]
    best = int(np.argmin(losses)) + 1
    assert len(losses) == best + 2 < 100
    assert (log[-1]["best_epoch"], log[-1]["status"]) == (best, "ok")
    # the saved model is that of the best epoch: the same run cut off there ends with it
    shorter = ["--epochs", str(best), "--learning-rate", "0.05", "--hidden", "32", "--output", str(tmp_path / "cut")]
    assert job(3, *shorter).code == 0
    assert records(tmp_path / "cut")[-1]["fingerprint"] == log[-1]["fingerprint"]


def test_a_rank_may_have_no_rows_in_a_step(batch: SharedStart) -> None:
    assert epochs(batch.run("few"))[0]["rows"] == [420, 420, 419, 0]


OF_RANK_0 = (
    "ps.coordinator.coordinator", "ps.coordinator.outputs", "ps.coordinator.display", "ps.findings.detectors",
    "ps.logfile.writer", "ps.logfile.salvage", "ps.sync.shared", "ps.sync.send_recv", "workers.checkpoint.resume",
    "workers.elastic", "workers.launch.cli", "workers.preparation", "workers.training.log_start",
    "common.data.csv_file", "importlib.metadata", "subprocess",
)  # fmt: skip
"""Modules that only rank 0 needs, or another mode or source: memory and start-up time of each rank of a full node."""


def test_workers_import_only_the_core(tmp_path: Path) -> None:
    program = (
        "import sys; from workers.run import main; code = main()\n"
        "from workers.launch.mpi import launcher_rank\n"
        "if launcher_rank() == 1: print('MODULES', *sys.modules)\n"
        "sys.exit(code)"
    )
    result = finish(popen([MPIRUN, "-np", "2", sys.executable, "-c", program, *SHORT], cwd=tmp_path))
    assert result.code == 0, result.err
    modules = next(line for line in result.out.splitlines() if line.startswith("MODULES")).split()[1:]
    loaded = {module.split(".")[0] for module in modules}
    allowed = {"mpi4py", "numpy", "msgpack", "threadpoolctl", "common", "ps", "workers", "cython_runtime"}
    outside = {m for m in loaded if m not in sys.stdlib_module_names and not m.startswith("_")}
    bare = finish(popen([sys.executable, "-c", "import sys; print(*{m.split('.')[0] for m in sys.modules})"]))
    assert outside - allowed - set(bare.out.split()) == set()
    assert {"mpi4py", "numpy", "msgpack", "threadpoolctl"} <= loaded
    assert [module for module in modules if module.startswith(OF_RANK_0)] == []


def test_threads_never_exceed_the_cores(job: Job, tmp_path: Path) -> None:
    assert job(2, *SHORT).code == 0
    header = records(tmp_path / "run")[0]
    cores = {core for mask in header["cores"] for core in mask}
    assert sum(header["threads"]["per_rank"]) <= max(len(cores), 2)
    assert header["threads"]["set_by"] == "rankwise"
    assert job(2, *SHORT, "--output", str(tmp_path / "set"), env=environment(OMP_NUM_THREADS="2")).code == 0
    header = records(tmp_path / "set")[0]
    assert header["threads"] == {"per_rank": [2, 2], "set_by": "OMP_NUM_THREADS"}


def test_text_files(batch: SharedStart) -> None:
    run = batch.run("plain")
    model = saved(run)
    blocks = (run / "model_parameters.txt").read_text().split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == ["W1:", "b1:", "W2:", "b2:"]
    for block, name in zip(blocks, ("W1", "b1", "W2", "b2"), strict=True):
        lines = block.splitlines()[1:]
        assert all(re.fullmatch(r"-?\d\.\d{18}e[+-]\d\d", line) for line in lines)
        np.testing.assert_array_equal(np.array(lines, np.float32), model[name].ravel())
    sync = (run / "sync_times.txt").read_text().splitlines()
    assert sync[0] == "Epoch, Sync Time (s)"
    assert [line.split(",")[0] for line in sync[1:]] == ["1", "2"]
    contributions = (run / "contributions.txt").read_text().splitlines()
    first = epochs(run)[0]["norm_ratio"]
    assert contributions[0].startswith("# Contribution here is the norm ratio")
    assert contributions[1] == "Epoch 1, Process 0: " + ", ".join(f"{n} = {100 * v[0]:.2f}%" for n, v in first.items())
    assert len(contributions) == 7


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no symbolic links here")
def test_latest_is_left_alone_when_it_is_somebodys_folder(tmp_path: Path) -> None:
    (tmp_path / "runs" / "latest").mkdir(parents=True)
    result = mpirun(1, "-m", "workers.run", *SHORT, cwd=tmp_path)
    assert result.code == 0
    assert "does not point to this run" in result.err
    assert (tmp_path / "runs" / "latest").is_dir()
