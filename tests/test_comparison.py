"""What a comparison makes of its figures: intervals, tests, fits. Numbers in, numbers out."""

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from common.errors import ConfigError
from ps.logfile.records import Record
from ps.metrics.median_intervals import LEVEL, interval, slower_p, smallest_p
from ps.metrics.mode_comparison import FASTEST, SLOWER, UNDECIDED, summarise
from ps.sync.modes import MODES, help_lines
from ps.text.tables import of_fit, of_modes, of_sizes
from workers.benchmark import cost_model
from workers.benchmark.options import parse_compare as parse
from workers.benchmark.runner import order
from workers.benchmark.step_model import Line, ModeCosts, Place
from workers.benchmark.trials import curve

BYTES = [4e3, 4e5, 4e7]
ALPHA_S, BETA_S = 2e-6, 3e-10


def test_interval_of_a_median() -> None:
    found = interval([float(k) for k in range(9, 0, -1)])
    assert (found.median, found.low, found.high) == (5, 2, 8)
    assert found.confidence == pytest.approx(1 - 2 * (1 + 9) / 2**9)
    assert interval([3.0]).confidence == 0


def test_chance_picks_the_fastest_too() -> None:
    """Of two samples of four, 2 of 70 orders set them apart; of five samples of five, one in 23 some from the best."""
    assert slower_p([FAST[:4], SLOW[:4]]) == pytest.approx([2 / 70], abs=3e-3)
    assert smallest_p(5, 2) == pytest.approx(2 / 252, abs=2e-3)
    assert smallest_p(5, 5) == pytest.approx(0.0437, abs=4e-3)
    assert slower_p([FAST]) == []
    assert slower_p([[1.0] * 3, [1.0] * 3]) == pytest.approx([1], abs=0.4)  # half of all pairs, which chance often tops
    with_a_like, alone = slower_p([FAST, LIKE, SLOW]), slower_p([FAST, LIKE])
    assert with_a_like[0] == alone[0] > 0.3  # the slow one is set aside
    assert with_a_like[1] == pytest.approx(0.02, abs=3e-3)


@pytest.mark.parametrize(("modes", "n"), [(2, 5), (4, 5), (5, 5), (5, 8), (5, 30)])
def test_equal_modes_are_seldom_told_apart(modes: int, n: int) -> None:
    """In at most 5 % of comparisons of what is equal; testing against the best as if named before had up to 9 %."""
    rng, found = np.random.default_rng(1), 0
    for _ in range(500):
        samples = sorted(rng.lognormal(0, 0.1, (modes, n)).tolist(), key=np.median)
        found += min(slower_p(samples)) <= LEVEL
    assert found / 500 <= 0.065  # 5 % and one and a half standard errors


def test_a_mode_that_is_slower_is_found_at_five_trials_of_five_modes() -> None:
    rng = np.random.default_rng(2)
    equal = [rng.normal(1, 0.02, 5).tolist() for _ in range(4)]
    samples = [*sorted(equal, key=np.median), rng.normal(1.2, 0.02, 5).tolist()]
    *like, slow = slower_p(samples)
    assert slow <= LEVEL < min(like)


def test_five_equal_modes_and_a_slow_one_are_not_told_apart_but_for_that() -> None:
    """What is set aside does not make it easier to call the others slower."""
    rng, found = np.random.default_rng(3), 0
    for _ in range(300):
        equal = sorted(rng.normal(1, 0.05, (4, 6)).tolist(), key=np.median)
        found += min(slower_p([*equal, rng.normal(2, 0.05, 6).tolist()])[:-1]) <= LEVEL
    assert found / 300 <= 0.07


@pytest.mark.parametrize("n", range(1, 7))
def test_orders_of_rounds_are_balanced(n: int) -> None:
    rounds = [order(n, k) for k in range(n if n % 2 == 0 else 2 * n)]
    for row in rounds:
        assert sorted(row) == list(range(n))
    for place in range(n):
        assert set(Counter(row[place] for row in rounds).values()) == {len(rounds) // n}
    after = Counter(pair for row in rounds for pair in itertools.pairwise(row))
    assert len(after) == n * (n - 1)
    assert len(set(after.values())) <= 1


def test_the_curve_is_a_trailing_mean_over_rows() -> None:
    rows = np.array([2.0, 1.0] * 10)
    losses = rows * np.arange(20, 0, -1)
    found = curve(losses, rows, np.arange(1, 21) / 10)
    assert found["curve_s"] == pytest.approx(np.arange(2, 21) / 10)
    assert found["curve_loss"][0] == pytest.approx((2 * 20 + 19) / 3)
    assert found["loss"] == found["curve_loss"][-1] == pytest.approx((2 * 2 + 1) / 3)
    assert curve(losses[:1], rows[:1], np.array([0.5])) == {"curve_s": [0.5], "curve_loss": [20.0], "loss": 20.0}
    assert len(curve(np.ones(5000), np.ones(5000), np.ones(5000))["curve_s"]) == 100


def trials(seconds: dict[str, list[float]], **changes: Any) -> list[Record]:
    """Return trials of 10 steps, in which the loss falls from 2 to 1."""
    return [
        {
            "round": number,
            "place": 1,
            "mode": mode,
            "steps": 10,
            "seconds": 10 * step_s,
            "step_s": step_s,
            **dict.fromkeys(("compute_s", "reduce_s", "input_s", "wait_s", "transfer_s"), step_s / 4),
            "bus_bytes_per_s": 1e9,
            "sent_bytes": [100, 50],
            "rank_peak_bytes": 10**7,
            "node_bytes": 2 * 10**7,
            "loss": 1.0,
            "curve_s": [5 * step_s, 10 * step_s],
            "curve_loss": [2.0, 1.0],
            "parameter_difference": 0.0,
            "parameter_scale": 1.0,
            "replicas_equal": True,
            **changes,
        }
        for mode, own in seconds.items()
        for number, step_s in enumerate(own, 1)
    ]


FAST, LIKE, SLOW = [1.0, 1.1, 1.2, 1.3, 1.4], [1.05, 1.15, 1.25, 1.35, 1.45], [2.0, 2.1, 2.2, 2.3, 2.4]


def test_a_slower_mode_is_told_from_one_that_may_be_as_fast() -> None:
    found = summarise(trials({"slow": SLOW, "fast": FAST, "like": LIKE}), "float64")
    assert [(m["mode"], m["outcome"]) for m in found["modes"]] == [
        ("fast", FASTEST),
        ("like", UNDECIDED),
        ("slow", SLOWER),
    ]
    assert found["modes"][2]["p"] == pytest.approx(0.02, abs=3e-3)
    assert found["modes"][2]["ratio"] == pytest.approx(2.2 / 1.2)
    assert found["modes"][0]["step_s"] == {"median": 1.2, "low": 1.0, "high": 1.4}
    assert found["modes"][0]["time_to_loss_s"]["median"] == pytest.approx(12)
    assert found["confidence"] == pytest.approx(1 - 2 / 32)
    text = " ".join(found["sentences"])
    assert "Slower than fast: slow 1.83 times" in text
    assert "No difference shown from fast: like 1.04 times as long" in text
    assert "same parameters" in text


def test_time_to_the_loss_that_all_reach() -> None:
    late = trials({"late": FAST}, curve_loss=[2.0, 1.5])
    found = {m["mode"]: m for m in summarise(trials({"early": FAST}) + late, "float64")["modes"]}
    assert found["early"]["time_to_loss_s"] == found["late"]["time_to_loss_s"]
    sooner = trials({"sooner": FAST}, curve_loss=[1.4, 1.0])
    found = {m["mode"]: m for m in summarise(sooner + late, "float64")["modes"]}
    assert found["sooner"]["time_to_loss_s"]["median"] == pytest.approx(6)
    assert found["late"]["time_to_loss_s"]["median"] == pytest.approx(12)


def test_too_few_trials_show_nothing_and_say_so() -> None:
    found = summarise(trials({"fast": FAST[:2], "slow": SLOW[:2]}), "float64")
    assert found["modes"][1]["outcome"] == UNDECIDED
    assert "give --trials 4 or more" in " ".join(found["sentences"])
    alone = summarise(trials({"fast": FAST}), "float64")
    assert alone["sentences"] == ["One mode alone: nothing to compare."]


@pytest.mark.parametrize(
    ("dtype", "changes", "agrees", "word"),
    [
        ("float64", {"parameter_difference": 1e-11}, True, "same parameters"),
        ("float64", {"parameter_difference": 1e-9}, False, "a fault"),
        ("float64", {"parameter_difference": 1e-9, "parameter_scale": 100.0}, True, "same parameters"),
        ("float64", {"replicas_equal": False}, False, "a fault"),
        ("float64", {"replicas_equal": None}, True, "same parameters"),
        ("float32", {"parameter_difference": 1e-5}, True, "same parameters"),
        ("float32", {"parameter_difference": 1e-2}, False, "float64"),
    ],
)
def test_parameters_that_differ(dtype: str, changes: Record, agrees: bool, word: str) -> None:
    found = summarise(trials({"a": FAST}) + trials({"b": LIKE}, **changes), dtype)
    assert {m["mode"]: m["agrees"] for m in found["modes"]} == {"a": True, "b": agrees}
    assert word in found["sentences"][-1]


def test_there_is_a_formula_for_every_mode() -> None:
    assert all(mode.cost.text for mode in MODES.values())


@pytest.mark.parametrize(("ranks", "nodes"), [(2, 1), (5, 1), (8, 2)])
@pytest.mark.parametrize("mode", MODES)
def test_latency_and_bandwidth_come_back_from_made_up_times(mode: str, ranks: int, nodes: int) -> None:
    shape = MODES[mode].cost.terms(ranks, nodes)
    noise = [1.05, 0.95, 1.05]
    times = [(shape[0] * ALPHA_S + shape[1] * m * BETA_S) * e for m, e in zip(BYTES, noise, strict=True)]
    found = cost_model.fit(shape, BYTES, times)
    assert found.alpha_s == pytest.approx(ALPHA_S, rel=0.1)
    assert found.beta_s_per_byte == pytest.approx(BETA_S, rel=0.1)
    assert found.largest_error is not None
    assert 0 < found.largest_error < 0.1
    assert found.note == ""
    exact = cost_model.fit(shape, BYTES, [t / e for t, e in zip(times, noise, strict=True)])
    assert exact.alpha_s == pytest.approx(ALPHA_S)
    assert exact.largest_error == pytest.approx(0, abs=1e-9)


def test_formulas_by_hand() -> None:
    assert MODES["allreduce"].cost.terms(8, 1) == (6, 2 * 7 / 8)
    assert MODES["reduce-bcast"].cost.terms(8, 1) == (3 * 3 + 7, 4 * 7 / 8)
    assert MODES["send-recv"].cost.terms(8, 1) == (14, 14)
    assert MODES["shared"].cost.terms(8, 1) == (6, 9 / 8)
    assert MODES["shared"].cost.terms(8, 2) == (2 * 2 + 2 * 1, 5 / 4 + 2 * (1 / 2) / 4)
    assert MODES["shared"].cost.terms(3, 3) == (4, 4 / 3)


@pytest.mark.parametrize(
    ("n_bytes", "seconds", "word"),
    [
        ([4e3], [1e-5], "one size"),
        ([4e3, 4e3], [1e-5, 2e-5], "one size"),
        ([4e3, 4e5, 4e7], [1e-5, 1e-5, 1e-6], "bandwidth cannot be estimated"),
        ([4e3, 4e5, 4e7], [1e-9, 4e-5, 1e-1], "latency cannot be estimated"),
    ],
)
def test_what_cannot_be_told_is_said(n_bytes: list[float], seconds: list[float], word: str) -> None:
    found = cost_model.fit(MODES["allreduce"].cost.terms(4, 1), n_bytes, seconds)
    assert word in found.note
    assert found.alpha_s is None
    assert found.seconds((1, 1), 1) is None


def test_a_poor_fit_is_called_poor() -> None:
    found = cost_model.fit(MODES["allreduce"].cost.terms(4, 1), [4e3, 4e4, 4e5, 4e6], [1e-5, 4e-4, 4e-5, 1e-3])
    assert found.note.startswith("poor fit: up to ")
    assert found.largest_error is not None
    assert found.largest_error > 0.5


def test_two_sizes_have_no_error_to_tell() -> None:
    found = cost_model.fit(MODES["allreduce"].cost.terms(4, 1), [4e3, 4e6], [1e-5, 1e-2])
    assert found.largest_error is None
    assert "a third" in found.note


def test_predictions_follow_the_formula() -> None:
    times = [(int(m), 2 * ALPHA_S + m * BETA_S) for m in BYTES]  # allreduce on 2 ranks
    found = cost_model.report(MODES["allreduce"], Place(2), times, 10**6)
    assert [p["ranks"] for p in found["predicted"]] == [16, 256, 4096]
    assert found["predicted"][0]["seconds"] == pytest.approx(8 * ALPHA_S + 2 * 15 / 16 * 1e6 * BETA_S)
    assert all(abs(p["error"]) < 1e-6 for p in found["points"])
    assert "within one node" in cost_model.warning(1)
    assert "within one node" not in cost_model.warning(2)
    spread = cost_model.report(
        MODES["shared"], Place(4, 2), [(int(m), 4 * ALPHA_S + 2 * m * BETA_S) for m in BYTES], 10**6
    )
    assert [p["nodes"] for p in spread["predicted"]] == [8, 128, 2048]
    alone = cost_model.report(MODES["allreduce"], Place(1), times, 10**6)
    assert alone["predicted"] == []
    assert "one rank" in alone["note"]


def test_sums_within_and_between_nodes_are_fitted_apart() -> None:
    inner, between = (4e-6, 1e-10), (5e-5, 8e-9)
    within = [(int(m), 4 * inner[0] + 5 / 4 * m * inner[1]) for m in BYTES]  # shared on 4 ranks
    sizes = [(int(m), t + 2 * between[0] + m * between[1]) for m, (_, t) in zip(BYTES, within, strict=True)]  # 2 nodes
    found = cost_model.report(MODES["shared"], Place(8, 2), sizes, 10**6, within)
    assert (found["alpha_s"], found["beta_s_per_byte"]) == pytest.approx(inner)
    assert (found["network_alpha_s"], found["network_beta_s_per_byte"]) == pytest.approx(between)
    assert [(p["ranks"], p["nodes"]) for p in found["predicted"]] == [(16, 4), (256, 64), (4096, 1024)]
    seconds = 4 * inner[0] + 5 / 4 * 1e6 * inner[1] + 4 * between[0] + 2 * 3 / 4 * 1e6 * between[1]
    assert found["predicted"][0]["seconds"] == pytest.approx(seconds)
    compared = {"modes": [{"mode": "shared", "input_s": {"median": 0.0}, "compute_s": {"median": 2 * seconds},
                           "reduce_s": {"median": seconds}}]}  # fmt: skip
    *_, efficiency = of_fit({"packet_bytes": 10**6, "modes": [found]}, compared)
    assert efficiency.rows[0][:2] == ["shared", "50.00"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("first", [3, 1])
def test_nodes_with_different_numbers_of_ranks(mode: str, first: int) -> None:
    cost, place = MODES[mode].cost, Place(7, 3, largest=3, first=first)  # 3 + 3 + 1, and 1 + 3 + 3
    true = ModeCosts(Line(4e-6, 1e-10), Line(5e-5, 8e-9))
    within = [(int(m), true.inner.seconds(cost.terms(3, 1), m)) for m in BYTES]
    sizes = [(int(m), true.sum_s(cost, place, m)) for m in BYTES]
    found = cost_model.report(MODES[mode], place, sizes, 10**6, within)
    assert (found["alpha_s"], found["beta_s_per_byte"]) == pytest.approx((4e-6, 1e-10))
    assert (found["network_alpha_s"], found["network_beta_s_per_byte"]) == pytest.approx((5e-5, 8e-9))
    assert [(p["ranks"], p["nodes"]) for p in found["predicted"]] == [(16, 6), (256, 86), (4096, 1366)]
    assert max(abs(p["error"]) for p in found["points"]) < 1e-6
    if mode == "send-recv":
        assert sizes[-1][1] > within[-1][1] + 2 * (7 - first) * 5e-5


def test_tables_have_a_cell_for_every_column() -> None:
    found = summarise(trials({"fast": FAST}, bus_bytes_per_s=None) + trials({"slow": SLOW}), "float64")
    sums = {"bytes": 8, "median_s": 1e-6, "low_s": 1e-7, "high_s": math.pi}
    sweeps = [
        {"n": 10, "rounds": 5, "modes": [{"mode": "fast", **sums}, {"mode": "slow", **sums}]},
        {"n": 100, "rounds": 5, "modes": [{"mode": "slow", **sums}]},
    ]
    good = cost_model.report(MODES["allreduce"], Place(2), [(int(m), 2 * ALPHA_S + m * BETA_S) for m in BYTES], 10)
    fit = {"packet_bytes": 10, "modes": [good, cost_model.report(MODES["shared"], Place(1), [(10, 1.0)], 10)]}
    tables = [*of_modes(found, 10), *of_sizes(sweeps), *of_fit(fit)]
    assert len(tables) == 7
    for table in tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}
    assert of_sizes([]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--modes", "allreduce,factor"], "modes: unknown value 'factor' (did you mean 'factors'?); choose one of"),
        (["--modes", "auto"], "modes: unknown value 'auto'"),
        (["--mode", "shared"], "mode: is an option of runs; a comparison takes --modes"),
        (["--mode=shared"], "mode: is an option of runs; a comparison takes --modes"),
        (["--trials", "0"], "trials: got 0; allowed is at least 1"),
        (["--trials", "2.5"], 'trials: got "2.5"; allowed is a whole number'),
        (["--sizes", "1e3,-1"], "sizes: got '1e3,-1'; allowed are whole numbers"),
        (["--inject", "slow:rank=1,x=3"], "inject: a comparison of steps trains without faults"),
        (["--stepz", "3"], "--steps"),
    ],
)
def test_wrong_options(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(arguments, help_lines(), list(MODES))
    assert message in str(caught.value)


def test_the_environment_sets_its_options_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKWISE_TRIALS", "3")
    monkeypatch.setenv("RANKWISE_SEED", "4")
    parsed = parse([], help_lines(), list(MODES))
    assert not isinstance(parsed, int)
    assert (parsed[0].seed, parsed[1].trials) == (4, 3)


def test_help_has_its_options_and_not_those_it_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["--help"], help_lines(), list(MODES)) == 0
    text = capsys.readouterr().out
    assert "--modes" in text
    assert "--mode " not in text
    assert "--from PATH" not in text


def test_options_of_a_run_and_its_own() -> None:
    parsed = parse(["--hidden", "8", "--sizes", "1e3,10,1e3", "--trials", "7"], help_lines(), list(MODES))
    assert not isinstance(parsed, int)
    config, own = parsed
    assert config.hidden == (8,)
    assert config.mode == ",".join(MODES)
    assert own.modes.split(",") == list(MODES)
    assert (own.trials, own.vector_sizes) == (7, (10, 1000))
