"""Options that change when a run is resumed: which may, what becomes of the result, and that each row is used once."""

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import OPTIONS, RunConfig
from common.data.loader import BatchLoader
from common.data.row_table import RowTable
from common.data.sampler import Joint, RowSampler
from common.errors import ConfigError
from common.nn.functional import MeanSquaredError
from common.nn.schedules import learning_rate
from ps.logfile.records import Record
from ps.reader.row_audit import RowAudit
from ps.sync.synchronizer import own_rows
from tests.ranks import PROGRAMS, Result, epochs, jobs, mpirun, records
from tests.synthetic import epoch, header
from tests.test_resume import close, parameters, same_bits
from workers.checkpoint.changes import changed_options, sentence
from workers.launch.run_options import parse

MODES = {"allreduce": "", "shared": "", "factors": ""}
SMALL = ("--hidden", "16", "--batch-size", "50", "--dtype", "float64")
EARLY = (*SMALL, "--learning-rate", "0.03", "--epochs", "20")
N_TRAIN = 1259
"""Of the digits."""


def resumes(run: Path) -> list[Record]:
    return [r for r in records(run) if r["kind"] == "event" and r["what"] == "resume"]


sizes = st.integers(0, 45)


@given(
    n=st.integers(1, 40), old=sizes, new=sizes, world=st.integers(1, 5), share=st.floats(0, 1), seed=st.integers(0, 3),
    kind=st.sampled_from(["shuffle", "shard"]),
)  # fmt: skip
def test_a_batch_size_that_changes_within_an_epoch_takes_each_row_once(
    n: int, old: int, new: int, world: int, share: float, seed: int, kind: str
) -> None:
    before = RowSampler(n, old, seed, kind, world)
    steps = round(share * before.steps_per_epoch)
    after = RowSampler(n, new, seed, kind, world, Joint(2, steps, old))
    first, table = after.joint_step, RowTable.of(after)
    assert table.shape == (world, after.steps_per_epoch + after.splits_step)
    taken: list[int] = []
    for rank in range(world):
        done = before.counts(rank)[:steps].sum()
        taken += before.order(2, rank)[:done].tolist()
        rows = np.arange(n)
        loader = BatchLoader(
            np.ones((n, 2)) * rows[:, None], rows[:, None].astype(float), MeanSquaredError().encode, 1,
            own_rows(table, rank), lambda epoch, rank=rank: after.order(epoch, rank),  # type: ignore[misc]
            fixed=after.fixed, allocate=lambda *shape: np.empty(shape),
            joint=(2, first, after.joint_rows(rank)) if after.splits_step else None,
        )  # fmt: skip
        assert loader.steps == after.steps_per_epoch
        batches = [batch.y[:, 0].astype(int).tolist() for batch in loader.epoch(2, first)]
        assert len(batches) == after.steps_per_epoch - first
        taken += [row for batch in batches for row in batch]
        whole = [row for batch in loader.epoch(3) for row in batch.x[:, 0].astype(int).tolist()]
        assert whole == after.order(3, rank).tolist()
    assert sorted(taken) == list(range(n))


def test_steps_after_a_joint_are_those_of_any_epoch() -> None:
    """Rates, which depend on the step alone, then go on where they would be."""
    after = RowSampler(100, 30, 0, "shuffle", 1, Joint(2, 4, 10))
    assert (after.joint_step, after.splits_step) == (1, True)
    assert after.joint_rows(0).tolist() == after.order(2, 0)[40:60].tolist()
    aligned = RowSampler(100, 20, 0, "shuffle", 1, Joint(2, 4, 10))
    assert (aligned.joint_step, aligned.splits_step) == (2, False)


@pytest.mark.parametrize(
    ("before", "now", "effect"),
    [
        ({"learning_rate": 0.01}, {"learning_rate": 0.001}, "result"),
        ({"clip": 0.0}, {"clip": 1.0}, "result"),
        ({"weight_decay": 0.0}, {"weight_decay": 1.0}, "result"),
        ({"batch_size": 64}, {"batch_size": 32}, "result"),
        ({"schedule": "constant"}, {"schedule": "cosine"}, "result"),
        ({"mode": "allreduce"}, {"mode": "shared"}, "rounding"),
        ({"mode": "ring"}, {"mode": "ring", "ranks_per_node": 2}, "rounding"),
        ({"mode": "ring", "wire": "topk"}, {"mode": "ring", "wire": "topk", "ranks_per_node": 2}, "result"),
        ({"momentum": 0.9}, {"momentum": 0.5}, "none"),
        ({"momentum": 0.9, "optimizer": "nesterov"}, {"momentum": 0.5, "optimizer": "nesterov"}, "result"),
        ({"step_epochs": 3}, {"step_epochs": 4}, "none"),
        ({"step_factor": 0.5, "schedule": "warmup-step"}, {"step_factor": 0.1, "schedule": "warmup-step"}, "result"),
        ({"warmup_epochs": 1}, {"warmup_epochs": 2}, "none"),
        ({"warmup_epochs": 1, "schedule": "warmup"}, {"warmup_epochs": 2, "schedule": "warmup"}, "result"),
        ({"epochs": 4}, {"epochs": 5}, "none"),
        ({"epochs": 4, "schedule": "cosine"}, {"epochs": 5, "schedule": "cosine"}, "result"),
        ({"patience": 2}, {"patience": 3}, "none"),
        ({"patience": 2}, {"patience": 0}, "none"),
        ({"patience": 3}, {"patience": 2}, "result"),
        ({"patience": 0}, {"patience": 2}, "result"),
        ({"keep": 2}, {"keep": 3}, "none"),
        ({"data": "a.npz"}, {"data": "b.npz"}, "none"),
    ],
)
def test_what_changes_the_result_is_told(before: dict[str, Any], now: dict[str, Any], effect: str) -> None:
    (change,) = changed_options(RunConfig(**before), RunConfig(**now), trained=True, anew=False)
    assert change.effect == effect
    said = sentence([change])
    assert said.startswith(f"Changed on resume: {change.name} ")
    assert ("no longer that of one uninterrupted run" in said) == (effect == "result")
    (change,) = changed_options(RunConfig(**before), RunConfig(**now), trained=False, anew=False)
    assert change.effect == "none"  # nothing has been trained with the options before


def test_the_line_of_changes() -> None:
    before, now = RunConfig(learning_rate=0.01), RunConfig(learning_rate=0.001)
    assert sentence(changed_options(before, now, trained=True, anew=False)) == (
        "Changed on resume: learning_rate 0.01 -> 0.001. The result is no longer that of one uninterrupted run."
    )
    assert sentence([]) == ""


def test_steps_left_out_around_a_joint_are_counted_in_their_own_batch_size() -> None:
    """Of 1280 rows 3 steps of 64 are done, with step 2 left out; then 6 of the 100 rows of the joint's step."""
    head, rng = header(2), random.Random(0)
    rows = head["data"]["rows"]["train"]
    audit = RowAudit()
    config = {**head["config"], "batch_size": 100}
    resume = {"what": "resume", "epoch": 1, "step": 3, "ranks": 2, "config": config,
              "changes": [{"name": "batch_size", "before": 64, "now": 100, "effect": "result"}]}  # fmt: skip
    last = epoch(head, 1, rng, {}, 3)
    last["before"] = {"steps": 1, "rows": 128, "loss_sum": 1.0}
    last["rows"] = [rows - 192 - 8, 0]  # the joint's step has the rows from 192 to 200
    for record in (
        {"kind": "header", **head, "config": {**head["config"], "batch_size": 64}},
        {"kind": "event", "what": "skip", "epoch": 1, "step": 2},
        {"kind": "event", **resume},
        {"kind": "event", "what": "skip", "epoch": 1, "step": 2},
        {"kind": "epoch", **last},
    ):
        audit.add(record)
    (line,) = audit.lines()
    assert "used once in the one epoch" in line, line


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.on_resume == "same"])
def test_what_may_not_change_is_refused_with_a_way_out(tmp_path: Path, name: str, monkeypatch: Any) -> None:
    option, default = OPTIONS[name], OPTIONS[name].default
    other: Any = {bool: not default, int: 7, float: 0.3, str: "per-rank", tuple[int, ...]: (7,)}[option.type]
    choices = {"rows": "shard", "model": "softmax", "dtype": "float64", "optimizer": "sgd", "activation": "tanh",
               "loss": "mse", "class_weight": "balanced", "shards": "by-rank",
               "prepare": "own:transformer", "delay_compensation": "constant"}  # fmt: skip
    other = choices.get(name, other)
    if name == "start_from":
        return  # which is refused before: it and --resume exclude each other
    saved = {**RunConfig().as_dict(), "hidden": (256,), "data": "own.csv"}
    taken = {key: value for key, value in saved.items() if OPTIONS[key].on_resume != "own"}
    monkeypatch.setattr("workers.launch.run_options.saved_config", lambda *_: taken)
    flag = f"{option.flag}={other}" if option.type is not bool else option.flag.replace("--", "--no-")
    words = [option.flag, "7"] if name == "hidden" else [flag]
    with pytest.raises(ConfigError) as caught:
        parse(["--resume", str(tmp_path), *words], MODES)
    said = str(caught.value)
    assert said.startswith(f"resume: {option.flag}: got ")
    assert f"--from {tmp_path} instead of --resume" in said


def test_how_a_file_is_read_is_taken_over_with_the_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older run's options, and those of a .csv file whose content lies in an .npz now."""
    taken = {key: value for key, value in asdict(RunConfig()).items() if OPTIONS[key].on_resume != "own"}
    taken |= {"header": "yes", "index_column": "keep"}
    monkeypatch.setattr("workers.launch.run_options.saved_config", lambda *_: taken)
    config = parse(["--resume", "x"], MODES)
    assert isinstance(config, RunConfig)
    assert (config.header, config.index_column) == ("yes", "keep")
    taken |= {"data": "/a.csv", "target": "price"}
    config = parse(["--resume", "x", "--data", "/b.csv"], MODES)
    assert isinstance(config, RunConfig)
    assert (config.target, config.header) == ("price", "yes")
    config = parse(["--resume", "x", "--data", "/b.npz"], MODES)
    assert isinstance(config, RunConfig)
    assert (config.target, config.header) == ("", "auto")


ONE_START: dict[str, tuple[str, ...]] = {
    "finished": (*SMALL, "--epochs", "4"),
    "finished+": ("--resume", "{finished}", "--epochs", "6"),
    "six": (*SMALL, "--epochs", "6"),
    "early": (*EARLY, "--patience", "2"),
    "early+": ("--resume", "{early}", "--patience", "5"),
    "late": (*EARLY, "--patience", "5"),
    "early2": (*EARLY, "--patience", "2"),
    "early2same": ("--resume", "{early2}"),
    "early2+": ("--resume", "{early2}", "--epochs", "40"),
    "early3": (*EARLY, "--patience", "2"),
    "early3+": ("--resume", "{early3}", "--patience", "0"),
    "never": EARLY,
    "turned-on": (*EARLY[:-1], "8"),
    "turned-on+": ("--resume", "{turned-on}", "--patience", "1", "--epochs", "20"),
    "cosine": (*SMALL, "--epochs", "2", "--schedule", "cosine"),
    "cosine+": ("--resume", "{cosine}", "--epochs", "4"),
    "rate": (*SMALL, "--epochs", "2", "--learning-rate", "0.01"),
    "rate+": ("--resume", "{rate}", "--epochs", "3", "--learning-rate", "0.001", "--clip", "1"),
    "fewer": ("--resume", "{rate}", "--epochs", "1"),
    "unsaved": (*SMALL, "--epochs", "2", "--checkpoint-minutes", "0"),
    "unsaved+": ("--resume", "{unsaved}", "--epochs", "3"),
    "inf": (*SMALL, "--epochs", "3", "--optimizer", "sgd", "--learning-rate", "1e30"),
    "inf+": ("--resume", "{inf}", "--learning-rate", "0.01"),
    "finite": (*SMALL, "--epochs", "3", "--optimizer", "sgd", "--learning-rate", "0.01"),
    "mode": (*SMALL, "--epochs", "2"),
    "mode+": ("--resume", "{mode}", "--epochs", "4", "--mode", "shared"),
    "four": (*SMALL, "--epochs", "4"),
}
"""Jobs on two ranks, in this order; where ``{name}`` stands, the run folder of that one is resumed."""


class Jobs:
    """What became of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        named = {
            name: ["-m", "workers.run", *(text.replace("{", f"{folder}/").replace("}", "") for text in words)]
            for name, words in ONE_START.items()
        }
        self.ended = jobs(2, folder, named)

    def run(self, name: str) -> Path:
        """Return the run folder that a job with exit code 0 trained."""
        assert self.ended[name].code == 0, self.ended[name]
        return self.folder / name.removesuffix("+")

    def refused(self, name: str, code: int = 2) -> str:
        """Return the message of a job that was refused."""
        result: Result = self.ended[name]
        assert result.code == code, result
        assert result.err.count("rankwise:") == 1
        assert "Traceback" not in result.err
        return result.err


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    return Jobs(tmp_path_factory.mktemp("changed"))


def test_a_finished_run_goes_on_with_more_epochs(ended: Jobs) -> None:
    run = ended.run("finished+")
    assert same_bits(run, ended.run("six"))
    assert [r["epoch"] for r in epochs(run)] == [1, 2, 3, 4, 5, 6]
    (resume,) = resumes(run)
    assert resume["changes"] == [{"name": "epochs", "before": 4, "now": 6, "effect": "none"}]
    assert "Changed on resume: epochs 4 -> 6.\n" in ended.ended["finished+"].out


def test_a_run_that_stopped_early_goes_on_with_more_patience(ended: Jobs) -> None:
    run, late = ended.run("early+"), ended.run("late")
    assert same_bits(run, late)
    assert records(run)[-1]["best_epoch"] == records(late)[-1]["best_epoch"]
    assert len(epochs(run)) == len(epochs(late)) < 20
    assert resumes(run)[0]["changes"][0]["effect"] == "none"


def test_a_run_that_stopped_early_goes_on_with_more_epochs(ended: Jobs) -> None:
    """Patience is counted again: without a lower loss two more epochs are trained."""
    said = ended.refused("early2same")
    assert "it stopped early after epoch" in said
    assert "give a larger --patience (0: no early stop) or more --epochs than 20" in said
    run = ended.run("early2+")
    first = next(r for r in records(run) if r.get("what") == "early-stop")
    assert len(epochs(run)) >= first["epoch"] + 2
    assert resumes(run)[0]["changes"][0]["effect"] == "result"
    out = ended.ended["early2+"].out
    assert f"The run had stopped early after epoch {first['epoch']}; patience is counted again from there." in out
    best = min(epochs(run), key=lambda r: r["validation_loss"])
    assert records(run)[-1]["best_epoch"] == best["epoch"]


def test_without_patience_the_last_parameters_are_the_result(ended: Jobs) -> None:
    assert same_bits(ended.run("early3+"), ended.run("never"))


def test_patience_that_is_turned_on_keeps_the_best_from_there_on(ended: Jobs) -> None:
    """Nobody has kept the best parameters of the epochs before."""
    run = ended.run("turned-on+")
    end, trained = records(run)[-1], epochs(run)
    assert end["best_epoch"] > 8
    best = min((r for r in trained if r["epoch"] > 8), key=lambda r: r["validation_loss"])
    assert end["best_epoch"] == best["epoch"]
    assert trained[-1]["epoch"] == best["epoch"] + 1
    never = epochs(ended.run("never"))[best["epoch"] - 1]
    assert best["validation_loss"] == never["validation_loss"]


def test_a_schedule_that_stretches_warns_with_both_rates(ended: Jobs) -> None:
    run, steps = ended.run("cosine+"), epochs(ended.folder / "cosine")[0]["steps"]
    old, new = (learning_rate(RunConfig(schedule="cosine", epochs=n), 2 * steps - 1, steps) for n in (2, 4))
    assert (
        f"rankwise: warning: The cosine schedule ends at epoch 4 instead of 2: the rate at epoch 2 was {old:.3g}, it "
        f"is now {new:.3g}\n"
    ) in ended.ended["cosine+"].err
    (resume,) = resumes(run)
    assert (resume["rate_before"], resume["rate_now"]) == (old, new)
    assert resume["changes"][0]["effect"] == "result"


def test_a_changed_rate_holds_from_there_on_and_is_in_the_log(ended: Jobs) -> None:
    run = ended.run("rate+")
    assert [r["learning_rate"] for r in epochs(run)] == [0.01, 0.01, 0.001]
    assert resumes(run)[0]["changes"] == [
        {"name": "epochs", "before": 2, "now": 3, "effect": "none"},
        {"name": "learning_rate", "before": 0.01, "now": 0.001, "effect": "result"},
        {"name": "clip", "before": 0.0, "now": 1.0, "effect": "result"},
    ]
    out = ended.ended["rate+"].out
    assert "Changed on resume: epochs 2 -> 3, learning_rate 0.01 -> 0.001, clip 0 -> 1. The result is no longer" in out
    assert "learning_rate = 0.001\n" in (run / "config.toml").read_text()


def test_fewer_epochs_than_are_done_are_refused(ended: Jobs) -> None:
    assert "is done: it has trained its 3 epochs; to train on, give more: --epochs 6" in ended.refused("fewer")


def test_a_finished_run_without_a_checkpoint_says_what_to_do(ended: Jobs) -> None:
    said = ended.refused("unsaved+")
    assert "holds no checkpoint to train on from" in said
    assert f"--from {ended.folder / 'unsaved'}" in said


def test_the_advice_after_a_loss_that_is_not_finite_can_be_followed(ended: Jobs) -> None:
    said = ended.refused("inf", code=1)
    assert f"lower --learning-rate or set --clip (also with --resume {ended.folder / 'inf'}" in said
    run = ended.run("inf+")
    assert "The run has no checkpoint: training begins again." in ended.ended["inf+"].out
    assert resumes(run)[0]["changes"][0]["effect"] == "none"
    assert same_bits(run, ended.run("finite"))


def test_another_mode_agrees_to_rounding(ended: Jobs) -> None:
    run = ended.run("mode+")
    close(run, ended.run("four"))
    (resume,) = resumes(run)
    assert resume["sync"]["mode"] == "shared"
    assert [change["effect"] for change in resume["changes"]] == ["rounding", "none"]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that was stopped after 9 of 26 steps of its second epoch."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    command = [str(PROGRAMS / "faulty.py"), "term", "1", "2", "9", *SMALL, "--epochs", "4", "--output", str(run)]
    assert mpirun(2, *command).code == 75
    return run


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_the_batch_size_changes_in_the_middle_of_an_epoch(tmp_path: Path, stopped: Path, n: int) -> None:
    """450 of 1259 rows are done: the rest is cut anew, the same in every mode, and each row is used once."""
    batches = {64: 20, 7: 180, 0: 1, 225: 6}
    named, copies = {}, {}
    for size in batches:
        for mode in ("allreduce", "shared", "factors"):
            copy = copies[size, mode] = tmp_path / f"{size}-{mode}"
            copy.mkdir()
            for file in stopped.iterdir():
                if file.suffix in (".npz", ".msgpack") and file.name != "model.npz":
                    (copy / file.name).write_bytes(file.read_bytes())
            named[copy.name] = ["-m", "workers.run", "--resume", str(copy), "--batch-size", str(size), "--mode", mode]
    for name, result in jobs(n, tmp_path / "jobs", named).items():
        assert result.code == 0, (name, result.err)
        assert "at epoch 2, after 9 steps of it" in result.out, name
    for (size, mode), copy in copies.items():
        close(copies[size, "allreduce"], copy)
        found, steps = epochs(copy), batches[size]
        assert [sum(r["rows"]) + (r["before"] or {"rows": 0})["rows"] for r in found] == [N_TRAIN] * 4
        assert found[1]["before"]["rows"] == 450
        assert [r["steps"] for r in found] == [26, steps - 450 // (size or N_TRAIN), steps, steps]
        (resume,) = resumes(copy)
        assert (resume["step"], resume["steps_per_epoch"]) == (9, steps)
        audit = RowAudit()
        for record in records(copy):
            audit.add(record)
        assert "used once in each of 4 epochs" in audit.lines()[0], mode
        names = sorted(int(path.stem.split("-")[1]) for path in copy.glob("checkpoint-*.npz"))
        assert names == [35, 35 + found[1]["steps"] + 2 * steps]  # steps that were taken, of whatever size
    assert parameters(copies[64, "allreduce"]).keys() == parameters(copies[7, "shared"]).keys()
