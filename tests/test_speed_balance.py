"""``--balance speed``: rows go to ranks by their speed, and nothing but rounding changes."""

import math
from typing import Any

import numpy as np
import pytest

from common.config import RunConfig
from common.data.dealing import edges
from common.errors import JobError
from ps.coordinator.speed_balance import EPOCHS, Shares, SpeedBalance
from ps.logfile.records import Record
from ps.logfile.schema import Check
from ps.logfile.validation import Validator
from ps.sync.modes import exact
from tests.ranks import PROGRAMS, SharedStart, epochs, records
from tests.test_modes import need_room, same_parameters
from workers.checkpoint.changes import changed_options
from workers.checkpoint.content import ABOUT
from workers.checkpoint.job_state import JobState
from workers.checkpoint.origin import Origin
from workers.training.fit import check_fit

N = 100_000


def epoch_of(number: int, rows: list[int], seconds: list[float]) -> Record:
    """Return what the fit reads of an epoch's record."""
    zeros = [0.0] * len(rows)
    return {"epoch": number, "rows": rows, "compute_s": seconds, "input_s": zeros, "reduce_s": zeros}


def balance(**options: Any) -> SpeedBalance:
    return SpeedBalance(RunConfig(balance="speed", **options), N)


def train(one: SpeedBalance, row_s: list[float], fixed_s: list[float], n_epochs: int) -> list[float]:
    """Return by epoch the slowest rank's work by the ideal n / sum(1 / t_i), for ranks of this speed."""
    shares, ratios = (1.0,) * len(row_s), []
    for number in range(1, n_epochs + 1):
        rows = np.diff(edges(one.dealt, shares)) * N / one.dealt
        seconds = np.array(fixed_s) + rows * row_s
        ratios.append(float(seconds.max() / (N / (rows / seconds).sum())))
        new = one.add(epoch_of(number, rows.astype(int).tolist(), seconds.tolist()))
        shares = new.shares if new else shares
    return ratios


@pytest.mark.parametrize(
    "options", [{}, {"rows": "shard"}, {"batch_size": 0}, {"batch_size": 16}, {"batch_size": 1000}]
)
def test_a_rank_half_as_fast_gets_half_as_many_rows(options: dict[str, Any]) -> None:
    one = balance(**options)
    found = [one.add(epoch_of(k, [25_000] * 4, [1.0, 1.0, 1.0, 2.0])) for k in range(1, EPOCHS + 1)]
    assert found[:-1] == [None] * (EPOCHS - 1)
    assert found[-1] is not None
    assert found[-1].shares == pytest.approx([2 / 7, 2 / 7, 2 / 7, 1 / 7])
    assert sum(found[-1].parts) == one.dealt
    assert found[-1].before_s == 2
    ideal = 4 / 3.5
    assert found[-1].after_s <= ideal * (1.15 if one.dealt > 16 else 1.25)  # 5 of 16 rows are more than 2 of 7


@pytest.mark.parametrize("options", [{}, {"rows": "shard"}])
def test_work_that_does_not_go_with_the_rows_is_balanced_step_by_step(options: dict[str, Any]) -> None:
    """Every step costs a rank something whatever its rows; one rank is twice as slow in all it does."""
    ratios = train(balance(epochs=100, **options), [1e-5, 1e-5, 1e-5, 2e-5], [0.1, 0.1, 0.1, 0.2], 12)
    assert ratios[0] > 1.5
    assert max(ratios[EPOCHS:]) <= 1.25
    assert max(ratios[2 * EPOCHS :]) <= 1.15
    assert ratios[-1] <= 1.06


def test_equal_ranks_keep_equal_rows_though_some_epochs_are_disturbed() -> None:
    one, rng = balance(epochs=1000), np.random.default_rng(0)
    for number in range(1, 200):
        late = rng.exponential(0.3, 4) * (rng.random(4) < 0.3)
        seconds = (1 + 0.01 * rng.random(4) + late).tolist()
        if number % EPOCHS:  # one epoch of each fit is calm
            seconds = (1 + 0.01 * rng.random(4)).tolist()
        assert one.add(epoch_of(number, [25_000] * 4, seconds)) is None


def test_nothing_is_dealt_anew_where_it_gains_nothing() -> None:
    quick = [0.0003, 0.0003, 0.0003, 0.0006]
    short, last, off, alone = balance(), balance(epochs=2), SpeedBalance(RunConfig(), N), balance()
    for number in range(1, 12):
        assert short.add(epoch_of(number, [25_000] * 4, quick)) is None  # what clocks and turns make of microseconds
        assert off.add(epoch_of(number, [25_000] * 4, [1.0, 1.0, 1.0, 2.0])) is None
        assert alone.add(epoch_of(number, [N], [1.0])) is None
    for number in (1, 2):
        assert last.add(epoch_of(number, [25_000] * 4, [1.0, 1.0, 1.0, 2.0])) is None  # no epoch is left


def test_of_short_epochs_more_are_looked_at() -> None:
    one = balance()
    found = [one.add(epoch_of(k, [25_000] * 4, [0.003, 0.003, 0.003, 0.006])) for k in range(1, 5)]
    assert [shares is not None for shares in found] == [False, False, False, True]


def test_a_rank_without_rows_counts_as_the_others() -> None:
    one = balance(batch_size=2)
    for number in range(1, EPOCHS + 1):
        found = one.add(epoch_of(number, [50_000, 50_000, 0], [1.0, 3.0, 0.0]))
    assert found is not None
    assert found.row_s[2] is None
    assert found.parts == (2, 0, 0) or sum(found.parts) == 2
    assert all(share > 0 for share in found.shares)


def test_the_event_is_what_the_format_says() -> None:
    shares = Shares(2, (0.25, 0.75), (0.3, None), 2.0, 1.0, (16, 48), "rows of a step")
    event = {"kind": "event", "seq": 1, "t": 1.0, "what": "shares", **shares.fields()}
    check = Check()
    check.world = 2
    assert check(event) == ""
    assert "shares" in check({**event, "shares": [0.25]})
    assert "rank 0 takes 16 and rank 1 48" in event["message"]
    assert "from 2 to 1 s an epoch" in event["message"]


def test_where_shares_cannot_be_had() -> None:
    check_fit(RunConfig(balance="speed", rows="shard"), Origin(), 64)
    with pytest.raises(JobError, match="use --rows shuffle"):
        check_fit(RunConfig(balance="speed", rows="shard"), Origin(), 65)
    with pytest.raises(JobError, match="leave --balance out"):
        check_fit(RunConfig(balance="speed", rows="shard", shards="by-rank"), Origin(folder="runs/x"), 2)


def test_shares_come_back_from_a_message() -> None:
    state = JobState(shares=(0.25, 0.75))
    plain = {"before": {"steps": 0, "rows": 0, "loss_sum": 0.0}, "skipped": [0, 0, 0], "shares": [0.25, 0.75]}
    assert JobState.from_dict(plain) == state


COMMON = ["--dtype", "float64", "--hidden", "48", "9", "--batch-size", "10", "--learning-rate", "0.02",
          "--optimizer", "momentum", "--clip", "1.0", "--test-fraction", "0", "--checkpoint-every", "1"]  # fmt: skip
FOUR = ["--epochs", "4"]
UNEVEN = [str(PROGRAMS / "uneven.py"), *COMMON, "--balance", "speed"]
ROWS = ("shuffle", "shard")
NODES = [("shared", 3, 2), ("factors", 3, 2), ("factors", 4, 2)]
RESUMED = ["allreduce", "factors"]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    """Return all runs on 97 training rows: the oracles, one rank's, first."""
    folder = tmp_path_factory.mktemp("shares")
    rng, y = np.random.default_rng(8), np.repeat([0, 1, 2], [37, 36, 36])
    data = ["--data", str(folder / "rows.npz")]
    np.savez(data[1], X=rng.standard_normal((109, 6)) + y[:, None], y=y)
    jobs: dict[str, tuple[int, list[str]]] = {}
    for rows in ROWS:
        more = [*data, "--rows", rows]
        jobs[f"oracle-{rows}"] = (1, ["-m", "workers.run", *COMMON, *FOUR, *more])
        for mode in exact():
            for n in (1, 2, 3, 4):
                jobs[f"{rows}-{mode}-{n}"] = (n, [*UNEVEN, *FOUR, *more, "--mode", mode])
    for mode, n, per_node in NODES:
        jobs[f"nodes-{mode}-{n}"] = (n, [*UNEVEN, *FOUR, *data, "--mode", mode, "--ranks-per-node", str(per_node)])
    for mode in RESUMED:
        jobs[f"half-{mode}"] = (3, [*UNEVEN, *data, "--mode", mode, "--epochs", "2"])
        jobs[f"whole-{mode}"] = (3, [str(PROGRAMS / "uneven.py"), "--resume", f"half-{mode}", *FOUR])
    return SharedStart(folder, jobs)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("mode", exact())
@pytest.mark.parametrize("rows", ROWS)
def test_the_result_is_that_of_one_rank(batch: SharedStart, rows: str, mode: str, n: int) -> None:
    need_room(mode, n)
    oracle, run = batch.run(f"oracle-{rows}"), batch.run(f"{rows}-{mode}-{n}")
    same_parameters(run, oracle)
    for ours, theirs in zip(epochs(run), epochs(oracle), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-10)
        assert sum(ours["rows"]) == sum(theirs["rows"]) == 97
    by_epoch = [epoch["rows"] for epoch in epochs(run)]
    if n > 1:  # they were dealt otherwise, and ranks had unequal rows
        assert by_epoch[1] != by_epoch[2]
        assert max(by_epoch[1]) > 1.4 * min(by_epoch[1])
    events = [r for r in records(run) if r["kind"] == "event" and r["what"] == "shares"]
    assert [event["epoch"] for event in events] == [1, 2, 3, 4]


@pytest.mark.parametrize(("mode", "n", "per_node"), NODES)
def test_so_it_is_on_several_nodes(batch: SharedStart, mode: str, n: int, per_node: int) -> None:
    """A node has other rows in each epoch, more than at the start."""
    need_room(mode, n)
    run = batch.run(f"nodes-{mode}-{n}")
    same_parameters(run, batch.run("oracle-shuffle"))
    of_first = [sum(epoch["rows"][:per_node]) for epoch in epochs(run)]
    assert len(set(of_first)) > 2 or n == 3


@pytest.mark.parametrize("mode", RESUMED)
def test_a_resumed_run_keeps_the_shares(batch: SharedStart, mode: str) -> None:
    assert batch[f"whole-{mode}"].code == 0, batch[f"whole-{mode}"].err
    run = batch.run(f"half-{mode}")
    same_parameters(run, batch.run("oracle-shuffle"))
    undisturbed = [epoch["rows"] for epoch in epochs(batch.run(f"shuffle-{mode}-3"))]
    assert [epoch["rows"] for epoch in epochs(run)] == undisturbed
    assert len(undisturbed) == 4
    assert math.isfinite(epochs(run)[-1]["loss"])


def test_the_option_changes_rounding_alone() -> None:
    (change,) = changed_options(RunConfig(), RunConfig(balance="speed"), trained=True, anew=False)
    assert (change.name, change.effect) == ("balance", "rounding")


def test_what_a_checkpoint_says_of_shares_is_checked() -> None:
    about = {
        "position": {"epoch": 1, "steps": 0, "closed": True, "rows": 0, "loss_sum": 0.0}, "mode": "allreduce",
        "world": 2, "counts": {}, "skipped": [0, 0, 0], "target": {"y_mean": [], "y_scale": [], "classes": []},
        "coordinator": {"epochs": 0, "best_loss": None, "best_epoch": 0, "noise": [0.0, 0.0], "elapsed_s": 0.0},
    }  # fmt: skip
    assert Validator().fault(about, ABOUT) == ""
    assert Validator().fault({**about, "shares": [0.5, 0.5]}, ABOUT) == ""
    for bad in ([0.5, 0.0], [1.0, -1.0], [float("nan"), 0.5], ["a", 0.5], 7):
        assert "shares" in Validator().fault({**about, "shares": bad}, ABOUT)
