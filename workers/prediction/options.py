"""The options of workers.predict and workers.evaluate; the run and the file are words that stand by themselves."""

from dataclasses import dataclass, replace
from typing import TypeVar

from common.config import RunConfig
from common.errors import ConfigError
from common.given_paths import given_path
from common.option import DATA, OUTPUT, USUAL, check_options, option
from common.wording import count
from workers.launch import cli, words
from workers.launch.cli import STANDARD_OUTPUT

PREDICT_NAME, EVALUATE_NAME = "python -m workers.predict", "python -m workers.evaluate"
PREDICT = (
    "Predict the rows of a file with the model of a run: its folder, its name under runs/, latest, or a model.npz: "
    "python -m workers.predict latest new.csv -o out.csv"
)
EVALUATE = (
    "Say what the predictions of a run's model are worth, for the rows of a file or, without one, the run's test rows: "
    "python -m workers.evaluate latest test.csv"
)
AUTO, DATA_SET, VALIDATION_SET, TEST_SET = "auto", "data", "validation", "test"
"""Sets of rows that a file or folder may hold: ``X``, ``X_val`` and ``X_test`` of an .npz file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfBoth:
    """What both commands take. ``run``, ``data``: the words."""

    encoding: str = option("", "of a text file, if not UTF-8: latin-1, utf-16, ...", group=DATA)
    header: str = option("auto", "whether a text file has a line of names", choices=("auto", "yes", "no"), group=DATA)
    set: str = option(
        AUTO,
        "of an .npz file or a folder with several sets, which one; auto: data, if there are any",
        choices=(AUTO, DATA_SET, VALIDATION_SET, TEST_SET),
        group=DATA,
    )
    trust_model: bool = option(False, "import your own model class though its file has changed", group=OUTPUT)
    trust_types: str = option(
        "", "types in the run's transformer (--prepare) that skops does not know, or their packages", group=OUTPUT
    )
    max_memory: str = option("", "what the arrays of a process may take: 500M, 4G", group=OUTPUT)
    debug: bool = option(False, "print a traceback with every error", group=OUTPUT)
    run: str = ""
    data: str = ""

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictConfig(_OfBoth):
    """What workers.predict takes."""

    output: str = option(
        STANDARD_OUTPUT,
        "the file to write, by its suffix .csv, .tsv (.gz each), .parquet, .npz or .npy; -: CSV to standard output",
        flags=("--output", "-o"),
        group=USUAL,
    )
    proba: bool = option(False, "write the probability of each class, too", group=USUAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig(_OfBoth):
    """What workers.evaluate takes; without ``data`` the run's own test rows are evaluated."""

    json: bool = option(False, "print the figures as JSON", group=USUAL)
    target: str = option("", "the columns of the truth, if they are not called as in training", group=DATA)
    weight: str = option("", "a column (of an .npz file: an array) of weights", group=DATA)
    every: bool = option(False, "print every class, also of many", group=OUTPUT)


OPTIONS_OF_FILES = {"encoding": "", "header": AUTO, "set": AUTO, "target": "", "weight": ""}
"""Those that say how a file is read, with what they are if nothing is said."""
T = TypeVar("T", PredictConfig, EvaluateConfig)


def predict_command(name: str = PREDICT_NAME, text: str = PREDICT) -> cli.Command:
    """Return the command line of workers.predict."""
    return cli.Command(name, text, (PredictConfig,), takes="RUN FILE")


def evaluate_command(name: str = EVALUATE_NAME, text: str = EVALUATE) -> cli.Command:
    """Return the command line of workers.evaluate."""
    return cli.Command(name, text, (EvaluateConfig,), takes="RUN [FILE]")


def parse_predict(arguments: list[str]) -> PredictConfig | int:
    """Return the options, or the exit code after printing help. Raises ConfigError."""
    return _parse(PredictConfig, predict_command(), arguments, (2, 2))


def parse_evaluate(arguments: list[str]) -> EvaluateConfig | int:
    """Return the options, or the exit code after printing help. Raises ConfigError."""
    config = _parse(EvaluateConfig, evaluate_command(), arguments, (1, 2))
    if isinstance(config, int) or config.data:
        return config
    for name, usual in OPTIONS_OF_FILES.items():
        if (got := getattr(config, name)) != usual:
            raise ConfigError(f"{name}: got {got!r}, but no file; name one, or leave --{name} out")
    return config


def _parse(kind: type[T], command: cli.Command, arguments: list[str], n_words: tuple[int, int]) -> T | int:
    given, others = words.split(command, arguments)
    values = cli.parse(command, others)
    if isinstance(values, int):
        return values
    if not n_words[0] <= len(given) <= n_words[1]:
        raise ConfigError(f"got {count(len(given), 'word')}; write {command.name} {command.takes}")
    config = kind(**values)
    if config.max_memory:
        RunConfig(max_memory=config.max_memory)  # which says what a size is
    paths = [given_path(what, word) for what, word in zip(("run", "file"), given, strict=False)]
    return replace(config, run=paths[0], data=(paths[1:] or [""])[0])
