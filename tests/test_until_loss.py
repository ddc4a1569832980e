"""Comparisons by the seconds to a loss: what they make of trials, how modes get options, and a real one."""

import math
from pathlib import Path
from typing import Any

import pytest

from common.config import RunConfig
from common.errors import ConfigError
from ps.logfile.schema import RECORDS
from ps.logfile.validation import Validator
from ps.metrics.loss_comparison import crossing, summarise
from ps.sync.modes import help_lines
from tests.ranks import mpirun
from tests.test_compare import checked, of_kind, show
from workers.benchmark import variants
from workers.benchmark.options import parse_compare

MODES = ("allreduce", "shared")


def trial(mode: str, seconds: float | None, **more: Any) -> dict[str, Any]:
    known = {"rows_to_loss": 100.0, "host_bytes_to_loss": 1e6, "rows_per_s": 50.0, "metric": 0.9, "loss": 0.2}
    return {"mode": mode, "seconds_to_loss": seconds, "diverged": False, "epochs": 3, **known, **more}


def test_between_evaluations_the_logarithm_of_the_loss_falls_in_a_line() -> None:
    assert crossing(1.0, [4.0, 2.0, 0.5], [0.0, 1.0, 3.0]) == pytest.approx(2.0)
    assert crossing(2.0, [4.0, 2.0, 0.5], [0.0, 1.0, 3.0]) == 1.0
    assert crossing(0.4, [4.0, 2.0, 0.5], [0.0, 1.0, 3.0]) is None
    assert crossing(5.0, [4.0, 2.0], [0.0, 1.0]) == 0.0
    assert crossing(1.0, [math.e, 3.0, 1 / math.e], [0, 10, 30]) == pytest.approx(
        10 + 20 * math.log(3) / math.log(3 * math.e)
    )
    assert crossing(0.1, [1.0, 0.0], [0.0, 7.0]) == 7.0


def test_a_mode_that_never_got_there_is_last_and_says_so() -> None:
    trials = [trial("slow", 4.0 + k / 10) for k in range(6)] + [trial("fast", 1.0 + k / 10) for k in range(6)]
    trials += [trial("lost", None, diverged=k == 0) for k in range(6)]
    found = summarise(trials, 0.2)
    assert [m["mode"] for m in found["modes"]] == ["fast", "slow", "lost"]
    assert [m["outcome"] for m in found["modes"]] == ["fastest", "slower", "not reached"]
    assert found["modes"][1]["ratio"] == pytest.approx(4.25 / 1.25)
    assert found["modes"][2]["seconds_to_loss"] == {"median": None, "low": None, "high": None}
    assert (found["modes"][2]["reached"], found["modes"][2]["diverged"]) == (0, 1)
    text = " ".join(found["sentences"])
    assert "First at loss 0.2: fast, after 1.25 s." in text
    assert "Slower than fast: slow 3.40 times as long" in text
    assert "lost: 1 of 6 trials diverged." in text
    assert "lost: 0 of 6 trials reached it." in text


def test_a_median_stands_where_most_trials_got_there() -> None:
    (mode,) = summarise([trial("a", 3.0), trial("a", 1.0), trial("a", None)], 0.2)["modes"]
    assert mode["seconds_to_loss"] == {"median": 3.0, "low": 1.0, "high": None}


def test_nobody_got_there() -> None:
    found = summarise([trial("a", None), trial("b", None)], 0.2)
    assert found["fastest"] == ""
    assert found["sentences"] == ["No mode reached loss 0.2; raise --epochs, or ask for a larger loss."]


def test_a_mode_takes_options_of_its_own() -> None:
    own = variants.read("shared:learning-rate=0.25:optimizer=sgd:clip=2", RunConfig(momentum=0.5), MODES)
    assert own.name == "shared:learning-rate=0.25:optimizer=sgd:clip=2"
    assert own.config == RunConfig(mode="shared", learning_rate=0.25, optimizer="sgd", clip=2, momentum=0.5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shard", r"modes: unknown value 'shard' \(did you mean 'shared'\?\); choose one of allreduce, shared"),
        ("shared:clip", "modes: shared: got 'clip'; allowed is option=value, as in shared:learning_rate=0.1"),
        ("shared:epochs=3", "modes: shared: unknown value 'epochs'"),
        ("shared:clip=1:clip=2", "modes: shared: clip is given twice; give it once"),
        ("shared:clip=much", "clip: got 'much'; allowed is a number"),
        ("shared:momentum=-1", "momentum: got -1.0; allowed is at least 0"),
    ],
)
def test_wrong_options_of_a_mode_are_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        variants.read(name, RunConfig(), MODES)


def test_two_modes_race_to_a_loss_and_one_diverges(tmp_path: Path) -> None:
    result = mpirun(
        2, "-m", "workers.compare", "--until-loss", "0.5", "--hidden", "16", "--learning-rate", "0.02",
        "--modes", "allreduce", "shared:optimizer=sgd:learning_rate=90", "--trials", "2", "--epochs", "9",
        "--inject", "stall:rank=1,every=15,seconds=0.02;skew:alpha=0.3", "--output", "run", cwd=tmp_path,
    )  # fmt: skip
    assert result.code == 0, result.out + result.err
    found = checked(tmp_path)
    assert found[0]["comparison"]["until_loss"] == 0.5
    trials = of_kind(found, "loss-trial")
    assert [(one["round"], one["mode"][:6]) for one in trials] == [
        (1, "allred"),
        (1, "shared"),
        (2, "shared"),
        (2, "allred"),
    ]
    good, bad = trials[0], trials[1]
    assert bad["diverged"]
    assert bad["seconds_to_loss"] is None
    assert good["curve_loss"][-1] <= 0.5 < good["curve_loss"][-2]
    assert good["curve_s"][-2] < good["seconds_to_loss"] <= good["curve_s"][-1] == good["seconds"]
    assert good["curve_rows"] == [1259 * k for k in range(good["epochs"] + 1)]
    assert good["curve_loss"] == pytest.approx(trials[3]["curve_loss"])
    assert good["host_bytes_to_loss"] == pytest.approx(
        sum(good["sent_bytes"]) * good["rows_to_loss"] / good["curve_rows"][-1]
    )
    assert good["curve_s"][1] > 0.02  # a stall at least
    (comparison,) = of_kind(found, "loss-comparison")
    assert comparison["fastest"] == "allreduce"
    read = show(tmp_path)
    for text in (result.out, read.out):
        assert "Until the validation loss is 0.5" in text
        assert "First at loss 0.5: allreduce" in text
        assert "2 of 2 trials diverged" in text
        assert "stall:rank=1,every=15,seconds=0.02" in text
    assert "for at most 9 epochs" in " ".join(read.out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--until-loss", "0.5", "--steps", "9"], "until_loss: trains as long as it takes; leave --steps out"),
        (["--until-loss", "0.5", "--inject", "die"], "inject: die:step=1: ends or spoils a training"),
        (["--until-loss", "0.5", "--modes", "shared:clip"], "modes: shared: got 'clip'"),
        (["--modes", "allreduce,shared"], "modes: shared trains something else, so that its steps say little; compare"),
        (["--modes", "allreduce:clip=1"], "options of a mode go with workers.compare --until-loss"),
    ],
)
def test_what_does_not_go_with_it_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_compare(arguments, help_lines(), ["allreduce"])  # as if no other mode were exact
    assert message in str(caught.value)


def test_modes_that_train_something_else_are_compared_by_their_loss() -> None:
    parsed = parse_compare(["--until-loss", "1", "--modes", "shared:clip=1,ring"], help_lines(), ["allreduce"])
    assert not isinstance(parsed, int)
    assert parsed[1].modes == "shared:clip=1,ring"
    parsed = parse_compare(["--until-loss", "1"], help_lines(), ["allreduce"])
    assert not isinstance(parsed, int)
    assert parsed[1].modes == "allreduce"


def test_a_loss_needs_rows_for_validation(tmp_path: Path) -> None:
    result = mpirun(2, "-m", "workers.compare", "--until-loss", "1", "--validation-fraction", "0", cwd=tmp_path)
    assert (result.code, result.out) == (2, "")
    assert "until_loss: is a loss over validation rows" in result.err


def test_the_schema_knows_the_records() -> None:
    found = summarise([trial("a", None), trial("b", 2.0)], 0.2)
    assert not Validator().fault(found, RECORDS["loss-comparison"])
    assert Validator().fault({**found, "loss": math.nan}, RECORDS["loss-comparison"])
