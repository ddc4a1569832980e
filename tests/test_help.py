"""Command lines: help that fits a terminal, options by other programs' names, lists with commas or blanks."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common import synonyms
from common.config import OPTIONS
from common.errors import ConfigError
from common.option import GROUPS, INTERNAL, USUAL
from ps.reader.commands.cli import COMMANDS as LOG
from ps.reader.commands.cli import make
from ps.sync.modes import exact, help_lines
from tests.test_readers import log
from workers.benchmark.options import bench_command, compare_command, parse_bench, parse_compare
from workers.launch import cli
from workers.launch.launch_options import LaunchConfig
from workers.launch.run_options import command, parse
from workers.supervisor.options import command as supervise_command

RUN = command(help_lines())
BENCH = bench_command(exact())
COMPARE = compare_command(help_lines(), exact())
TRAIN = command(help_lines(), "rankwise train", "Train.", LaunchConfig)
ALL = {"run": RUN, "bench": BENCH, "compare": COMPARE, "supervise": supervise_command(), "train": TRAIN}
ALL_NAMES = {name for made in ALL.values() for name in made.options}
LOG_NAMES = [name.removesuffix("_runs") for name in LOG]


def shown(made: cli.Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.parse(made, ["--help"]) == 0
    return capsys.readouterr().out


def of_log(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    result = log(name, "--help")
    assert result.code == 0, result.err
    return result.out


def heads(text: str) -> list[str]:
    return re.findall(r"^╭─ (.*?) ─+╮", text, re.MULTILINE)


def under(text: str, head: str) -> list[str]:
    """Return the options in one frame."""
    frame = text.partition(f"╭─ {head} ─")[2].partition("╰")[0]
    return re.findall(r"^│ (--[a-z-]+)", frame, re.MULTILINE)


@pytest.mark.parametrize("name", ALL)
def test_help_fits_and_has_every_option_once(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(ALL[name], capsys, monkeypatch)
    assert max(map(len, text.splitlines())) <= 80
    for option, about in ALL[name].options.items():
        is_shown = about.group != INTERNAL and option not in ALL[name].hidden
        assert len(re.findall(rf"^│ (?:--no-\S+ )?{about.flag} ", text, re.MULTILINE)) == is_shown, option
        if is_shown:
            assert about.help
            assert about.group in GROUPS, f"{option}: under which head?"
    assert "env var" not in text
    assert '""' not in text
    assert "True" not in text
    assert "[default: None]" not in " ".join(text.replace("│", " ").split())


def test_the_ten_usual_options_come_first(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(RUN, capsys, monkeypatch)
    found = heads(text)
    assert found == [
        "Usual options", "Data", "Model", "Training", "Synchronising", "Checkpoints", "Faults", "Output", "This help",
    ]  # fmt: skip
    usual = under(text, "Usual options")
    assert len(usual) == 10
    assert set(usual) == {option.flag for option in OPTIONS.values() if option.group == USUAL}
    assert {"--data", "--target", "--model", "--epochs", "--learning-rate", "--mode", "--output"} <= set(usual)
    assert "--ranks-per-node" not in text
    assert heads(shown(TRAIN, capsys, monkeypatch))[:2] == ["Usual options", "Ranks"]


def test_nothing_between_angle_brackets_is_lost(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cli.Command(
        "program <A>", "Do <B> to [C], see `D` and *E*.", RUN.configs, {"modes": "<F>", "sources": "[G]"}
    )
    text = shown(made, capsys, monkeypatch)
    for word in ("<A>", "<B>", "[C]", "`D`", "*E*", "<F>", "[G]"):
        assert word in text
    for name in LOG_NAMES:
        assert make().help_format == "plaintext", name


@pytest.mark.parametrize("name", LOG_NAMES)
def test_every_option_of_the_log_has_a_text(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = of_log(name, monkeypatch)
    assert max(map(len, text.splitlines())) <= 80
    arguments = make()[name].assemble_argument_collection()
    assert [argument.name for argument in arguments if not argument.parameter.help] == []
    assert "False" not in text
    assert "--no-" not in text


@pytest.mark.parametrize("name", ["report", "trace", "plot", "export"])
def test_what_writes_a_file_of_the_log_takes_o(name: str) -> None:
    names = {flag for argument in make()[name].assemble_argument_collection() for flag in argument.names}
    assert {"-o", "--output"} <= names


def test_what_writes_a_file_takes_o() -> None:
    for made in (RUN, COMPARE, TRAIN):
        assert made.options["output"].flags == ("--output", "-o")
    assert "-o" in BENCH.options["json"].flags
    for words in (["-o", "x"], ["-o=x"], ["-ox"], ["--output", "x"]):
        parsed = parse(words, help_lines())
        assert not isinstance(parsed, int)
        assert parsed.output == "x"


Parse = Callable[[list[str]], Any]
PARSERS: dict[str, Parse] = {
    "run": lambda words: parse(words, help_lines()),
    "bench": lambda words: parse_bench(words, exact()),
    "compare": lambda words: parse_compare(words, help_lines(), exact())[0],  # type: ignore[index]
}


@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        (["128,64"], (128, 64)),
        (["128", "64"], (128, 64)),
        (["128,", "64"], (128, 64)),
        (["128, 64"], (128, 64)),
        (["784,512", "10"], (784, 512, 10)),
    ],
)
@pytest.mark.parametrize(("name", "flag"), [("run", "--hidden"), ("compare", "--hidden"), ("bench", "--layers")])
def test_layers_are_spelled_alike(name: str, flag: str, words: list[str], sizes: tuple[int, ...]) -> None:
    assert getattr(PARSERS[name]([flag, *words]), flag[2:]) == sizes


@pytest.mark.parametrize("words", ["8,x", "8,,4", ",8", "", "8;4"])
def test_layers_that_are_none(words: str) -> None:
    for name, flag in (("run", "--hidden"), ("bench", "--layers")):
        with pytest.raises(ConfigError, match=rf'{flag[2:]}: got ".*"; allowed is a whole number'):
            PARSERS[name]([flag, words])


def test_layers_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("128,64", "128 64"):
        monkeypatch.setenv("RANKWISE_HIDDEN", text)
        assert PARSERS["run"]([]).hidden == (128, 64)


@pytest.mark.parametrize("words", [["allreduce,shared"], ["allreduce", "shared"], ["allreduce,", "shared"]])
def test_modes_are_listed_alike(words: list[str]) -> None:
    assert PARSERS["bench"](["--mode", *words]).mode == "allreduce,shared"
    assert PARSERS["compare"](["--modes", *words]).mode == "allreduce,shared"
    assert PARSERS["bench"](["--sync-only", "--sizes", "1e1", "1e3"]).vector_sizes == (10, 1000)


@pytest.mark.parametrize("word", ["--batch_size=4", "--batch-size=4"])
def test_both_dashes_are_one(word: str) -> None:
    parsed = PARSERS["run"]([word, "--no_standardize", "--validation_fraction", "0.2"])
    assert (parsed.batch_size, parsed.standardize, parsed.validation_fraction) == (4, False, 0.2)


@pytest.mark.parametrize("key", ["batch_size", "batch-size"])
def test_both_dashes_are_one_in_a_file(tmp_path: Path, key: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(f"{key} = 4\n")
    assert PARSERS["run"](["--config", str(path)]).batch_size == 4
    path.write_text("batch_size = 4\nbatch-size = 5\n")
    with pytest.raises(ConfigError, match="has batch_size twice, with _ and with -; leave one of them out"):
        PARSERS["run"](["--config", str(path)])


MEANT = [
    ("run", "--lr", "Did you mean --learning-rate?"),
    ("run", "--LR=0.1", "Did you mean --learning-rate?"),
    ("run", "--batch", "Did you mean --batch-size?"),
    ("bench", "--batch-size", "Did you mean --batch?"),
    ("run", "--batchsize", "Did you mean --batch-size?"),
    ("run", "--epoch", "Did you mean --epochs?"),
    ("run", "-epochs", "Did you mean --epochs?"),
    ("run", "--optim", "Did you mean --optimizer?"),
    ("run", "--optimiser", "Did you mean --optimizer?"),
    ("run", "--dataset", "Did you mean --data?"),
    ("run", "--wd", "Did you mean --weight-decay?"),
    ("run", "--layers", "Did you mean --hidden?"),
    ("bench", "--hidden", "Did you mean --layers?"),
    ("bench", "--output", "Did you mean --json?"),
    ("run", "--no-lr", "Did you mean --learning-rate?"),
    ("run", "--valid", "Did you mean --validation-fraction or"),
    ("run", "--checkpoint_interval", "Did you mean --checkpoint-every?"),
    ("compare", "--strategy", "Did you mean --modes?"),
    ("run", "-np", "rankwise train -n 4."),
    ("run", "-np4", "rankwise train -n 4."),
    ("run", "-n", "rankwise train -n 4."),
    ("run", "--gpu", "Rankwise trains on CPUs; leave it out."),
    ("run", "--device", "Rankwise trains on CPUs; leave it out."),
    ("run", "--qqq", "--help lists all options."),
    ("run", "--oputut", "Did you mean --output?"),
]


@pytest.mark.parametrize(("name", "word", "hint"), MEANT)
def test_what_was_meant(name: str, word: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PARSERS[name]([word, "3"])
    assert str(caught.value).startswith("Unknown option: -")
    assert hint in str(caught.value)


def test_a_word_without_an_option() -> None:
    with pytest.raises(ConfigError, match=r"Unexpected word 'own.csv': .* as in --data own.csv"):
        PARSERS["run"](["own.csv"])
    with pytest.raises(ConfigError, match=r"Unexpected word 'x': every value follows its option$"):
        PARSERS["run"](["x"])


def test_files_and_the_environment_know_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.toml"
    path.write_text("lr = 4\n")
    with pytest.raises(ConfigError, match=r"config: unknown option 'lr' in .*\. Did you mean learning_rate\?"):
        PARSERS["run"](["--config", str(path)])
    path.write_text("gpu = 1\n")
    with pytest.raises(ConfigError, match=r"Rankwise trains on CPUs"):
        PARSERS["run"](["--config", str(path)])
    monkeypatch.setenv("RANKWISE_LR", "4")
    with pytest.raises(ConfigError, match=r"'RANKWISE_LR' \(did you mean 'RANKWISE_LEARNING_RATE'\?\)"):
        PARSERS["run"]([])


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["report", "--out", "x"], "Did you mean --output?"),
        (["export", "--json"], "Did you mean --jsonl?"),
        (["export", "--md"], "Did you mean --markdown?"),
        (["show", "--all"], "Did you mean --every?"),
        (["show", "--epochs", "3"], "Did you mean --epoch?"),
        (["show", "--run", "x"], "A run is named without an option"),
        (["show", "--qqq"], "--help lists all options."),
    ],
)
def test_the_log_knows_what_was_meant(words: list[str], hint: str) -> None:
    result = log(*words)
    assert result.code == 2
    assert hint in result.err
    assert result.err.count("\n") == 1


def test_every_other_name_leads_to_an_option() -> None:
    known = ALL_NAMES | {"every", "epoch", "jsonl", "markdown", "tensorboard", "output"}
    for other, ours in synonyms.SYNONYMS.items():
        assert set(ours) <= known, f"{other}: of which option?"
        assert other == synonyms.plain(f"--{other}")
    for made in ALL.values():
        for name in made.options:
            assert synonyms.meant(name, made.options) == [name]
