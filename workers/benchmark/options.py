"""The options of workers.bench and of workers.compare."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import memory
from common.config import ACTIVATIONS, DTYPES, OPTIMIZERS, RunConfig  # fmt: skip
from common.errors import ConfigError
from common.option import (  # fmt: skip
    DATA,
    INTERNAL,
    MEASURING,
    MODEL,
    OUTPUT,
    SYNC,
    TRAINING,
    USUAL,
    check_options,
    option,
    unknown_value,
)
from ps.sync.mode_names import AUTO
from workers.benchmark import variants
from workers.launch import cli, fault_spec
from workers.launch.run_options import command, parse_with

BENCH_NAME, COMPARE_NAME = "python -m workers.bench", "python -m workers.compare"
BENCH = "Measure a model and sync modes on this cluster: mpirun -np 4 python -m workers.bench --layers 784,128,10"
COMPARE = (
    "Compare sync modes on the configuration and the data of a run, in turn in one job: "
    "mpirun -np 4 python -m workers.compare --modes allreduce,shared --config run.toml"
)
KINDS = ("sync-only", "strong", "weak")
SIZES = (10, 1000, 100_000, 10_000_000)
LARGEST_LAYER, LONGEST_VECTOR = 10**6, 10**10
MOST_STEPS = 10**7
"""Of each of which several clock times are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchConfig:
    """All options of a benchmark; checked when made."""

    layers: tuple[int, ...] = option(
        (784, 128, 10),
        "sizes from the input to the output: 784,128,10 or 784 128 10; one output: a regression with mse",
        low=1,
        high=LARGEST_LAYER,
        longest=1000,
        group=MODEL,
    )
    batch: int = option(128, "rows of all ranks together in a step; with --weak of each rank", low=1, group=TRAINING)
    mode: str = option(
        "", "sync modes with commas between them, measured in turn; default: all: {modes}", listed=True, group=SYNC
    )
    steps: int = option(
        0, "steps of a round; 0: as many as take a quarter of a second", high=MOST_STEPS, group=MEASURING
    )
    rounds: int = option(9, "repeats, over which medians are taken", low=1, high=1000, group=MEASURING)
    rows: int = option(
        0,
        "rows of the data, cut to whole batches (--weak: of each rank); 0: 32 batches, or as many as 32 MB hold",
        group=DATA,
    )
    activation: str = option("relu", "activation of the hidden layers", choices=ACTIVATIONS, group=MODEL)
    optimizer: str = option("sgd", "update rule", choices=OPTIMIZERS, group=TRAINING)
    learning_rate: float = option(0.001, "step size", high=1e30, excluded="low", group=TRAINING)
    dtype: str = option("float32", "of parameters, gradients and data", choices=DTYPES, group=MODEL)
    seed: int = option(0, "of data and initial weights", high=2**32 - 1, group=DATA)
    sync_only: bool = option(False, "only sum vectors, next to MPI_Allreduce", group=SYNC)
    sizes: str = option("", "their lengths: 1e1,1e3 or 1e1..1e7; default: 1e1,1e3,1e5,1e7", listed=True, group=SYNC)
    strong: bool = option(False, "scaling table from 1 rank to all, the same batch in all", group=MEASURING)
    weak: bool = option(False, "scaling table from 1 rank to all, the same batch per rank", group=MEASURING)
    max_memory: str = option(
        "", "what the arrays of a process may take, 500M or 4G (default: the node's memory by its ranks)", group=DATA
    )
    json: str = option("", "write the figures to this file, too", flags=("--json", "-o"), group=OUTPUT)
    ranks_per_node: int = option(0, "pretend that so many ranks share a node (for tests); 0: as it is", group=INTERNAL)

    def __post_init__(self) -> None:
        check_options(self)
        if self.max_memory:
            memory.size(self.max_memory)
        if len(self.layers) < 2:
            raise ConfigError(
                f"layers: got {','.join(map(str, self.layers)) or 'none'}; allowed are at least two whole numbers, "
                "such as 784,128,10"
            )
        asked = [f"--{kind}" for kind in KINDS if getattr(self, kind.replace("-", "_"))]
        if len(asked) > 1:
            raise ConfigError(f"{' and '.join(asked)}: exclude each other; give one of them")
        if self.sizes and not self.sync_only:
            raise ConfigError("sizes: only --sync-only takes them; add it, or leave --sizes out")
        if 0 < self.rows < self.batch:
            raise ConfigError(f"rows: got {self.rows}; allowed is at least one batch, {self.batch}, or 0")
        _ = self.vector_sizes, self.run_config(self.batch)

    @property
    def kind(self) -> str:
        """What is measured: steps, sync-only, strong or weak."""
        return next((kind for kind in KINDS if getattr(self, kind.replace("-", "_"))), "steps")

    @property
    def vector_sizes(self) -> tuple[int, ...]:
        """``sizes`` as numbers. Raises ConfigError."""
        return _lengths(self.sizes) if self.sizes else SIZES

    def run_config(self, batch: int) -> RunConfig:
        """Return the configuration of a run that trains like this. Raises ConfigError."""
        sizes = self.layers
        model = "mlp" if len(sizes) > 2 else "linear" if sizes[-1] == 1 else "softmax"
        same = {name: getattr(self, name) for name in ("activation", "optimizer", "learning_rate", "dtype", "seed")}
        return RunConfig(model=model, hidden=sizes[1:-1] or (1,), batch_size=batch, **same)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareConfig:
    """The options a comparison has besides those of a run; checked when made."""

    modes: str = option(
        "",
        "sync modes with commas between them; default: all: {names}; with --until-loss also with options of a run: "
        "allreduce,allreduce:momentum=0.5",
        listed=True,
        group=USUAL,
    )
    trials: int = option(5, "trainings of each mode, over which medians are taken", low=1, high=1000, group=MEASURING)
    steps: int = option(
        0, "timed steps of a trial; 0: an epoch, or what takes 0.25 to 2 seconds", high=MOST_STEPS, group=MEASURING
    )
    until_loss: float = option(
        0.0,
        "train each mode until the loss over the validation rows is at most this, for at most --epochs; 0: time steps",
        high=1e30,
        group=MEASURING,
    )
    sizes: str = option(
        "",
        "also sum vectors of so many numbers, and fit latency and bandwidth: 1e3,1e5,1e7",
        listed=True,
        group=MEASURING,
    )

    def __post_init__(self) -> None:
        check_options(self)
        _ = self.vector_sizes
        given = [f"--{name}" for name in ("steps", "sizes") if getattr(self, name)]
        if self.until_loss and given:
            raise ConfigError(f"until_loss: trains as long as it takes; leave {' and '.join(given)} out")

    @property
    def vector_sizes(self) -> tuple[int, ...]:
        """``sizes`` as numbers, ascending, each once. Raises ConfigError."""
        return tuple(sorted(set(_lengths(self.sizes)))) if self.sizes else ()


def bench_command(modes: Iterable[str], name: str = BENCH_NAME, text: str = BENCH) -> cli.Command:
    """Return the command line of a benchmark of these modes. ``name``, ``text``: what the help says."""
    return cli.Command(name, text, (BenchConfig,), {"modes": ", ".join(modes)})


def compare_command(
    known: Mapping[str, str], modes: Iterable[str], name: str = COMPARE_NAME, text: str = COMPARE
) -> cli.Command:
    """Return the command line of a comparison of these modes. ``known``: name and help line of what a run's may be."""
    made = command(known, name, text, CompareConfig, hidden=("mode", "start_from"))
    return dataclasses.replace(made, texts={**made.texts, "names": ", ".join(modes)})


def parse_bench(arguments: list[str], modes: Sequence[str]) -> BenchConfig | int:
    """Return the options, or the exit code after printing help. Raises ConfigError."""
    values = cli.parse(bench_command(modes), arguments)
    if isinstance(values, int):
        return values
    config = BenchConfig(**values)
    path = Path(config.json).absolute() if config.json else None
    if path and (path.is_dir() or not path.parent.is_dir()):
        raise ConfigError(f"json: got {config.json!r}; allowed is a file in a folder that exists")
    return dataclasses.replace(config, mode=_names("mode", config.mode, modes), json=str(path or ""))


def parse_compare(
    arguments: list[str], known: Mapping[str, str], modes: Iterable[str]
) -> tuple[RunConfig, CompareConfig] | int:
    """Return both parts of the options, or the exit code after printing help or version.

    ``known``: name and help line of what a run's mode may be; ``modes``: those whose steps can be compared, because
    they train the same. Raises ConfigError.
    """
    if any(text == "--mode" or text.startswith("--mode=") for text in arguments):
        raise ConfigError("mode: is an option of runs; a comparison takes --modes, with commas between them")
    parsed = parse_with(compare_command(known, modes), arguments, known)
    if isinstance(parsed, int):
        return parsed
    config, own = parsed
    modes = list(modes)
    if own["until_loss"]:
        compare = CompareConfig(**{**own, "modes": _variants(own["modes"], config, modes, known)})
        _check_faults(config.inject)
    else:
        loose = [name for name in own["modes"].split(",") if name in known and name not in (*modes, AUTO)]
        if loose:
            raise ConfigError(
                f"modes: {loose[0]} trains something else, so that its steps say little; compare seconds to a loss: "
                "--until-loss"
            )
        compare = CompareConfig(**{**own, "modes": _names("modes", own["modes"], modes)})
        if config.inject:
            raise ConfigError("inject: a comparison of steps trains without faults; leave it out, or give --until-loss")
    if config.start_from:
        raise ConfigError("from: a comparison starts from new parameters; leave it out")
    return dataclasses.replace(config, mode=compare.modes), compare


def _variants(text: str, config: RunConfig, modes: Sequence[str], known: Iterable[str]) -> str:
    """Return modes, perhaps with options of their own, between commas, each once; ``modes`` if there are none."""
    names = dict.fromkeys(text.split(",") if text else modes)
    known = [name for name in known if name != AUTO]
    return ",".join(variants.read(name, config, known).name for name in names)


def _check_faults(text: str) -> None:
    """Raise ConfigError for faults that leave nothing to compare."""
    for fault in fault_spec.parse(text):
        if fault.kind not in fault_spec.LASTING:
            raise ConfigError(
                f"inject: {fault}: ends or spoils a training; a comparison takes {', '.join(fault_spec.LASTING)}"
            )


def _names(option: str, text: str, known: Iterable[str]) -> str:
    """Return the modes between commas, each once; all if there are none. Raises ConfigError for an unknown one."""
    names = dict.fromkeys(text.split(",") if text else known)
    for name in names:
        if name.partition(":")[0] in known and ":" in name:
            raise ConfigError(f"{option}: got {name[:80]!r}; options of a mode go with workers.compare --until-loss")
        if name not in known:
            raise ConfigError(unknown_value(option, name, known))
    return ",".join(names)


def _lengths(text: str) -> tuple[int, ...]:
    """Return the lengths that ``1e1,1e3`` or ``1e1..1e7`` (all powers of ten between) means. Raises ConfigError."""
    first, dots, last = text.partition("..")
    sizes = [_length(part) for part in ((first, last) if dots else text.split(","))]
    if dots:
        sizes = [sizes[0] * 10**k for k in range(12) if sizes[0] * 10**k <= sizes[1]]
    if not sizes or not all(sizes):
        raise ConfigError(
            f"sizes: got {text[:80]!r}; allowed are whole numbers from 1 to 1e10 with commas between them, such as "
            "1e1,1e3, or all powers of ten between two, such as 1e1..1e7"
        )
    return tuple(sizes)


def _length(text: str) -> int:
    """Return a vector's length, 0 if the text is not one."""
    try:
        value = float(text)
    except ValueError:
        return 0
    return int(value) if 1 <= value <= LONGEST_VECTOR and value == int(value) else 0
