"""The options of a benchmark: types, limits, and the command line that rank 0 reads."""

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.config import ACTIVATIONS, MANY, OPTIMIZERS, RunConfig, check_option
from common.errors import ConfigError
from workers.benchmark import list_options
from workers.launch import cli

PROGRAM = "python -m workers.bench"
HELP = "Measure a model and sync modes on this cluster: mpirun -np 4 python -m workers.bench --layers 784,128,10"
KINDS = ("sync-only", "strong", "weak")
SIZES = (10, 1000, 100_000, 10_000_000)
LARGEST = 10**6


def _opt(default: Any, text: str, **limits: Any) -> Any:
    return field(default=default, metadata={"help": text, **limits})


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchConfig:
    """All options of a benchmark; single ones are checked when made."""

    layers: str = _opt("784,128,10", "sizes from the input to the output; one output: a regression with mse")
    batch: int = _opt(128, "rows of all ranks together in a step; with --weak of each rank", low=1, high=MANY)
    mode: str = _opt("", "sync modes with commas between them, measured in turn; default: all")
    steps: int = _opt(0, "steps of a round; 0: as many as take a quarter of a second", low=0, high=MANY)
    rounds: int = _opt(9, "repeats, over which medians are taken", low=1, high=1000)
    rows: int = _opt(
        0,
        "rows of the data, cut to whole batches (--weak: of each rank); 0: 32 batches, or as many as 32 MB hold",
        low=0,
        high=MANY,
    )
    activation: str = _opt("relu", "activation of the hidden layers", choices=ACTIVATIONS)
    optimizer: str = _opt("sgd", "update rule", choices=OPTIMIZERS)
    learning_rate: float = _opt(0.001, "step size", low=0.0, low_open=True, high=1e30)
    dtype: str = _opt("float32", "of parameters, gradients and data", choices=("float32", "float64"))
    seed: int = _opt(0, "of data and initial weights", low=0, high=2**32 - 1)
    sync_only: bool = _opt(False, "only sum vectors, beside MPI_Allreduce")
    sizes: str = _opt("", "their lengths: 1e1,1e3 or 1e1..1e7; default: 1e1,1e3,1e5,1e7")
    strong: bool = _opt(False, "scaling table from 1 rank to all, the same batch in all")
    weak: bool = _opt(False, "scaling table from 1 rank to all, the same batch per rank")
    json: str = _opt("", "write the figures to this file, too")
    ranks_per_node: int = _opt(0, "pretend that so many ranks share a node (for tests); 0: as it is", low=0, high=MANY)

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            check_option(f, getattr(self, f.name))
        asked = [f"--{kind}" for kind in KINDS if getattr(self, kind.replace("-", "_"))]
        if len(asked) > 1:
            raise ConfigError(f"{' and '.join(asked)}: exclude each other; give one of them")
        if self.sizes and not self.sync_only:
            raise ConfigError("sizes: are of vectors that --sync-only sums; add it, or leave --sizes out")
        if 0 < self.rows < self.batch:
            raise ConfigError(f"rows: got {self.rows}; allowed is at least one batch, {self.batch}, or 0")

    @property
    def kind(self) -> str:
        """What is measured: steps, sync-only, strong or weak."""
        return next((kind for kind in KINDS if getattr(self, kind.replace("-", "_"))), "steps")

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """``layers`` as numbers. Raises ConfigError."""
        sizes = tuple(int(n) if re.fullmatch(r"\d{1,9}", n) else 0 for n in self.layers.split(","))
        if len(sizes) < 2 or not all(1 <= n <= LARGEST for n in sizes):
            raise ConfigError(
                f"layers: got {self.layers[:80]!r}; allowed are at least two whole numbers from 1 to {LARGEST} "
                "with commas between them, such as 784,128,10"
            )
        return sizes

    @property
    def vector_sizes(self) -> tuple[int, ...]:
        """``sizes`` as numbers. Raises ConfigError."""
        return list_options.lengths("sizes", self.sizes) if self.sizes else SIZES

    @property
    def chosen(self) -> list[str]:
        """``mode`` as a list, each once."""
        return list_options.names(self.mode)

    def run_config(self, batch: int) -> RunConfig:
        """Return the configuration of a run that trains like this."""
        sizes = self.layer_sizes
        kind = "mlp" if len(sizes) > 2 else "linear" if sizes[-1] == 1 else "softmax"
        return RunConfig(
            model=kind,
            hidden=sizes[1:-1] or (1,),
            activation=self.activation,
            batch_size=batch,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            dtype=self.dtype,
            seed=self.seed,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "BenchConfig":
        """Make a configuration from ``as_dict`` values."""
        return cls(**values)


def parse(arguments: list[str], modes: list[str]) -> BenchConfig | int:
    """Return the options, or the exit code after printing help. Raises ConfigError."""
    shown: dict[str, dict[str, Any]] = {f.name: {"negative": ""} for f in dataclasses.fields(BenchConfig)}
    for f in dataclasses.fields(BenchConfig):
        choices = modes if f.name == "mode" else f.metadata.get("choices")
        if choices:
            shown[f.name]["help"] = f"{f.metadata['help']}: {', '.join(choices)}"
    values = cli.parse(cli.Program(PROGRAM, HELP), dataclasses.fields(BenchConfig), shown, arguments)
    if values is None:
        return 0
    config = BenchConfig(**values)
    return _checked(config, modes)


def _checked(config: BenchConfig, modes: list[str]) -> BenchConfig:
    """Raise ConfigError now for what would else be found out after minutes."""
    config = dataclasses.replace(config, mode=config.mode or ",".join(modes))
    list_options.check_names("mode", config.chosen, modes)
    _ = config.vector_sizes
    config.run_config(config.batch)
    path = Path(config.json).absolute() if config.json else None
    if path and (path.is_dir() or not path.parent.is_dir()):
        raise ConfigError(f"json: got {config.json!r}; allowed is a file in a folder that exists")
    return dataclasses.replace(config, json=str(path or ""))
