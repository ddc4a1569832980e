"""The options of workers.export; the run is a word that stands by itself."""

from dataclasses import dataclass, replace

from common.errors import ConfigError
from common.given_paths import given_path
from common.option import USUAL, check_options, option
from common.wording import count
from workers.exporting.exporters import EXPORTERS
from workers.launch import cli, words

NAME = "python -m workers.export"
HELP = (
    "Write the model of a run for other programs: python -m workers.export latest --onnx. RUN: its folder, its name "
    "under runs/, latest, or a model.npz"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """What workers.export takes. ``run``: the word."""

    onnx: bool = option(False, "ONNX: rows as they come in, labels or numbers out; rankwise[onnx]", group=USUAL)
    safetensors: bool = option(
        False, "the weights, by the names of torch.nn.Sequential; rankwise[safetensors]", group=USUAL
    )
    sklearn: bool = option(False, "a fitted Pipeline of scikit-learn, saved by skops; rankwise[skops]", group=USUAL)
    torch: bool = option(False, "a module that makes the model in PyTorch, and its weights", group=USUAL)
    output: str = option(
        "", "the file to write (default: model.onnx and so on, beside model.npz)", flags=("--output", "-o"), group=USUAL
    )
    run: str = ""

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def formats(self) -> list[str]:
        """Those that are asked for."""
        return [name for name in EXPORTERS if getattr(self, name)]


def command(name: str = NAME, text: str = HELP) -> cli.Command:
    """Return the command line."""
    return cli.Command(name, text, (ExportConfig,), takes="RUN")


def parse(arguments: list[str], of: cli.Command) -> ExportConfig | int:
    """Return the options, or the exit code after printing help. Raises ConfigError."""
    given, others = words.split(of, arguments)
    values = cli.parse(of, others)
    if isinstance(values, int):
        return values
    flags = ", ".join(f"--{name}" for name in EXPORTERS)
    if len(given) != 1:
        raise ConfigError(f"got {count(len(given), 'word')}; write {of.name} RUN with one of {flags}")
    config = ExportConfig(**values)
    if not config.formats:
        raise ConfigError(f"no format; give one of {flags}, or several")
    if config.output and len(config.formats) > 1:
        raise ConfigError(f"output: got one file for {len(config.formats)} formats; leave --output out, or give one")
    return replace(config, run=given_path("run", given[0]))
