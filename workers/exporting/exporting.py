"""What workers.export does: reads the model of a run, and writes it in each format that is asked for."""

import sys
from pathlib import Path

from common.errors import EXIT_OK, RankwiseError
from common.files import told
from common.nn.model_file import ModelFile
from common.wording import printable
from workers.exporting.exporters import EXPORTERS
from workers.exporting.options import ExportConfig, parse
from workers.launch.cli import Command
from workers.prediction.run_model import find_model, load_model


class ExportError(RankwiseError):
    """A file that cannot be written, or a package that is not there."""


def run(arguments: list[str], command: Command) -> int:
    """Do what a command line asks for; return the exit code. Raises RankwiseError."""
    config = parse(arguments, command)
    if isinstance(config, int):
        return config
    for line in export(config):
        sys.stdout.write(f"{line}\n")
    return EXIT_OK


def export(config: ExportConfig) -> list[str]:
    """Write the files; return a line on each format. Raises RankwiseError."""
    path = find_model(config.run).absolute()
    model = load_model(path, trust=False)
    return [_written(name, model, _place(name, path, config.output)) for name in config.formats]


def _place(name: str, model: Path, output: str) -> Path:
    """Return the file to write: not the one that is read, which would be gone."""
    ending = EXPORTERS[name].ending
    path = Path(output) if output else model.with_suffix(ending)
    if path.is_dir():
        path /= f"model{ending}"
    if name == "torch" and path.suffix != ending:
        path = path.with_suffix(ending)
    if path.resolve() == model.resolve():
        raise ExportError(f"output: {path} is the model itself; give another file")
    return path


def _written(name: str, model: ModelFile, path: Path) -> str:
    exporter = EXPORTERS[name]
    try:
        files = exporter.write(model, path)
    except ImportError as error:
        if (error.name or "").partition(".")[0] in ("common", "ps", "workers"):
            raise
        raise ExportError(
            f"{name}: {error.name or error} is not installed; pip install 'rankwise[{exporter.extra}]'"
        ) from error
    except OSError as error:
        raise ExportError(f"output: {told(error)}; give another file with --output") from error
    return printable(f"Saved {' and '.join(files)}.")
