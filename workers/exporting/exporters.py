"""The table of formats: each is a file that writes it and one line here."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from common.nn.model_file import ModelFile

Write = Callable[[ModelFile, Path], list[str]]
"""Writes a model to a path; returns the files. Raises ConfigError where the format cannot hold the model."""


@dataclass(frozen=True, slots=True)
class Exporter:
    """``ending``: of the file's name. ``module``, ``function``: what writes it, imported only then: it takes packages.

    ``extra``: of rankwise, which installs them.
    """

    ending: str
    module: str
    function: str
    extra: str
    help: str

    def write(self, model: ModelFile, path: Path) -> list[str]:
        """Write a model; return the files. Raises RankwiseError, ImportError and OSError."""
        function: Write = getattr(import_module(f"workers.exporting.{self.module}"), self.function)
        return function(model, path)


EXPORTERS = {
    "onnx": Exporter(".onnx", "onnx_file", "write_onnx", "onnx", "rows as they come in, labels out"),
    "safetensors": Exporter(
        ".safetensors", "safetensors_file", "write_safetensors", "safetensors", "weights by the names of torch.nn"
    ),
    "sklearn": Exporter(".skops", "sklearn_file", "write_sklearn", "skops", "a fitted Pipeline, saved by skops"),
    "torch": Exporter(".py", "torch_file", "write_torch", "safetensors", "a module that loads it, and its weights"),
}
